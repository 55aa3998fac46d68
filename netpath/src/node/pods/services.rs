//! The names of services, from the NAT rules that kube-proxy makes.
//!
//! In: nftables of the calling thread's network namespace, over netlink. Out: the address, port and name of each service.
//! Nothing is run and nothing is changed: `iptables` would take a lock that kube-proxy waits for, or load modules.
//!
//! | kube-proxy's mode | where its services are |
//! |---|---|
//! | iptables, by `iptables-nft` | table `nat`, chain `KUBE-SERVICES`: a rule each, with the name in its comment |
//! | nftables | table `kube-proxy`, map `service-ips`: an element each, with the name in that of its chain |
//!
//! In its other modes (IPVS, and iptables by the legacy `iptables`) the names are not in nftables.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::root::HostRoot;
use super::{Said, Trouble, is_label};
use crate::node::netlink::Requester;
use crate::report::{NameSource, NameSourceState};
use crate::snapshot::ServiceRecord;

// A message's type: NFNL_SUBSYS_NFTABLES in the upper byte, NFT_MSG_* in the lower.
const NEW_RULE: u16 = 0x0a06;
const GET_RULE: u16 = 0x0a07;
const NEW_ELEMENT: u16 = 0x0a0c;
const GET_ELEMENT: u16 = 0x0a0d;
// linux/netfilter/nf_tables.h: NFTA_*, NFT_*.
const LIST_ELEMENT: u16 = 1;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const META_KEY: u16 = 2;
const META_L4PROTO: u32 = 16;
const COMPARE_OPERATION: u16 = 2;
const COMPARE_DATA: u16 = 3;
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;

/// `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;
/// More services than a cluster has.
const LIMIT: usize = 200_000;

/// Reads the rules.
#[must_use]
pub fn read(_: &HostRoot) -> Said {
    let mut services = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = family.to_be_bytes()[3];
        let rules = dump(GET_RULE, family, &[(RULE_TABLE, "nat"), (RULE_CHAIN, "KUBE-SERVICES")], |payload| {
            services.extend(rule(payload, family));
        });
        let elements = dump(GET_ELEMENT, family, &[(SET_TABLE, "kube-proxy"), (SET_NAME, "service-ips")], |payload| {
            elements(payload, family, &mut services);
        });
        for outcome in [rules, elements] {
            match outcome {
                Err(error) if !is_absent(&error) => {
                    let why = format!("the kernel does not tell its nftables rules: {error}");
                    return Said {
                        services,
                        trouble: Some(Trouble::new(NameSourceState::Unreadable, why)),
                        ..Said::default()
                    };
                }
                _ => {}
            }
        }
    }
    services.truncate(LIMIT);
    let trouble = services.is_empty().then(|| {
        let why =
            "nftables has no services of kube-proxy (names of its IPVS mode and of legacy iptables cannot be read)";
        Trouble::new(NameSourceState::Absent, why)
    });
    Said { services, trouble, ..Said::default() }
}

/// There is no such table, or the kernel has no nftables.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
    )
}

/// Dumps what `names` (attributes of strings) select, and hands each message's attributes to `each`.
fn dump(what: u16, family: u8, names: &[(u16, &str)], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut body = vec![family, 0, 0, 0];
    for (attribute, name) in names {
        let length = 4 + name.len() + 1;
        body.extend(u16::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(name.as_bytes());
        // The end of the string, then to a multiple of four.
        body.resize(body.len() + 1 + length.next_multiple_of(4) - length, 0);
    }
    // What changes meanwhile is seen at the next reading.
    Requester::open_to(NETLINK_NETFILTER)?
        .dump(what, &body, |message_type, body| {
            if matches!(message_type, NEW_RULE | NEW_ELEMENT) {
                each(body.get(HEADER_BYTES..).unwrap_or_default());
            }
        })
        .map(drop)
}

/// The value of the first attribute of this kind.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    // The value begins behind length and kind.
    found.into_inner().get(4..length)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(attribute(attributes, kind)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

/// What an expression has put where the next comparison looks.
#[derive(Clone, Copy)]
enum Loaded {
    Protocol,
    Destination,
    Port,
    Other,
}

/// The service of a rule like `-d 172.20.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80`;
/// `None` for a rule that selects by anything less.
pub fn rule(attributes: &[u8], family: u8) -> Option<ServiceRecord> {
    let (mut name, mut proto, mut address, mut port) = (None, None, None, None);
    let mut loaded = Loaded::Other;
    for expression in NlasIterator::new(attribute(attributes, RULE_EXPRESSIONS)?).flatten() {
        let data = attribute(expression.value(), EXPRESSION_DATA).unwrap_or_default();
        match text(attribute(expression.value(), EXPRESSION_NAME)?)? {
            "meta" => loaded = if number(data, META_KEY)? == META_L4PROTO { Loaded::Protocol } else { Loaded::Other },
            "payload" => {
                let at = (number(data, PAYLOAD_BASE)?, number(data, PAYLOAD_OFFSET)?, number(data, PAYLOAD_LENGTH)?);
                loaded = match at {
                    (BASE_NETWORK, 16, 4) | (BASE_NETWORK, 24, 16) => Loaded::Destination,
                    (BASE_TRANSPORT, 2, 2) => Loaded::Port,
                    _ => Loaded::Other,
                };
            }
            "cmp" => {
                // NFT_CMP_EQ
                if number(data, COMPARE_OPERATION)? != 0 {
                    return None;
                }
                let value = attribute(attribute(data, COMPARE_DATA)?, DATA_VALUE)?;
                match loaded {
                    Loaded::Protocol => proto = value.first().copied(),
                    Loaded::Destination => address = ip(value, family),
                    Loaded::Port => port = value.try_into().ok().map(u16::from_be_bytes),
                    Loaded::Other => {}
                }
                loaded = Loaded::Other;
            }
            "match" => {
                let info = attribute(data, MATCH_INFO)?;
                match text(attribute(data, MATCH_NAME)?)? {
                    "comment" => name = text(info).and_then(named_by_comment),
                    // struct xt_tcp and xt_udp begin with a range of source ports and one of destination ports.
                    "tcp" | "udp" => {
                        let at = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
                        port = at(4).filter(|first| at(6) == Some(*first));
                    }
                    _ => {}
                }
            }
            // A mask: the rule is for a network.
            "bitwise" => return None,
            _ => {}
        }
    }
    Some(ServiceRecord { source: NameSource::KubeProxy, name: name?, proto: proto?, address: address?, port: port? })
}

/// The services of a map's elements: `172.20.0.10 . tcp . 80 : goto service-ULMVA6XW-default/web/tcp/http`.
pub fn elements(attributes: &[u8], family: u8, services: &mut Vec<ServiceRecord>) {
    let one = |element: &[u8]| {
        let key = attribute(attribute(element, ELEMENT_KEY)?, DATA_VALUE)?;
        let verdict = attribute(attribute(element, ELEMENT_DATA)?, DATA_VERDICT)?;
        let chain = text(attribute(verdict, VERDICT_CHAIN)?)?;
        // Each part of a key begins at a multiple of four bytes.
        let (address, rest) = key.split_at_checked(if family == 2 { 4 } else { 16 })?;
        Some(ServiceRecord {
            source: NameSource::KubeProxy,
            name: named_by_chain(chain)?,
            proto: *rest.first()?,
            address: ip(address, family)?,
            port: u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?),
        })
    };
    let list = attribute(attributes, SET_ELEMENTS).unwrap_or_default();
    let list = NlasIterator::new(list).flatten().filter(|element| element.kind() == LIST_ELEMENT);
    services.extend(list.filter_map(|element| one(element.value())));
}

fn ip(bytes: &[u8], family: u8) -> Option<IpAddr> {
    if family == 2 {
        <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)
    } else {
        <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
    }
}

/// "default/web:http" of "default/web:http cluster IP".
fn named_by_comment(comment: &str) -> Option<String> {
    let (name, _) = comment.split_once(' ')?;
    let (namespace, service) = name.split_once('/')?;
    let (service, port) = service.split_once(':').map_or((service, ""), |(service, port)| (service, port));
    full(namespace, service, port)
}

/// "default/web:http" of "service-ULMVA6XW-default/web/tcp/http", or of an "external-…".
fn named_by_chain(chain: &str) -> Option<String> {
    let rest = chain.strip_prefix("service-").or_else(|| chain.strip_prefix("external-"));
    let rest = rest.or_else(|| chain.strip_prefix("local-"))?;
    let (_hash, name) = rest.split_once('-')?;
    let mut parts = name.split('/');
    let (namespace, service, _protocol, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| full(namespace, service, port))?
}

fn full(namespace: &str, service: &str, port: &str) -> Option<String> {
    if !is_label(namespace) || !is_label(service) {
        None
    } else if port.is_empty() {
        Some(format!("{namespace}/{service}"))
    } else {
        is_label(port).then(|| format!("{namespace}/{service}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let comment = |text| named_by_comment(text);
        assert_eq!(comment("default/web:http cluster IP").as_deref(), Some("default/web:http"));
        assert_eq!(comment("kube-system/kube-dns external IP").as_deref(), Some("kube-system/kube-dns"));
        for none in [
            "",
            "kubernetes service nodeports; NOTE: this must be the last rule in this chain",
            "default/web:http",
            "default/\u{1b}[31m:http cluster IP",
            "a/b/c cluster IP",
            "default/web:a:b cluster IP",
        ] {
            assert_eq!(comment(none), None, "{none}");
        }
        assert_eq!(named_by_chain("service-ULMVA6XW-default/web/tcp/http").as_deref(), Some("default/web:http"));
        assert_eq!(named_by_chain("external-ULMVA6XW-a-b/c-d/udp/").as_deref(), Some("a-b/c-d"));
        for none in
            ["", "service-", "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80", "service-X-a/b/tcp/c...", "reject"]
        {
            assert_eq!(named_by_chain(none), None, "{none}");
        }
    }

    /// What is cut off or nonsense names nothing, and ends nothing.
    #[test]
    fn nonsense() {
        let mut bytes: Vec<u8> = (0..255).chain(0..255).collect();
        for seed in 0..200 {
            bytes.rotate_left(seed % 7 + 1);
            for family in [2, 10] {
                assert_eq!(rule(&bytes[seed..], family), None);
                let mut services = Vec::new();
                elements(&bytes[seed..], family, &mut services);
                assert_eq!(services, []);
            }
        }
    }
}
