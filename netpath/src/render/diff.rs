//! What differs between two times or nodes, for people: the answer first, then by path, pod and the like.
//!
//! In: a diff, and how many rows of it to show. Out: text or markdown. Every string from elsewhere is sanitised.

use std::io::{self, Write};

use super::block::{Block, Cell, Column, Screen, escape, write_styled, write_wrapped};
use super::report::groups::{self, nouns};
use super::report::moment;
use super::tone::Tone;
use super::units::{Scale, duration};
use crate::path::compare::{per_second, rate};
use crate::report::{Change, ChangeKind, Compared, Comparison, Diff, GroupBy, PathClass};
use crate::sanitise::sanitise;

/// Writes it as text.
///
/// # Errors
/// If `out` fails.
pub fn write(diff: &Diff, out: &mut impl Write, top: usize, scale: Scale, screen: &Screen) -> io::Result<()> {
    for warning in warnings(diff) {
        write_styled(out, screen, &warning, Tone::Bad)?;
    }
    for head in heads(diff) {
        write_wrapped(out, screen, &head, 0)?;
    }
    write_styled(out, screen, &verdict(diff, scale), Tone::Strong)?;
    for block in blocks(diff, top, scale) {
        writeln!(out)?;
        block.write(out, screen)?;
    }
    let notes = notes(diff);
    if !notes.is_empty() {
        writeln!(out, "\n{}", screen.styled("WHAT TO KNOW ABOUT THIS COMPARISON", Tone::Strong))?;
    }
    notes.iter().try_for_each(|note| write_wrapped(out, screen, note, 2))
}

/// Writes it as GitHub's markdown.
///
/// # Errors
/// If `out` fails.
pub fn write_markdown(diff: &Diff, out: &mut impl Write, top: usize, scale: Scale, screen: &Screen) -> io::Result<()> {
    let escape = |text: &str| escape(&screen.text(text));
    for strong in warnings(diff).into_iter().chain([verdict(diff, scale)]) {
        writeln!(out, "**{}**\n", escape(&strong))?;
    }
    for line in heads(diff) {
        writeln!(out, "- {}", escape(&line))?;
    }
    writeln!(out)?;
    for block in blocks(diff, top, scale) {
        block.write_markdown(out, screen)?;
        writeln!(out)?;
    }
    notes(diff).iter().try_for_each(|note| writeln!(out, "- {}", escape(note)))
}

fn sides(diff: &Diff) -> [(&'static str, &Compared); 2] {
    [("before", &diff.before), ("after", &diff.after)]
}

/// "before: node-1, 60.0 s in 6 windows from 2025-01-01 00:00:00 UTC".
fn heads(diff: &Diff) -> Vec<String> {
    let head = |(which, side): (&str, &Compared)| {
        let windows = if side.windows == 1 { String::new() } else { format!(" in {} windows", side.windows) };
        let (host, started) = (sanitise(&side.node.hostname), moment(&side.started_at));
        format!("{which}: {host}, {}{windows} from {started}", duration(side.duration_ns))
    };
    let mut heads: Vec<String> = sides(diff).map(head).to_vec();
    let only = |filters: &[String]| sanitise(&filters.join(" ")).into_owned();
    if diff.before.filters != diff.after.filters {
        heads.extend(sides(diff).into_iter().filter(|(_, side)| !side.filters.is_empty()).map(|(which, side)| {
            format!("{which}: only flows that match {}: the two sides have different filters", only(&side.filters))
        }));
    } else if !diff.after.filters.is_empty() {
        heads.push(format!("only flows that match {}", only(&diff.after.filters)));
    }
    heads
}

fn warnings(diff: &Diff) -> Vec<String> {
    let of =
        |(which, side): (&str, &Compared)| side.eni_reason.as_ref().map(|why| format!("{which}: {}", sanitise(why)));
    sides(diff).into_iter().filter_map(of).collect()
}

fn notes(diff: &Diff) -> Vec<String> {
    let of = |(which, side): (&str, &Compared)| {
        let mut notes = Vec::new();
        if side.packets_in_no_flow > 0 {
            notes.push(format!("{which}: {} packets are in no flow, so that sums lack them", side.packets_in_no_flow));
        }
        if side.blind_devices > 0 {
            notes.push(format!(
                "{which}: netpath did not fully see {} of the devices; the report of that time says why",
                side.blind_devices
            ));
        }
        notes
    };
    sides(diff).into_iter().flat_map(of).collect()
}

/// The answer in one sentence.
fn verdict(diff: &Diff, scale: Scale) -> String {
    let most = |comparison: &Comparison| {
        let first = comparison.changes.first()?;
        let change = first.bytes_per_second.filter(|change| *change != 0.0)?;
        Some(format!("{} {}", name(comparison.by, first), signed(change, scale)))
    };
    let total = |side: &Compared| side.node_network_total_bytes.and_then(|bytes| per_second(bytes, side.duration_ns));
    let total = match (total(&diff.before), total(&diff.after)) {
        (Some(before), Some(after)) => {
            format!("node_network_total_bytes: {} before, {} after", scale.rate(before), scale.rate(after))
        }
        _ => "node_network_total_bytes is not known of both".to_owned(),
    };
    let changes: Vec<String> = diff.comparisons.iter().filter_map(most).collect();
    if diff.comparisons.iter().all(|comparison| comparison.changes.is_empty()) {
        total + ". There are no such flows in either."
    } else if changes.is_empty() {
        total + ". No flow differs."
    } else {
        format!("{total}. Most: {}.", changes.join("; "))
    }
}

fn blocks(diff: &Diff, top: usize, scale: Scale) -> Vec<Block> {
    let by_flows = diff.comparisons.iter().map(|comparison| by_flows(comparison, top, scale));
    [cloudwatch(diff, scale)].into_iter().chain(by_flows).filter(|block| !block.rows.is_empty()).collect()
}

fn columns() -> Vec<Column> {
    vec![
        Column::name(""),
        Column::number("BEFORE"),
        Column::number("AFTER"),
        Column::number("CHANGE"),
        Column::number(""),
    ]
}

/// The numbers that others show, as rates.
fn cloudwatch(diff: &Diff, scale: Scale) -> Block {
    let mut block = Block { title: "WHAT CLOUDWATCH SHOWS".to_owned(), columns: columns(), ..Block::default() };
    let figures = [
        ("node_network_total_bytes", [&diff.before, &diff.after].map(|side| side.node_network_total_bytes)),
        ("EC2 NetworkIn", [&diff.before, &diff.after].map(|side| side.network_in_bytes)),
        ("EC2 NetworkOut", [&diff.before, &diff.after].map(|side| side.network_out_bytes)),
    ];
    for (name, [before, after]) in figures {
        if before.or(after).is_none() {
            continue;
        }
        let before = before.and_then(|bytes| per_second(bytes, diff.before.duration_ns));
        let after = after.and_then(|bytes| per_second(bytes, diff.after.duration_ns));
        block.row(cells(name.into(), [before, after], None, scale));
    }
    block
}

fn by_flows(comparison: &Comparison, top: usize, scale: Scale) -> Block {
    let Comparison { by, changes } = comparison;
    let ([one, several], _) = nouns(*by);
    // That nothing has a name is no comparison.
    if changes.iter().all(|change| change.name.is_none()) {
        return Block::default();
    }
    let shown = changes.len().min(if *by == GroupBy::Path { usize::MAX } else { top });
    let title = match changes.len() {
        1 => format!("1 {one}"),
        there if shown < there => format!("{shown} OF {there} {several}, LARGEST CHANGE FIRST"),
        there => format!("{there} {several}"),
    };
    let mut block = Block { title, columns: columns(), ..Block::default() };
    for change in &changes[..shown] {
        let path =
            PathClass::ALL.into_iter().find(|path| *by == GroupBy::Path && change.name.as_deref() == Some(path.name()));
        let word = match change.kind {
            ChangeKind::New => Some("new"),
            ChangeKind::Gone => Some("gone"),
            ChangeKind::Grew | ChangeKind::Shrank | ChangeKind::Same => None,
        };
        let name = Cell::toned(name(*by, change), path.map_or(Tone::Plain, Tone::of));
        block.row(cells(name, [change.before, change.after].map(rate), word, scale));
    }
    block
}

fn name(by: GroupBy, change: &Change) -> String {
    groups::name(by, change.name.as_deref())
}

/// Both rates, what is between them, and how that is called: by the ratio if there is no word for it.
fn cells(name: Cell, [before, after]: [Option<f64>; 2], word: Option<&str>, scale: Scale) -> [Cell; 5] {
    let or_dash = |text: Option<String>| Cell::from(text.unwrap_or_else(|| "-".to_owned()));
    let both = before.zip(after);
    let ratio = || both.map(|(before, after)| relative(before, after)).unwrap_or_default();
    [
        name,
        or_dash(before.map(|rate| scale.rate(rate))),
        or_dash(after.map(|rate| scale.rate(rate))),
        or_dash(both.map(|(before, after)| signed(after - before, scale))),
        word.map_or_else(ratio, ToOwned::to_owned).into(),
    ]
}

/// "+1.2 MB/s", "-5.0 kB/s", "0 B/s".
fn signed(change: f64, scale: Scale) -> String {
    let sign = if change.abs() < 0.5 {
        ""
    } else if change < 0.0 {
        "-"
    } else {
        "+"
    };
    format!("{sign}{}", scale.rate(change.abs()))
}

/// "+31 %", "-8 %", "x12" from twice as much on.
fn relative(before: f64, after: f64) -> String {
    let ratio = after / before;
    if !ratio.is_finite() {
        String::new()
    } else if ratio >= 9.95 {
        format!("x{ratio:.0}")
    } else if ratio >= 2.0 {
        format!("x{ratio:.1}")
    } else {
        let percent = (ratio - 1.0) * 100.0;
        if percent.abs() < 0.5 { "0 %".to_owned() } else { format!("{percent:+.0} %") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::units::Units;

    #[test]
    fn changes_in_words() {
        let scale = Scale::sums(Units::Si);
        assert_eq!(
            [-5_000.4, 0.3, 1_200_000.0].map(|change| signed(change, scale)),
            ["-5.0 kB/s", "0 B/s", "+1.2 MB/s"]
        );
        for (before, after, text) in [
            (100.0, 131.0, "+31 %"),
            (100.0, 0.0, "-100 %"),
            (100.0, 100.1, "0 %"),
            (1.0, 2.0, "x2.0"),
            (1.0, 12.3, "x12"),
            (0.0, 5.0, ""),
            (0.0, 0.0, ""),
        ] {
            assert_eq!(relative(before, after), text);
        }
    }
}
