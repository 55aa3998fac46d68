//! Conversations as people ask about them: flows of one client and one server, added up.
//!
//! In: a report's flows. Out: [`Conversation`]s, most bytes first. The client is whom conntrack calls the initiator; where that
//! is unknown, the end with the higher port (servers listen on low ones), else the source of the flow with the most bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::drops::{self, Meaning};
use crate::model::Direction;
use crate::report::{Conversation, End, Flow, FlowDrop, Nat, PathClass, PathReason, QuotedPacket};

/// Which connections are one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// All of one client to one server, whatever the client's ports.
    ClientPorts,
    /// None: each conversation by itself.
    Nothing,
}

/// The flows as conversations.
#[must_use]
pub fn conversations(flows: &[Flow], merge: Merge) -> Vec<Conversation> {
    let mut by_id: HashMap<u64, Vec<&Flow>> = HashMap::new();
    for flow in flows {
        by_id.entry(flow.conversation).or_default().push(flow);
    }
    let mut one_each: Vec<(u64, Conversation)> = by_id.into_iter().map(|(id, flows)| (id, single(&flows))).collect();
    one_each.sort_unstable_by_key(|(id, _)| *id);
    let mut merged: BTreeMap<Key, Conversation> = BTreeMap::new();
    for (id, one) in one_each {
        let key = key(&one, (merge == Merge::Nothing).then_some(id));
        match merged.get_mut(&key) {
            Some(all) => add(all, &one),
            None => drop(merged.insert(key, one)),
        }
    }
    let mut all: Vec<Conversation> = merged.into_values().collect();
    // Stable: of equal size, in the order of their keys.
    all.sort_by_key(|one| Reverse(one.bytes));
    all
}

/// What rows have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    proto: String,
    from: (Option<String>, Option<IpAddr>),
    to: (Option<String>, Option<IpAddr>, Option<u16>),
    paths: Vec<PathClass>,
    nat: Nat,
    reason: (Option<PathReason>, Option<String>),
    id: Option<u64>,
}

fn key(one: &Conversation, id: Option<u64>) -> Key {
    let Conversation { from, to, .. } = one;
    let named = |end: &End| end.service.clone().or_else(|| end.pod.clone());
    // A name stands for all addresses behind it.
    let address = |end: &End| end.address.filter(|_| named(end).is_none());
    Key {
        proto: one.proto.clone(),
        from: (from.pod.clone(), address(from)),
        to: (named(to), address(to), to.port),
        paths: one.paths.clone(),
        nat: one.nat,
        reason: (one.reason, one.reason_detail.clone()),
        id,
    }
}

/// A conversation of which these are the flows; there is one at least, in the order of the report.
fn single(flows: &[&Flow]) -> Conversation {
    // Errors have other ends than what they are about. Without that, they are a conversation of their own.
    let (errors, packets): (Vec<&Flow>, Vec<&Flow>) = flows.iter().partition(|flow| flow.about.is_some());
    let (own, errors) = if packets.is_empty() { (errors, Vec::new()) } else { (packets, errors) };
    let known = own.iter().copied().find(|flow| flow.from_initiator.is_some() && flow.about.is_none());
    let reference = known.unwrap_or(own[0]);
    let initiates = reference.about.is_some() || reference.from_initiator.unwrap_or(reference.sport >= reference.dport);
    let is_sent = |flow: &&Flow| {
        let known = flow.from_initiator.filter(|_| reference.about.is_none());
        known.unwrap_or_else(|| match flow.about.as_ref().filter(|_| reference.about.is_none()) {
            Some(about) => (quoted_ends(about) == ends_as_seen(reference)) != initiates,
            None => (ends_as_seen(flow) == ends_as_seen(reference)) == initiates,
        })
    };
    let (sent, received): (Vec<&Flow>, Vec<&Flow>) = own.iter().chain(&errors).copied().partition(is_sent);
    let is_own = |flow: &&&Flow| flow.about.is_some() == reference.about.is_some();
    let (flow, from_client) = match sent.first().filter(is_own) {
        Some(flow) => (*flow, true),
        None => (received.first().copied().unwrap_or(reference), false),
    };
    let (from, to) = ends_of(flow, from_client);
    let mut paths: Vec<PathClass> = Vec::new();
    for flow in sent.iter().chain(&received).filter(is_own) {
        if !paths.contains(&flow.path) {
            paths.push(flow.path);
        }
    }
    let because = own.iter().chain(&errors).find(|flow| flow.reason.is_some());
    let total =
        |of: fn(&Flow) -> u64, flows: &[&Flow]| flows.iter().fold(0u64, |sum, flow| sum.saturating_add(of(flow)));
    let bytes = |flows: &[&Flow]| (!flows.is_empty()).then(|| total(|flow| flow.bytes, flows));
    Conversation {
        proto: flow.proto.clone(),
        from,
        to,
        paths,
        nat: flow.nat,
        reason: because.and_then(|flow| flow.reason),
        reason_detail: because.and_then(|flow| flow.reason_detail.clone()),
        scope: flow.scope,
        local_pair_left_node: flows.iter().any(|flow| flow.local_pair_left_node),
        connections: 1,
        flows: sent.first().into_iter().chain(received.first()).map(|flow| flow.id).collect(),
        bytes: total(|flow| flow.bytes, flows),
        packets: total(|flow| flow.packets, flows),
        sent_bytes: bytes(&sent),
        received_bytes: bytes(&received),
        icmp_error_bytes: total(|flow| if flow.about.is_some() { flow.bytes } else { 0 }, flows),
        dropped_packets: total(dropped_packets, flows),
        eni_tx_bytes: total(|flow| flow.eni_tx_bytes, flows),
        eni_rx_bytes: total(|flow| flow.eni_rx_bytes, flows),
    }
}

type Ends = (IpAddr, Option<u16>, IpAddr, Option<u16>);

fn ends_as_seen(flow: &Flow) -> Ends {
    (flow.src, flow.sport, flow.dst, flow.dport)
}

fn quoted_ends(about: &QuotedPacket) -> Ends {
    (about.src, about.sport, about.dst, about.dport)
}

/// On their way through this node. Without a reason it takes the flow's path to know.
fn dropped_packets(flow: &Flow) -> u64 {
    let is_drop = |one: &&FlowDrop| match drops::meaning(one) {
        Meaning::OnTheWay => true,
        Meaning::Perhaps => flow.path == PathClass::Undelivered,
        Meaning::Nothing => false,
    };
    flow.drops.iter().filter(is_drop).fold(0, |sum, one| sum.saturating_add(one.packets))
}

/// The client and the server of a flow, which is the client's or the server's.
fn ends_of(flow: &Flow, from_client: bool) -> (End, End) {
    let (first, last) = (flow.hops.first(), flow.hops.last());
    let (last_src, last_dst) = last
        .map_or(((flow.src, flow.sport), (flow.dst, flow.dport)), |hop| ((hop.src, hop.sport), (hop.dst, hop.dport)));
    // Echo identifiers are no ports.
    let port = |port: Option<u16>| port.filter(|_| !is_icmp(&flow.proto));
    let end = |(address, number): (IpAddr, Option<u16>), pod: &Option<String>, peer_kind| End {
        pod: pod.clone(),
        service: None,
        address: Some(address),
        port: port(number),
        peer_kind,
    };
    let came_in = first.is_some_and(|hop| hop.direction == Direction::Rx);
    let (from, to) = if from_client {
        let from = end((flow.src, flow.sport), &flow.src_pod, flow.src_peer_kind);
        (from, end((flow.dst, flow.dport), &flow.dst_pod, flow.dst_peer_kind))
    } else {
        // The last hop of an answer shows the client's addresses best.
        let server = if came_in && last.is_some() { last_src } else { (flow.src, flow.sport) };
        (end(last_dst, &flow.dst_pod, flow.dst_peer_kind), end(server, &flow.src_pod, flow.src_peer_kind))
    };
    (from, End { service: flow.service.clone(), ..to })
}

/// Whether the protocol has no ports but identifiers of echoes.
pub(crate) fn is_icmp(proto: &str) -> bool {
    matches!(proto, "icmp" | "icmpv6")
}

fn add(all: &mut Conversation, one: &Conversation) {
    merge_end(&mut all.from, &one.from);
    merge_end(&mut all.to, &one.to);
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    all.sent_bytes = sum(all.sent_bytes, one.sent_bytes);
    all.received_bytes = sum(all.received_bytes, one.received_bytes);
    all.connections += one.connections;
    all.local_pair_left_node |= one.local_pair_left_node;
    all.scope = all.scope.filter(|scope| one.scope == Some(*scope));
    for (whole, part) in [
        (&mut all.bytes, one.bytes),
        (&mut all.packets, one.packets),
        (&mut all.icmp_error_bytes, one.icmp_error_bytes),
        (&mut all.dropped_packets, one.dropped_packets),
        (&mut all.eni_tx_bytes, one.eni_tx_bytes),
        (&mut all.eni_rx_bytes, one.eni_rx_bytes),
    ] {
        *whole = whole.saturating_add(part);
    }
}

fn merge_end(all: &mut End, one: &End) {
    fn same<T: PartialEq>(all: &mut Option<T>, one: Option<&T>) {
        if all.as_ref() != one {
            *all = None;
        }
    }
    same(&mut all.pod, one.pod.as_ref());
    same(&mut all.service, one.service.as_ref());
    same(&mut all.address, one.address.as_ref());
    same(&mut all.port, one.port.as_ref());
    same(&mut all.peer_kind, one.peer_kind.as_ref());
}
