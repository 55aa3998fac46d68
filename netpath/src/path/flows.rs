//! Turns joined hops into the report's flows: ordered, judged, named and numbered.
//!
//! In: a snapshot and its joined hops. Out: the report's flows, most bytes first. It must not add up across flows.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::classify::{Evidence, Translation, Verdict, classify, left_node_between_local_pods};
use super::crossing::{Crossing, crossing};
use super::diversions::Diverted;
use super::drops::Drops;
use super::join::{Conversation, Joined, JoinedFlow};
use super::names::{Named, Names};
use super::nat::nat;
use super::order::order;
use super::peers::Peers;
use super::protocols;
use super::scope::scope;
use super::topology::Topology;
use crate::model::{Direction, OtherProgram};
use crate::report::{Device, Flow, FlowDrop, Hop, QuotedPacket};
use crate::snapshot::{Observation, Reason, Snapshot, Tuple, Unattributed};

/// Makes the report's flows. Their order and numbers do not depend on the order of anything in the snapshot. `devices` are the
/// report's, with what their hooks saw.
#[must_use]
pub fn flows(
    snapshot: &Snapshot,
    mut joined: Joined,
    topology: &Topology,
    names: &Names,
    diverted: &Diverted,
    devices: &[Device],
) -> Vec<Flow> {
    let no_room = |lost: &Unattributed| lost.reason == Reason::MapFull && lost.direction == Direction::Tx;
    let records_lost =
        snapshot.lost.packets > 0 || snapshot.unattributed.iter().any(|lost| no_room(lost) && lost.counts.packets > 0);

    let peers = Peers::new(&snapshot.node.vpc_cidr_blocks);
    let sorted = std::mem::take(&mut joined.flows);
    order_hops(&mut joined, &sorted, snapshot, topology, diverted);
    let answers = Answers::new(&joined, &sorted, &snapshot.observations);
    let dropped = dropped_by_filters(&joined, &sorted, &answers, topology, devices);
    let drops = Drops::new(snapshot);
    let orphans_left = snapshot.unattributed.iter().any(is_orphan_that_left);
    let judge = |flow: &JoinedFlow| {
        let hops = joined.hops(flow);
        let ends = ends(flow, &joined, snapshot);
        let tuples = || tuples(flow, &joined, snapshot);
        let answered = answers.answered(hops);
        let entered_only = || hops.iter().all(|hop| hop.direction == Direction::Rx);
        let drops_of_flow = drops.of_flow(&tuples, || joined.entries(flow).is_empty() && entered_only());
        let first_copy = hops.partition_point(|hop| !diverted.is_loop(hop));
        let evidence = Evidence {
            hops: if first_copy == 0 { hops } else { &hops[..first_copy] },
            ends: &ends,
            tuples: &tuples,
            translation: translation(flow, &joined),
            is_error: flow.is_error,
            conntrack: snapshot.conntrack,
            records_lost,
            answered,
            dropped_by_filter: dropped.get(&hops[0].ifindex).cloned(),
            drops: drops.watched.then_some(&drops_of_flow),
            orphans_left,
        };
        let verdict = classify(&evidence, topology, diverted);
        let left_node = left_node_between_local_pods(&evidence, verdict.path, topology);
        let moved = crossing(hops, verdict.encrypted, topology, diverted);
        Judged { verdict, left_node, moved, ends, drops: drops_of_flow }
    };
    let mut judged: Vec<_> = sorted.into_iter().map(|flow| (judge(&flow), flow)).collect();
    judged.sort_by_cached_key(|(judged, flow)| {
        let first = &joined.hops(flow)[0];
        (Reverse(judged.moved.once.bytes), first.tuple, first.about, first.ifindex, first.direction, first.vlans)
    });

    let mut conversations: HashMap<Conversation, u64> = HashMap::with_capacity(judged.len());
    let mut texts = Texts::default();
    let mut result = Vec::with_capacity(judged.len());
    for ((Judged { verdict, left_node, moved, ends, drops }, flow), id) in judged.into_iter().zip(1..) {
        let next = conversations.len() as u64 + 1;
        let conversation = *conversations.entry(flow.conversation).or_insert(next);
        let (hops, entries) = (joined.hops(&flow), joined.entries(&flow));
        let first = &hops[0];
        let Crossing { once, local_bytes, carried_bytes, again, eni_rx_bytes, eni_tx_bytes, under_way } = moved;
        // Of several ends none is known to be the one, save where the devices show it.
        let src_pod = names.source(common(&ends, |ends| ends.0), hops, topology);
        let dst_pod = names.destination(common(&ends, |ends| ends.1), hops, topology);
        let in_tunnel = hops.iter().any(|hop| topology.is_tunnel(hop.ifindex));
        let kind = |address| peers.kind(address, in_tunnel, topology);
        let asked = entries.first().filter(|_| !flow.ambiguous);
        let asked = asked.map_or(first.tuple, |entry| snapshot.connections[entry.connection as usize].original);
        let service = names.service(asked.proto, asked.dst, asked.dport).map(ToOwned::to_owned);
        let (from, to) = ends[0];
        // Errors travel against the direction that they are about.
        let initiator = entries.first().map(|entry| entry.initiator != flow.is_error);
        let from_initiator = initiator.filter(|_| entries.iter().all(|entry| entry.initiator == entries[0].initiator));
        result.push(Flow {
            id,
            conversation,
            proto: protocols::name(first.tuple.proto),
            src: first.tuple.src,
            sport: ports(&first.tuple).map(|(sport, _)| sport),
            dst: first.tuple.dst,
            dport: ports(&first.tuple).map(|(_, dport)| dport),
            own: snapshot.own_connections.iter().any(|own| [*own, own.reversed()].contains(&first.tuple)),
            path: verdict.path,
            nat: nat(entries.iter().map(|entry| &snapshot.connections[entry.connection as usize])),
            src_peer_kind: common(&ends, |ends| kind(ends.0)),
            dst_peer_kind: common(&ends, |ends| kind(ends.1)),
            eni_tx_bytes,
            eni_rx_bytes,
            reason: verdict.reason,
            reason_detail: verdict.detail,
            scope: scope(from, first.tuple.dst, from_initiator, topology)
                .or_else(|| scope(first.tuple.src, to, from_initiator, topology)),
            local_pair_left_node: left_node,
            from_initiator,
            bytes: once.bytes,
            packets: once.packets,
            wire_bytes: once.wire_bytes,
            local_bytes,
            carried_bytes,
            again_bytes: again.bytes,
            under_way,
            about: first.about.map(|about| quoted(&about)),
            src_pod: src_pod.map(|pod| texts.pod(pod)),
            dst_pod: dst_pod.map(|pod| texts.pod(pod)),
            src_pod_origin: src_pod.map(|pod| pod.origin),
            dst_pod_origin: dst_pod.map(|pod| pod.origin),
            service,
            drops,
            hops: hops.iter().map(|hop| texts.hop(hop, topology, diverted)).collect(),
            terms: Vec::new(),
        });
    }
    result
}

/// Names that many flows share, each in memory once.
#[derive(Default)]
struct Texts<'a> {
    pods: HashMap<(&'a str, &'a str), Arc<str>>,
    devices: HashMap<u32, Arc<str>>,
}

impl<'a> Texts<'a> {
    fn pod(&mut self, pod: Named<'a>) -> Arc<str> {
        Arc::clone(self.pods.entry(pod.pod()).or_insert_with(|| pod.full().into()))
    }

    fn hop(&mut self, hop: &Observation, topology: &Topology, diverted: &Diverted) -> Hop {
        Hop {
            device: self.device(hop.ifindex, topology),
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
            shown_again: diverted.was_shown_before(hop),
        }
    }

    fn device(&mut self, ifindex: u32, topology: &Topology) -> Arc<str> {
        let name = || match topology.place(ifindex) {
            Some(place) => place.device.facts.name.as_str().into(),
            None => format!("if{ifindex}").into(),
        };
        Arc::clone(self.devices.entry(ifindex).or_insert_with(name))
    }
}

/// A flow, judged.
struct Judged {
    verdict: Verdict,
    left_node: bool,
    moved: Crossing,
    ends: Vec<(IpAddr, IpAddr)>,
    drops: Vec<FlowDrop>,
}

fn is_orphan_that_left(lost: &Unattributed) -> bool {
    lost.reason == Reason::OrphanFragment && lost.direction == Direction::Tx
}

fn translation(flow: &JoinedFlow, joined: &Joined) -> Translation {
    match joined.entries(flow) {
        [] => Translation::None,
        _ if flow.ambiguous => Translation::Ambiguous,
        _ => Translation::Known,
    }
}

/// What all ends have in common; there is one at least.
fn common<T: PartialEq>(ends: &[(IpAddr, IpAddr)], of: impl Fn(&(IpAddr, IpAddr)) -> T) -> Option<T> {
    let first = of(&ends[0]);
    ends.iter().all(|other| of(other) == first).then_some(first)
}

/// Puts the hops of each flow in order: those of looped copies last.
fn order_hops(
    joined: &mut Joined,
    flows: &[JoinedFlow],
    snapshot: &Snapshot,
    topology: &Topology,
    diverted: &Diverted,
) {
    for flow in flows {
        let stages = match joined.entries(flow) {
            [entry] if !flow.is_error => Some(entry.nat_stages(&snapshot.connections)),
            _ => None,
        };
        // Copies of what went out say nothing of where it came from.
        let hops = joined.hops_mut(flow);
        hops.sort_by_key(|hop| diverted.is_loop(hop));
        let first_copy = hops.partition_point(|hop| !diverted.is_loop(hop));
        order(&mut hops[..first_copy], stages.as_ref(), topology);
    }
}

/// The addresses of a flow's ends, without NAT: of each entry that it may belong to, or as seen.
fn ends(flow: &JoinedFlow, joined: &Joined, snapshot: &Snapshot) -> Vec<(IpAddr, IpAddr)> {
    let hops = joined.hops(flow);
    let (first, last) = (&hops[0], &hops[hops.len() - 1]);
    let seen = (first.tuple.src, last.tuple.dst);
    let of_entry = |entry: &super::join::Entry| {
        let forms = entry.nat_stages(&snapshot.connections);
        if !flow.is_error {
            (forms.before.src, forms.after.dst)
        } else if last.direction == Direction::Tx {
            seen
        } else {
            // It goes to whoever sent what it is about.
            (first.tuple.src, forms.before.src)
        }
    };
    let mut ends: Vec<_> = joined.entries(flow).iter().map(of_entry).collect();
    ends.sort_unstable();
    ends.dedup();
    if ends.is_empty() {
        ends.push(seen);
    }
    ends
}

/// The tuples that a flow's packets have within the node: as its hooks saw them, and as NAT makes them.
fn tuples(flow: &JoinedFlow, joined: &Joined, snapshot: &Snapshot) -> Vec<Tuple> {
    let mut tuples: Vec<Tuple> = joined.hops(flow).iter().map(|hop| hop.tuple).collect();
    if !flow.is_error {
        for forms in joined.entries(flow).iter().map(|entry| entry.nat_stages(&snapshot.connections)) {
            tuples.extend([forms.between, forms.after]);
        }
    }
    tuples.sort_unstable();
    tuples.dedup();
    tuples
}

/// For the flows that only came in, or only went out: what passed the same devices in the other direction.
struct Answers(HashSet<(u32, Direction, Tuple)>);

impl Answers {
    fn new(joined: &Joined, flows: &[JoinedFlow], observations: &[Observation]) -> Self {
        let of_one_direction = |flow: &&JoinedFlow| {
            let hops = joined.hops(flow);
            hops.iter().all(|hop| hop.direction == hops[0].direction)
        };
        let wanted: HashSet<_> =
            flows.iter().filter(of_one_direction).flat_map(|flow| joined.hops(flow)).map(answer_to).collect();
        let seen = observations.iter().filter(|seen| seen.about.is_none());
        let seen = seen.map(|seen| (seen.ifindex, seen.direction, seen.tuple));
        Self(seen.filter(|seen| wanted.contains(seen)).collect())
    }

    fn answered(&self, hops: &[Observation]) -> bool {
        hops.iter().any(|hop| self.0.contains(&answer_to(hop)))
    }
}

fn answer_to(hop: &Observation) -> (u32, Direction, Tuple) {
    let back = match hop.direction {
        Direction::Rx => Direction::Tx,
        Direction::Tx => Direction::Rx,
    };
    (hop.ifindex, back, hop.tuple.reversed())
}

/// The devices whose tc filters dropped just as many packets as are missing behind them, with these filters' names. The
/// kernel counts the drops of both directions together.
fn dropped_by_filters(
    joined: &Joined,
    flows: &[JoinedFlow],
    answers: &Answers,
    topology: &Topology,
    devices: &[Device],
) -> HashMap<u32, String> {
    let with_drops = devices.iter().filter(|device| device.facts.filter_drops.is_some_and(|drops| drops > 0));
    let mut missing: HashMap<u32, u64> = with_drops.map(|device| (device.facts.ifindex, 0)).collect();
    if missing.is_empty() {
        return HashMap::new();
    }
    for hops in flows.iter().map(|flow| joined.hops(flow)) {
        if let ([hop], false) = (hops, answers.answered(hops))
            && hop.direction == Direction::Rx
            && !topology.is_own(hop.tuple.dst)
            && !hop.tuple.dst.is_multicast()
            && let Some(packets) = missing.get_mut(&hop.ifindex)
        {
            *packets = packets.saturating_add(hop.counts.packets);
        }
    }
    let proven = devices.iter().filter_map(|device| {
        let not_sent = device.tx?.packets.saturating_sub(device.facts.kernel?.tx_packets);
        let missing = missing.get(&device.facts.ifindex)?.checked_add(not_sent)?;
        let filters = device.facts.other_programs.iter().flatten();
        let filters: Vec<_> =
            filters.filter(|one| one.direction == Direction::Rx).map(|one: &OtherProgram| one.to_string()).collect();
        (device.facts.filter_drops == Some(missing)).then(|| (device.facts.ifindex, filters.join(", ")))
    });
    proven.collect()
}

fn quoted(about: &Tuple) -> QuotedPacket {
    QuotedPacket {
        proto: protocols::name(about.proto),
        src: about.src,
        sport: ports(about).map(|(sport, _)| sport),
        dst: about.dst,
        dport: ports(about).map(|(_, dport)| dport),
    }
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite have ports. ICMP's echo identifier stands for both; its other messages have zeros.
fn ports(tuple: &Tuple) -> Option<(u16, u16)> {
    match tuple.proto {
        6 | 17 | 33 | 132 | 136 => Some((tuple.sport, tuple.dport)),
        _ => ((tuple.sport, tuple.dport) != (0, 0)).then_some((tuple.sport, tuple.dport)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::ports;
    use crate::snapshot::Tuple;

    /// A protocol with ports has port 0 too; one without has none, save the identifier of an ICMP echo.
    #[test]
    fn ports_of_protocols() {
        let of = |proto, port| {
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            ports(&Tuple { proto, src: address, sport: port, dst: address, dport: port })
        };
        for proto in [6, 17, 33, 132, 136] {
            assert_eq!(of(proto, 0), Some((0, 0)), "{proto}");
        }
        for proto in [1, 47, 50, 58] {
            assert_eq!(of(proto, 0), None, "{proto}");
        }
        assert_eq!(of(1, 77), Some((77, 77)));
    }
}
