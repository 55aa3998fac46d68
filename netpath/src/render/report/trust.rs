//! Whether the report as a whole can be trusted: what its first line says if not.
//!
//! In: the report's health. Out: lines.

use crate::report::{EniHealth, Health};
use crate::sanitise::sanitise;

/// The report's first line, if nothing in the report can be trusted.
pub(super) fn warning(health: &Health) -> Option<String> {
    (health.eni == EniHealth::None).then(|| format!("THIS REPORT CANNOT BE TRUSTED: {}", reason(health)))
}

/// A line among those on what to know, if there is nothing that could be wrong but something that may be missing.
pub(super) fn note(health: &Health) -> Option<String> {
    (health.eni == EniHealth::NoUplink).then(|| reason(health))
}

fn reason(health: &Health) -> String {
    let reason =
        health.eni_reason.as_deref().unwrap_or("no device is taken for an ENI; name the node's uplink with --eni");
    sanitise(reason).into_owned()
}
