//! What to know about the report: only what is wrong, what it means, and what to do.

use super::super::enis;
use super::super::labels::counted;
use super::{answer, conntrack, names, trust};
use crate::model::Attach;
use crate::report::{PathClass, Report, Selection, TermKind};
use crate::sanitise::sanitise;

/// That all is well.
#[must_use]
pub fn good(report: &Report) -> String {
    let watched = report.devices.iter().filter(|device| device.facts.attach != Attach::None).count();
    let dropped = report.totals.by_path.get(&PathClass::Undelivered).copied().unwrap_or_default();
    let note = match dropped.flows {
        0 => format!("{} watched", counted(watched as u64, "device")),
        _ => "for drops see --path undelivered".to_owned(),
    };
    format!("nothing missed, every byte explained; {note}")
}

/// A sentence for each problem.
#[must_use]
pub fn problems(report: &Report) -> Vec<String> {
    let health = &report.health;
    // Why there is no row comes before all else.
    let empty = report.selection.as_ref().filter(|_| report.flows.is_empty()).map(nothing_matches);
    let mut lines: Vec<_> = empty.into_iter().chain(trust::note(health)).chain(conntrack::lines(health)).collect();
    if health.device_overruns > 0 {
        lines.push(
            "devices changed faster than netpath could read: some that came and went may not be listed; measure again"
                .to_owned(),
        );
    }
    if health.clsact_new_devices > 0 {
        let lost = health.clsact_lost_packets.map_or_else(
            || "packets sent at that moment were lost, and this kernel does not count them".to_owned(),
            |lost| format!("packets lost that were sent at that moment: {lost}"),
        );
        let qdiscs = counted(health.clsact_new_devices, "new clsact qdisc");
        lines.push(format!("{qdiscs}, which interrupt a device's queue; {lost} (--no-new-qdisc avoids them)"));
    }
    if let Some(why) = &health.drops_unseen {
        lines.push(format!("packets that the kernel drops cannot be seen: {}", sanitise(why)));
    }
    lines.extend(names::missing(&report.names));
    for (count, what, meaning, action) in [
        (health.map_full_packets, "packet", "in no flow, as the flow table was full", "raise --max-flows"),
        (health.lost_packets, "packet", "on more devices than netpath has counters for", "report this as a bug"),
        (
            health.unparsed_packets,
            "packet",
            "in no flow: netpath cannot read such packets",
            "look at them with tcpdump",
        ),
        (health.orphan_fragment_packets, "fragment", "in no flow, as the first one was not seen", "check the path MTU"),
        (
            health.drops_lost_packets,
            "dropped packet",
            "not recorded, as there were too many kinds",
            "measure for a shorter time",
        ),
        (health.blind_devices, "device", "not (fully) watched", "see DEVICES"),
        (health.ambiguous_flows, "flow", "not joined across NAT: source port reused", "measure for a shorter time"),
        (
            health.unjoined_flows,
            "flow",
            "with an unknown path",
            "the bytes may also count as another flow; netpath explain has the reason",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{} {meaning} ({action})", counted(count, what)));
        }
    }
    lines.extend(enis::warnings(&report.enis, report.ipam.as_ref(), &report.sources));
    let unexplained = report.accounting.terms.iter().find(|term| term.name == TermKind::Residual && term.bytes != 0);
    if let Some(term) = unexplained {
        lines.push(format!("unexplained: {} bytes of node_network_total_bytes (see DEVICES)", term.bytes));
    }
    lines
}

fn nothing_matches(selection: &Selection) -> String {
    let there = selection.there.iter().map(|name| sanitise(name)).collect::<Vec<_>>().join("; ");
    let before = if selection.filtered_before.is_empty() {
        String::new()
    } else {
        format!(". {}; for others, measure again", answer::before(selection))
    };
    match (there.is_empty(), before.is_empty()) {
        (false, _) => format!("no flow matches the filters; there were: {there}{before}"),
        (true, true) => "no flow was seen (measure again while there is traffic)".to_owned(),
        (true, false) => format!("no flow matches the filters{before}"),
    }
}
