//! What one window of one node says to a fleet: `netpath.flow/1`, `netpath.eni/1` and `netpath.window/1`, one JSON object each.
//!
//! In: a report, and who observes. Out: records that borrow from it. Pure. Names and numbers are the report's own; what a report nests is
//! flat here, since records are for tables. Fields are added, never renamed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Eni, EniRole};
use crate::report::{Flow, FlowTerm, Hop, Nat, PathClass, PathReason, PeerKind, Report, Scope, Term, TermKind};

/// The value of [`FlowRecord::schema`].
pub const FLOW: &str = "netpath.flow/1";
/// The value of [`EniRecord::schema`].
pub const ENI: &str = "netpath.eni/1";
/// The value of [`WindowRecord::schema`].
pub const WINDOW: &str = "netpath.window/1";

/// Who observed, and when.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Observed<'a> {
    /// Name of the node in its cluster.
    pub observer: &'a str,
    /// Name of the cluster; `null` if it is not known.
    pub cluster: Option<&'a str>,
    /// EC2 instance id of the node.
    pub instance_id: Option<&'a str>,
    /// Id of the node's availability zone, the same for every account (`use1-az1`).
    pub zone_id: Option<&'a str>,
    /// When the window began: RFC 3339, UTC, with milliseconds.
    pub started_at: String,
    /// Length of the window, nanoseconds.
    pub duration_ns: u64,
}

/// One flow in one window, as one node saw it. Of a flow between nodes both have a record.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct FlowRecord<'a> {
    /// Always [`FLOW`].
    pub schema: &'static str,
    /// By whom.
    #[serde(flatten)]
    pub observed: &'a Observed<'a>,
    /// Shared by the two directions of one conversation, in this window of this node.
    pub conversation: u64,
    /// Protocol name ("tcp", "udp", "icmp", …) or its number.
    pub proto: &'a str,
    /// Source address at the first hop: as the sender sent it, or as it came in by an ENI.
    pub src: IpAddr,
    /// Source port there; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address there.
    pub dst: IpAddr,
    /// Destination port there.
    pub dport: Option<u16>,
    /// Source address at the last hop: as it left by an ENI, or as the receiver got it.
    pub last_src: IpAddr,
    /// Source port there.
    pub last_sport: Option<u16>,
    /// Destination address there.
    pub last_dst: IpAddr,
    /// Destination port there.
    pub last_dport: Option<u16>,
    /// The prefix of a size that EC2 delegates to ENIs (/28, for IPv6 /80) that `src` is in.
    pub src_prefix: String,
    /// The same of `last_dst`.
    pub last_dst_prefix: String,
    /// Where it went.
    pub path: PathClass,
    /// What NAT makes of its connection's addresses.
    pub nat: Nat,
    /// What is special about its addresses; `null` for ordinary ones.
    pub scope: Option<Scope>,
    /// Whether it is the initiator's direction, by conntrack; `null` where conntrack does not tell.
    pub from_initiator: Option<bool>,
    /// It is netpath's own.
    pub own: bool,
    /// Kubernetes namespace of the source pod; `null` if this node does not know one.
    pub src_namespace: Option<&'a str>,
    /// Name of the source pod.
    pub src_pod: Option<&'a str>,
    /// Kubernetes namespace of the destination pod; `null` if this node does not know one.
    pub dst_namespace: Option<&'a str>,
    /// Name of the destination pod.
    pub dst_pod: Option<&'a str>,
    /// The service whose address the initiator used: `namespace/name:port`.
    pub service: Option<&'a str>,
    /// Where its source is; `null` if that is not known.
    pub src_peer_kind: Option<PeerKind>,
    /// Where its destination is; `null` if that is not known.
    pub dst_peer_kind: Option<PeerKind>,
    /// By which way it crossed an ENI of this node; `null` if it did not.
    pub eni_hop: Option<EniHop>,
    /// `skb->len`, each byte once on this node.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Wire bytes, likewise.
    pub wire_bytes: u64,
    /// What left this node by ENIs, each byte once.
    pub eni_tx_bytes: u64,
    /// What came in by ENIs, each byte once.
    pub eni_rx_bytes: u64,
    /// Of `bytes`, those that stayed between pods of this node though others crossed an ENI.
    pub local_bytes: u64,
    /// Of `bytes`, those that travelled inside other packets (tunnels, IPsec), which are flows of their own.
    pub carried_bytes: u64,
    /// What came in at the node's edge less what left by it. More than 0: under way between two hops when the window ended, and so in
    /// `bytes` of the next window, too; or dropped.
    pub under_way_bytes: i64,
    /// Both ends are pods of this node, and yet it crossed an ENI.
    pub local_pair_left_node: bool,
    /// Why it is `undelivered` or `unresolved`; `null` for other paths.
    pub reason: Option<PathReason>,
    /// Its packets that the kernel was seen to drop on this node.
    pub dropped_packets: u64,
    /// Why most of these were dropped, by the kernel's name for it.
    pub drop_reason: Option<&'a str>,
    /// Its part of each term of the node's `node_network_total_bytes`.
    pub terms: &'a [FlowTerm],
}

/// By which way a flow crossed an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EniHop {
    /// It came in.
    Rx,
    /// It left.
    Tx,
    /// It left and came in: between pods of this node, or on its way through it.
    Both,
}

/// An ENI of a node: who has its addresses.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct EniRecord<'a> {
    /// Always [`ENI`].
    pub schema: &'static str,
    /// By whom.
    #[serde(flatten)]
    pub observed: &'a Observed<'a>,
    /// The ENI.
    #[serde(flatten)]
    pub eni: EniFacts<'a>,
}

/// What is known of an ENI.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct EniFacts<'a> {
    /// EC2's id of it.
    pub id: Option<&'a str>,
    /// Name of its device; `null` if it has none in the node's network namespace.
    pub device: Option<&'a str>,
    /// Hardware address, lower-case hex with colons.
    pub mac: Option<&'a str>,
    /// What it is for.
    pub role: Option<EniRole>,
    /// Device index of the attachment.
    pub device_index: Option<u32>,
    /// Its private addresses, without those of `prefixes`, as EC2 tells; and those that flows of this node left from by it in the last
    /// hour, before the record was written.
    pub addresses: Vec<IpAddr>,
    /// The prefixes that EC2 delegated to it, as `10.0.0.16/28`; empty if they are not known.
    pub prefixes: &'a [String],
}

/// A window of a node: that there was one, and what CloudWatch and EC2 show of it.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct WindowRecord<'a> {
    /// Always [`WINDOW`].
    pub schema: &'static str,
    /// By whom.
    #[serde(flatten)]
    pub observed: &'a Observed<'a>,
    /// Version of netpath.
    pub netpath_version: &'a str,
    /// Container Insights' number, as bytes of the window; `null` if a device's counters began anew.
    pub node_network_total_bytes: Option<u64>,
    /// Its parts. Their sum is that number.
    pub terms: Vec<TermRecord>,
    /// EC2's `NetworkIn`, as bytes of the window.
    pub network_in_bytes: Option<u64>,
    /// EC2's `NetworkOut`, as bytes of the window.
    pub network_out_bytes: Option<u64>,
    /// How many flows the window has.
    pub flows: u64,
    /// Those of them whose path is unknown.
    pub unjoined_flows: u64,
    /// Packets that are in no flow.
    pub unattributed_packets: u64,
    /// Devices whose traffic was not (fully) seen.
    pub blind_devices: u64,
}

/// A part of `node_network_total_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TermRecord {
    /// Which.
    pub name: TermKind,
    /// Bytes; negative where netpath saw more than the kernel counted.
    pub bytes: i64,
}

impl<'a> Observed<'a> {
    /// A window that began at `start`.
    #[must_use]
    pub fn new(observer: &'a str, cluster: &'a str, report: &'a Report, start: Timestamp) -> Self {
        Self {
            observer,
            cluster: Some(cluster).filter(|cluster| !cluster.is_empty()),
            instance_id: report.node.instance_id.as_deref(),
            zone_id: report.node.zone_id.as_deref(),
            started_at: format!("{start:.3}"),
            duration_ns: report.window.duration_ns,
        }
    }
}

impl<'a> FlowRecord<'a> {
    /// Of a flow.
    #[must_use]
    pub fn new(observed: &'a Observed<'a>, flow: &'a Flow) -> Self {
        let last = End::last(flow);
        let (src_namespace, src_pod) = split(flow.src_pod.as_deref());
        let (dst_namespace, dst_pod) = split(flow.dst_pod.as_deref());
        Self {
            schema: FLOW,
            observed,
            conversation: flow.conversation,
            proto: &flow.proto,
            src: flow.src,
            sport: flow.sport,
            dst: flow.dst,
            dport: flow.dport,
            last_src: last.src,
            last_sport: last.sport,
            last_dst: last.dst,
            last_dport: last.dport,
            src_prefix: delegated(flow.src),
            last_dst_prefix: delegated(last.dst),
            path: flow.path,
            nat: flow.nat,
            scope: flow.scope,
            from_initiator: flow.from_initiator,
            own: flow.own,
            src_namespace,
            src_pod,
            dst_namespace,
            dst_pod,
            service: flow.service.as_deref(),
            src_peer_kind: flow.src_peer_kind,
            dst_peer_kind: flow.dst_peer_kind,
            eni_hop: eni_hop(flow),
            bytes: flow.bytes,
            packets: flow.packets,
            wire_bytes: flow.wire_bytes,
            eni_tx_bytes: flow.eni_tx_bytes,
            eni_rx_bytes: flow.eni_rx_bytes,
            local_bytes: flow.local_bytes,
            carried_bytes: flow.carried_bytes,
            under_way_bytes: flow.under_way.bytes,
            local_pair_left_node: flow.local_pair_left_node,
            reason: flow.reason,
            dropped_packets: flow.drops.iter().map(|drop| drop.packets).sum(),
            drop_reason: flow.drops.first().and_then(|drop| drop.reason.as_deref()),
            terms: &flow.terms,
        }
    }
}

impl<'a> EniFacts<'a> {
    /// As it was told.
    #[must_use]
    pub fn new(eni: &'a Eni) -> Self {
        Self {
            id: eni.id.as_ref().map(|id| &*id.value),
            device: eni.device.as_deref(),
            mac: eni.mac.as_deref(),
            role: eni.role.as_ref().map(|role| role.value),
            device_index: eni.device_index.as_ref().map(|index| index.value),
            addresses: eni.addresses.as_ref().map(|addresses| addresses.value.clone()).unwrap_or_default(),
            prefixes: eni.prefixes.as_ref().map_or(&[], |prefixes| &prefixes.value),
        }
    }
}

impl<'a> WindowRecord<'a> {
    /// Of a report.
    #[must_use]
    pub fn new(observed: &'a Observed<'a>, report: &'a Report) -> Self {
        let (accounting, health) = (&report.accounting, &report.health);
        let total = accounting.container_insights.node_network_total_bytes;
        let term = |term: &Term| TermRecord { name: term.name, bytes: term.bytes };
        Self {
            schema: WINDOW,
            observed,
            netpath_version: &report.netpath_version,
            node_network_total_bytes: total,
            // Without it they would not be its parts.
            terms: if total.is_some() { accounting.terms.iter().map(term).collect() } else { Vec::new() },
            network_in_bytes: accounting.ec2.network_in_bytes,
            network_out_bytes: accounting.ec2.network_out_bytes,
            flows: report.flows.len() as u64,
            unjoined_flows: health.unjoined_flows,
            unattributed_packets: health.map_full_packets
                + health.unparsed_packets
                + health.orphan_fragment_packets
                + health.non_ip_packets
                + health.lost_packets,
            blind_devices: health.blind_devices,
        }
    }
}

/// Addresses and ports at a hop.
struct End {
    src: IpAddr,
    sport: Option<u16>,
    dst: IpAddr,
    dport: Option<u16>,
}

impl End {
    fn last(flow: &Flow) -> Self {
        match flow.hops.last() {
            Some(&Hop { src, sport, dst, dport, .. }) => Self { src, sport, dst, dport },
            None => Self { src: flow.src, sport: flow.sport, dst: flow.dst, dport: flow.dport },
        }
    }
}

const fn eni_hop(flow: &Flow) -> Option<EniHop> {
    match (flow.eni_rx_bytes > 0, flow.eni_tx_bytes > 0) {
        (true, true) => Some(EniHop::Both),
        (true, false) => Some(EniHop::Rx),
        (false, true) => Some(EniHop::Tx),
        (false, false) => None,
    }
}

fn split(pod: Option<&str>) -> (Option<&str>, Option<&str>) {
    pod.and_then(|pod| pod.split_once('/')).unzip()
}

/// The prefix that an address is in, of the one size that EC2 delegates of its family.
pub(super) fn delegated(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{}/28", Ipv4Addr::from_bits(address.to_bits() & (!0 << 4))),
        IpAddr::V6(address) => format!("{}/80", Ipv6Addr::from_bits(address.to_bits() & (!0 << 48))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_the_sizes_that_ec2_delegates() {
        let of = |address: &str| delegated(address.parse().expect(address));
        assert_eq!(of("10.0.7.31"), "10.0.7.16/28");
        assert_eq!(of("10.0.7.32"), "10.0.7.32/28");
        assert_eq!(of("255.255.255.255"), "255.255.255.240/28");
        assert_eq!(of("2001:db8:a:1:b:c:d:e"), "2001:db8:a:1:b::/80");
    }

    #[test]
    fn names_of_pods() {
        assert_eq!(split(Some("default/web")), (Some("default"), Some("web")));
        assert_eq!(split(Some("odd")), (None, None));
        assert_eq!(split(None), (None, None));
    }
}
