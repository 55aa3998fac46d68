//! From a snapshot to a report, purely: join → order → classify → account.
//!
//! In: a [`Snapshot`]. Out: a [`Report`] that depends on nothing else, and not on the order of anything in the snapshot.
//! No I/O, no clock, no logging.

mod account;
mod classify;
pub mod compare;
pub mod container_insights;
pub mod conversations;
mod crossing;
mod diversions;
mod drops;
mod flows;
pub mod group;
mod join;
pub mod names;
mod nat;
mod order;
mod peers;
pub mod protocols;
mod scope;
pub mod select;
pub mod topology;
pub mod totals;
pub mod uplink;
pub mod verdict;
mod workload;

use crate::report::{Report, SCHEMA};
use crate::snapshot::Snapshot;

/// Explains a window: which flows there were, where each went, and what the node's byte counts are made of.
#[must_use]
pub fn report(snapshot: &Snapshot) -> Report {
    let mut seen: Vec<_> = snapshot.devices.iter().collect();
    seen.sort_by(|one, other| (one.facts.ifindex, &one.facts.name).cmp(&(other.facts.ifindex, &other.facts.name)));
    let diverted = diversions::Diverted::new(&snapshot.diversions, &snapshot.observations, &snapshot.devices);
    let mut devices = account::devices(snapshot, &seen, &diverted);
    let hides = devices.iter().any(|device| device.blind.is_some() || account::sent_unseen(device));
    let topology = topology::Topology::new(&seen, &snapshot.diversions.local_routes, hides);
    let names = names::Names::new(snapshot, &seen, &topology);
    names.name(&mut devices);
    let joined = join::join(&snapshot.observations, &snapshot.connections, &topology);
    let ambiguous_flows = joined.flows.iter().filter(|flow| flow.ambiguous).count() as u64;
    let mut flows = flows::flows(snapshot, joined, &topology, &names, &diverted, &devices);
    Report {
        schema: SCHEMA.to_owned(),
        netpath_version: env!("CARGO_PKG_VERSION").to_owned(),
        node: snapshot.node.clone(),
        window: snapshot.window.clone(),
        totals: account::totals(&flows),
        accounting: account::accounting(snapshot.window.duration_ns, &devices, &mut flows, &topology),
        health: account::health(snapshot, &devices, &flows, ambiguous_flows),
        enis: snapshot.enis.clone(),
        ipam: snapshot.ipam.clone(),
        sources: snapshot.sources.clone(),
        names: names.summary(&devices),
        devices,
        conversations: conversations::conversations(&flows, conversations::Merge::ClientPorts),
        flows,
        selection: None,
        grouping: None,
    }
}
