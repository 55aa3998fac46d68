//! The report for people: the answer first, then why CloudWatch says otherwise, then what it is made of.
//!
//! In: a report. Out: text, in the units that its first line states. It must not compute anything that is not in the report
//! but sums and differences of what it shows, and it prints no string from elsewhere unsanitised.

mod conntrack;
mod conversations;
mod devices;
mod groups;
mod names;
mod trust;

use std::collections::HashSet;
use std::io::{self, Write};

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

pub(super) use self::devices::device_class;
use super::enis;
use super::units::{Scale, Units, duration, share};
use crate::model::DeviceClass;
use crate::report::{CauseKind, Flow, PathClass, Report, Scope, TermKind, Totals};
use crate::sanitise::sanitise;

/// How to write the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Show this many conversations, and this many devices.
    pub top: usize,
    /// Use ANSI colours.
    pub colour: bool,
    /// Wrap cells so that lines fit into this many columns; `None`: one row is one line.
    pub width: Option<u16>,
    /// Units of bytes.
    pub units: Units,
    /// Write bytes a second instead of sums.
    pub per_second: bool,
}

impl Style {
    /// How to write the report's numbers.
    fn scale(self, report: &Report) -> Scale {
        if self.per_second { Scale::rates(self.units, report.window.duration_ns) } else { Scale::sums(self.units) }
    }
}

/// Writes the report.
pub fn write(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    if let Some(warning) = trust::warning(&report.health) {
        if style.colour { writeln!(out, "\x1b[1;33m{warning}\x1b[0m")? } else { writeln!(out, "{warning}")? }
    }
    let length = duration(report.window.duration_ns);
    let (host, kernel) = (sanitise(&report.node.hostname), sanitise(&report.node.kernel));
    let started = sanitise(&report.window.started_at);
    writeln!(out, "{host}, kernel {kernel}: {length} from {started} ({})\n", style.scale(report).words())?;
    where_the_bytes_went(report, out, style)?;
    why_cloudwatch_disagrees(report, out, style)?;
    match &report.grouping {
        Some(grouping) => groups::write(grouping, out, style, style.scale(report))?,
        None => conversations::write(report, out, style)?,
    }
    devices::write(report, out, style)?;
    for (title, mut table) in enis::blocks(&report.enis, report.ipam.as_ref(), report.node.instance_id.as_deref()) {
        writeln!(out)?;
        heading(out, style, &title, "")?;
        fit(&mut table, style);
        write_table(out, &table)?;
    }
    health(report, out, style)
}

fn heading(out: &mut impl Write, style: Style, text: &str, rest: &str) -> io::Result<()> {
    if style.colour { writeln!(out, "\x1b[1m{text}\x1b[0m{rest}") } else { writeln!(out, "{text}{rest}") }
}

/// A table with a header and no lines, whose columns in `right` hold numbers.
fn plain_table<const N: usize>(style: Style, header: [&str; N], right: std::ops::RangeInclusive<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    fit(&mut table, style);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Lets the last column wrap where space is short, and no other: a broken address could be taken for another one.
fn fit(table: &mut Table, style: Style) {
    const LAST_COLUMN_AT_LEAST: u16 = 24;
    match style.width {
        // Two for the indentation.
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_sub(2));
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    let last = table.column_count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_constraint(if index < last {
            ColumnConstraint::ContentWidth
        } else {
            ColumnConstraint::LowerBoundary(Width::Fixed(LAST_COLUMN_AT_LEAST))
        });
    }
}

fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.to_string().lines() {
        writeln!(out, "  {}", line.trim_end())?;
    }
    Ok(())
}

/// One line of the first two blocks.
fn line(out: &mut impl Write, label: &str, number: &str, rest: &str) -> io::Result<()> {
    let text = format!("  {label:<41}{number:>12}{rest}");
    writeln!(out, "{}", text.trim_end())
}

/// The paths in the words of the first block; those without `true` are shown if there is any.
const PATHS: [(PathClass, &str, bool); 6] = [
    (PathClass::Eni, "crossed an ENI", true),
    (PathClass::Local, "stayed on this node, pod to pod", true),
    (PathClass::Host, "between this node and its own pods", true),
    (PathClass::Transit, "passed through, in and out by an ENI", false),
    (PathClass::Undelivered, "dropped on this node", false),
    (PathClass::Unresolved, "path unknown", false),
];

fn where_the_bytes_went(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    let sum = |totals: &Totals| totals.by_path.values().fold(0u64, |sum, total| sum.saturating_add(total.bytes));
    let totals = report.selection.as_ref().map_or(&report.totals, |selection| &selection.totals);
    let whole = sum(totals);
    let enis: HashSet<u32> = report
        .devices
        .iter()
        .filter(|device| device.facts.class == DeviceClass::Eni)
        .map(|device| device.facts.ifindex)
        .collect();
    let part_of = |path, test: &dyn Fn(&Flow) -> bool| {
        let flows = report.flows.iter().filter(|flow| flow.path == path && test(flow));
        flows.fold(0u64, |sum, flow| sum.saturating_add(flow.bytes.saturating_sub(flow.carried_bytes)))
    };
    let on_eni = |flow: &Flow| flow.hops.iter().any(|hop| enis.contains(&hop.ifindex));
    let link_local = |flow: &Flow| flow.scope.is_some_and(is_link_local);
    let scale = style.scale(report);
    heading(out, style, "WHERE THE BYTES WENT", &format!("{:>35}{:>8}", scale.heading(), "share"))?;
    for (path, label, always) in PATHS {
        let total = totals.by_path.get(&path).copied().unwrap_or_default();
        if always || total.flows > 0 {
            line(out, label, &scale.bytes(total.bytes), &format!("{:>8}", share(total.bytes, whole)))?;
        }
        let parts = match path {
            PathClass::Eni => vec![
                ("  of which between pods of this node", part_of(path, &|flow| flow.local_pair_left_node)),
                ("  of which link-local (IMDS, DNS, NTP)", part_of(path, &link_local)),
            ],
            PathClass::Undelivered => vec![("  of which came in by an ENI", part_of(path, &on_eni))],
            _ => Vec::new(),
        };
        for (label, part) in parts.into_iter().filter(|(_, part)| *part > 0) {
            line(out, label, &scale.bytes(part), &format!("{:>8}", share(part, whole)))?;
        }
    }
    // Not to be added to the sum: the first went inside packets that are in it, and the others are in it already.
    for (label, total) in [
        ("inside tunnels' and IPsec's packets above", totals.in_tunnels),
        ("crossed an ENI a second time", totals.eni_again),
        ("netpath's own, asking about a new ENI", totals.own),
    ] {
        if total.bytes > 0 {
            line(out, label, &scale.bytes(total.bytes), "")?;
        }
    }
    if let Some(selection) = &report.selection {
        let filters = selection.filters.iter().map(|filter| sanitise(filter)).collect::<Vec<_>>().join(" ");
        let (these, node) = (scale.bytes(whole), scale.bytes(sum(&report.totals)));
        writeln!(
            out,
            "  Flows with {filters} only: {these} of the node's {node}. CloudWatch and devices: the whole node."
        )?;
    }
    writeln!(out)
}

fn is_link_local(scope: Scope) -> bool {
    !matches!(scope, Scope::Multicast | Scope::Broadcast)
}

fn why_cloudwatch_disagrees(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    let scale = style.scale(report);
    let known = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| scale.bytes(count));
    let accounting = &report.accounting;
    heading(out, style, "WHY CLOUDWATCH DISAGREES", "")?;
    let insights = &accounting.container_insights;
    let shown = match insights.bytes_per_second {
        Some(rate) if !style.per_second => {
            format!("   every device, rx + tx (Container Insights: {})", scale.rate(rate))
        }
        _ if insights.node_network_total_bytes.is_none() => "   counters of a device could not be read".to_owned(),
        _ => "   every device, rx + tx (Container Insights)".to_owned(),
    };
    line(out, "node_network_total_bytes", &known(insights.node_network_total_bytes), &shown)?;
    for term in &accounting.terms {
        let (label, always) = match term.name {
            TermKind::Eni => ("ENI traffic", true),
            TermKind::EniCopyOnVeth => ("the same bytes again, on pod veths", true),
            TermKind::EniCopyOnVlan => ("the same bytes again, on VLAN devices", false),
            TermKind::Local => ("pod to pod, counted on both veths", true),
            TermKind::Host => ("node and its pods, on one veth", true),
            TermKind::Undelivered => ("dropped on this node", false),
            TermKind::Unresolved => ("path unknown", false),
            TermKind::OtherDevices => ("bridges, tunnels, other devices", false),
            TermKind::Unattributed => ("in no flow (ARP and the like)", false),
            TermKind::Cause(CauseKind::NotAttached) => ("devices that were not watched", false),
            TermKind::Cause(kind) => (cause(kind), false),
            TermKind::Residual => ("unexplained", true),
        };
        let rest = match term.name {
            TermKind::Eni => {
                let (input, output) = (known(accounting.ec2.network_in_bytes), known(accounting.ec2.network_out_bytes));
                format!("   what EC2 sees: NetworkIn {input}, NetworkOut {output}")
            }
            TermKind::Cause(CauseKind::Sampling) => {
                skew(report).map_or_else(String::new, |skew| format!("   counters were read within {skew}"))
            }
            _ => String::new(),
        };
        if always || term.bytes != 0 {
            line(out, &format!("  {label}"), &scale.signed(term.bytes), &rest)?;
        }
    }
    if insights.vanished_devices_bytes > 0 {
        let bytes = scale.bytes(insights.vanished_devices_bytes);
        writeln!(
            out,
            "  Devices that went away took their counters along: for {bytes} of the total, netpath's count stands in."
        )?;
    }
    writeln!(out)
}

/// A cause for which the kernel's count differs from netpath's, in few words.
pub(super) fn cause(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::ShownAgain => "packets that pass the hook twice",
        CauseKind::GroGsoHeaders => "headers of merged frames (GRO, GSO)",
        CauseKind::EthernetHeaders => "Ethernet headers, not counted",
        CauseKind::VlanTags => "VLAN tags beside packets",
        CauseKind::DroppedBeforeHook => "dropped before netpath saw it",
        CauseKind::DroppedAfterHook => "dropped after netpath saw it",
        CauseKind::DroppedByFilter => "dropped by a tc filter (policy)",
        CauseKind::OtherProgram => "possibly taken by another program",
        CauseKind::HardwareOffload => "possibly passed by the card alone",
        CauseKind::XdpProgram => "possibly taken or sent by XDP",
        CauseKind::DroppedByQdisc => "dropped by the device's queue (qdisc)",
        CauseKind::Queued => "waiting in the device's queue (qdisc)",
        CauseKind::AttachWindow => "before netpath was attached",
        CauseKind::Sampling => "passed while counters were read",
        CauseKind::NotAttached => "not watched",
        CauseKind::Encryption => "WireGuard's own bytes",
    }
}

/// The longer of the times within which counters were read at the window's ends.
fn skew(report: &Report) -> Option<String> {
    report.window.skew_ns.map(|skew| duration(skew.start.max(skew.end)))
}

/// Only what is wrong, what it means, and what to do.
fn health(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    let health = &report.health;
    let mut lines: Vec<_> = trust::note(health).into_iter().chain(conntrack::lines(health)).collect();
    if health.device_overruns > 0 {
        lines.push(
            "devices changed faster than netpath could read: some that came and went may not be listed; measure again"
                .to_owned(),
        );
    }
    if health.clsact_new_devices > 0 {
        let lost = health.clsact_lost_packets.map_or_else(
            || "packets sent at that moment were lost, and this kernel does not count them".to_owned(),
            |lost| format!("{lost} packets sent at that moment were lost"),
        );
        let devices = health.clsact_new_devices;
        lines.push(format!(
            "new clsact qdiscs, which interrupt a device's queue: {devices}; {lost} (--no-new-qdisc makes none)"
        ));
    }
    lines.extend(names::missing(&report.names));
    for (count, meaning, action) in [
        (health.map_full_packets, "packets in no flow, for want of room", "raise --max-flows"),
        (health.lost_packets, "packets on more devices than netpath has counters for", "report this as a bug"),
        (health.unparsed_packets, "packets in no flow, as they could not be read", "look at them with tcpdump"),
        (health.orphan_fragment_packets, "fragments in no flow, as the first one was not seen", "check the path MTU"),
        (health.blind_devices, "devices not (fully) watched", "NOTE under DEVICES says why"),
        (
            health.ambiguous_flows,
            "flows not followed through NAT, as their ports were used again",
            "measure for a shorter time",
        ),
        (
            health.unjoined_flows,
            "flows with a path unknown, as a device is missing on it",
            "their bytes may be in the report again, as another flow",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{meaning}: {count} ({action})"));
        }
    }
    lines.extend(enis::warnings(&report.enis, report.ipam.as_ref(), &report.sources));
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    heading(out, style, "WHAT TO KNOW ABOUT THIS REPORT", "")?;
    for line in lines {
        if style.colour { writeln!(out, "  \x1b[33m{line}\x1b[0m")? } else { writeln!(out, "  {line}")? }
    }
    Ok(())
}
