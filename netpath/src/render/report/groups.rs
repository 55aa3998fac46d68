//! Flows added up, as `--group-by` asks: one row a group, most bytes first.

use std::cmp::Reverse;

use super::super::block::{Block, Cell, Column};
use super::super::labels;
use super::super::tone::Tone;
use super::super::units::Scale;
use super::{Rows, View};
use crate::report::{Group, GroupBy, Grouping, PathClass, PeerKind};
use crate::sanitise::sanitise;

/// The rows, and what they are.
pub(super) fn rows(grouping: &Grouping, view: &View, scale: Scale) -> Rows {
    let Grouping { by, groups } = grouping;
    let (noun, _) = nouns(*by);
    // Of devices, one order everywhere: what they received, and what they sent.
    let [first, second] = match by {
        GroupBy::Device => ["RX", "TX"],
        // What "the internet sent" is could be either.
        GroupBy::Peer => ["FROM PEER", "TO PEER"],
        _ => ["SENT", "RECEIVED"],
    };
    let columns = vec![
        Column::name(""),
        Column::number("FLOWS"),
        Column::number("BYTES"),
        Column::number(first),
        Column::number(second),
        Column::name("PATHS"),
    ];
    let mut block = Block { columns, ..Block::default() };
    for group in &groups[..view.rows(groups.len())] {
        let number = |bytes| Cell::number(scale.bytes(bytes), bytes);
        let side = |bytes: Option<u64>| bytes.map_or_else(|| Cell::from("-"), number);
        let sides = [side(group.sent_bytes), side(group.received_bytes)];
        let [first, second] = if *by == GroupBy::Device {
            let [tx, rx] = sides;
            [rx, tx]
        } else {
            sides
        };
        block.row([
            Cell::from(name(*by, group.name.as_deref())),
            Cell::number(group.flows.to_string(), group.flows),
            number(group.bytes),
            first,
            second,
            paths(group, scale, view.wide || view.all),
        ]);
    }
    if matches!(by, GroupBy::Pod | GroupBy::Workload | GroupBy::Namespace) {
        block.notes.push("Flows between two listed rows count in both; do not sum the column.".to_owned());
    }
    Rows { block, noun, there: groups.len() }
}

/// What one group is called, and what several are; and the name of the one without a name.
#[must_use]
pub const fn nouns(by: GroupBy) -> ([&'static str; 2], &'static str) {
    match by {
        GroupBy::Pod => (["POD", "PODS"], "(no known pod)"),
        GroupBy::Workload => (["WORKLOAD", "WORKLOADS"], "(no known pod)"),
        GroupBy::Namespace => (["NAMESPACE", "NAMESPACES"], "(no known pod)"),
        GroupBy::Path => (["PATH", "PATHS"], ""),
        GroupBy::Service => (["SERVICE", "SERVICES"], "(no known service)"),
        GroupBy::Peer => (["PEER", "PEERS"], "(not known)"),
        GroupBy::Device => (["DEVICE", "DEVICES"], ""),
    }
}

/// The name of a group, or of those without a name, fit to print.
#[must_use]
pub fn name(by: GroupBy, name: Option<&str>) -> String {
    let Some(name) = name else { return nouns(by).1.to_owned() };
    let peer = PeerKind::ALL.into_iter().find(|kind| by == GroupBy::Peer && kind.name() == name);
    peer.map_or_else(|| sanitise(name).into_owned(), |kind| labels::peer(kind).to_owned())
}

/// Where the group's bytes went: in the order of the report, or the most of them.
fn paths(group: &Group, scale: Scale, is_wide: bool) -> Cell {
    const SHOWN: usize = 2;
    let part = |(path, bytes): &(&PathClass, &u64)| format!("{} {}", path.name(), scale.bytes(**bytes));
    let most = group.by_path.iter().max_by_key(|(_, bytes)| **bytes).map_or(Tone::Plain, |(path, _)| Tone::of(*path));
    let mut paths: Vec<_> = group.by_path.iter().collect();
    if paths.len() > SHOWN && !is_wide {
        paths.sort_by_key(|(_, bytes)| Reverse(**bytes));
    }
    let shown = if is_wide { paths.len() } else { SHOWN.min(paths.len()) };
    let mut parts: Vec<_> = paths[..shown].iter().map(part).collect();
    if shown < paths.len() {
        parts.push(format!("{} more", paths.len() - shown));
    }
    Cell::toned(parts.join(", "), most)
}
