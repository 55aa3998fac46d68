//! What all windows since the beginning say, for each view.

use std::sync::Arc;

use super::columns::{Grouping, View};
use super::rows::{Row, of_conversations, of_devices, of_groups, of_paths, of_terms};
use super::table::Table;
use crate::path::select::Filter;
use crate::report::Report;

/// The windows so far.
#[derive(Clone, Debug)]
pub struct Model {
    /// That of the last window.
    pub report: Option<Arc<Report>>,
    /// When the first of them began; RFC 3339.
    pub since: Option<String>,
    /// Which flows are in the views.
    pub filter: Filter,
    /// Of each view.
    pub groupings: [Grouping; View::ALL.len()],
    /// Of each view.
    pub tables: [Table; View::ALL.len()],
    /// When the first window of each began; RFC 3339. A view that was changed begins anew.
    table_since: [Option<String>; View::ALL.len()],
    /// Bytes by path, of the whole node: a row each.
    pub paths: Table,
}

impl Model {
    /// Without a window.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self {
            report: None,
            since: None,
            filter,
            groupings: View::ALL.map(Grouping::of),
            tables: Default::default(),
            table_since: Default::default(),
            paths: Table::default(),
        }
    }

    /// Adds a window.
    pub fn add(&mut self, report: Arc<Report>) {
        for view in View::ALL {
            self.add_to(view, &report);
        }
        self.paths.add(of_paths(&report));
        self.since.get_or_insert_with(|| report.window.started_at.clone());
        self.report = Some(report);
    }

    /// Begins anew, with what is chosen.
    pub fn restart(&mut self) {
        *self = Self { groupings: self.groupings, ..Self::new(self.filter.clone()) };
    }

    /// Shows other flows, from the last window on.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = filter;
        for view in View::ALL {
            self.refill(view);
        }
    }

    /// Groups a view in another way, from the last window on.
    pub fn set_grouping(&mut self, view: View, grouping: Grouping) {
        self.groupings[view.index()] = grouping;
        self.refill(view);
    }

    fn refill(&mut self, view: View) {
        (self.tables[view.index()], self.table_since[view.index()]) = (Table::default(), None);
        if let Some(report) = self.report.clone() {
            self.add_to(view, &report);
        }
    }

    fn add_to(&mut self, view: View, report: &Report) {
        self.tables[view.index()].add(self.rows(view, report));
        self.table_since[view.index()].get_or_insert_with(|| report.window.started_at.clone());
    }

    /// When the view's first window began, if that was later than the model's.
    #[must_use]
    pub fn later_since(&self, view: View) -> Option<&str> {
        self.table_since[view.index()].as_deref().filter(|since| self.since.as_deref() != Some(since))
    }

    fn rows(&self, view: View, report: &Report) -> Vec<Row> {
        match self.groupings[view.index()] {
            Grouping::By(by) => of_groups(report, &self.filter, by),
            Grouping::Conversations(merge) => of_conversations(report, &self.filter, merge),
            Grouping::None if view == View::Devices => of_devices(report),
            Grouping::None => of_terms(report),
        }
    }
}
