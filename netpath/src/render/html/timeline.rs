//! Bytes by path over time: a column from where a window begins to where it ends, or for neighbours together where there are
//! many. Where nothing was measured there is nothing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::super::block::{self, Block, Cell};
use super::super::labels;
use super::super::report::{View, moment};
use super::super::tone::Tone;
use super::super::units::{Scale, duration};
use super::ROWS;
use super::table::{Layout, name, table};
use super::terms::{part_of, percent};
use crate::report::{PathClass, Report};

/// A window of those that a report is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Its length.
    pub duration_ns: u64,
    /// Each byte once.
    pub by_path: BTreeMap<PathClass, u64>,
}

impl Slice {
    /// Of a window's report: of what it is limited to.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let totals = report.selection.as_ref().map_or(&report.totals, |selection| &selection.totals);
        Self {
            started_at: report.window.started_at.clone(),
            duration_ns: report.window.duration_ns,
            by_path: totals.by_path.iter().map(|(path, total)| (*path, total.bytes)).collect(),
        }
    }

    /// Bytes a second, so that windows of any length compare; `None` of a window that is over before its counters are read.
    fn rate(&self, path: PathClass) -> Option<u64> {
        let bytes = u128::from(self.by_path.get(&path).copied().unwrap_or(0));
        let rate = || u64::try_from(bytes * 1_000_000_000 / u128::from(self.duration_ns)).unwrap_or(u64::MAX);
        (self.duration_ns >= SHORTEST_NS).then(rate)
    }

    fn all(&self) -> Option<u64> {
        PathClass::ALL.into_iter().try_fold(0u64, |sum, path| Some(sum.saturating_add(self.rate(path)?)))
    }
}

/// What is shorter has no rate: reading counters takes as long.
const SHORTEST_NS: u64 = 1_000_000;
/// More are not told apart on a screen.
const COLUMNS: usize = 240;

/// A window, or some, and where they begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    slice: Slice,
    start: Timestamp,
    end: Timestamp,
}

/// In order of time. A window without a time that can be read begins where the one before it ends.
fn columns(slices: &[Slice]) -> Vec<Column> {
    let mut before = Timestamp::UNIX_EPOCH;
    let mut columns: Vec<Column> = Vec::new();
    for slice in slices {
        let start = slice.started_at.parse().unwrap_or(before);
        let length = SignedDuration::from_nanos(i64::try_from(slice.duration_ns).unwrap_or(i64::MAX));
        let end = start.checked_add(length).unwrap_or(start);
        before = end;
        columns.push(Column { slice: slice.clone(), start, end });
    }
    columns.retain(|column| column.slice.duration_ns >= SHORTEST_NS);
    columns.sort_by_key(|column| column.start);
    columns
}

/// At most about `most`, each of as many neighbours: none of what is on both sides of a gap that can be seen.
fn together(columns: &[Column], most: usize) -> Vec<Column> {
    let each = columns.len().div_ceil(most).max(1);
    let Some((first, last)) = columns.first().zip(columns.last()) else { return Vec::new() };
    let gap = last.end.duration_since(first.start) / i32::try_from(2 * most).unwrap_or(i32::MAX);
    let mut some: Vec<(Column, usize)> = Vec::new();
    for next in columns {
        match some.last_mut() {
            Some((column, count)) if *count < each && next.start.duration_since(column.end) < gap => {
                column.slice.duration_ns = column.slice.duration_ns.saturating_add(next.slice.duration_ns);
                for (path, bytes) in &next.slice.by_path {
                    let sum = column.slice.by_path.entry(*path).or_default();
                    *sum = sum.saturating_add(*bytes);
                }
                column.end = column.end.max(next.end);
                *count += 1;
            }
            _ => some.push((next.clone(), 1)),
        }
    }
    some.into_iter().map(|(column, _)| column).collect()
}

/// The picture, and its numbers.
pub fn section(slices: &[Slice], view: &View) -> Markup {
    let windows = columns(slices);
    let columns = together(&windows, COLUMNS);
    let rates = Scale::rates(view.units, 1_000_000_000);
    let has = |path: &PathClass| slices.iter().any(|slice| slice.by_path.get(path).is_some_and(|bytes| *bytes > 0));
    let paths: Vec<PathClass> = PathClass::ALL.into_iter().filter(has).collect();
    let most = columns.iter().filter_map(|column| column.slice.all()).max().unwrap_or(0);
    let start = columns.first().map_or(Timestamp::UNIX_EPOCH, |column| column.start);
    let end = columns.iter().map(|column| column.end).max().unwrap_or(start);
    let [from, to] = [start, end].map(|time| moment(&time.to_string()));
    let words =
        format!("Bytes a second by path, {} windows from {from} to {to}; at most {}", windows.len(), rates.bytes(most));
    let each = windows.len().div_ceil(COLUMNS);
    let without = slices.len() - windows.len();
    html! {
        section id="time" {
            h2 { "Bytes by path over time" }
            p class="legend" {
                @for path in &paths {
                    span class={ "key " (class(*path)) } {
                        svg class="swatch" width="12" height="12" aria-hidden="true" {
                            rect class=(class(*path)) width="100%" height="100%" {}
                        }
                        (path.name()) " " small { (labels::path(*path)) }
                    }
                }
            }
            p class="note" { (rates.bytes(most)) }
            svg class="time" role="img" aria-label=(words) {
                @for column in &columns { (bar(column, [start, end], &paths, most, rates)) }
            }
            p class="axis note" { span { (from) } span { (to) } }
            @if each > 1 { p class="note" { "Each column is the average of up to " (each) " windows." } }
            @if without > 0 { p class="note" { "Without a length, and not drawn: " (labels::counted(without as u64, "window")) "." } }
            details { summary { "As a table" } (numbers(slices, &paths, rates)) }
        }
    }
}

fn bar(column: &Column, [start, end]: [Timestamp; 2], paths: &[PathClass], most: u64, rates: Scale) -> Markup {
    let since = |time: Timestamp| u64::try_from(time.duration_since(start).as_nanos()).unwrap_or(0);
    let whole = since(end);
    // What is too narrow to be seen is drawn wider.
    let width = part_of(since(column.end).saturating_sub(since(column.start)), whole).max(0.3);
    let x = part_of(since(column.start), whole).min(100.0 - width);
    let rate = |path: PathClass| column.slice.rate(path).unwrap_or(0);
    let mut top = 100.0;
    let mut rects = Vec::new();
    for path in paths {
        let height = part_of(rate(*path), most);
        top -= height;
        rects.push((class(*path), top, height));
    }
    let parts: Vec<_> = paths.iter().map(|path| format!("{} {}", path.name(), rates.bytes(rate(*path)))).collect();
    html! {
        g {
            title { (moment(&column.slice.started_at)) ", " (duration(column.slice.duration_ns)) ": " (parts.join(", ")) }
            @for (class, y, height) in &rects {
                rect class=(class) x=(percent(x)) y=(percent(*y)) width=(percent(width)) height=(percent(*height)) {}
            }
        }
    }
}

fn numbers(slices: &[Slice], paths: &[PathClass], rates: Scale) -> Markup {
    let mut block = Block {
        title: "BYTES/S BY WINDOW".to_owned(),
        columns: vec![block::Column::words(""), block::Column::number("LENGTH")],
        ..Block::default()
    };
    block.columns.extend(paths.iter().map(|path| block::Column::number(path.name())));
    block.columns.push(block::Column::number("all"));
    for slice in slices {
        let number =
            |rate: Option<u64>| rate.map_or_else(|| Cell::from("-"), |rate| Cell::number(rates.bytes(rate), rate));
        let cells = paths.iter().map(|path| number(slice.rate(*path))).chain([number(slice.all())]);
        let length = Cell::number(duration(slice.duration_ns), slice.duration_ns);
        let time = [Cell::from(moment(&slice.started_at)), length];
        block.row(time.into_iter().chain(cells));
    }
    table(&block, &Layout { first: "From", shown: ROWS, sorts: true, marks: &[] })
}

/// A path's class.
pub fn class(path: PathClass) -> &'static str {
    name(Tone::of(path)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(second: u32, duration_ns: u64, bytes: u64) -> Slice {
        Slice {
            started_at: format!("2026-01-31T14:00:{second:02}Z"),
            duration_ns,
            by_path: BTreeMap::from([(PathClass::Eni, bytes), (PathClass::Local, 1)]),
        }
    }

    #[test]
    fn neighbours_are_averaged() {
        let slices: Vec<_> = (0..7).map(|index| slice(index * 2, 2_000_000_000, u64::from(index) * 100)).collect();
        let windows = columns(&slices);
        assert_eq!(together(&windows, 240), windows);
        let few = together(&windows, 3);
        assert_eq!(few.iter().map(|one| one.slice.rate(PathClass::Eni)).collect::<Vec<_>>(), [50, 200, 300].map(Some));
        assert_eq!(few.iter().map(|one| one.slice.duration_ns).sum::<u64>(), 14_000_000_000);
        // Not over a gap.
        let slices: Vec<_> = [0, 2, 40, 42].map(|second| slice(second, 2_000_000_000, 100)).into();
        let starts: Vec<_> = together(&columns(&slices), 1).iter().map(|one| one.slice.started_at.clone()).collect();
        assert_eq!(starts, [&*slices[0].started_at, &*slices[2].started_at].map(str::to_owned));
    }

    /// A short window is narrow and as high as its rate; one without length is none; after a gap comes what came after it.
    #[test]
    fn columns_are_where_their_time_is() {
        let second = 1_000_000_000;
        let slices = [
            slice(0, 2 * second, 200),
            slice(2, 0, 999),
            slice(6, second, 300),
            slice(9, second, 0),
            slice(7, second / 2, 50),
        ];
        let text = section(&slices, &View::default()).into_string();
        let (_, svg) = text.split_once("class=\"time\"").expect("a picture");
        let bars: Vec<&str> =
            svg.split("<rect class=\"eni\" ").skip(1).map(|bar| bar.split('>').next().expect("ends")).collect();
        let at = |x: &str, y: &str, width: &str, height: &str| {
            format!("x=\"{x}%\" y=\"{y}%\" width=\"{width}%\" height=\"{height}%\"")
        };
        assert_eq!(
            bars,
            [
                at("0.000", "66.777", "20.000", "33.223"),
                at("60.000", "0.332", "10.000", "99.668"),
                at("70.000", "66.777", "5.000", "33.223"),
                at("90.000", "100.000", "10.000", "0.000"),
            ]
        );
        assert!(text.contains("<span>2026-01-31 14:00:00 UTC</span><span>2026-01-31 14:00:10 UTC</span>"), "{text}");
        assert!(text.contains("at most 301 B/s") && text.contains("not drawn: 1 window."), "{text}");
    }
}
