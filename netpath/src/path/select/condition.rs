//! What a flow must have, one at a time.
//!
//! In: a value as a user wrote it. Out: whether a flow has it, or why no flow ever can, fit to print.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use clap::builder::PossibleValue;
use ipnet::IpNet;

use super::party::{self, Party, Side, pattern};
use crate::path::conversations::is_icmp;
use crate::path::protocols;
use crate::pattern::Pattern;
use crate::report::{Flow, Nat, PathClass, PeerKind};

/// The longest name of a device (`IFNAMSIZ`, without the zero at its end).
const LONGEST_DEVICE_NAME: usize = 15;

/// Ports by the names that people use. All others are in the host's /etc/services.
const PORT_NAMES: [(&str, u16); 21] = [
    ("ftp", 21),
    ("ssh", 22),
    ("smtp", 25),
    ("dns", 53),
    ("domain", 53),
    ("http", 80),
    ("ntp", 123),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("nfs", 2049),
    ("etcd-client", 2379),
    ("mysql", 3306),
    ("vxlan", 4789),
    ("postgresql", 5432),
    ("amqp", 5672),
    ("geneve", 6081),
    ("redis", 6379),
    ("kube-apiserver", 6443),
    ("kafka", 9092),
    ("kubelet", 10250),
];

/// What a flow must have. Ends are compared at every hop, since NAT changes them on the way.
#[derive(Clone, Debug)]
pub enum Condition {
    /// This id in the report.
    Id(u64),
    /// This protocol, by the report's name of it.
    Proto(Cow<'static, str>),
    /// An end in this network.
    Net(IpNet),
    /// This port at either end.
    Port(u16),
    /// The port of this name. No flow has it before [`super::Filter::resolve_ports`].
    PortName(String),
    /// An end of this address and port.
    End(SocketAddr),
    /// A pod at either end whose `namespace/name` matches.
    Pod(Pattern),
    /// A pod at either end whose namespace matches.
    Namespace(Pattern),
    /// A service that matches, as `namespace/name:port` or `namespace/name`.
    Service(Pattern),
    /// One end is this, the other one that.
    Between(Box<[Party; 2]>),
    /// This path.
    Path(Way),
    /// What NAT makes of it.
    Nat(NatFilter),
    /// A hop on a device whose name matches.
    Device(Pattern),
}

/// A path, or who is at the other end of an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This class.
    Class(PathClass),
    /// By an ENI, with an end of this kind.
    To(PeerKind),
}

/// What NAT makes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NatFilter {
    /// It changes the client's address or port, perhaps the server's too.
    Snat,
    /// It changes the server's address or port, perhaps the client's too.
    Dnat,
    /// It changes both.
    Both,
    /// It changes something.
    Any,
    /// It changes nothing.
    None,
}

impl ValueEnum for Way {
    fn value_variants<'a>() -> &'a [Self] {
        use PathClass::{Eni, Host, Local, Transit, Undelivered, Unresolved};
        const ALL: [Way; 8] = [
            Way::Class(Eni),
            Way::Class(Local),
            Way::Class(Host),
            Way::Class(Transit),
            Way::Class(Undelivered),
            Way::Class(Unresolved),
            Way::To(PeerKind::Internet),
            Way::To(PeerKind::Vpc),
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Class(class) => class.to_possible_value(),
            Self::To(PeerKind::Internet) => {
                Some(PossibleValue::new("internet").help("By an ENI, to or from a public address"))
            }
            Self::To(kind) => Some(PossibleValue::new(kind.name()).help("By an ENI, to or from an address of the VPC")),
        }
    }
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
        if !party::is_pair(text) {
            return Err("write it like default/web, or 'default/web-*'".to_owned());
        }
        pattern(text).map(Self::Pod)
    }

    /// A namespace, which may have wildcards.
    pub fn namespace(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('/') {
            return Err("a namespace is one name; write it like default, or for a pod --pod default/web".to_owned());
        }
        pattern(text).map(Self::Namespace)
    }

    /// A service as `namespace/name` or `namespace/name:port`, any of which may have wildcards.
    pub fn service(text: &str) -> Result<Self, String> {
        if !party::is_pair(text) || text.ends_with(':') {
            return Err("write it like default/web, default/web:http or 'default/web-*'".to_owned());
        }
        pattern(text).map(Self::Service)
    }

    /// A device's name, which may have wildcards.
    pub fn device(text: &str) -> Result<Self, String> {
        let is_plain = !text.contains(['*', '?', '[', '{', '\\']);
        if text.is_empty() || text.contains('/') || is_plain && text.len() > LONGEST_DEVICE_NAME {
            return Err(format!("a device's name has 1 to {LONGEST_DEVICE_NAME} characters, and no '/'"));
        }
        pattern(text).map(Self::Device)
    }

    /// A port by its number or its name.
    pub fn port(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.parse() {
            return Ok(Self::Port(port));
        }
        let name = text.to_ascii_lowercase();
        if let Some((_, port)) = PORT_NAMES.into_iter().find(|(known, _)| *known == name) {
            return Ok(Self::Port(port));
        }
        let is_name = name.bytes().any(|byte| byte.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte));
        if is_name {
            Ok(Self::PortName(name))
        } else {
            Err("give a number up to 65535, or a name like https".to_owned())
        }
    }

    /// A protocol by its name or its number.
    pub fn proto(text: &str) -> Result<Self, String> {
        let name = protocols::named(text);
        name.map(Self::Proto).ok_or_else(|| format!("known are {}; give others by number", protocols::known()))
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
            Self::Port(wanted) => !is_icmp(&flow.proto) && any_end(&|_, port| port == Some(*wanted)),
            Self::PortName(_) => false,
            Self::End(wanted) => {
                let is_it = |address, port| (address, port) == (wanted.ip(), Some(wanted.port()));
                !is_icmp(&flow.proto) && any_end(&is_it)
            }
            Self::Pod(pattern) => any_pod(&|pod| pattern.is_match(pod)),
            Self::Namespace(pattern) => any_pod(&|pod| pattern.is_match(super::namespace(pod))),
            Self::Service(pattern) => {
                flow.service.as_deref().is_some_and(|name| party::is_service(pattern, name, flow))
            }
            Self::Between(parties) => {
                let [one, other] = &**parties;
                let is = |from: &Party, to: &Party| from.is_at(Side::Source, flow) && to.is_at(Side::Destination, flow);
                is(one, other) || is(other, one)
            }
            Self::Path(Way::Class(class)) => flow.path == *class,
            Self::Path(Way::To(kind)) => {
                let crossed = flow.eni_tx_bytes > 0 || flow.eni_rx_bytes > 0;
                crossed && [flow.src_peer_kind, flow.dst_peer_kind].contains(&Some(*kind))
            }
            Self::Nat(wanted) => match wanted {
                NatFilter::Snat => matches!(flow.nat, Nat::Snat | Nat::Both),
                NatFilter::Dnat => matches!(flow.nat, Nat::Dnat | Nat::Both),
                NatFilter::Both => flow.nat == Nat::Both,
                NatFilter::Any => flow.nat != Nat::None,
                NatFilter::None => flow.nat == Nat::None,
            },
            Self::Device(pattern) => flow.hops.iter().any(|hop| pattern.is_match(&hop.device)),
        }
    }
}

/// As the option that asks for it.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: Option<PossibleValue>| value.map_or_else(String::new, |value| value.get_name().to_owned());
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Proto(proto) => write!(f, "--proto {proto}"),
            Self::Net(net) => write!(f, "--ip {}", party::shown(net)),
            Self::Port(port) => write!(f, "--port {port}"),
            Self::PortName(name) => write!(f, "--port {name}"),
            Self::End(end) => write!(f, "{end}"),
            Self::Pod(pattern) => write!(f, "--pod {pattern}"),
            Self::Namespace(pattern) => write!(f, "--namespace {pattern}"),
            Self::Service(pattern) => write!(f, "--service {pattern}"),
            Self::Between(parties) => write!(f, "--between {} {}", parties[0], parties[1]),
            Self::Path(way) => write!(f, "--path {}", value(way.to_possible_value())),
            Self::Nat(nat) => write!(f, "--nat {}", value(nat.to_possible_value())),
            Self::Device(pattern) => write!(f, "--device {pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_match_is_refused() {
        type Read = fn(&str) -> Result<Condition, String>;
        let cases: [(Read, &[&str]); 7] = [
            (Condition::net, &["", "10.0.0", "10.0.0.0/33", "10.0.0.0/255.255.0.0", "web"]),
            (Condition::pod, &["web", "/web", "a/", "a/b/c", "a/[b"]),
            (Condition::namespace, &["", "default/web", "[a"]),
            (Condition::service, &["web", "default/web:", "a/b/c"]),
            (Condition::device, &["", "a/b", "a-name-too-long-for-it", "eth["]),
            (Condition::port, &["", "65536", "-1", "80,443", "\u{1b}[2J"]),
            (Condition::proto, &["", "tpc", "256"]),
        ];
        for (read, texts) in cases {
            for text in texts {
                read(text).expect_err(text);
            }
        }
        assert!(Condition::proto("tpc").is_err_and(|error| error.contains("tcp, udp")));
    }

    #[test]
    fn ports_by_name() {
        let shown = |text| Condition::port(text).map(|port| port.to_string());
        for (text, expected) in [("443", "--port 443"), ("HTTPS", "--port 443"), ("x11-1", "--port x11-1")] {
            assert_eq!(shown(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn ways_have_the_names_of_paths_and_peers() {
        let names: Vec<_> = Way::value_variants().iter().filter_map(Way::to_possible_value).collect();
        let names: Vec<_> = names.iter().map(PossibleValue::get_name).collect();
        let classes = PathClass::ALL.map(PathClass::name);
        assert_eq!(names, [&classes[..], &["internet", "vpc"]].concat());
    }
}
