//! The flows of a report, their sums, and what a user limited them to.
//!
//! In: made by `path`. Out: serialised as it stands. It must not compute anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Direction, NameOrigin};

/// Where a flow went, by where its packets were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PathClass {
    /// A hop on an ENI or tunnel.
    Eni,
    /// Pod to pod on this node, veths only.
    Local,
    /// Between this node's own stack and a local pod.
    Host,
    /// In by an ENI and out by an ENI.
    Transit,
    /// Entered, never left, and not for this node: dropped here.
    Undelivered,
    /// Seen on one hook, partner unknown.
    Unresolved,
}

impl PathClass {
    /// Every class, in the order of the report.
    pub const ALL: [Self; 6] = [Self::Eni, Self::Local, Self::Host, Self::Transit, Self::Undelivered, Self::Unresolved];

    /// Its name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eni => "eni",
            Self::Local => "local",
            Self::Host => "host",
            Self::Transit => "transit",
            Self::Undelivered => "undelivered",
            Self::Unresolved => "unresolved",
        }
    }
}

/// What is special about a flow's addresses. AWS's link-local services are told by their documented addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The instance metadata service: 169.254.169.254, `fd00:ec2::254`.
    Imds,
    /// Amazon's DNS resolver by its link-local address: 169.254.169.253, `fd00:ec2::253`.
    AmazonDns,
    /// Amazon Time Sync: 169.254.169.123, `fd00:ec2::123`.
    AmazonNtp,
    /// The EKS Pod Identity agent: 169.254.170.23, `fd00:ec2::23`.
    PodIdentity,
    /// Any other address of 169.254.0.0/16 or `fe80::/10`.
    LinkLocal,
    /// To a multicast address.
    Multicast,
    /// To 255.255.255.255, or to the broadcast address of a network that this node is in.
    Broadcast,
}

/// One direction of one conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Unique in the report, from 1.
    pub id: u64,
    /// Shared by the two directions of one conversation, from 1.
    pub conversation: u64,
    /// Protocol name ("tcp", "udp", "icmp", …) or its number.
    pub proto: String,
    /// Source address at the first hop.
    pub src: IpAddr,
    /// Source port at the first hop; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address at the first hop.
    pub dst: IpAddr,
    /// Destination port at the first hop; `null` where the protocol has none.
    pub dport: Option<u16>,
    /// Where it went.
    pub path: PathClass,
    /// What is special about its addresses; `null` for ordinary ones.
    pub scope: Option<Scope>,
    /// Both ends are pods of this node, and yet it crossed an ENI.
    pub local_pair_left_node: bool,
    /// Whether it is the initiator's direction, by conntrack; `null` where conntrack does not tell.
    pub from_initiator: Option<bool>,
    /// `skb->len`, counted once, at the first hop.
    pub bytes: u64,
    /// Packets at the first hop.
    pub packets: u64,
    /// Wire bytes at the first hop.
    pub wire_bytes: u64,
    /// `namespace/name` of the source pod.
    pub src_pod: Option<String>,
    /// `namespace/name` of the destination pod.
    pub dst_pod: Option<String>,
    /// Where the source pod's name came from.
    #[serde(default)]
    pub src_pod_origin: Option<NameOrigin>,
    /// Where the destination pod's name came from.
    #[serde(default)]
    pub dst_pod_origin: Option<NameOrigin>,
    /// The service whose address the initiator used: `namespace/name:port`.
    #[serde(default)]
    pub service: Option<String>,
    /// The hooks it passed, in order.
    pub hops: Vec<Hop>,
    /// What it is in `node_network_total_bytes`: its part of each of the accounting's terms.
    #[serde(default)]
    pub terms: Vec<FlowTerm>,
}

/// A flow's part of a term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTerm {
    /// The term's name.
    pub name: Cow<'static, str>,
    /// Bytes of the flow, at all hops that the term is about.
    pub bytes: u64,
}

/// A flow at one hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// Device name.
    pub device: String,
    /// Device index.
    pub ifindex: u32,
    /// Direction as the device sees it.
    pub direction: Direction,
    /// VLAN ids, outermost first; empty where untagged.
    pub vlans: Vec<u16>,
    /// `skb->len`.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Wire bytes.
    pub wire_bytes: u64,
    /// Source address as the packet had it here.
    pub src: IpAddr,
    /// Source port here; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address here.
    pub dst: IpAddr,
    /// Destination port here; `null` where the protocol has none.
    pub dport: Option<u16>,
}

/// Each flow's bytes counted once, at its first hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By path class; every class is present.
    pub by_path: BTreeMap<PathClass, PathTotal>,
    /// Of `by_path`, the flows that passed a tunnel device. The tunnel's own packets, which carry them, are flows between
    /// this node and the tunnel's other end: where they passed an ENI, these bytes are in `by_path` twice.
    #[serde(default)]
    pub in_tunnels: PathTotal,
}

/// Sum over the flows of one path class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTotal {
    /// Bytes at the flows' first hops.
    pub bytes: u64,
    /// Packets at the flows' first hops.
    pub packets: u64,
    /// Number of flows.
    pub flows: u64,
}

/// What a report's flows are limited to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The options that chose them ("--pod default/web"). Of those with one name, one at least holds; of different names all.
    pub filters: Vec<String>,
    /// As the report's totals, of these flows only.
    pub totals: Totals,
}

/// What flows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The pods at their ends.
    Pod,
    /// The namespaces of these.
    Namespace,
    /// Where they went.
    Path,
    /// The devices they passed.
    Device,
    /// The services whose addresses their initiators used.
    Service,
}

/// Flows, added up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// By what.
    pub by: GroupBy,
    /// Most bytes first.
    pub groups: Vec<Group>,
}

/// The flows that have something in common. A flow between two pods is in the groups of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `namespace/name` of the pod, name of the namespace, path, device or service; `null` for flows that have none.
    pub name: Option<String>,
    /// How many; of a device, how often one passed a hook of it.
    pub flows: u64,
    /// `skb->len`: at the flows' first hops, of a device at its hooks.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Of `bytes`, those that the pod, namespace or service sent, or that left by the device; `null` for a path.
    pub sent_bytes: Option<u64>,
    /// Of `bytes`, those that it received. What a pod sends to itself is both.
    pub received_bytes: Option<u64>,
    /// `bytes` by where the flows went.
    pub by_path: BTreeMap<PathClass, u64>,
}
