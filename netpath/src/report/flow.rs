//! The flows of a report, their sums, and what a user limited them to.
//!
//! In: made by `path`. Out: serialised as it stands. It must not compute anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TermKind, UnderWay};
use crate::model::{Direction, NameOrigin};

/// Where a flow went, by where its packets were seen.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize, clap::ValueEnum,
)]
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

/// Why a flow is `undelivered` or `unresolved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathReason {
    /// Undelivered: no device of this node sent it on, no address of it is this node's, nothing answered where it came in,
    /// and nothing is known here that could have taken it unseen.
    NeverLeft,
    /// Undelivered: tc filters on the device by which it came in dropped as many packets as are missing.
    DroppedByFilter,
    /// Undelivered: an IPsec policy of action `block` applies to it.
    DroppedByIpsecPolicy,
    /// Undelivered: the kernel was seen to drop it. Why, where and how many packets is in [`Flow::drops`].
    Dropped,
    /// Unresolved: it came in, and was seen neither to leave nor to be dropped.
    NotSeenAgain,
    /// Unresolved: it was answered where it came in: by its receiver, or by a rule that rejects it. Where it went was not seen.
    Answered,
    /// Unresolved: an IPsec policy applies to it, but no encrypted packets were seen that could be it.
    IpsecPolicy,
    /// Unresolved: a route of type `local` that not all packets take may have delivered it to this node.
    PolicyRoute,
    /// Unresolved: a TPROXY rule applies to it, which gives it to a process of this node.
    Tproxy,
    /// Unresolved: a netfilter rule that changes addresses or ports without conntrack may apply to it.
    RewrittenWithoutConntrack,
    /// Unresolved: a netfilter rule that sends packets or copies elsewhere may apply to it.
    RedirectedByRule,
    /// Unresolved: a netfilter rule that lets a process decide (NFQUEUE) may apply to it.
    QueuedToProcess,
    /// Unresolved: a SYNPROXY rule may apply to it.
    Synproxy,
    /// Unresolved: an IPVS service may have forwarded it under other addresses.
    VirtualServer,
    /// Unresolved: a program on a hook that it passed, or should have passed, may have redirected or dropped it.
    OtherProgram,
    /// Unresolved: NAT could not be followed, for want of conntrack.
    ConntrackUnavailable,
    /// Unresolved: NAT could not be followed throughout, since conntrack messages were lost.
    ConntrackOverrun,
    /// Unresolved: conntrack translates it in more than one way, and what was seen does not decide.
    AmbiguousTranslation,
    /// Unresolved: a hook had no room to record all flows.
    RecordsLost,
    /// Unresolved: it may have passed a device that netpath did not (fully) watch.
    UnwatchedDevice,
    /// Unresolved: what could have taken it could not be read.
    DiversionsUnread,
    /// Unresolved: to a loopback or unspecified address, which the kernel drops unless `route_localnet` permits it.
    LoopbackDestination,
    /// Unresolved: seen on its way out only, or only within this node: where it came from was not seen.
    OneSided,
}

/// What is special about a flow's addresses. AWS's link-local services are told by their documented addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
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

/// What NAT makes of a connection's addresses and ports, by conntrack; without it, as the hops show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// Nothing.
    #[default]
    None,
    /// It changes the client's.
    Snat,
    /// It changes the server's.
    Dnat,
    /// It changes both.
    Both,
}

/// Where an end of a flow is, by its address before SNAT and after DNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerKind {
    /// A pod of this node.
    PodHere,
    /// A pod of another node, reached through a tunnel.
    PodElsewhere,
    /// This node's own stack.
    ThisNode,
    /// In the VPC, by its CIDR blocks.
    Vpc,
    /// A private address (RFC 1918, 6598, 4193) that is not known to be in the VPC.
    Private,
    /// A public address.
    Internet,
    /// Link-local: the instance metadata service, Amazon DNS and the like.
    LinkLocal,
    /// Many at once: multicast, broadcast.
    Many,
}

impl PeerKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::PodHere,
        Self::PodElsewhere,
        Self::ThisNode,
        Self::Vpc,
        Self::Private,
        Self::Internet,
        Self::LinkLocal,
        Self::Many,
    ];

    /// Its name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PodHere => "pod_here",
            Self::PodElsewhere => "pod_elsewhere",
            Self::ThisNode => "this_node",
            Self::Vpc => "vpc",
            Self::Private => "private",
            Self::Internet => "internet",
            Self::LinkLocal => "link_local",
            Self::Many => "many",
        }
    }
}

/// One direction of one conversation.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Flow {
    /// Unique in the report, from 1.
    pub id: u64,
    /// Shared by the two directions of one conversation, from 1.
    pub conversation: u64,
    /// Protocol name ("tcp", "udp", "icmp", …) or its number.
    pub proto: Cow<'static, str>,
    /// Source address at the first hop.
    pub src: IpAddr,
    /// Source port at the first hop; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address at the first hop.
    pub dst: IpAddr,
    /// Destination port at the first hop; `null` where the protocol has none.
    pub dport: Option<u16>,
    /// It is netpath's own.
    #[serde(default)]
    pub own: bool,
    /// Where it went.
    pub path: PathClass,
    /// What NAT makes of its connection's addresses.
    #[serde(default)]
    pub nat: Nat,
    /// Where its source is; `null` if that is not known.
    #[serde(default)]
    pub src_peer_kind: Option<PeerKind>,
    /// Where its destination is; `null` if that is not known.
    #[serde(default)]
    pub dst_peer_kind: Option<PeerKind>,
    /// What left this node by ENIs, each byte once.
    #[serde(default)]
    pub eni_tx_bytes: u64,
    /// What came in by ENIs, each byte once.
    #[serde(default)]
    pub eni_rx_bytes: u64,
    /// Why it is `undelivered` or `unresolved`; `null` for other paths.
    #[serde(default)]
    pub reason: Option<PathReason>,
    /// The policy, rule, program or fact that the reason is about; `null` if there is no more to it.
    #[serde(default)]
    pub reason_detail: Option<String>,
    /// What is special about its addresses; `null` for ordinary ones.
    pub scope: Option<Scope>,
    /// Both ends are pods of this node, and yet it crossed an ENI.
    pub local_pair_left_node: bool,
    /// Whether it is the initiator's direction, by conntrack; `null` where conntrack does not tell.
    pub from_initiator: Option<bool>,
    /// `skb->len`, each byte once: what crossed ENIs or tunnels if any did; else what came in by the pods' veths, or, if
    /// nothing did, left by them.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Wire bytes, likewise.
    pub wire_bytes: u64,
    /// Of `bytes`, those that stayed between pods of this node though others crossed an ENI: where several connections that cannot
    /// be told apart share the flow. In the totals they are `local`.
    #[serde(default)]
    pub local_bytes: u64,
    /// Of `bytes`, those that travelled inside other packets (tunnels, IPsec), which are flows of their own. Not in the
    /// totals by path.
    #[serde(default)]
    pub carried_bytes: u64,
    /// Bytes that crossed an ENI besides, a second time: out by one and in again, or in and out. EC2 counts them too.
    #[serde(default)]
    pub again_bytes: u64,
    /// What was under way between two hops at an end of the window, for those who add windows up; left out if that is nothing.
    #[serde(default, skip_serializing_if = "UnderWay::is_nothing")]
    pub under_way: UnderWay,
    /// For ICMP errors: the packet that they are about, as the first hop quotes it.
    #[serde(default)]
    pub about: Option<QuotedPacket>,
    /// `namespace/name` of the source pod.
    pub src_pod: Option<Arc<str>>,
    /// `namespace/name` of the destination pod.
    pub dst_pod: Option<Arc<str>>,
    /// Where the source pod's name came from.
    #[serde(default)]
    pub src_pod_origin: Option<NameOrigin>,
    /// Where the destination pod's name came from.
    #[serde(default)]
    pub dst_pod_origin: Option<NameOrigin>,
    /// The service whose address the initiator used: `namespace/name:port`.
    #[serde(default)]
    pub service: Option<String>,
    /// Its packets that the kernel dropped, on this node or in a pod of it: most first. Whether drops were seen at all:
    /// `health.drops_unseen`.
    #[serde(default)]
    pub drops: Vec<FlowDrop>,
    /// The hooks it passed, in order.
    pub hops: Vec<Hop>,
    /// What it is in `node_network_total_bytes`: its part of each of the accounting's terms.
    #[serde(default)]
    pub terms: Vec<FlowTerm>,
}

/// The packet that an ICMP error is about. It travelled the other way.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct QuotedPacket {
    /// Protocol name or its number.
    pub proto: Cow<'static, str>,
    /// Source address.
    pub src: IpAddr,
    /// Source port; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port; `null` where the protocol has none.
    pub dport: Option<u16>,
}

/// Packets that were dropped for one reason at one place (tracepoint `skb:kfree_skb`).
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct FlowDrop {
    /// The kernel's name for the reason without `SKB_DROP_REASON_`; `null` before Linux 5.17, which has no reasons and frees
    /// packets so at some ordinary ends, too.
    pub reason: Option<String>,
    /// The function, and how far in it: `nf_hook_slow+0x9c`; `null` if the kernel does not show names.
    pub location: Option<String>,
    /// Whether it was in the node's own network namespace, as opposed to a pod's; `null` if that is not known.
    pub in_node: Option<bool>,
    /// How many, as the kernel had them there: fragments may have become one packet.
    pub packets: u64,
}

/// A flow's part of a term.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct FlowTerm {
    /// Which term.
    pub name: TermKind,
    /// Bytes of the flow, at all hops that the term is about.
    pub bytes: u64,
}

/// A flow at one hook.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Hop {
    /// Device name.
    pub device: Arc<str>,
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
    /// The hook had seen these packets before, encrypted or on their way out: the device counts them once.
    #[serde(default)]
    pub shown_again: bool,
}

/// Each byte once, by the hooks at the node's edge: ENIs, tunnels, pods' veths. What ENIs' hooks saw is
/// `by_path.eni + by_path.transit + eni_again`, and of `undelivered` what came in by an ENI.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Totals {
    /// By path class; every class is present.
    pub by_path: BTreeMap<PathClass, PathTotal>,
    /// What travelled inside other packets (tunnels, IPsec). Those are flows of their own, and in `by_path`; these are not.
    #[serde(default)]
    pub in_tunnels: PathTotal,
    /// Bytes that crossed an ENI a second time: in and out (transit), or out and in again (pods of this node by an ENI).
    #[serde(default)]
    pub eni_again: PathTotal,
    /// netpath's own, asking the instance metadata service about an ENI that came in the window; in `by_path` too.
    #[serde(default)]
    pub own: PathTotal,
}

/// Sum over the flows of one path class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct PathTotal {
    /// Bytes.
    pub bytes: u64,
    /// Packets; 0 where bytes alone are known.
    pub packets: u64,
    /// Number of flows.
    pub flows: u64,
}
