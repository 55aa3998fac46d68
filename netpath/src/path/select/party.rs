//! Who is at one end of a flow: an address, a network, a pod or a service.
//!
//! In: a value as a user wrote it. Out: whether it is at an end of a flow.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::pattern::Pattern;
use crate::report::Flow;

/// Who is at an end.
#[derive(Clone, Debug)]
pub enum Party {
    /// An address of this network.
    Net(IpNet),
    /// A pod or a service that matches.
    Named(Pattern),
}

/// An end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who sends.
    Source,
    /// Who receives.
    Destination,
}

impl Party {
    /// An address, a network, a pod or a service; names may have wildcards.
    pub fn new(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            return Ok(Self::Net(net.trunc()));
        }
        if !is_pair(text) || text.ends_with(':') {
            return Err(
                "write it like 10.0.0.21, 10.0.0.0/16, default/web (pod or service) or 'default/web-*'".to_owned()
            );
        }
        pattern(text).map(Self::Named)
    }

    /// Whether it is at this end of the flow, at any hop.
    #[must_use]
    pub fn is_at(&self, side: Side, flow: &Flow) -> bool {
        let is_source = side == Side::Source;
        match self {
            Self::Net(net) => flow.hops.iter().any(|hop| net.contains(if is_source { &hop.src } else { &hop.dst })),
            Self::Named(pattern) => {
                let pod = if is_source { &flow.src_pod } else { &flow.dst_pod };
                // The service is whom the initiator wanted.
                let has_service = is_source == (flow.from_initiator == Some(false));
                let service = flow.service.as_deref().filter(|_| has_service);
                pod.as_deref().is_some_and(|pod| pattern.is_match(pod))
                    || service.is_some_and(|service| is_service(pattern, service, flow))
            }
        }
    }
}

/// As it may be written.
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => f.write_str(&shown(net)),
            Self::Named(pattern) => pattern.fmt(f),
        }
    }
}

/// A network of one address as that address.
pub(super) fn shown(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// Whether the text is two names, as `namespace/name`.
pub(super) fn is_pair(text: &str) -> bool {
    text.matches('/').count() == 1 && text.split('/').all(|part| !part.is_empty())
}

/// Whether a flow's service (`namespace/name:port`) matches, with its port, by name or number, or without.
pub(super) fn is_service(pattern: &Pattern, service: &str, flow: &Flow) -> bool {
    let name = service.rsplit_once(':').map_or(service, |(name, _)| name);
    let number =
        if flow.from_initiator == Some(false) { flow.hops.last().and_then(|hop| hop.sport) } else { flow.dport };
    let by_number = || number.is_some_and(|number| pattern.is_match(&format!("{name}:{number}")));
    pattern.is_match(service) || pattern.is_match(name) || by_number()
}

pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|why| format!("{why}; write it like 'web-*'"))
}
