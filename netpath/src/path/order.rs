//! Puts a flow's hops in the order in which its packets pass them.
//!
//! In: the hops of one flow. Out: the same hops, in an order that depends on nothing else. There are no timestamps: the
//! order follows from what a device is, from NAT, and from who owns the source address.
//!
//! - What is seen before NAT comes before what is seen after it.
//! - From a pod, a process behind a tun device, or this node: out of the pod, out of the node, into the node again, into the
//!   pod.
//! - From elsewhere: into the node, then out of it or into a pod.
//! - Out by a VLAN device, then by the device below; in the other way round. A bridge is above its ports.
//! - Out by one end of a veth pair within the node, then in by the other: what is on the one side comes before what is on the
//!   other.

use hashbrown::HashMap;

use super::nat::NatStages;
use super::topology::{Role, Topology};
use crate::model::Direction;
use crate::snapshot::Observation;

/// Sorts the hops. `forms` are the flow's tuples before and after NAT, where conntrack tells them.
pub fn order(hops: &mut [Observation], forms: Option<&NatStages>, topology: &Topology) {
    if hops.len() < 2 {
        return;
    }
    let saw_end = |direction| [Role::Pod, Role::Process].into_iter().any(|role| topology.saw(hops, role, direction));
    let (from_pod, to_pod) = (saw_end(Direction::Rx), saw_end(Direction::Tx));
    // NAT may make an error that passes through one of this node's own, on its way out.
    let entered = hops.iter().find(|hop| hop.direction == Direction::Rx).unwrap_or(&hops[0]);
    let source = forms.map_or(entered.tuple.src, |forms| forms.before.src);
    let from_outside = !from_pod && !topology.is_own(source);

    let stage = |hop: &Observation| forms.map_or(0, |forms| forms.stage(&hop.tuple));
    let first_stage = hops.iter().map(stage).min().unwrap_or_default();
    let phase = |hop: &Observation| match (topology.role(hop.ifindex), hop.direction) {
        // What enters with its addresses translated has left before.
        (Role::Outside, Direction::Rx) if from_outside && stage(hop) == first_stage => 0,
        (Role::Pod | Role::Process, Direction::Rx) => 1,
        (Role::Inside, Direction::Rx) if from_pod || from_outside || topology.peer(hop.ifindex).is_some() => 2,
        (Role::Inside, Direction::Tx) if !to_pod => 3,
        (Role::Outside, Direction::Tx) => 4,
        (Role::Outside, Direction::Rx) => 5,
        (Role::Inside, Direction::Rx) => 6,
        (Role::Inside, Direction::Tx) => 7,
        (Role::Pod | Role::Process, Direction::Tx) => 8,
    };
    let sides = sides(hops, topology);
    let last_side = sides.values().max().copied().unwrap_or_default();
    let place = |hop: &Observation| {
        // Where it is not known to be on a side, it is how packets enter or leave.
        let elsewhere = if hop.direction == Direction::Rx { 0 } else { last_side };
        let side = sides.get(&network(hop, topology)).copied().unwrap_or(elsewhere);
        let height = topology.place(hop.ifindex).map_or(0, |place| place.height);
        let routes = |address| topology.pod(address).is_some_and(|device| device.facts.ifindex == hop.ifindex);
        let (height, of_an_end) = match hop.direction {
            Direction::Rx => (height, !routes(hop.tuple.src)),
            Direction::Tx => (u8::MAX - height, routes(hop.tuple.dst)),
        };
        (stage(hop), side, phase(hop), height, of_an_end, hop.ifindex, hop.direction, hop.vlans, hop.tuple)
    };
    // Most have two.
    match hops {
        [one, other] if place(other) < place(one) => std::mem::swap(one, other),
        [_, _] => {}
        _ => hops.sort_by_cached_key(place),
    }
}

/// For the networks that veth pairs within the node join, how many of them the packets have passed before.
fn sides(hops: &[Observation], topology: &Topology) -> HashMap<u32, usize> {
    let passages: Vec<(u32, u32)> = hops
        .iter()
        .filter(|hop| hop.direction == Direction::Tx)
        .filter_map(|hop| {
            let peer = topology.peer(hop.ifindex)?;
            let entered = hops.iter().find(|other| other.direction == Direction::Rx && other.ifindex == peer)?;
            Some((network(hop, topology), network(entered, topology)))
        })
        .collect();
    let mut sides: HashMap<u32, usize> = HashMap::new();
    // Packets may go in a circle.
    for _ in 0..passages.len() {
        for (from, to) in &passages {
            let next = *sides.entry(*from).or_default() + 1;
            let side = sides.entry(*to).or_default();
            *side = next.max(*side).min(passages.len());
        }
    }
    sides
}

fn network(hop: &Observation, topology: &Topology) -> u32 {
    topology.segment(hop.ifindex, hop.vlans).link
}
