//! Limits a report to some of its flows.
//!
//! In: a report, and what a flow must have. Out: the report with those flows only, and their sums beside the node's. It must
//! not touch what is said of the node as a whole.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::account;
use super::conversations::{Merge, conversations};
use crate::pattern::Pattern;
use crate::report::{Flow, PathClass, Report, Selection};

/// What a flow must have. Ends are compared at every hop, since NAT changes them on the way.
#[derive(Clone, Debug)]
pub enum Condition {
    /// This id in the report.
    Id(u64),
    /// This protocol, by the report's name of it.
    Proto(String),
    /// An end in this network.
    Net(IpNet),
    /// This port at either end.
    Port(u16),
    /// An end of this address and port.
    End(SocketAddr),
    /// A pod at either end whose `namespace/name` matches.
    Pod(Pattern),
    /// A pod of this namespace at either end.
    Namespace(String),
    /// This path.
    Path(PathClass),
    /// A hop on a device whose name matches.
    Device(Pattern),
}

impl Condition {
    /// An address, or a network in CIDR notation.
    pub fn net(text: &str) -> Result<Self, String> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net: IpNet| Self::Net(net.trunc()))
            .map_err(|_| "write it like 10.0.0.21, 10.0.0.0/16 or fd00::1".into())
    }

    /// A pod as `namespace/name`, either of which may have wildcards.
    pub fn pod(text: &str) -> Result<Self, String> {
        if text.split('/').filter(|part| !part.is_empty()).count() != 2 || text.matches('/').count() != 1 {
            return Err("write it like default/web, or 'default/web-*'".to_owned());
        }
        pattern(text).map(Self::Pod)
    }

    /// A device's name, which may have wildcards.
    pub fn device(text: &str) -> Result<Self, String> {
        pattern(text).map(Self::Device)
    }

    /// Whether the flow has it.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        let any_end = |test: &dyn Fn(IpAddr, Option<u16>) -> bool| {
            flow.hops.iter().any(|hop| test(hop.src, hop.sport) || test(hop.dst, hop.dport))
        };
        let any_pod =
            |test: &dyn Fn(&str) -> bool| [&flow.src_pod, &flow.dst_pod].into_iter().flatten().any(|pod| test(pod));
        match self {
            Self::Id(id) => flow.id == *id,
            Self::Proto(proto) => flow.proto == *proto,
            Self::Net(net) => any_end(&|address, _| net.contains(&address)),
            Self::Port(wanted) => any_end(&|_, port| port == Some(*wanted)),
            Self::End(wanted) => any_end(&|address, port| (address, port) == (wanted.ip(), Some(wanted.port()))),
            Self::Pod(pattern) => any_pod(&|pod| pattern.is_match(pod)),
            Self::Namespace(wanted) => any_pod(&|pod| namespace(pod) == wanted),
            Self::Path(path) => flow.path == *path,
            Self::Device(pattern) => flow.hops.iter().any(|hop| pattern.is_match(&hop.device)),
        }
    }
}

/// As the option that asks for it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Proto(proto) => write!(f, "--proto {proto}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "--ip {}", net.addr()),
            Self::Net(net) => write!(f, "--ip {net}"),
            Self::Port(port) => write!(f, "--port {port}"),
            Self::End(end) => write!(f, "{end}"),
            Self::Pod(pattern) => write!(f, "--pod {pattern}"),
            Self::Namespace(namespace) => write!(f, "--namespace {namespace}"),
            Self::Path(path) => write!(f, "--path {}", path.name()),
            Self::Device(pattern) => write!(f, "--device {pattern}"),
        }
    }
}

/// The namespace of a pod's `namespace/name`.
#[must_use]
pub fn namespace(pod: &str) -> &str {
    pod.split_once('/').map_or(pod, |(namespace, _)| namespace)
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|why| format!("{why}; write it like 'web-*'"))
}

/// Which flows: those that fulfil one condition at least of each group that is not empty.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Vec<Condition>>);

impl Filter {
    /// Of groups of conditions.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Vec<Condition>>) -> Self {
        Self(groups.into_iter().filter(|group| !group.is_empty()).collect())
    }

    /// Whether it lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the flow is meant.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.0.iter().all(|any| any.iter().any(|condition| condition.matches(flow)))
    }
}

/// Limits the report's flows to those that are meant, and adds their sums. An empty filter changes nothing.
pub fn select(report: &mut Report, filter: &Filter) {
    if filter.is_empty() {
        return;
    }
    report.flows.retain(|flow| filter.matches(flow));
    report.conversations = conversations(&report.flows, Merge::ClientPorts);
    report.selection = Some(Selection {
        filters: filter.0.iter().flatten().map(ToString::to_string).collect(),
        totals: account::totals(&report.flows),
        there: Vec::new(),
    });
}
