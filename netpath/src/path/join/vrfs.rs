//! Keeps apart what is in different VRFs: the same addresses and ports there are other packets.
//!
//! In: which flow each observation is of, and where it was made. Out: the same, with flows that are several split by VRF. A
//! route may lead from one VRF into another. So packets that left by a VRF which they had not come in by are of one flow with
//! those of the others.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::super::topology::Topology;
use super::{Key, as_index};
use crate::model::Direction;
use crate::snapshot::Observation;

/// The VRFs that a flow was seen in.
#[derive(Default)]
struct Seen {
    entered: BTreeSet<Option<u32>>,
    left: BTreeSet<Option<u32>>,
    /// A veth pair within the node leads from one to another.
    passed: bool,
}

impl Seen {
    fn are_apart(&self) -> bool {
        !self.passed && (self.entered.is_empty() || self.left.is_subset(&self.entered))
    }
}

/// Gives flows of different VRFs domains of their own, from `next` on.
pub fn separate(keys: &mut [Key], observations: &[Observation], topology: &Topology, next: usize) {
    if !topology.has_vrfs() {
        return;
    }
    let vrf = |seen: &Observation| topology.vrf(topology.segment(seen.ifindex, seen.vlans).link);
    let mut flows: HashMap<Key, Seen> = HashMap::new();
    for (key, seen) in keys.iter().zip(observations) {
        let flow = flows.entry(*key).or_default();
        match seen.direction {
            Direction::Rx => flow.entered.insert(vrf(seen)),
            Direction::Tx => flow.left.insert(vrf(seen)),
        };
        flow.passed |= topology.peer(seen.ifindex).is_some_and(|peer| topology.vrf(peer) != topology.vrf(seen.ifindex));
    }
    let mut domains: HashMap<(u32, u32), u32> = HashMap::new();
    for ((domain, owner), seen) in keys.iter_mut().zip(observations) {
        let Some(vrf) = vrf(seen) else { continue };
        if flows.get(&(*domain, *owner)).is_some_and(Seen::are_apart) {
            let next = as_index(next + domains.len());
            *domain = *domains.entry((*domain, vrf)).or_insert(next);
        }
    }
}
