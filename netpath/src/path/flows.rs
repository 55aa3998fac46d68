//! Turns joined hops into the report's flows: ordered, judged, named and numbered.
//!
//! In: a snapshot and its joined hops. Out: the report's flows, most bytes first. It must not add up across flows.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::classify::{Evidence, classify, left_node_between_local_pods};
use super::join::{Conversation, Joined, JoinedFlow};
use super::names::{Named, Names};
use super::nat::Forms;
use super::order::order;
use super::scope::scope;
use super::topology::Topology;
use crate::report::{Direction, Flow, Hop};
use crate::snapshot::{Observation, Reason, Snapshot, Tuple, Unattributed};

/// Makes the report's flows. Their order and numbers do not depend on the order of anything in the snapshot.
#[must_use]
pub fn flows(snapshot: &Snapshot, mut joined: Joined, topology: &Topology, names: &Names) -> Vec<Flow> {
    let no_room = |lost: &Unattributed| lost.reason == Reason::MapFull && lost.direction == Direction::Tx;
    let records_lost =
        snapshot.lost.packets > 0 || snapshot.unattributed.iter().any(|lost| no_room(lost) && lost.counts.packets > 0);

    let mut sorted = std::mem::take(&mut joined.flows);
    for flow in &sorted {
        let forms = forms(flow, snapshot);
        order(joined.hops_mut(flow), forms.as_ref(), topology);
    }
    sorted.sort_by_cached_key(|flow| {
        let first = &joined.hops(flow)[0];
        (Reverse(first.counts.bytes), first.tuple, first.ifindex, first.direction, first.vlans)
    });

    let mut conversations: HashMap<Conversation, u64> = HashMap::with_capacity(sorted.len());
    let mut result = Vec::with_capacity(sorted.len());
    for (flow, id) in sorted.iter().zip(1..) {
        let next = conversations.len() as u64 + 1;
        let conversation = *conversations.entry(flow.conversation).or_insert(next);
        let hops = joined.hops(flow);
        let forms = forms(flow, snapshot);
        let (first, last) = (&hops[0], &hops[hops.len() - 1]);
        let evidence = Evidence {
            hops,
            from: forms.map_or(first.tuple.src, |forms| forms.before.src),
            to: forms.map_or(last.tuple.dst, |forms| forms.after.dst),
            has_entry: flow.entry.is_some(),
            ambiguous: flow.ambiguous,
            conntrack: snapshot.conntrack,
            records_lost,
        };
        let path = classify(&evidence, topology);
        let src_pod = names.source(evidence.from, hops, topology);
        let dst_pod = names.destination(evidence.to, hops, topology);
        let asked = flow.entry.map_or(first.tuple, |entry| snapshot.connections[entry.connection as usize].original);
        let initiator = flow.entry.map(|entry| entry.initiator);
        let service = names.service(asked.proto, asked.dst, asked.dport).map(ToOwned::to_owned);
        result.push(Flow {
            id,
            conversation,
            proto: protocol_name(first.tuple.proto),
            src: first.tuple.src,
            sport: ports(&first.tuple).map(|(sport, _)| sport),
            dst: first.tuple.dst,
            dport: ports(&first.tuple).map(|(_, dport)| dport),
            path,
            scope: scope(evidence.from, first.tuple.dst, initiator, topology)
                .or_else(|| scope(first.tuple.src, evidence.to, initiator, topology)),
            local_pair_left_node: left_node_between_local_pods(&evidence, path, topology),
            from_initiator: initiator,
            bytes: first.counts.bytes,
            packets: first.counts.packets,
            wire_bytes: first.counts.wire_bytes,
            src_pod: src_pod.map(Named::full),
            dst_pod: dst_pod.map(Named::full),
            src_pod_origin: src_pod.map(|pod| pod.origin),
            dst_pod_origin: dst_pod.map(|pod| pod.origin),
            service,
            hops: hops.iter().map(|hop| report_hop(hop, topology)).collect(),
            terms: Vec::new(),
        });
    }
    result
}

fn forms(flow: &JoinedFlow, snapshot: &Snapshot) -> Option<Forms> {
    flow.entry.map(|entry| Forms::new(&snapshot.connections[entry.connection as usize], entry.initiator))
}

fn report_hop(hop: &Observation, topology: &Topology) -> Hop {
    Hop {
        device: topology
            .place(hop.ifindex)
            .map_or_else(|| format!("if{}", hop.ifindex), |place| place.device.name.clone()),
        ifindex: hop.ifindex,
        direction: hop.direction,
        vlans: hop.vlans.iter().copied().filter(|&vlan| vlan != 0).collect(),
        bytes: hop.counts.bytes,
        packets: hop.counts.packets,
        wire_bytes: hop.counts.wire_bytes,
        src: hop.tuple.src,
        sport: ports(&hop.tuple).map(|(sport, _)| sport),
        dst: hop.tuple.dst,
        dport: ports(&hop.tuple).map(|(_, dport)| dport),
    }
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite have ports. ICMP's echo identifier stands for both; its other messages have zeros.
fn ports(tuple: &Tuple) -> Option<(u16, u16)> {
    match tuple.proto {
        6 | 17 | 33 | 132 | 136 => Some((tuple.sport, tuple.dport)),
        _ => ((tuple.sport, tuple.dport) != (0, 0)).then_some((tuple.sport, tuple.dport)),
    }
}

/// IANA's keyword in lower case for the protocols that a node is likely to see, the number for all others.
fn protocol_name(proto: u8) -> String {
    let name = match proto {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmpv6",
        89 => "ospf",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        _ => return proto.to_string(),
    };
    name.to_owned()
}
