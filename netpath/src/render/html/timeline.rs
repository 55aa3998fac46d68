//! Bytes by path over time: a column for each window, or for neighbours together where there are many.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::block::{Block, Cell, Column};
use super::super::labels;
use super::super::report::{View, moment};
use super::super::tone::Tone;
use super::super::units::{Scale, duration};
use super::ROWS;
use super::table::{Layout, name, table};
use super::terms::part_of;
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

    fn add(&mut self, next: &Self) {
        self.duration_ns = self.duration_ns.saturating_add(next.duration_ns);
        for (path, bytes) in &next.by_path {
            let sum = self.by_path.entry(*path).or_default();
            *sum = sum.saturating_add(*bytes);
        }
    }

    /// Bytes a second, so that windows of any length compare.
    fn rate(&self, path: PathClass) -> u64 {
        let bytes = u128::from(self.by_path.get(&path).copied().unwrap_or(0));
        u64::try_from(bytes * 1_000_000_000 / u128::from(self.duration_ns.max(1))).unwrap_or(u64::MAX)
    }

    fn all(&self) -> u64 {
        PathClass::ALL.into_iter().fold(0u64, |sum, path| sum.saturating_add(self.rate(path)))
    }
}

/// More are not told apart on a screen.
const COLUMNS: usize = 240;

/// At most so many, each of as many neighbours.
fn columns(slices: &[Slice], most: usize) -> Vec<Slice> {
    let sum = |some: &[Slice]| {
        let mut sum = some[0].clone();
        some[1..].iter().for_each(|next| sum.add(next));
        sum
    };
    slices.chunks(slices.len().div_ceil(most).max(1)).map(sum).collect()
}

/// The picture, and its numbers.
pub fn section(slices: &[Slice], view: &View) -> Markup {
    let columns = columns(slices, COLUMNS);
    let rates = Scale::rates(view.units, 1_000_000_000);
    let paths: Vec<PathClass> =
        PathClass::ALL.into_iter().filter(|path| slices.iter().any(|slice| slice.rate(*path) > 0)).collect();
    let most = columns.iter().map(Slice::all).max().unwrap_or(0);
    let (first, last) = (&slices[0], &slices[slices.len() - 1]);
    let each = slices.len().div_ceil(columns.len());
    let label = format!(
        "Bytes a second by path, {} windows from {} to {}; at most {}",
        slices.len(),
        moment(&first.started_at),
        moment(&last.started_at),
        rates.bytes(most)
    );
    html! {
        section id="time" {
            h2 { "Bytes by path over time" }
            p class="legend" {
                @for path in &paths { span class={ "key " (class(*path)) } { (path.name()) " " small { (labels::path(*path)) } } }
            }
            p class="note" { (rates.bytes(most)) }
            svg class="time" role="img" aria-label=(label) viewBox={ "0 0 " (columns.len() * 10) " 100" }
                preserveAspectRatio="none" {
                @for (index, column) in columns.iter().enumerate() { (bar(index, column, &paths, most, rates)) }
            }
            p class="axis note" { span { (moment(&first.started_at)) } span { (moment(&last.started_at)) } }
            @if each > 1 { p class="note" { "Each column is the average of " (each) " windows." } }
            details { summary { "As a table" } (numbers(slices, &paths, rates)) }
        }
    }
}

fn bar(index: usize, column: &Slice, paths: &[PathClass], most: u64, rates: Scale) -> Markup {
    let mut top = 100.0;
    let mut rects = Vec::new();
    for path in paths {
        let height = part_of(column.rate(*path), most);
        top -= height;
        rects.push((class(*path), top, height));
    }
    let parts: Vec<_> =
        paths.iter().map(|path| format!("{} {}", path.name(), rates.bytes(column.rate(*path)))).collect();
    html! {
        g {
            title { (moment(&column.started_at)) ", " (duration(column.duration_ns)) ": " (parts.join(", ")) }
            @for (class, y, height) in &rects {
                rect class=(class) x=(index * 10) y={ (format!("{y:.2}")) } width="9" height={ (format!("{height:.2}")) } {}
            }
        }
    }
}

fn numbers(slices: &[Slice], paths: &[PathClass], rates: Scale) -> Markup {
    let mut block =
        Block { title: "BYTES/S BY WINDOW".to_owned(), columns: vec![Column::words("")], ..Block::default() };
    block.columns.extend(paths.iter().map(|path| Column::number(path.name())));
    block.columns.push(Column::number("all"));
    for slice in slices {
        let number = |rate| Cell::number(rates.bytes(rate), rate);
        let cells = paths.iter().map(|path| number(slice.rate(*path))).chain([number(slice.all())]);
        block.row([Cell::from(moment(&slice.started_at))].into_iter().chain(cells));
    }
    table(&block, &Layout { first: "From", shown: ROWS, sorts: true, marks: &[] })
}

/// A path's class.
pub fn class(path: PathClass) -> &'static str {
    match path {
        PathClass::Transit => "eni again",
        path => name(Tone::of(path)).unwrap_or("other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(bytes: u64) -> Slice {
        Slice {
            started_at: "2026-01-31T14:00:00Z".to_owned(),
            duration_ns: 2_000_000_000,
            by_path: BTreeMap::from([(PathClass::Eni, bytes), (PathClass::Local, 1)]),
        }
    }

    #[test]
    fn neighbours_are_averaged() {
        let slices: Vec<_> = (0..7).map(|index| slice(index * 100)).collect();
        assert_eq!(columns(&slices, 240), slices);
        let few = columns(&slices, 3);
        assert_eq!(few.iter().map(|one| one.rate(PathClass::Eni)).collect::<Vec<_>>(), [50, 200, 300]);
        assert_eq!(few.iter().map(|one| one.duration_ns).sum::<u64>(), 14_000_000_000);
    }
}
