//! Adds up a report's flows by what they have in common.
//!
//! In: a report's flows. Out: groups, most bytes first. A flow between two pods is in the groups of both, so groups need not
//! add up to the totals; in one group its bytes are counted once, but for devices, where each hop counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::select::namespace;
use super::workload::workload;
use crate::model::Direction;
use crate::report::{Flow, Group, GroupBy, Grouping, PeerKind, Report};

/// Which side of a group a flow is on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sent,
    Received,
    /// Both ends are in it.
    Within,
    /// The group has no sides.
    None,
}

/// Groups the report's flows.
pub fn group(report: &mut Report, by: GroupBy) {
    report.grouping = Some(Grouping { by, groups: groups(&report.flows, by) });
}

/// The flows in groups.
pub fn groups<'a>(flows: impl IntoIterator<Item = &'a Flow>, by: GroupBy) -> Vec<Group> {
    let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
    for flow in flows {
        each(flow, by, &mut |name, side, bytes, packets| {
            let group = groups.entry(name.map(str::to_owned)).or_insert_with_key(|name| empty(name.clone(), by));
            add(group, flow, side, bytes, packets);
        });
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.bytes));
    groups
}

/// Whether the flow is in the group of this name.
#[must_use]
pub fn is_in(flow: &Flow, by: GroupBy, name: Option<&str>) -> bool {
    let mut found = false;
    each(flow, by, &mut |group, _, _, _| found |= group == name);
    found
}

/// The groups that the flow is in: name, side, bytes, packets.
fn each(flow: &Flow, by: GroupBy, add: &mut impl FnMut(Option<&str>, Side, u64, u64)) {
    match by {
        GroupBy::Path => add(Some(flow.path.name()), Side::None, flow.bytes, flow.packets),
        GroupBy::Pod => by_ends(flow, |pod| pod, add),
        GroupBy::Namespace => by_ends(flow, namespace, add),
        GroupBy::Workload => by_ends(flow, workload, add),
        GroupBy::Peer => {
            let (peer, side) = peer(flow);
            add(peer.map(PeerKind::name), side, flow.bytes, flow.packets);
        }
        GroupBy::Service => {
            // Only what conntrack knows has a service, so that it also knows whose direction it is.
            let side = if flow.from_initiator == Some(false) { Side::Sent } else { Side::Received };
            let side = if flow.service.is_some() { side } else { Side::None };
            add(flow.service.as_deref(), side, flow.bytes, flow.packets);
        }
        GroupBy::Device => {
            for hop in &flow.hops {
                let side = if hop.direction == Direction::Tx { Side::Sent } else { Side::Received };
                add(Some(&hop.device), side, hop.bytes, hop.packets);
            }
        }
    }
}

/// The end that is outside this node; of a flow within it the node, if that is an end.
fn peer(flow: &Flow) -> (Option<PeerKind>, Side) {
    // The further away, the later.
    let rank = |kind: PeerKind| match kind {
        PeerKind::PodHere => 0,
        PeerKind::ThisNode => 1,
        _ => 2,
    };
    match (flow.src_peer_kind, flow.dst_peer_kind) {
        (Some(src), Some(dst)) if src == dst => (Some(src), Side::Within),
        (Some(src), Some(dst)) if rank(src) > rank(dst) => (Some(src), Side::Sent),
        (Some(_), Some(dst)) => (Some(dst), Side::Received),
        _ => (None, Side::None),
    }
}

/// Adds a flow to the groups of its ends, or to the one without a name if neither is a known pod.
fn by_ends<'a>(flow: &'a Flow, name: fn(&'a str) -> &'a str, add: &mut impl FnMut(Option<&str>, Side, u64, u64)) {
    let [src, dst] = [&flow.src_pod, &flow.dst_pod].map(|pod| pod.as_deref().map(name));
    let mut add = |name, side| add(name, side, flow.bytes, flow.packets);
    match (src, dst) {
        (None, None) => add(None, Side::None),
        (src, dst) if src == dst => add(src, Side::Within),
        (src, dst) => {
            if src.is_some() {
                add(src, Side::Sent);
            }
            if dst.is_some() {
                add(dst, Side::Received);
            }
        }
    }
}

fn empty(name: Option<String>, by: GroupBy) -> Group {
    // A flow between pods here is within that group, whichever way it goes.
    let within = by == GroupBy::Peer && name.as_deref() == Some(PeerKind::PodHere.name());
    let sides = (by != GroupBy::Path && name.is_some() && !within).then_some(0);
    Group { name, flows: 0, bytes: 0, packets: 0, sent_bytes: sides, received_bytes: sides, by_path: BTreeMap::new() }
}

fn add(group: &mut Group, flow: &Flow, side: Side, bytes: u64, packets: u64) {
    let raise = |sum: &mut u64| *sum = sum.saturating_add(bytes);
    group.flows += 1;
    group.packets = group.packets.saturating_add(packets);
    raise(&mut group.bytes);
    raise(group.by_path.entry(flow.path).or_default());
    if matches!(side, Side::Sent | Side::Within) {
        group.sent_bytes.as_mut().map(raise);
    }
    if matches!(side, Side::Received | Side::Within) {
        group.received_bytes.as_mut().map(raise);
    }
}
