//! Which flows the packets belong to that the kernel dropped, and what that proves.
//!
//! In: the snapshot's drops, by tuple. Out: the drops of a flow. A drop has the tuple that the packet had then: as it came in, or
//! with its destination already translated. That of a connection's first packet is not in conntrack, which knows a connection
//! when its first packet has left; it is found by its source, if no other flow can have made it.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::nat::NatStages;
use crate::report::FlowDrop;
use crate::snapshot::{KernelDrop, Snapshot, Tuple};

/// The drops of a window, for look-up.
pub struct Drops<'a> {
    /// Whether they were seen at all.
    pub watched: bool,
    by_tuple: HashMap<Tuple, Vec<&'a KernelDrop>>,
    /// Of tuples that belong to no flow.
    by_source: HashMap<(u8, IpAddr, u16), Vec<&'a KernelDrop>>,
}

impl<'a> Drops<'a> {
    /// Sorts them.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let mut by_tuple: HashMap<Tuple, Vec<&KernelDrop>> = HashMap::new();
        // What a packet was put together of is freed with it.
        let is_part = |one: &&KernelDrop| one.location.as_deref().is_some_and(|at| at.starts_with("skb_release_data"));
        for one in snapshot.kernel_drops.records.iter().filter(|one| !is_part(one)) {
            by_tuple.entry(one.tuple).or_default().push(one);
        }
        let mut of_no_flow = by_tuple.clone();
        if !of_no_flow.is_empty() {
            for seen in &snapshot.observations {
                of_no_flow.remove(&seen.tuple);
            }
            for connection in &snapshot.connections {
                for initiator in [true, false] {
                    let NatStages { before, between, after } = NatStages::new(connection, initiator);
                    for tuple in [before, between, after] {
                        of_no_flow.remove(&tuple);
                    }
                }
            }
        }
        let mut by_source: HashMap<_, Vec<&KernelDrop>> = HashMap::new();
        for (Tuple { proto, src, sport, .. }, drops) in of_no_flow {
            if sport != 0 {
                by_source.entry((proto, src, sport)).or_default().extend(drops);
            }
        }
        Self { watched: snapshot.kernel_drops.watched, by_tuple, by_source }
    }

    /// Those of a flow, by the tuples that its packets have within the node; most packets first. `first_packets`: conntrack has no
    /// entry for it, and it was not seen to leave.
    #[must_use]
    pub fn of_flow(&self, tuples: &dyn Fn() -> Vec<Tuple>, first_packets: impl Fn() -> bool) -> Vec<FlowDrop> {
        if self.by_tuple.is_empty() {
            return Vec::new();
        }
        let tuples = tuples();
        let mut found: Vec<&KernelDrop> =
            tuples.iter().filter_map(|tuple| self.by_tuple.get(tuple)).flatten().copied().collect();
        if found.is_empty() && first_packets() {
            let of_source = |tuple: &Tuple| self.by_source.get(&(tuple.proto, tuple.src, tuple.sport));
            found = tuples.iter().filter_map(of_source).flatten().copied().collect();
        }
        let mut drops: Vec<FlowDrop> = Vec::new();
        for one in found {
            let KernelDrop { reason, location, in_node, packets, .. } = one;
            add(
                &mut drops,
                FlowDrop { reason: reason.clone(), location: location.clone(), in_node: *in_node, packets: *packets },
            );
        }
        sort(&mut drops);
        drops
    }
}

/// Adds drops to those that are equal but for the number of packets.
pub fn add(drops: &mut Vec<FlowDrop>, new: FlowDrop) {
    let kind = |one: &FlowDrop| (one.reason.clone(), one.location.clone(), one.in_node);
    match drops.iter_mut().find(|one| kind(one) == kind(&new)) {
        Some(same) => same.packets = same.packets.saturating_add(new.packets),
        None => drops.push(new),
    }
}

/// Most packets first.
pub fn sort(drops: &mut [FlowDrop]) {
    drops.sort_by(|one, other| {
        other
            .packets
            .cmp(&one.packets)
            .then_with(|| (&one.reason, &one.location).cmp(&(&other.reason, &other.location)))
    });
}

/// What a drop says of a packet that came in by a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It was dropped on its way through the node.
    OnTheWay,
    /// Perhaps: the kernel gives no reason, and frees so at ordinary ends, too.
    Perhaps,
    /// Nothing: it is another network namespace's, of before the hook, of a copy, or of a socket that had received it.
    Nothing,
}

/// What a drop says of a packet that came in by a hook. Names of reasons: `include/net/dropreason-core.h`.
#[must_use]
pub fn meaning(one: &FlowDrop) -> Meaning {
    const ELSEWHERE: [&str; 10] = [
        "TCP_",
        "SOCKET",
        "PACKET_SOCK",
        "CPU_BACKLOG",
        "FULL_RING",
        "XDP",
        "PROTO_MEM",
        "PFMEMALLOC",
        "UDP_CSUM",
        "CONSUMED",
    ];
    match one.reason.as_deref() {
        _ if one.in_node == Some(false) => Meaning::Nothing,
        // A bridge in promiscuous mode frees its own copy so.
        None | Some("NOT_SPECIFIED" | "OTHERHOST") => Meaning::Perhaps,
        Some(reason) if ELSEWHERE.iter().any(|word| reason.contains(word)) => Meaning::Nothing,
        Some(_) => Meaning::OnTheWay,
    }
}

/// "`NETFILTER_DROP at nf_hook_slow`": why and where, without the offset in the function.
#[must_use]
pub fn name(one: &FlowDrop) -> String {
    let place = one.location.as_deref().map(|location| location.split('+').next().unwrap_or(location));
    match (one.reason.as_deref(), place) {
        (Some(reason), Some(place)) => format!("{reason} at {place}"),
        (Some(reason), None) => reason.to_owned(),
        (None, Some(place)) => format!("at {place}"),
        (None, None) => "at an unknown place".to_owned(),
    }
}
