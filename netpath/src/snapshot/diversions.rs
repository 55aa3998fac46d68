//! What may take a packet off its way between two hooks: where it is delivered locally, transformed, or rewritten without
//! conntrack.
//!
//! In: filled by `node::diversions` and `node::devices`. Out: read by `path`. Plain data; it must not match or judge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Everything of this kind that existed at some time in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diversions {
    /// Routes of all tables that deliver to this node.
    pub local_routes: Vec<LocalRoute>,
    /// IPsec policies (`ip xfrm policy`), without those of sockets.
    pub xfrm_policies: Vec<XfrmPolicy>,
    /// Netfilter rules that divert packets otherwise than conntrack's NAT does.
    pub netfilter_rules: Vec<NetfilterRule>,
    /// IPVS services.
    pub virtual_servers: Vec<VirtualServer>,
    /// What could not be read, and why, as one line each.
    pub unread: Vec<String>,
}

impl Diversions {
    /// What there was in either of two.
    #[must_use]
    pub fn union(mut self, then: Self) -> Self {
        fn both<T: Ord>(first: &mut Vec<T>, then: Vec<T>) {
            first.extend(then);
            first.sort_unstable();
            first.dedup();
        }
        both(&mut self.local_routes, then.local_routes);
        both(&mut self.xfrm_policies, then.xfrm_policies);
        both(&mut self.netfilter_rules, then.netfilter_rules);
        both(&mut self.unread, then.unread);
        // A backend may have come or gone.
        let mut servers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for server in self.virtual_servers.into_iter().chain(then.virtual_servers) {
            servers.entry((server.proto, server.address, server.port)).or_default().extend(server.backends);
        }
        let server = |((proto, address, port), backends): (_, BTreeSet<_>)| VirtualServer {
            proto,
            address,
            port,
            backends: backends.into_iter().collect(),
        };
        self.virtual_servers = servers.into_iter().map(server).collect();
        self
    }
}

/// A route of type `local`, `broadcast` or `anycast`: packets to these addresses are delivered to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LocalRoute {
    /// The addresses.
    pub network: IpNet,
    /// The routing table (255 is `local`).
    pub table: u32,
    /// Every packet to these addresses takes it. Otherwise only those that a rule sends to its table, by a mark for example.
    pub unconditional: bool,
}

/// Which packets an IPsec policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XfrmDirection {
    /// Delivered to this node (`XFRM_POLICY_IN`).
    In,
    /// Sent by this node, forwarded packets included (`XFRM_POLICY_OUT`).
    Out,
    /// Forwarded (`XFRM_POLICY_FWD`).
    Forward,
}

/// An IPsec policy (`struct xfrm_userpolicy_info`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct XfrmPolicy {
    /// Which packets.
    pub direction: XfrmDirection,
    /// Source addresses.
    pub src: IpNet,
    /// Destination addresses.
    pub dst: IpNet,
    /// IANA protocol number; `None` for any.
    pub proto: Option<u8>,
    /// Source port; `None` for any, or a range.
    pub sport: Option<u16>,
    /// Destination port; `None` for any, or a range.
    pub dport: Option<u16>,
    /// It drops what it matches.
    pub blocks: bool,
    /// It is for packets of the xfrm interface with this number; 0 for no such interface.
    pub if_id: u32,
    /// It is for packets with a mark.
    pub marked: bool,
    /// The transformations, in order; empty if packets pass unchanged.
    pub templates: Vec<XfrmTemplate>,
    /// Lower is preferred.
    pub priority: u32,
}

/// A transformation (`struct xfrm_user_tmpl`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct XfrmTemplate {
    /// IANA number: 50 is ESP, 51 is AH, 108 is IPComp.
    pub proto: u8,
    /// A packet in a packet (tunnel or BEET mode), else the payload alone.
    pub tunnel: bool,
    /// Source of the outer packet; unspecified if the state decides.
    pub src: IpAddr,
    /// Destination of the outer packet; unspecified if the state decides.
    pub dst: IpAddr,
}

/// How a rule diverts packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Diversion {
    /// To a socket of this node, addresses unchanged (TPROXY).
    Tproxy,
    /// Addresses or ports are rewritten without conntrack.
    Rewrite,
    /// A copy is sent elsewhere (`dup`, TEE).
    Copy,
    /// Sent out by a device from an ingress or egress chain (`fwd`).
    Redirect,
    /// To a process that decides (NFQUEUE).
    Queue,
    /// A TCP handshake is answered by the kernel (SYNPROXY).
    Synproxy,
}

/// A netfilter rule, and what it limits itself to, as far as that is understood: `None` is anything. Addresses and ports are
/// those that a packet has in its chain, where it may have been translated; the device is the one that it came to its chain by,
/// which may be a bridge, a bond or the like above the one that it came in by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetfilterRule {
    /// What it does.
    pub diversion: Diversion,
    /// Where it is, for people: "nft table ip raw, chain prerouting".
    pub place: String,
    /// It sees IPv4 packets.
    pub ipv4: bool,
    /// It sees IPv6 packets.
    pub ipv6: bool,
    /// Name of the device by which packets come in.
    pub input_device: Option<String>,
    /// IANA protocol number.
    pub proto: Option<u8>,
    /// Source addresses.
    pub src: Option<IpNet>,
    /// Destination addresses.
    pub dst: Option<IpNet>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
}

impl NetfilterRule {
    /// A rule that sees every packet of both families.
    #[must_use]
    pub fn new(diversion: Diversion, place: impl Into<String>) -> Self {
        Self {
            diversion,
            place: place.into(),
            ipv4: true,
            ipv6: true,
            input_device: None,
            proto: None,
            src: None,
            dst: None,
            sport: None,
            dport: None,
        }
    }
}

/// An IPVS service and its backends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualServer {
    /// IANA protocol number; `None` for packets with a mark, of any protocol.
    pub proto: Option<u8>,
    /// Its address; `None` for packets with a mark.
    pub address: Option<IpAddr>,
    /// Its port; 0 for any.
    pub port: u16,
    /// Addresses of its backends, and their ports (0: the packet's own).
    pub backends: Vec<(IpAddr, u16)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_was_at_either_end() {
        let server = |port, backends: &[u16]| VirtualServer {
            proto: Some(6),
            address: Some([10, 0, 0, 100].into()),
            port,
            backends: backends.iter().map(|port| ([10, 0, 0, 1].into(), *port)).collect(),
        };
        let with = |virtual_servers: Vec<_>, unread: &[&str]| Diversions {
            virtual_servers,
            unread: unread.iter().map(|&line| line.to_owned()).collect(),
            ..Diversions::default()
        };
        let first = with(vec![server(80, &[1, 2]), server(81, &[1])], &["a"]);
        let then = with(vec![server(80, &[3, 1]), server(82, &[])], &["a", "b"]);
        let both = with(vec![server(80, &[1, 2, 3]), server(81, &[1]), server(82, &[])], &["a", "b"]);
        assert_eq!(first.union(then), both);
    }
}
