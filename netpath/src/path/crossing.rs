//! How many bytes a flow moved, each counted once, by what the devices at the node's edge saw.
//!
//! In: a flow's hops. Out: sums. It must not look at addresses.
//!
//! The edge is where packets leave the node's own stack: ENIs, tunnels, the host's ends of pods' veths, tun devices. A flow that crossed
//! ENIs is as large as what these saw: the larger of what came in by them and what went out. If it did both, it crossed a
//! second time with the smaller of the two. What passed a tunnel is counted too, and is `carried`: the tunnel's own packets
//! are another flow. A flow that did neither is as large as what pods and processes sent, or received, of it, whichever is more; copies for others (tc's
//! mirror, TEE) and what a pod routes on are left out. Of a flow that several connections share, what went from pod to pod is
//! counted besides what crossed an ENI.
//!
//! A VLAN device shows again what the ENI below it shows: of these, the lowest one that the flow was seen on counts.

use super::diversions::Diverted;
use super::topology::{Role, Topology};
use crate::model::Direction;
use crate::report::UnderWay;
use crate::snapshot::{Counts, Observation};

/// What a flow moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// Each byte once.
    pub once: Counts,
    /// Of `once`, what stayed between pods though another part crossed an ENI.
    pub local_bytes: u64,
    /// Of `once`, what travelled inside other packets.
    pub carried_bytes: u64,
    /// What crossed an ENI a second time.
    pub again: Counts,
    /// What came in by ENIs.
    pub eni_rx_bytes: u64,
    /// What left by ENIs.
    pub eni_tx_bytes: u64,
    /// What came in less what left, of the side that `once` is of.
    pub under_way: UnderWay,
}

/// In and out, where there was a hop.
#[derive(Clone, Copy, Default)]
struct Edge {
    entered: Option<Counts>,
    left: Option<Counts>,
}

impl Edge {
    fn add(&mut self, direction: Direction, counts: Counts) {
        let side = match direction {
            Direction::Rx => &mut self.entered,
            Direction::Tx => &mut self.left,
        };
        *side.get_or_insert_default() += counts;
    }

    /// What came in less what left.
    fn under_way(self) -> UnderWay {
        let (entered, left) = (self.entered.unwrap_or_default(), self.left.unwrap_or_default());
        UnderWay {
            bytes: entered.bytes.cast_signed().saturating_sub(left.bytes.cast_signed()),
            packets: entered.packets.cast_signed().saturating_sub(left.packets.cast_signed()),
        }
    }

    /// The larger side, and the smaller one if there are two.
    fn sides(self) -> (Option<Counts>, Option<Counts>) {
        match (self.entered, self.left) {
            (Some(entered), Some(left)) if entered.bytes < left.bytes => (Some(left), Some(entered)),
            (Some(entered), left) => (Some(entered), left),
            (None, left) => (left, None),
        }
    }
}

/// Adds up the hops of a flow. `encrypted`: its packets left inside others that the flow has no hop for.
#[must_use]
pub fn crossing(hops: &[Observation], encrypted: bool, topology: &Topology, diverted: &Diverted) -> Crossing {
    let (mut tunnels, mut ends) = (Edge::default(), Edge::default());
    let (mut enis, mut unclear, mut for_pods) = (Vec::new(), Vec::new(), None::<Counts>);
    for hop in hops.iter().filter(|hop| !diverted.is_loop(hop)) {
        let role = topology.role(hop.ifindex);
        if diverted.is_decrypted(hop) || role != Role::Process && topology.is_tunnel(hop.ifindex) {
            tunnels.add(hop.direction, hop.counts);
        } else if role == Role::Outside {
            let height = topology.place(hop.ifindex).map_or(0, |place| place.height);
            enis.push((topology.base(hop.ifindex), hop.direction, height, hop.counts));
        } else if matches!(role, Role::Pod | Role::Process) && !is_copy(hop, hops, topology, diverted) {
            match hop.direction {
                Direction::Rx => ends.add(hop.direction, without_returned(hop, hops)),
                // A device that the packets were for, or one of which that is not known, as a port of a bridge.
                Direction::Tx if topology.is_for(hop.ifindex, hop.tuple.dst) == Some(true) => {
                    *for_pods.get_or_insert_default() += hop.counts;
                }
                Direction::Tx => unclear.push(hop),
            }
        }
    }
    if for_pods.is_some() || !unclear.is_empty() {
        ends.left = Some(delivered(for_pods.unwrap_or_default(), unclear, ends.entered.unwrap_or_default()));
    }
    let mut across = Edge::default();
    enis.sort_unstable_by_key(|&(base, direction, height, _)| (base, direction, height));
    for same in enis.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let lowest = same.iter().take_while(|(.., height, _)| *height == same[0].2);
        lowest.for_each(|&(_, direction, _, counts)| across.add(direction, counts));
    }

    let stayed = stayed(ends, across, for_pods.unwrap_or_default());
    let (eni, again) = across.sides();
    let (tunnel, _) = tunnels.sides();
    let again = again.unwrap_or_default();
    let [eni_rx_bytes, eni_tx_bytes] = [across.entered, across.left].map(|side| side.map_or(0, |counts| counts.bytes));
    if eni.is_some() || tunnel.is_some() {
        let (mut once, carried) = (eni.unwrap_or_default(), tunnel.unwrap_or_default());
        once += carried;
        let local = if tunnel.is_none() { stayed } else { Counts::default() };
        once += local;
        return Crossing {
            once,
            local_bytes: local.bytes,
            carried_bytes: carried.bytes,
            again,
            eni_rx_bytes,
            eni_tx_bytes,
            // What came in by an ENI for a pod leaves by none, and the reverse.
            under_way: if across.entered.is_some() && across.left.is_some() && tunnel.is_none() {
                across.under_way()
            } else {
                UnderWay::default()
            },
        };
    }
    // Without an edge it was seen within the node only. To many, each of them gets a copy.
    let to_many = hops.iter().any(|hop| topology.is_multicast_or_broadcast(hop.tuple.dst));
    let sum = if to_many { ends.entered.or(ends.left) } else { ends.sides().0 };
    let once = sum.unwrap_or_else(|| hops.first().map_or_else(Counts::default, |hop| hop.counts));
    Crossing {
        once,
        local_bytes: 0,
        carried_bytes: if encrypted { once.bytes } else { 0 },
        again,
        eni_rx_bytes,
        eni_tx_bytes,
        under_way: if to_many { UnderWay::default() } else { ends.under_way() },
    }
}

/// Whether the hop is of copies that went out to a pod that they were not for, though they may go anywhere else besides: to the
/// pod whose address it is, or to this node.
pub fn is_copy(hop: &Observation, hops: &[Observation], topology: &Topology, diverted: &Diverted) -> bool {
    let to = hop.tuple.dst;
    if hop.direction == Direction::Rx
        || topology.is_multicast_or_broadcast(to)
        || topology.is_for(hop.ifindex, to) == Some(true)
    {
        return false;
    }
    let of_another = topology.pod(to).is_some_and(|pod| {
        let owner = pod.facts.ifindex;
        let delivered = || hops.iter().any(|other| (other.ifindex, other.direction) == (owner, Direction::Tx));
        owner != hop.ifindex
            && (delivered() || diverted.may_copy() || hops.iter().any(|hop| topology.has_programs(hop)))
    });
    of_another || topology.is_own(to) && !diverted.is_virtual_server(to)
}

/// What went into pods: `for_pods`, and of equal packets at the `unclear` hops at least one copy. There are no more than
/// entered, if more seem to have left.
fn delivered(for_pods: Counts, mut unclear: Vec<&Observation>, entered: Counts) -> Counts {
    unclear.sort_unstable_by_key(|hop| hop.tuple);
    let (mut least, mut most) = (for_pods, for_pods);
    for equal in unclear.chunk_by(|one, other| one.tuple == other.tuple) {
        let copies = equal.iter().map(|hop| hop.counts);
        least += copies.clone().max_by_key(|counts| counts.bytes).unwrap_or_default();
        copies.for_each(|counts| most += counts);
    }
    if most.bytes <= entered.bytes {
        most
    } else if least.bytes >= entered.bytes {
        least
    } else {
        entered
    }
}

/// What came out of a pod, less what had gone into it by the same device and was sent on unchanged: a pod that routes.
fn without_returned(hop: &Observation, hops: &[Observation]) -> Counts {
    let same = |other: &&Observation| (other.ifindex, other.tuple) == (hop.ifindex, hop.tuple);
    match hops.iter().find(|other| same(other) && other.direction == Direction::Tx) {
        Some(went_in) => less(hop.counts, went_in.counts),
        None => hop.counts,
    }
}

/// What went from pod to pod of a flow of which another part, or a copy, crossed an ENI. `for_pods`: what went into the pods
/// that it was for.
fn stayed(ends: Edge, across: Edge, for_pods: Counts) -> Counts {
    let sides = [(ends.entered, across.left), (ends.left, across.entered)];
    let [sent, received] = sides.map(|(here, there)| less(here.unwrap_or_default(), there.unwrap_or_default()));
    let apart = lesser(sent, received);
    // If nothing came in by an ENI, all that these pods got came from pods, and what left by ENIs may be copies of it.
    let delivered = lesser(ends.entered.unwrap_or_default(), for_pods);
    if across.entered.is_none() && delivered.bytes > apart.bytes { delivered } else { apart }
}

fn lesser(one: Counts, other: Counts) -> Counts {
    if one.bytes < other.bytes { one } else { other }
}

fn less(counts: Counts, other: Counts) -> Counts {
    Counts {
        packets: counts.packets.saturating_sub(other.packets),
        bytes: counts.bytes.saturating_sub(other.bytes),
        wire_bytes: counts.wire_bytes.saturating_sub(other.wire_bytes),
    }
}
