//! What of the totals by path is worth a line of its own.
//!
//! In: a report. Out: sums over its flows.

use hashbrown::HashSet;

use crate::model::DeviceClass;
use crate::report::{Flow, PathClass, Report, Scope};

/// Parts of the totals by path, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Of what crossed an ENI: between pods of this node.
    pub eni_between_local_pods: u64,
    /// Of what crossed an ENI: with link-local services (IMDS, DNS, NTP).
    pub eni_link_local: u64,
    /// Of what was dropped: came in by an ENI.
    pub undelivered_from_eni: u64,
}

/// The parts of the report's flows.
#[must_use]
pub fn parts(report: &Report) -> Parts {
    let enis: HashSet<u32> = report
        .devices
        .iter()
        .filter(|device| device.facts.class == DeviceClass::Eni)
        .map(|device| device.facts.ifindex)
        .collect();
    let sum = |path, test: &dyn Fn(&Flow) -> bool| {
        let flows = report.flows.iter().filter(|flow| flow.path == path && test(flow));
        flows.fold(0u64, |sum, flow| sum.saturating_add(flow.bytes.saturating_sub(flow.carried_bytes)))
    };
    let is_link_local =
        |flow: &Flow| flow.scope.is_some_and(|scope| !matches!(scope, Scope::Multicast | Scope::Broadcast));
    Parts {
        eni_between_local_pods: sum(PathClass::Eni, &|flow| flow.local_pair_left_node),
        eni_link_local: sum(PathClass::Eni, &is_link_local),
        undelivered_from_eni: sum(PathClass::Undelivered, &|flow| {
            flow.hops.iter().any(|hop| enis.contains(&hop.ifindex))
        }),
    }
}
