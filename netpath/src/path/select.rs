//! Limits a report to some of its flows.
//!
//! In: a report, and what a flow must have. Out: the report with those flows only, and their sums beside the node's. It must
//! not touch what is said of the node as a whole.

mod condition;
mod party;
mod there;

use std::fmt;

pub use self::condition::{Condition, NatFilter, Way};
pub use self::party::{Party, Side};
use super::account;
use super::conversations::{Merge, conversations};
use crate::report::{Flow, Report, Selection};

/// The namespace of a pod's `namespace/name`.
#[must_use]
pub fn namespace(pod: &str) -> &str {
    pod.split_once('/').map_or(pod, |(namespace, _)| namespace)
}

/// Which flows: those that fulfil one condition at least of each group that is not empty.
#[derive(Clone, Debug, Default)]
pub struct Filter(Vec<Vec<Condition>>);

impl Filter {
    /// Of groups of conditions.
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Vec<Condition>>) -> Self {
        Self(groups.into_iter().filter(|group| !group.is_empty()).collect())
    }

    /// Whether it lets everything through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Both must let a flow through.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Replaces names of ports that are not commonly known by what `port` knows of them.
    ///
    /// # Errors
    /// The first name that it does not know.
    pub fn resolve_ports(&mut self, port: impl Fn(&str) -> Option<u16>) -> Result<(), String> {
        for condition in self.0.iter_mut().flatten() {
            if let Condition::PortName(name) = condition {
                *condition = port(name).map(Condition::Port).ok_or_else(|| name.clone())?;
            }
        }
        Ok(())
    }

    /// Whether the flow is meant.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.0.iter().all(|any| any.iter().any(|condition| condition.matches(flow)))
    }
}

/// As options of the command line.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self.0.iter().flatten().map(ToString::to_string).collect();
        f.write_str(&conditions.join(" "))
    }
}

/// Limits the report's flows to those that are meant, and adds their sums. An empty filter changes nothing but what a report
/// of an earlier netpath does not have.
pub fn select(report: &mut Report, filter: &Filter) {
    if filter.is_empty() {
        if report.conversations.is_empty() {
            report.conversations = conversations(&report.flows, Merge::ClientPorts);
        }
        return;
    }
    let there =
        if report.flows.iter().any(|flow| filter.matches(flow)) { Vec::new() } else { there::there(report, filter) };
    report.flows.retain(|flow| filter.matches(flow));
    report.conversations = conversations(&report.flows, Merge::ClientPorts);
    let before = report.selection.take().map(|selection| selection.filters).unwrap_or_default();
    let mut filters = before.clone();
    for condition in filter.0.iter().flatten().map(ToString::to_string) {
        if !filters.contains(&condition) {
            filters.push(condition);
        }
    }
    report.selection =
        Some(Selection { filters, filtered_before: before, totals: account::totals(&report.flows), there });
}

/// The report with those of its flows that `is_meant` is true of; everything else stays the whole node's.
#[must_use]
pub fn selected(report: &Report, is_meant: impl Fn(&Flow) -> bool) -> Report {
    let flows: Vec<Flow> = report.flows.iter().filter(|flow| is_meant(flow)).cloned().collect();
    Report {
        conversations: conversations(&flows, Merge::ClientPorts),
        flows,
        schema: report.schema.clone(),
        netpath_version: report.netpath_version.clone(),
        node: report.node.clone(),
        window: report.window.clone(),
        devices: report.devices.clone(),
        totals: report.totals.clone(),
        accounting: report.accounting.clone(),
        health: report.health.clone(),
        names: report.names.clone(),
        selection: None,
        grouping: None,
        enis: report.enis.clone(),
        ipam: report.ipam.clone(),
        sources: report.sources.clone(),
    }
}
