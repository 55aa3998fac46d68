//! Compares two times, or two nodes: what grew, what shrank, what is new.
//!
//! In: reports of either, one for each window. Out: a [`Diff`]. It must not judge flows: that is done.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::group::groups;
use crate::report::{Amount, Change, ChangeKind, Compared, Comparison, DIFF_SCHEMA, Diff, GroupBy, Report};

/// The windows of one of the two, added up.
#[derive(Debug)]
pub struct Sums {
    compared: Compared,
    groups: Vec<(GroupBy, BTreeMap<Option<String>, Amount>)>,
}

impl Sums {
    /// Of no window yet; flows are to be added up so.
    #[must_use]
    pub fn new(by: &[GroupBy]) -> Self {
        Self { compared: Compared::default(), groups: by.iter().map(|by| (*by, BTreeMap::new())).collect() }
    }

    /// Adds a window, or what is left of it by a filter.
    pub fn add(&mut self, report: Report) {
        for (by, sums) in &mut self.groups {
            for group in groups(&report.flows, *by) {
                let sum = sums.entry(group.name).or_default();
                sum.bytes = sum.bytes.saturating_add(group.bytes);
                sum.packets = sum.packets.saturating_add(group.packets);
                // One that lives on is in each window.
                sum.flows = sum.flows.max(group.flows);
            }
        }
        let Report { node, window, accounting, health, selection, .. } = report;
        let all = &mut self.compared;
        let is_first = all.windows == 0;
        if is_first {
            (all.node, all.started_at) = (node, window.started_at);
            all.filters = selection.map(|selection| selection.filters).unwrap_or_default();
        }
        all.windows += 1;
        all.duration_ns = all.duration_ns.saturating_add(window.duration_ns);
        for (sum, bytes) in [
            (&mut all.node_network_total_bytes, accounting.container_insights.node_network_total_bytes),
            (&mut all.network_in_bytes, accounting.ec2.network_in_bytes),
            (&mut all.network_out_bytes, accounting.ec2.network_out_bytes),
        ] {
            let before = if is_first { Some(0) } else { *sum };
            *sum = before.zip(bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        }
        for packets in [health.map_full_packets, health.unparsed_packets, health.lost_packets] {
            all.packets_in_no_flow = all.packets_in_no_flow.saturating_add(packets);
        }
        all.blind_devices = all.blind_devices.max(health.blind_devices);
        all.eni_reason = health.eni_reason.or(all.eni_reason.take());
    }
}

/// What differs. Both must be added up by the same.
#[must_use]
pub fn diff(before: Sums, after: Sums) -> Diff {
    let lengths = [before.compared.duration_ns, after.compared.duration_ns];
    let comparisons = before.groups.into_iter().zip(after.groups);
    Diff {
        schema: DIFF_SCHEMA.to_owned(),
        netpath_version: env!("CARGO_PKG_VERSION").to_owned(),
        before: before.compared,
        after: after.compared,
        comparisons: comparisons
            .map(|((by, before), (_, after))| Comparison { by, changes: changes(before, after, lengths) })
            .collect(),
    }
}

fn changes(
    before: BTreeMap<Option<String>, Amount>,
    after: BTreeMap<Option<String>, Amount>,
    [before_ns, after_ns]: [u64; 2],
) -> Vec<Change> {
    let mut both: BTreeMap<Option<String>, [Option<Amount>; 2]> = BTreeMap::new();
    for (name, amount) in before {
        both.entry(name).or_default()[0] = Some(rated(amount, before_ns));
    }
    for (name, amount) in after {
        both.entry(name).or_default()[1] = Some(rated(amount, after_ns));
    }
    let mut changes: Vec<Change> =
        both.into_iter().map(|(name, [before, after])| change(name, before, after)).collect();
    // Stable: of equal size, in the order of their names.
    changes.sort_by(|one, other| size(other).total_cmp(&size(one)));
    changes
}

fn size(change: &Change) -> f64 {
    change.bytes_per_second.unwrap_or_default().abs()
}

fn change(name: Option<String>, before: Option<Amount>, after: Option<Amount>) -> Change {
    let bytes_per_second = rate(after).zip(rate(before)).map(|(after, before)| after - before);
    let kind = match (before, after) {
        (None, _) => ChangeKind::New,
        (_, None) => ChangeKind::Gone,
        _ => match bytes_per_second.and_then(|change| change.partial_cmp(&0.0)) {
            Some(Ordering::Greater) => ChangeKind::Grew,
            Some(Ordering::Less) => ChangeKind::Shrank,
            _ => ChangeKind::Same,
        },
    };
    Change { name, kind, before, after, bytes_per_second }
}

fn rated(amount: Amount, duration_ns: u64) -> Amount {
    Amount { bytes_per_second: per_second(amount.bytes, duration_ns), ..amount }
}

/// Bytes a second; 0 for no amount, `None` for windows without length.
#[must_use]
pub fn rate(amount: Option<Amount>) -> Option<f64> {
    amount.map_or(Some(0.0), |amount| amount.bytes_per_second)
}

/// Bytes a second; `None` over no time.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate is an average")]
pub fn per_second(bytes: u64, duration_ns: u64) -> Option<f64> {
    (duration_ns > 0).then(|| bytes as f64 * 1e9 / duration_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(all: &[(&str, u64)]) -> BTreeMap<Option<String>, Amount> {
        let amount = |bytes| Amount { bytes, packets: 1, flows: 1, bytes_per_second: None };
        all.iter().map(|(name, bytes)| (Some((*name).to_owned()), amount(*bytes))).collect()
    }

    #[test]
    fn rates_are_compared_and_the_largest_change_is_first() {
        let before = amounts(&[("web", 1_000), ("db", 500), ("old", 70), ("same", 10)]);
        let after = amounts(&[("web", 500), ("db", 5_000), ("new", 600), ("same", 100)]);
        let changes = changes(before, after, [1_000_000_000, 10_000_000_000]);
        let seen: Vec<_> =
            changes.iter().map(|one| (one.name.as_deref().unwrap_or(""), one.kind, one.bytes_per_second)).collect();
        assert_eq!(
            seen,
            [
                ("web", ChangeKind::Shrank, Some(-950.0)),
                ("old", ChangeKind::Gone, Some(-70.0)),
                ("new", ChangeKind::New, Some(60.0)),
                ("db", ChangeKind::Same, Some(0.0)),
                ("same", ChangeKind::Same, Some(0.0)),
            ]
        );
    }

    #[test]
    fn without_time_there_is_no_rate() {
        let changes = changes(amounts(&[("web", 1)]), amounts(&[("web", 2)]), [0, 1]);
        assert_eq!((changes[0].kind, changes[0].bytes_per_second), (ChangeKind::Same, None));
    }
}
