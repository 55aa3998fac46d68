//! Which packets an IPsec policy, a netfilter rule or a virtual server may have taken off their way between two hooks.
//!
//! In: a snapshot's diversions and observations. Out: look-ups by tuple. It must not judge flows: that is `classify`'s.
//!
//! **IPsec.** A packet that leaves by an `out` policy passes the egress hook as ESP, and not as itself. One that a tunnel-mode
//! policy of direction `in` or `fwd` is about comes in as ESP, and the kernel then shows it to the same device's ingress hook
//! again, decrypted (`net/xfrm/xfrm_input.c`, `gro_cells_receive`); its device counts it once. It cannot have come unencrypted:
//! the policy drops that. Either is believed only if the outer packets were seen.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::model::Direction;
use crate::report::PathReason;
use crate::snapshot::{
    Device, Diversion, Diversions, LocalRoute, NetfilterRule, Observation, Tuple, VirtualServer, XfrmDirection,
    XfrmPolicy,
};

/// IANA protocol numbers of what carries encrypted packets, and the UDP port of ESP in UDP (RFC 3948).
const ESP: u8 = 50;
const AH: u8 = 51;
const IP_COMP: u8 = 108;
const UDP: u8 = 17;
const ESP_IN_UDP: u16 = 4500;

/// What may have become of a packet instead of passing another hook as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LikelyCause {
    /// The kind.
    pub reason: PathReason,
    /// Which policy, rule or program, for people.
    pub detail: String,
}

/// What an `out` policy does to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// It is transformed, and packets of that kind were seen on their way out.
    Encrypted,
    /// It is transformed, but no such packet was seen.
    Unseen(LikelyCause),
    /// It is dropped.
    Blocked(LikelyCause),
}

/// The diversions of a window, for look-up.
pub struct Diverted<'a> {
    diversions: &'a Diversions,
    inbound: Policies<'a>,
    outbound: Policies<'a>,
    /// Addresses of encrypted packets, by device and direction.
    outer: HashSet<(u32, Direction, IpAddr, IpAddr)>,
    /// The bytes of those that were sent, at any device.
    sent: HashMap<(IpAddr, IpAddr), u64>,
    /// This node's own packets to many, by the device that sent them: the kernel shows it copies of them, as if they came in.
    looped: HashSet<(u32, Tuple)>,
}

/// Policies by their selectors' addresses: few pairs of prefix lengths, many networks of each.
#[derive(Default)]
struct Policies<'a>(HashMap<Lengths, HashMap<(IpNet, IpNet), Vec<&'a XfrmPolicy>>>);

/// Whether a selector is of IPv4, and the prefix lengths of its source and destination.
type Lengths = (bool, u8, u8);

impl<'a> Policies<'a> {
    fn new(policies: impl Iterator<Item = &'a XfrmPolicy>) -> Self {
        let mut by_prefix = Self::default();
        for policy in policies {
            let (src, dst) = (policy.src.trunc(), policy.dst.trunc());
            let lengths = (src.network().is_ipv4(), src.prefix_len(), dst.prefix_len());
            by_prefix.0.entry(lengths).or_default().entry((src, dst)).or_default().push(policy);
        }
        by_prefix
    }

    /// The policy that applies to a packet.
    fn find(&self, tuple: &Tuple) -> Option<&'a XfrmPolicy> {
        let network = |address, length| IpNet::new(address, length).map(|net| net.trunc());
        let of_lengths = self.0.iter().filter(|((v4, ..), _)| *v4 == tuple.src.is_ipv4());
        let candidates = of_lengths.filter_map(|(&(_, src, dst), policies)| {
            policies.get(&(network(tuple.src, src).ok()?, network(tuple.dst, dst).ok()?))
        });
        candidates
            .flatten()
            .copied()
            .filter(|policy| selects(policy, tuple))
            .min_by_key(|policy| (policy.priority, *policy))
    }
}

fn selects(policy: &XfrmPolicy, tuple: &Tuple) -> bool {
    let port = |wanted: Option<u16>, port| wanted.is_none_or(|wanted| wanted == port);
    policy.proto.is_none_or(|proto| proto == tuple.proto)
        && port(policy.sport, tuple.sport)
        && port(policy.dport, tuple.dport)
}

impl<'a> Diverted<'a> {
    /// Sorts the policies, and looks for encrypted packets if there are any.
    #[must_use]
    pub fn new(diversions: &'a Diversions, observations: &[Observation], devices: &[Device]) -> Self {
        // Those of xfrm interfaces are about what passes these, as a hook of their own shows.
        let policies = || diversions.xfrm_policies.iter().filter(|policy| policy.if_id == 0 && !policy.marked);
        let (mut outer, mut sent) = (HashSet::new(), HashMap::<_, u64>::new());
        if !diversions.xfrm_policies.is_empty() {
            for seen in observations.iter().filter(|seen| is_encrypted(&seen.tuple)) {
                let Tuple { src, dst, .. } = seen.tuple;
                outer.insert((seen.ifindex, seen.direction, src, dst));
                if seen.direction == Direction::Tx {
                    let bytes = sent.entry((src, dst)).or_default();
                    *bytes = bytes.saturating_add(seen.counts.bytes);
                }
            }
        }
        Self {
            diversions,
            inbound: Policies::new(policies().filter(|policy| policy.direction != XfrmDirection::Out)),
            outbound: Policies::new(policies().filter(|policy| policy.direction == XfrmDirection::Out)),
            outer,
            sent,
            looped: looped(observations, devices, &diversions.local_routes),
        }
    }

    /// Whether these packets passed the device before: encrypted, or on their way out.
    #[must_use]
    pub fn was_shown_before(&self, seen: &Observation) -> bool {
        self.is_loop(seen) || self.is_decrypted(seen)
    }

    /// Whether these packets passed the device before on their way out.
    #[must_use]
    pub fn is_loop(&self, seen: &Observation) -> bool {
        seen.direction == Direction::Rx && self.looped.contains(&(seen.ifindex, seen.tuple))
    }

    /// Whether these packets passed the device before, encrypted.
    #[must_use]
    pub fn is_decrypted(&self, seen: &Observation) -> bool {
        if self.outer.is_empty() || seen.direction == Direction::Tx || is_encrypted(&seen.tuple) {
            return false;
        }
        let Some(policy) = self.inbound.find(&seen.tuple) else { return false };
        let mut tunnels = policy.templates.iter().filter(|template| template.tunnel);
        let here = |src: IpAddr, dst: IpAddr| {
            if !src.is_unspecified() && !dst.is_unspecified() {
                return self.outer.contains(&(seen.ifindex, seen.direction, src, dst));
            }
            let at_hook = self.outer.iter().filter(|outer| (outer.0, outer.1) == (seen.ifindex, seen.direction));
            at_hook.into_iter().any(|outer| is_or_any(src, outer.2) && is_or_any(dst, outer.3))
        };
        !policy.blocks && tunnels.any(|template| here(template.src, template.dst))
    }

    /// What IPsec makes of packets of so many bytes that leave this node with this tuple; `None` if it lets them pass.
    #[must_use]
    pub fn outbound(&self, tuple: &Tuple, bytes: u64) -> Option<Outbound> {
        let policy = self.outbound.find(tuple)?;
        let cause = |reason| LikelyCause {
            reason,
            detail: format!("IPsec policy out {} to {}, priority {}", policy.src, policy.dst, policy.priority),
        };
        if policy.blocks {
            return Some(Outbound::Blocked(cause(PathReason::DroppedByIpsecPolicy)));
        }
        let outermost = policy.templates.last()?;
        // In transport mode the packet keeps its addresses.
        let (src, dst) = if outermost.tunnel { (outermost.src, outermost.dst) } else { (tuple.src, tuple.dst) };
        let between = self.sent.iter().filter(|(sent, _)| is_or_any(src, sent.0) && is_or_any(dst, sent.1));
        Some(match between.map(|(_, bytes)| *bytes).reduce(u64::saturating_add) {
            Some(sent) if sent >= bytes => Outbound::Encrypted,
            _ => Outbound::Unseen(cause(PathReason::IpsecPolicy)),
        })
    }

    /// A rule or virtual server that may have taken a packet which entered by the device of this name.
    #[must_use]
    pub fn diverter(&self, tuple: &Tuple, input_device: &str) -> Option<LikelyCause> {
        let rule = self.diversions.netfilter_rules.iter().find(|rule| matches_rule(rule, tuple, input_device));
        let server = || {
            let (src, dst) = ((tuple.src, tuple.sport), (tuple.dst, tuple.dport));
            self.server(|server| at_server(server, tuple.proto, dst) || at_backend(server, tuple.proto, src))
        };
        rule.map(suspected_rule).or_else(server)
    }

    /// A rule or virtual server that may have made a packet of this tuple from another.
    #[must_use]
    pub fn originator(&self, tuple: &Tuple) -> Option<LikelyCause> {
        let is_v4 = tuple.src.is_ipv4();
        let of_family = |rule: &&NetfilterRule| if is_v4 { rule.ipv4 } else { rule.ipv6 };
        let (src, dst) = ((tuple.src, tuple.sport), (tuple.dst, tuple.dport));
        let server =
            || self.server(|server| at_server(server, tuple.proto, src) || at_backend(server, tuple.proto, dst));
        self.diversions.netfilter_rules.iter().find(of_family).map(suspected_rule).or_else(server)
    }

    /// The virtual server at an address of this node (kube-proxy puts those of services on a device), if it may have forwarded
    /// what is sent there: one of its backends is not this node.
    #[must_use]
    pub fn forwarder(&self, proto: u8, end: (IpAddr, u16), is_own: impl Fn(IpAddr) -> bool) -> Option<LikelyCause> {
        self.server(|server| {
            let elsewhere = || server.backends.iter().any(|&(backend, _)| !is_own(backend));
            server.address.is_some() && at_server(server, proto, end) && elsewhere()
        })
    }

    /// Whether a virtual server has the address.
    #[must_use]
    pub fn is_virtual_server(&self, address: IpAddr) -> bool {
        self.diversions.virtual_servers.iter().any(|server| server.address == Some(address))
    }

    /// Whether netfilter rules send copies elsewhere (TEE, `dup`).
    #[must_use]
    pub fn may_copy(&self) -> bool {
        self.diversions.netfilter_rules.iter().any(|rule| rule.diversion == Diversion::Copy)
    }

    /// What could not be read, and may hold more diversions.
    #[must_use]
    pub fn unread(&self) -> Option<LikelyCause> {
        let detail = self.diversions.unread.first()?.clone();
        Some(LikelyCause { reason: PathReason::DiversionsUnread, detail })
    }

    fn server(&self, is_it: impl Fn(&VirtualServer) -> bool) -> Option<LikelyCause> {
        let server = self.diversions.virtual_servers.iter().find(|server| is_it(server))?;
        let detail = match server.address {
            Some(address) => format!("IPVS service {address} port {}", server.port),
            None => "IPVS service of marked packets".to_owned(),
        };
        Some(LikelyCause { reason: PathReason::VirtualServer, detail })
    }
}

/// The packets of this node's own addresses that a device sent to many and shows as received, too (`net/ipv4/ip_output.c`,
/// `ip_mc_output`; `net/ipv6/ip6_output.c`, `ip6_finish_output2`).
fn looped(observations: &[Observation], devices: &[Device], routes: &[LocalRoute]) -> HashSet<(u32, Tuple)> {
    let addresses =
        || devices.iter().flat_map(|device| &device.facts.addresses).filter_map(|text| text.parse::<IpNet>().ok());
    let own: HashSet<IpAddr> = addresses().map(|net| net.addr()).collect();
    let broadcast: HashSet<IpAddr> =
        addresses().filter(|net| net.addr().is_ipv4()).map(|net| net.broadcast()).collect();
    let to_many = |address: IpAddr| {
        let limited = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        address.is_multicast() || limited || broadcast.contains(&address)
    };
    let sent = observations.iter().filter(|seen| seen.direction == Direction::Tx && to_many(seen.tuple.dst));
    let delivered = |address| routes.iter().any(|route| route.unconditional && route.network.contains(&address));
    // Before a stack has an address (DHCP). What a bridge sends by its ports may be a pod's.
    let ports: HashSet<u32> = devices.iter().filter(|it| it.master.is_some()).map(|it| it.facts.ifindex).collect();
    let is_own = |seen: &&Observation| {
        let src = seen.tuple.src;
        own.contains(&src) || delivered(src) || src.is_unspecified() && !ports.contains(&seen.ifindex)
    };
    sent.filter(is_own).map(|seen| (seen.ifindex, seen.tuple)).collect()
}

/// Whether the address is the wanted one; unspecified is any.
fn is_or_any(wanted: IpAddr, address: IpAddr) -> bool {
    wanted.is_unspecified() || wanted == address
}

fn is_encrypted(tuple: &Tuple) -> bool {
    let in_udp = tuple.proto == UDP && (tuple.sport == ESP_IN_UDP || tuple.dport == ESP_IN_UDP);
    matches!(tuple.proto, ESP | AH | IP_COMP) || in_udp
}

fn matches_rule(rule: &NetfilterRule, tuple: &Tuple, input_device: &str) -> bool {
    let family = if tuple.src.is_ipv4() { rule.ipv4 } else { rule.ipv6 };
    family
        && rule.input_device.as_deref().is_none_or(|device| device == input_device)
        && rule.proto.is_none_or(|proto| proto == tuple.proto)
        && rule.src.is_none_or(|net| net.contains(&tuple.src))
        && rule.dst.is_none_or(|net| net.contains(&tuple.dst))
        && rule.sport.is_none_or(|port| port == tuple.sport)
        && rule.dport.is_none_or(|port| port == tuple.dport)
}

fn suspected_rule(rule: &NetfilterRule) -> LikelyCause {
    let reason = match rule.diversion {
        Diversion::Tproxy => PathReason::Tproxy,
        Diversion::Rewrite => PathReason::RewrittenWithoutConntrack,
        Diversion::Copy | Diversion::Redirect => PathReason::RedirectedByRule,
        Diversion::Queue => PathReason::QueuedToProcess,
        Diversion::Synproxy => PathReason::Synproxy,
    };
    LikelyCause { reason, detail: rule.place.clone() }
}

fn at_server(server: &VirtualServer, proto: u8, (address, port): (IpAddr, u16)) -> bool {
    server.proto.is_none_or(|own| own == proto)
        && server.address.is_none_or(|own| own == address)
        && (server.port == 0 || server.port == port)
}

fn at_backend(server: &VirtualServer, proto: u8, (address, port): (IpAddr, u16)) -> bool {
    let is_it = |&(own, own_port): &(IpAddr, u16)| own == address && (own_port == 0 || own_port == port);
    server.proto.is_none_or(|own| own == proto) && server.backends.iter().any(is_it)
}
