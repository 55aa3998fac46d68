//! The rows of a view over windows: what each moves now, since the beginning, and how that came to be.
//!
//! In: the rows of one window after the other. Out: rows to show. It is bounded: of more than [`MOST`] rows, those that nothing was
//! seen of for [`KEPT`] windows go, and their sums are in one row for all of them.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::rows::Row;

/// How many windows a row's history has.
pub const KEPT: usize = 120;
/// How many rows there are before idle ones go.
const MOST: usize = 10_000;
/// For how many windows a row without traffic is shown among present ones.
const LINGERS: u64 = 10;
/// Key of the row of those that are gone.
const GONE: &str = "\u{1f}gone";

/// A row, over windows.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// As it was when it was last seen.
    pub row: Row,
    /// `row.amounts`, summed over all windows.
    pub sums: Vec<i64>,
    /// The first amount of each window, the present one last; of windows before it was first seen there is none.
    recent: VecDeque<i64>,
    /// The window in which it was last seen.
    seen: u64,
}

/// The rows of a view.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: HashMap<String, Tracked>,
    window: u64,
}

/// What rows are sorted by: the index of a word or an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Text, from A to Z.
    Word(usize),
    /// Numbers, the largest first.
    Amount(usize),
    /// The same, of the last window even among totals.
    Now(usize),
}

impl Table {
    /// Adds a window.
    pub fn add(&mut self, rows: Vec<Row>) {
        self.window += 1;
        let window = self.window;
        for row in rows {
            let moved = row.amounts.first().copied().unwrap_or_default();
            let tracked = self.rows.entry_ref(row.key.as_str()).or_insert_with(|| Tracked::new(&row, window));
            tracked.add(row, moved, window);
        }
        self.forget();
    }

    /// Of many rows, those without traffic for long become one.
    fn forget(&mut self) {
        if self.rows.len() <= MOST {
            return;
        }
        let window = self.window;
        let is_old = |_: &String, one: &mut Tracked| one.row.key != GONE && window - one.seen >= KEPT as u64;
        let old: Vec<Tracked> = self.rows.extract_if(is_old).map(|(_, one)| one).collect();
        for one in old {
            let gone = self.rows.entry_ref(GONE).or_insert_with(|| Tracked::gone(&one));
            for (sum, more) in gone.sums.iter_mut().zip(&one.sums) {
                *sum = sum.saturating_add(*more);
            }
        }
    }

    /// The row of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Tracked> {
        self.rows.get(key)
    }

    /// The rows in order. `totals`: all, by their sums; otherwise those with traffic of late, by what they move now.
    #[must_use]
    pub fn sorted(&self, by: By, reverse: bool, totals: bool) -> Vec<&Tracked> {
        let is_shown = |one: &&Tracked| totals || one.row.key != GONE && self.window - one.seen < LINGERS;
        let mut rows: Vec<&Tracked> = self.rows.values().filter(is_shown).collect();
        let amount = |one: &Tracked, index: usize, totals: bool| {
            self.amounts(one, totals).get(index).copied().unwrap_or_default()
        };
        rows.sort_by(|one, other| {
            let order = match by {
                By::Word(index) => one
                    .row
                    .words
                    .get(index)
                    .map(|cell| &cell.text)
                    .cmp(&other.row.words.get(index).map(|cell| &cell.text)),
                By::Amount(index) => amount(other, index, totals).cmp(&amount(one, index, totals)),
                By::Now(index) => amount(other, index, false).cmp(&amount(one, index, false)),
            };
            let order = if reverse { order.reverse() } else { order };
            // Those without traffic now in the order of what they have moved.
            let moved = || other.sums.first().cmp(&one.sums.first());
            order.then_with(moved).then_with(|| one.row.key.cmp(&other.row.key))
        });
        rows
    }

    /// What the row moves now, or has moved.
    #[must_use]
    pub fn amounts<'a>(&self, one: &'a Tracked, totals: bool) -> &'a [i64] {
        if totals {
            &one.sums
        } else if one.seen == self.window {
            &one.row.amounts
        } else {
            &[]
        }
    }

    /// What all rows move now, or have moved, of the first amount.
    #[must_use]
    pub fn sum(&self, totals: bool) -> i64 {
        let first = |one: &Tracked| self.amounts(one, totals).first().copied().unwrap_or_default();
        self.rows.values().fold(0, |sum, one| sum.saturating_add(first(one)))
    }

    /// The row's first amount in each of the last windows, the present one last.
    #[must_use]
    pub fn recent(&self, one: &Tracked) -> Vec<i64> {
        let since = usize::try_from(self.window - one.seen).unwrap_or(KEPT).min(KEPT);
        let all: Vec<i64> = one.recent.iter().copied().chain(std::iter::repeat_n(0, since)).collect();
        all[all.len().saturating_sub(KEPT)..].to_vec()
    }
}

impl Tracked {
    fn new(row: &Row, window: u64) -> Self {
        Self { row: row.clone(), sums: vec![0; row.amounts.len()], recent: VecDeque::new(), seen: window - 1 }
    }

    fn gone(one: &Self) -> Self {
        let row = Row { key: GONE.to_owned(), words: vec!["(ended or idle for long)".into()], amounts: Vec::new() };
        Self { row, sums: vec![0; one.sums.len()], recent: VecDeque::new(), seen: 0 }
    }

    fn add(&mut self, row: Row, moved: i64, window: u64) {
        for (sum, more) in self.sums.iter_mut().zip(&row.amounts) {
            *sum = sum.saturating_add(*more);
        }
        if self.seen == window {
            // It looks the same as another one of this window.
            for (amount, more) in self.row.amounts.iter_mut().zip(&row.amounts) {
                *amount = amount.saturating_add(*more);
            }
            if let Some(last) = self.recent.back_mut() {
                *last = last.saturating_add(moved);
            }
            return;
        }
        let missed = usize::try_from(window - self.seen - 1).unwrap_or(KEPT).min(KEPT);
        self.recent.extend(std::iter::repeat_n(0, missed));
        self.recent.push_back(moved);
        self.recent.drain(..self.recent.len().saturating_sub(KEPT));
        self.row = row;
        self.seen = window;
    }
}

/// Whether it is the row of those that are gone, which is nothing to open.
pub fn is_gone(key: &str) -> bool {
    key == GONE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, amounts: &[i64]) -> Row {
        Row { key: key.to_owned(), words: vec![key.into()], amounts: amounts.to_vec() }
    }

    fn shown(table: &Table, by: By, totals: bool) -> Vec<(String, Vec<i64>)> {
        let rows = table.sorted(by, false, totals);
        rows.iter().map(|one| (one.row.key.clone(), table.amounts(one, totals).to_vec())).collect()
    }

    #[test]
    fn rates_are_of_the_last_window_and_totals_of_all() {
        let mut table = Table::default();
        table.add(vec![row("a", &[5, 1]), row("b", &[3, 9])]);
        table.add(vec![row("b", &[4, 9])]);
        assert_eq!(shown(&table, By::Amount(0), false), [("b".into(), vec![4, 9]), ("a".into(), vec![])]);
        assert_eq!(shown(&table, By::Amount(0), true), [("b".into(), vec![7, 18]), ("a".into(), vec![5, 1])]);
        assert_eq!(shown(&table, By::Word(0), true)[0].0, "a");
        assert_eq!((table.sum(false), table.sum(true)), (4, 12));
        let recent = |key| table.get(key).map(|one| table.recent(one));
        assert_eq!((recent("a"), recent("b")), (Some(vec![5, 0]), Some(vec![3, 4])));
        table.add(vec![row("a", &[1, 1]), row("a", &[2, 2])]);
        assert_eq!(shown(&table, By::Amount(0), false)[0], ("a".into(), vec![3, 3]), "two that look the same");
        assert_eq!(table.get("a").map(|one| table.recent(one)), Some(vec![5, 0, 3]));
    }

    #[test]
    fn a_row_that_comes_back_has_its_sum_and_the_time_between() {
        let mut table = Table::default();
        table.add(vec![row("a", &[3])]);
        for _ in 0..2 * KEPT {
            table.add(vec![]);
        }
        assert_eq!(shown(&table, By::Amount(0), false), [], "nothing of late");
        table.add(vec![row("a", &[7])]);
        assert_eq!(shown(&table, By::Amount(0), true), [("a".into(), vec![10])]);
        let recent = table.get("a").map(|one| table.recent(one)).unwrap_or_default();
        assert_eq!((recent.len(), &recent[KEPT - 3..]), (KEPT, &[0, 0, 7][..]));
    }

    #[test]
    fn of_many_rows_idle_ones_become_one_and_no_byte_is_lost() {
        let mut table = Table::default();
        let each = MOST / 50;
        for window in 0..200 {
            let short = (0..each).map(|number| row(&format!("{window} {number}"), &[10]));
            table.add(short.chain([row("lives", &[1])]).collect());
            assert!(table.rows.len() <= MOST.max(each * KEPT) + each + 2, "{}", table.rows.len());
        }
        assert_eq!(table.sum(true), 200 * (1 + 10 * i64::try_from(each).unwrap_or(0)));
        assert!(table.get(GONE).is_some());
    }
}
