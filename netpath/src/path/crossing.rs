//! How many bytes a flow moved, each counted once, by what the devices at the node's edge saw.
//!
//! In: a flow's hops. Out: sums. It must not look at addresses.
//!
//! The edge is where packets leave the node's own stack: ENIs, tunnels, the host's ends of pods' veths. A flow that crossed
//! ENIs is as large as what these saw: the larger of what came in by them and what went out. If it did both, it crossed a
//! second time with the smaller of the two. What passed a tunnel is counted too, and is `carried`: the tunnel's own packets
//! are another flow. Only a flow that did neither is as large as what pods sent, or else received, of it.
//!
//! A VLAN device shows again what the ENI below it shows: of these, the lowest one that the flow was seen on counts.

use super::topology::{Role, Topology};
use crate::report::Direction;
use crate::snapshot::{Counts, Observation};

/// What a flow moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossing {
    /// Each byte once.
    pub once: Counts,
    /// Of `once`, what travelled inside other packets.
    pub carried_bytes: u64,
    /// What crossed an ENI a second time.
    pub again: Counts,
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

    /// The larger side, and the smaller one if there are two.
    fn sides(self) -> (Option<Counts>, Option<Counts>) {
        match (self.entered, self.left) {
            (Some(entered), Some(left)) if entered.bytes < left.bytes => (Some(left), Some(entered)),
            (Some(entered), left) => (Some(entered), left),
            (None, left) => (left, None),
        }
    }
}

/// Adds up the hops of a flow. `was_shown_before`: the hook saw these packets a second time. `encrypted`: they left inside
/// others that the flow has no hop for.
#[must_use]
pub fn crossing(
    hops: &[Observation],
    encrypted: bool,
    topology: &Topology,
    was_shown_before: impl Fn(&Observation) -> bool,
) -> Crossing {
    let (mut tunnels, mut pods, mut enis) = (Edge::default(), Edge::default(), Vec::new());
    for hop in hops {
        let role = topology.role(hop.ifindex);
        if was_shown_before(hop) || role == Role::Outside && topology.is_tunnel(hop.ifindex) {
            tunnels.add(hop.direction, hop.counts);
        } else if role == Role::Outside {
            let height = topology.place(hop.ifindex).map_or(0, |place| place.height);
            enis.push((topology.base(hop.ifindex), hop.direction, height, hop.counts));
        } else if role == Role::Pod {
            pods.add(hop.direction, hop.counts);
        }
    }
    let mut across = Edge::default();
    enis.sort_unstable_by_key(|&(base, direction, height, _)| (base, direction, height));
    for same in enis.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        let lowest = same.iter().take_while(|(.., height, _)| *height == same[0].2);
        lowest.for_each(|&(_, direction, _, counts)| across.add(direction, counts));
    }

    let (eni, again) = across.sides();
    let (tunnel, _) = tunnels.sides();
    let again = again.unwrap_or_default();
    if eni.is_some() || tunnel.is_some() {
        let (mut once, carried) = (eni.unwrap_or_default(), tunnel.unwrap_or_default());
        once += carried;
        return Crossing { once, carried_bytes: carried.bytes, again };
    }
    // Without an edge it was seen within the node only.
    let once =
        pods.entered.or(pods.left).unwrap_or_else(|| hops.first().map_or_else(Counts::default, |hop| hop.counts));
    Crossing { once, carried_bytes: if encrypted { once.bytes } else { 0 }, again }
}
