//! Whether the report as a whole can be trusted: what its first line says if not.
//!
//! In: the report's health. Out: lines.

use super::super::labels::counted;
use crate::report::{EniHealth, Health};
use crate::sanitise::sanitise;

/// The report's first line, if it cannot be trusted, or is not complete.
#[must_use]
pub fn warning(health: &Health) -> Option<String> {
    if health.eni == EniHealth::None {
        return Some(format!("THIS REPORT CANNOT BE TRUSTED: {}", reason(health)));
    }
    let lost = health.map_full_packets.saturating_add(health.lost_packets);
    (lost > 0).then(|| {
        let lost = counted(lost, "packet");
        format!("THIS REPORT IS INCOMPLETE: {lost} did not fit into the flow table; raise --max-flows")
    })
}

/// A line among those on what to know, if there is nothing that could be wrong but something that may be missing.
pub(super) fn note(health: &Health) -> Option<String> {
    (health.eni == EniHealth::NoUplink).then(|| reason(health))
}

fn reason(health: &Health) -> String {
    let reason = health.eni_reason.as_deref().unwrap_or("netpath recognised no ENI; name the node's uplink with --eni");
    sanitise(reason).into_owned()
}
