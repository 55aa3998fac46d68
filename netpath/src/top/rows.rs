//! What a report has for each view, as rows.
//!
//! In: a report, and which flows of it. Out: rows of words and amounts, with a key that is the same in the next window.

use std::borrow::Cow;

use crate::model::DeviceClass;
use crate::path::conversations::{Merge, conversations, of_report};
use crate::path::group::groups;
use crate::path::select::Filter;
use crate::render::block::Cell;
use crate::render::labels;
use crate::render::report::{conversation_ends, group_name, terms};
use crate::render::tone::Tone;
use crate::report::{Conversation, Device, Flow, Group, GroupBy, HookCounts, PathClass, Report, TermKind};
use crate::sanitise::sanitise;

/// A row of one window.
#[derive(Clone, Debug)]
pub struct Row {
    /// What makes it this row.
    pub key: String,
    /// Fit to print.
    pub words: Vec<Cell>,
    /// Bytes and counts; the first is what the row moves.
    pub amounts: Vec<i64>,
}

/// Between the parts of a key; it is in no name that is fit to print.
pub const BETWEEN: &str = "\u{1f}";

/// Groups, as `--group-by` has them.
pub fn of_groups(report: &Report, filter: &Filter, by: GroupBy) -> Vec<Row> {
    groups(matching(report, filter), by).iter().map(|group| of_group(group, by)).collect()
}

fn of_group(group: &Group, by: GroupBy) -> Row {
    let path = |wanted: &[PathClass]| wanted.iter().filter_map(|path| group.by_path.get(path)).sum::<u64>();
    let amounts = [
        group.bytes,
        group.sent_bytes.unwrap_or_default(),
        group.received_bytes.unwrap_or_default(),
        path(&[PathClass::Eni, PathClass::Transit]),
        path(&[PathClass::Local]),
        path(&[PathClass::Host]),
        path(&[PathClass::Undelivered, PathClass::Unresolved]),
        group.flows,
    ];
    let most = group.by_path.iter().max_by_key(|(_, bytes)| **bytes);
    Row {
        key: group.name.clone().unwrap_or_default(),
        words: vec![
            group_name(by, group.name.as_deref()).into(),
            most.map_or_else(Cell::default, |(path, _)| Cell::toned(path.name().to_owned(), Tone::of(*path))),
        ],
        amounts: amounts.map(signed).to_vec(),
    }
}

/// Conversations, merged so.
pub fn of_conversations(report: &Report, filter: &Filter, merge: Merge) -> Vec<Row> {
    listed(report, filter, merge).iter().map(|one| of_conversation(one, merge)).collect()
}

/// The conversation whose row has this key.
pub fn conversation(report: &Report, filter: &Filter, merge: Merge, key: &str) -> Option<Conversation> {
    listed(report, filter, merge).iter().find(|one| of_conversation(one, merge).key == key).cloned()
}

/// The conversations of the flows that are meant.
fn listed<'a>(report: &'a Report, filter: &Filter, merge: Merge) -> Cow<'a, [Conversation]> {
    if filter.is_empty() {
        of_report(report, merge)
    } else {
        Cow::Owned(conversations(matching(report, filter), merge))
    }
}

/// The report's flows that are meant.
fn matching<'a>(report: &'a Report, filter: &'a Filter) -> impl Iterator<Item = &'a Flow> {
    report.flows.iter().filter(|flow| filter.matches(flow))
}

fn of_conversation(one: &Conversation, merge: Merge) -> Row {
    let [from, to] = conversation_ends(one, merge == Merge::Nothing);
    let paths = one.paths.iter().map(|path| path.name()).collect::<Vec<_>>().join(", ");
    let tone = one.paths.iter().copied().max().map_or(Tone::Plain, Tone::of);
    let nat = labels::nat(one.nat);
    let reason = one.reason.map(|reason| format!("{reason:?}")).unwrap_or_default();
    let amounts = [
        one.bytes,
        one.sent_bytes.unwrap_or_default(),
        one.received_bytes.unwrap_or_default(),
        one.connections,
        one.dropped_packets,
    ];
    Row {
        key: [&from, &to, &paths, nat, &reason].join(BETWEEN),
        words: vec![from.into(), to.into(), Cell::toned(paths, tone), nat.into()],
        amounts: amounts.map(signed).to_vec(),
    }
}

/// Devices that moved something, or that something is wrong with.
pub fn of_devices(report: &Report) -> Vec<Row> {
    report.devices.iter().map(of_device).filter(|row| row.amounts[0] > 0 || row.words[2].tone == Tone::Bad).collect()
}

fn of_device(device: &Device) -> Row {
    let hook = |hook: Option<HookCounts>| hook.map_or(0, |hook| hook.bytes);
    let kernel = device.facts.kernel.map(|kernel| [kernel.rx_bytes, kernel.tx_bytes]);
    let [rx, tx] = kernel.unwrap_or([hook(device.rx), hook(device.tx)]);
    let residuals = device.residual.iter().flat_map(|both| [&both.rx, &both.tx]);
    let (mut difference, mut unexplained) = (0_i64, 0_i64);
    for one in residuals {
        difference = difference.saturating_add(one.bytes);
        unexplained = unexplained.saturating_add(one.unexplained_bytes);
    }
    let name = sanitise(&device.facts.name);
    let name = if device.counted_by_container_insights { name.into_owned() } else { format!("({name})") };
    let tone = if device.facts.class == DeviceClass::Eni { Tone::Eni } else { Tone::Plain };
    Row {
        key: format!("{}{BETWEEN}{}", device.facts.name, device.facts.ifindex),
        words: vec![name.into(), Cell::toned(labels::device_class(device.facts.class).to_owned(), tone), about(device)],
        amounts: vec![signed(rx.saturating_add(tx)), signed(rx), signed(tx), difference, unexplained],
    }
}

/// Whose it is, or what is wrong with it.
fn about(device: &Device) -> Cell {
    if let Some(blind) = &device.blind {
        return Cell::toned(sanitise(blind).into_owned(), Tone::Bad);
    }
    let owner = device.pod.as_deref().or(device.facts.eni_id.as_deref());
    owner.map_or_else(Cell::default, |owner| sanitise(owner).into_owned().into())
}

/// The parts of `node_network_total_bytes`.
pub fn of_terms(report: &Report) -> Vec<Row> {
    terms(report)
        .map(|term| {
            let tone = if term.name == TermKind::Residual { Tone::Warning } else { Tone::Plain };
            Row {
                key: term.name.to_string(),
                words: vec![Cell::toned(labels::term(term.name).to_owned(), tone)],
                amounts: vec![term.bytes],
            }
        })
        .collect()
}

/// The totals by path, of the whole node: a row each, without words.
pub fn of_paths(report: &Report) -> Vec<Row> {
    let bytes = |path| report.totals.by_path.get(&path).map_or(0, |total| total.bytes);
    PathClass::ALL
        .map(|path| Row { key: path.name().to_owned(), words: Vec::new(), amounts: vec![signed(bytes(path))] })
        .to_vec()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
