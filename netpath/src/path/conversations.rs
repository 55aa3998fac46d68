//! Conversations as people ask about them: flows of one client and one server, added up.
//!
//! In: a report's flows. Out: [`Conversation`]s, most bytes first. The client is whom conntrack calls the initiator; where that
//! is unknown, the end with the higher port (servers listen on low ones), else the source of the flow with the most bytes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::drops::{self, Meaning};
use crate::model::Direction;
use crate::report::{
    Conversation, End, Flow, FlowDrop, Nat, PathClass, PathReason, PeerKind, QuotedPacket, Report, Scope,
};

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
pub fn conversations<'a>(flows: impl IntoIterator<Item = &'a Flow>, merge: Merge) -> Vec<Conversation> {
    let mut by_id: Vec<&Flow> = flows.into_iter().collect();
    by_id.sort_by_key(|flow| flow.conversation);
    let mut rows: Vec<Row> = Vec::new();
    let mut places: HashMap<Key, usize> = HashMap::new();
    for of_one in by_id.chunk_by(|one, other| one.conversation == other.conversation) {
        let one = Row::new(of_one);
        let key = one.key((merge == Merge::Nothing).then_some(of_one[0].conversation));
        let place = *places.entry(key).or_insert(rows.len());
        match rows.get_mut(place) {
            Some(all) => all.add(&one),
            None => rows.push(one),
        }
    }
    let mut order: Vec<(&Key, usize)> = places.iter().map(|(key, place)| (key, *place)).collect();
    order.sort_unstable_by_key(|&(key, place)| (Reverse(rows[place].bytes), key));
    order.into_iter().map(|(_, place)| (&rows[place]).into()).collect()
}

/// The report's conversations; it has those that are merged by clients' ports.
#[must_use]
pub fn of_report(report: &Report, merge: Merge) -> Cow<'_, [Conversation]> {
    match merge {
        Merge::ClientPorts => Cow::Borrowed(&report.conversations),
        Merge::Nothing => Cow::Owned(conversations(&report.flows, merge)),
    }
}

/// The flow of that id. Those of a report are in order of their ids, as a rule.
#[must_use]
pub fn flow(flows: &[Flow], id: u64) -> Option<&Flow> {
    match flows.binary_search_by_key(&id, |flow| flow.id) {
        Ok(at) => flows.get(at),
        Err(_) => flows.iter().find(|flow| flow.id == id),
    }
}

/// What conversations of one row have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key<'a> {
    proto: &'a str,
    from: (Option<&'a str>, Option<IpAddr>),
    to: (Option<&'a str>, Option<IpAddr>, Option<u16>),
    paths: Paths,
    nat: Nat,
    reason: (Option<PathReason>, Option<&'a str>),
    id: Option<u64>,
}

/// The paths of a conversation's flows, each once: the client's first.
type Paths = [Option<PathClass>; PathClass::ALL.len()];

/// A [`Conversation`] that borrows its names from the flows: there are many of them, and few rows.
struct Row<'a> {
    proto: &'a str,
    from: RowEnd<'a>,
    to: RowEnd<'a>,
    paths: Paths,
    nat: Nat,
    reason: Option<PathReason>,
    reason_detail: Option<&'a str>,
    scope: Option<Scope>,
    local_pair_left_node: bool,
    connections: u64,
    /// The client's first flow, and the server's.
    flows: [Option<u64>; 2],
    bytes: u64,
    packets: u64,
    sent_bytes: Option<u64>,
    received_bytes: Option<u64>,
    icmp_error_bytes: u64,
    dropped_packets: u64,
    eni_tx_bytes: u64,
    eni_rx_bytes: u64,
}

/// An [`End`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct RowEnd<'a> {
    pod: Option<&'a str>,
    service: Option<&'a str>,
    address: Option<IpAddr>,
    port: Option<u16>,
    peer_kind: Option<PeerKind>,
}

impl<'a> Row<'a> {
    /// A conversation of which these are the flows; there is one at least, in the order of the report.
    fn new(flows: &[&'a Flow]) -> Self {
        // Errors have other ends than what they are about. Without that, they are a conversation of their own.
        let only_errors = flows.iter().all(|flow| flow.about.is_some());
        let is_own = |flow: &&Flow| only_errors || flow.about.is_none();
        let own = || flows.iter().copied().filter(is_own);
        let all = || own().chain(flows.iter().copied().filter(|flow| !is_own(flow)));
        let known = own().find(|flow| flow.from_initiator.is_some() && flow.about.is_none());
        let reference = known.or_else(|| own().next()).unwrap_or(flows[0]);
        let initiates =
            reference.about.is_some() || reference.from_initiator.unwrap_or(reference.sport >= reference.dport);
        let is_sent = |flow: &&Flow| {
            let known = flow.from_initiator.filter(|_| reference.about.is_none());
            known.unwrap_or_else(|| match flow.about.as_ref().filter(|_| reference.about.is_none()) {
                Some(about) => (quoted_ends(about) == ends_as_seen(reference)) != initiates,
                None => (ends_as_seen(flow) == ends_as_seen(reference)) == initiates,
            })
        };
        let is_received = |flow: &&Flow| !is_sent(flow);
        let client = own().find(is_sent);
        let flow = client.or_else(|| own().next()).unwrap_or(reference);
        let (from, to) = ends_of(flow, client.is_some());
        let mut paths = Paths::default();
        for flow in own().filter(is_sent).chain(own().filter(is_received)) {
            if let Some(place) = paths.iter_mut().find(|known| known.is_none_or(|known| known == flow.path)) {
                *place = Some(flow.path);
            }
        }
        let because = all().find(|flow| flow.reason.is_some());
        let mut row = Self {
            proto: &flow.proto,
            from,
            to,
            paths,
            nat: flow.nat,
            reason: because.and_then(|flow| flow.reason),
            reason_detail: because.and_then(|flow| flow.reason_detail.as_deref()),
            scope: flow.scope,
            local_pair_left_node: flows.iter().any(|flow| flow.local_pair_left_node),
            connections: 1,
            flows: [all().find(is_sent).map(|flow| flow.id), all().find(is_received).map(|flow| flow.id)],
            bytes: 0,
            packets: 0,
            sent_bytes: None,
            received_bytes: None,
            icmp_error_bytes: 0,
            dropped_packets: 0,
            eni_tx_bytes: 0,
            eni_rx_bytes: 0,
        };
        for flow in flows {
            let one_way = if is_sent(flow) { &mut row.sent_bytes } else { &mut row.received_bytes };
            *one_way = Some(one_way.unwrap_or(0).saturating_add(flow.bytes));
            row.add_sums([
                flow.bytes,
                flow.packets,
                if flow.about.is_some() { flow.bytes } else { 0 },
                dropped_packets(flow),
                flow.eni_tx_bytes,
                flow.eni_rx_bytes,
            ]);
        }
        row
    }

    /// Bytes, packets, ICMP errors' bytes, dropped packets, what ENIs sent and received.
    fn add_sums(&mut self, parts: [u64; 6]) {
        let sums = [
            &mut self.bytes,
            &mut self.packets,
            &mut self.icmp_error_bytes,
            &mut self.dropped_packets,
            &mut self.eni_tx_bytes,
            &mut self.eni_rx_bytes,
        ];
        for (sum, part) in sums.into_iter().zip(parts) {
            *sum = sum.saturating_add(part);
        }
    }

    fn key(&self, id: Option<u64>) -> Key<'a> {
        let Self { from, to, .. } = self;
        let named = |end: &RowEnd<'a>| end.service.or(end.pod);
        // A name stands for all addresses behind it.
        let address = |end: &RowEnd| end.address.filter(|_| end.service.or(end.pod).is_none());
        Key {
            proto: self.proto,
            from: (from.pod, address(from)),
            to: (named(to), address(to), to.port),
            paths: self.paths,
            nat: self.nat,
            reason: (self.reason, self.reason_detail),
            id,
        }
    }

    fn add(&mut self, one: &Self) {
        self.from.merge(one.from);
        self.to.merge(one.to);
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        self.sent_bytes = sum(self.sent_bytes, one.sent_bytes);
        self.received_bytes = sum(self.received_bytes, one.received_bytes);
        self.connections += one.connections;
        self.local_pair_left_node |= one.local_pair_left_node;
        self.scope = self.scope.filter(|scope| one.scope == Some(*scope));
        self.add_sums([
            one.bytes,
            one.packets,
            one.icmp_error_bytes,
            one.dropped_packets,
            one.eni_tx_bytes,
            one.eni_rx_bytes,
        ]);
    }
}

impl RowEnd<'_> {
    /// Keeps what both have in common.
    fn merge(&mut self, other: Self) {
        fn same<T: PartialEq>(one: &mut Option<T>, other: Option<&T>) {
            if one.as_ref() != other {
                *one = None;
            }
        }
        same(&mut self.pod, other.pod.as_ref());
        same(&mut self.service, other.service.as_ref());
        same(&mut self.address, other.address.as_ref());
        same(&mut self.port, other.port.as_ref());
        same(&mut self.peer_kind, other.peer_kind.as_ref());
    }
}

impl From<RowEnd<'_>> for End {
    fn from(end: RowEnd) -> Self {
        Self {
            pod: end.pod.map(ToOwned::to_owned),
            service: end.service.map(ToOwned::to_owned),
            address: end.address,
            port: end.port,
            peer_kind: end.peer_kind,
        }
    }
}

impl From<&Row<'_>> for Conversation {
    fn from(row: &Row) -> Self {
        Self {
            proto: row.proto.to_owned(),
            from: row.from.into(),
            to: row.to.into(),
            paths: row.paths.into_iter().flatten().collect(),
            nat: row.nat,
            reason: row.reason,
            reason_detail: row.reason_detail.map(ToOwned::to_owned),
            scope: row.scope,
            local_pair_left_node: row.local_pair_left_node,
            connections: row.connections,
            flows: row.flows.into_iter().flatten().collect(),
            bytes: row.bytes,
            packets: row.packets,
            sent_bytes: row.sent_bytes,
            received_bytes: row.received_bytes,
            icmp_error_bytes: row.icmp_error_bytes,
            dropped_packets: row.dropped_packets,
            eni_tx_bytes: row.eni_tx_bytes,
            eni_rx_bytes: row.eni_rx_bytes,
        }
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
fn ends_of(flow: &Flow, from_client: bool) -> (RowEnd<'_>, RowEnd<'_>) {
    let (first, last) = (flow.hops.first(), flow.hops.last());
    let (last_src, last_dst) = last
        .map_or(((flow.src, flow.sport), (flow.dst, flow.dport)), |hop| ((hop.src, hop.sport), (hop.dst, hop.dport)));
    // Echo identifiers are no ports.
    let port = |port: Option<u16>| port.filter(|_| !is_icmp(&flow.proto));
    let end = |(address, number), pod, peer_kind| RowEnd {
        pod,
        service: None,
        address: Some(address),
        port: port(number),
        peer_kind,
    };
    let (src_pod, dst_pod) = (flow.src_pod.as_deref(), flow.dst_pod.as_deref());
    let came_in = first.is_some_and(|hop| hop.direction == Direction::Rx);
    let (from, to) = if from_client {
        let from = end((flow.src, flow.sport), src_pod, flow.src_peer_kind);
        (from, end((flow.dst, flow.dport), dst_pod, flow.dst_peer_kind))
    } else {
        // The last hop of an answer shows the client's addresses best.
        let server = if came_in && last.is_some() { last_src } else { (flow.src, flow.sport) };
        (end(last_dst, dst_pod, flow.dst_peer_kind), end(server, src_pod, flow.src_peer_kind))
    };
    (from, RowEnd { service: flow.service.as_deref(), ..to })
}

/// Whether the protocol has no ports but identifiers of echoes.
pub(crate) fn is_icmp(proto: &str) -> bool {
    matches!(proto, "icmp" | "icmpv6")
}
