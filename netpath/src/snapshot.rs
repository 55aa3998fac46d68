//! Everything that was read from the node for one window, as plain owned data: the border between I/O and reasoning.
//!
//! In: filled by `measure`. Out: read by `path`. A snapshot serialises, so that scenarios are data files and a
//! recorded window can be replayed without root. It must not hold handles, and must not compute.

mod device;
mod diversions;
mod drops;
mod merge;

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::device::*;
pub use self::diversions::*;
pub use self::drops::*;
use crate::model::{
    Conntrack, ConntrackTable, Direction, Eni, Ipam, NameSource, NameSourceReport, NodeInfo, Source, Window,
};

/// One window of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The node.
    pub node: NodeInfo,
    /// The time that was measured.
    pub window: Window,
    /// Every device that existed at some time in the window, hooked or not.
    pub devices: Vec<Device>,
    /// Every flow at every hook.
    pub observations: Vec<Observation>,
    /// Packets that were counted, but not attributed to a flow.
    pub unattributed: Vec<Unattributed>,
    /// Packets that found no room even in the unattributed counters; their hook is unknown.
    #[serde(default)]
    pub lost: Counts,
    /// netpath's own connections in the window, as it sends.
    #[serde(default)]
    pub own_connections: Vec<Tuple>,
    /// Every connection that conntrack knew at some time in the window; empty if it was not read.
    pub connections: Vec<Connection>,
    /// How far `connections` can be trusted.
    pub conntrack: Conntrack,
    /// If they cannot be: why, and what to do, as one line.
    #[serde(default)]
    pub conntrack_reason: Option<String>,
    /// How full its table was, and what that led to; `None` if it was not read.
    #[serde(default)]
    pub conntrack_table: Option<ConntrackTable>,
    /// How often the kernel dropped messages about devices, since too many waited.
    #[serde(default)]
    pub device_overruns: u64,
    /// The devices by which default routes left when the window was opened, those of the main table first; `None` if that was
    /// not read.
    #[serde(default)]
    pub default_routes: Option<Vec<u32>>,
    /// The clsact qdiscs that were made to attach to.
    #[serde(default)]
    pub new_qdiscs: NewQdiscs,
    /// ENIs and branch ENIs, those with a device first, in order of ifindex.
    #[serde(default)]
    pub enis: Vec<Eni>,
    /// What ipamd's metrics say, if they could be read.
    #[serde(default)]
    pub ipam: Option<Ipam>,
    /// Who was asked about ENIs, and how that went. Those of names are in `names`.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// What the node's own records say of the names of its pods and services.
    #[serde(default)]
    pub names: Names,
    /// What may take packets off their way between two hooks.
    #[serde(default)]
    pub diversions: Diversions,
    /// What the kernel dropped.
    #[serde(default)]
    pub kernel_drops: KernelDrops,
}

impl Snapshot {
    /// A window in which nothing was seen, nor asked but conntrack.
    #[must_use]
    pub fn new(node: NodeInfo, window: Window) -> Self {
        Self {
            node,
            window,
            devices: Vec::new(),
            observations: Vec::new(),
            unattributed: Vec::new(),
            lost: Counts::default(),
            own_connections: Vec::new(),
            connections: Vec::new(),
            conntrack: Conntrack::Ok,
            conntrack_reason: None,
            conntrack_table: None,
            device_overruns: 0,
            default_routes: None,
            new_qdiscs: NewQdiscs::default(),
            enis: Vec::new(),
            ipam: None,
            sources: Vec::new(),
            names: Names::default(),
            diversions: Diversions::default(),
            kernel_drops: KernelDrops::default(),
        }
    }
}

/// What the node's own records say of names. No source is believed here: `path::names` decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// What each source was good for; empty if none was asked.
    pub sources: Vec<NameSourceReport>,
    /// What each source says of each pod. A pod that two sources know is here twice.
    pub pods: Vec<PodRecord>,
    /// What the node's NAT rules say of services.
    pub services: Vec<ServiceRecord>,
}

/// What one source says of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Who says so.
    pub source: NameSource,
    /// Kubernetes namespace: a DNS label.
    pub namespace: String,
    /// Pod name: a DNS subdomain.
    pub name: String,
    /// Kubernetes' id of the pod, if the source has it.
    pub uid: Option<String>,
    /// The pod's addresses, as far as the source has them.
    pub addresses: Vec<IpAddr>,
    /// Devices of this node that are the other end of a veth in the pod's network namespace.
    pub veths: Vec<u32>,
    /// The source said so when the window was opened.
    pub at_start: bool,
    /// The source still said so when it was closed.
    pub at_end: bool,
}

/// A service's address, as a NAT rule of this node has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Who says so.
    pub source: NameSource,
    /// `namespace/name:port`, or `namespace/name` for a port without a name.
    pub name: String,
    /// IANA protocol number.
    pub proto: u8,
    /// Its address: a cluster IP, external IP or load balancer's.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// A conntrack entry: what the node does to a connection's addresses.
///
/// A packet of the initiator carries `original` before NAT and `reply.reversed()` after it; a packet of the responder
/// carries `reply` before NAT is undone, and `original.reversed()` after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// conntrack zone.
    pub zone: u16,
    /// `CTA_TUPLE_ORIG`: as the initiator sent it.
    pub original: Tuple,
    /// `CTA_TUPLE_REPLY`: as the answer is expected, before NAT is undone.
    pub reply: Tuple,
}

/// The ends of a flow as the packet carries them. Ports are in host byte order; 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// IANA protocol number.
    pub proto: u8,
    /// Source address.
    pub src: IpAddr,
    /// Source port, or the ICMP echo identifier.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port, or the ICMP echo identifier.
    pub dport: u16,
}

/// The order of the fields, in numbers: reports compare tuples often.
impl Ord for Tuple {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => (false, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (true, v6.to_bits()),
        };
        let end = |address, port| (number(address), port);
        let by_source = end(self.src, self.sport).cmp(&end(other.src, other.sport));
        let by_destination = || end(self.dst, self.dport).cmp(&end(other.dst, other.dport));
        self.proto.cmp(&other.proto).then(by_source).then_with(by_destination)
    }
}

impl PartialOrd for Tuple {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// In three words, where the derived one has ten pieces: joining hashes each tuple several times.
impl Hash for Tuple {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for address in [self.src, self.dst] {
            match address {
                IpAddr::V4(v4) => state.write_u32(v4.to_bits()),
                IpAddr::V6(v6) => state.write_u128(v6.to_bits()),
            }
        }
        state.write_u64(u64::from(self.proto) << 32 | u64::from(self.sport) << 16 | u64::from(self.dport));
    }
}

impl Tuple {
    /// The same conversation in the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, sport: self.dport, dst: self.src, dport: self.sport, ..self }
    }
}

/// Packets, bytes (`skb->len`) and wire bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets as the hook saw them.
    pub packets: u64,
    /// Sum of `skb->len`.
    pub bytes: u64,
    /// Bytes as frames on the wire.
    pub wire_bytes: u64,
}

impl std::ops::AddAssign for Counts {
    /// Stops at the largest number: a replayed file may hold anything, and must not end in a panic.
    fn add_assign(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(other.wire_bytes);
    }
}

/// One flow at one hook. A snapshot has one observation at most for a hook, VLANs, tuple and `about`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The device.
    pub ifindex: u32,
    /// Rx is TC ingress, tx is TC egress.
    pub direction: Direction,
    /// VLAN ids, outer then inner; 0 where there is none.
    pub vlans: [u16; 2],
    /// The 5-tuple, as the packet had it here.
    pub tuple: Tuple,
    /// For an ICMP error: the 5-tuple of the packet that it is about, as it is quoted here. It travelled the other way.
    #[serde(default)]
    pub about: Option<Tuple>,
    /// What was counted.
    pub counts: Counts,
}

/// Why packets were not attributed to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Neither IPv4 nor IPv6.
    NonIp,
    /// Truncated, malformed, or with more headers than the parser follows.
    Unparsed,
    /// A later fragment without its first one.
    OrphanFragment,
    /// No room for a new flow in the map.
    MapFull,
}

/// Packets of one hook that were not attributed to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unattributed {
    /// The device.
    pub ifindex: u32,
    /// Rx is TC ingress, tx is TC egress.
    pub direction: Direction,
    /// Why.
    pub reason: Reason,
    /// What was counted.
    pub counts: Counts,
}

#[cfg(test)]
mod tests {
    use super::Snapshot;

    /// A fuzzer that begins with what is no snapshot finds nothing.
    #[test]
    fn the_fuzzers_seeds_are_snapshots() {
        for seed in [include_str!("../fuzz/seeds/snapshot/local"), include_str!("../fuzz/seeds/snapshot/snat")] {
            let snapshot: Snapshot = serde_json::from_str(seed).expect("a snapshot");
            assert!(!snapshot.observations.is_empty());
        }
    }
}
