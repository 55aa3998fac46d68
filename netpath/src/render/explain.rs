//! Which numbers a flow or a device moved, and why, in plain sentences.
//!
//! In: a report, and which flows or device of it. Out: text. Like the table it must not compute anything that is not in the
//! report but sums of what it shows, and it prints no string from elsewhere unsanitised.

mod device;
mod flow;
mod selection;

use std::fmt::Write as _;

pub(super) use self::flow::{ends, explain as explain_flow};
pub use self::selection::{Selection, SelectionError};
use super::units::Scale;
use crate::model::Direction;
use crate::pattern::Pattern;
use crate::report::{Flow, Report};

/// Explains the flows or the device that are selected: of flows, the `top` with the most bytes.
pub fn text(report: &Report, selection: &Selection, top: usize, scale: Scale) -> Result<String, SelectionError> {
    let mut text = String::new();
    match selection {
        Selection::Device(name) => {
            let pattern = Pattern::new(name).ok();
            let is_meant = |other: &str| other == *name || pattern.as_ref().is_some_and(|glob| glob.is_match(other));
            let matching: Vec<_> = report.devices.iter().filter(|device| is_meant(&device.facts.name)).collect();
            if matching.is_empty() {
                return Err(SelectionError::no_device(name, report));
            }
            for device in matching {
                text.push_str(&device::explain(device, report, scale));
            }
        }
        Selection::Flows(filter) => {
            let flows: Vec<&Flow> = report.flows.iter().filter(|flow| filter.matches(flow)).collect();
            if flows.is_empty() {
                return Err(SelectionError::no_flow(report));
            }
            for flow in flows.iter().take(top) {
                text.push_str(&flow::explain(flow, report, scale));
            }
            if let Some(rest) = flows.len().checked_sub(top).filter(|rest| *rest > 0) {
                let bytes = flows[top..].iter().fold(0u64, |sum, flow| sum.saturating_add(flow.bytes));
                let (these, moved) =
                    if rest == 1 { ("One more flow matches", "it") } else { ("more flows match", "they") };
                let count = if rest == 1 { String::new() } else { format!("{rest} ") };
                // A write to a string cannot fail.
                let _ = writeln!(text, "{count}{these}; {moved} moved {} (see --top).", scale.bytes(bytes));
            }
        }
    }
    Ok(text)
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Rx => "received",
        Direction::Tx => "sent",
    }
}

/// "a", "a and b", "a, b and c".
fn listed(parts: &[String]) -> String {
    match parts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}
