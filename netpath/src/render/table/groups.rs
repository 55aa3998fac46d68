//! The block of groups: one row each, as far as `--group-by` asked for them.
//!
//! In: the report's grouping. Out: rows with the most bytes first.

use std::io::{self, Write};

use super::super::units::Scale;
use super::{Style, heading, plain_table, write_table};
use crate::report::{Group, GroupBy, Grouping, PathClass};
use crate::sanitise::sanitise;

/// Writes the groups with the most bytes.
pub(super) fn write(grouping: &Grouping, out: &mut impl Write, style: Style, scale: Scale) -> io::Result<()> {
    let Grouping { by, groups } = grouping;
    let (title, column, nameless, sides) = match by {
        GroupBy::Pod => ("BY POD", "POD", "(no known pod)", ["SENT", "RECEIVED"]),
        GroupBy::Namespace => ("BY NAMESPACE", "NAMESPACE", "(no known pod)", ["SENT", "RECEIVED"]),
        GroupBy::Workload => ("BY WORKLOAD", "WORKLOAD", "(no known pod)", ["SENT", "RECEIVED"]),
        GroupBy::Peer => ("BY PEER", "PEER", "(not known)", ["SENT", "RECEIVED"]),
        GroupBy::Path => ("BY PATH", "PATH", "", ["SENT", "RECEIVED"]),
        GroupBy::Service => ("BY SERVICE", "SERVICE", "(no known service)", ["SENT", "RECEIVED"]),
        GroupBy::Device => ("BY DEVICE", "DEVICE", "", ["TX", "RX"]),
    };
    let shown = groups.len().min(style.top);
    heading(out, style, title, &format!("   {shown} of {}, by bytes", groups.len()))?;
    let [sent, received] = sides;
    let mut table = plain_table(style, [column, "FLOWS", "BYTES", sent, received, "PATHS"], 1..=4);
    for group in &groups[..shown] {
        let side = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), |bytes| scale.bytes(bytes));
        table.add_row([
            group.name.as_deref().map_or_else(|| nameless.to_owned(), |name| sanitise(name).into_owned()),
            group.flows.to_string(),
            scale.bytes(group.bytes),
            side(group.sent_bytes),
            side(group.received_bytes),
            paths(group, scale),
        ]);
    }
    if shown > 0 {
        write_table(out, &table)?;
    }
    if matches!(by, GroupBy::Pod | GroupBy::Namespace) {
        writeln!(out, "  A flow between two of them is in both rows.")?;
    }
    writeln!(out)
}

/// Where the group's bytes went, in the order of the report.
fn paths(group: &Group, scale: Scale) -> String {
    let part = |(path, bytes): (&PathClass, &u64)| format!("{} {}", path.name(), scale.bytes(*bytes));
    group.by_path.iter().map(part).collect::<Vec<_>>().join(", ")
}
