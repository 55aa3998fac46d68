//! The answer: one sentence, where the bytes went, and what `node_network_total_bytes` is made of.

use super::super::block::{Block, Cell, Column};
use super::super::labels;
use super::super::tone::Tone;
use super::super::units::{Scale, duration, share, signed_share};
use super::View;
use crate::path::totals::parts;
use crate::path::verdict::{self, Unknown};
use crate::report::{CauseKind, EniHealth, PathClass, Report, Selection, Term, TermKind, Totals};
use crate::sanitise::sanitise;

/// Less than this part of the whole has no line of its own, unless all is shown.
const SMALL: u64 = 100;

/// "CloudWatch shows 134.4 MB/s, 8.2 times EC2's 16.3 MB/s: 76 % stayed between pods of this node, counted twice."
pub(super) fn verdict(report: &Report, scale: Scale) -> Option<String> {
    if report.health.eni == EniHealth::None {
        return None;
    }
    let verdict = match verdict::verdict(report) {
        Ok(verdict) => verdict,
        Err(why) => return Some(unknown(why, report, scale)),
    };
    let (cloudwatch, ec2) = (scale.rate(verdict.cloudwatch), scale.rate(verdict.ec2));
    let compared = match verdict.ratio() {
        None if verdict.cloudwatch > 0.0 => format!("CloudWatch shows {cloudwatch}, and EC2 nothing"),
        None => return Some("CloudWatch and EC2 show nothing: no byte was counted.".to_owned()),
        Some(ratio) if ratio < 0.95 => return Some(format!("CloudWatch shows {cloudwatch}, less than EC2's {ec2}.")),
        Some(ratio) if ratio < 1.05 => return Some(format!("CloudWatch shows {cloudwatch}, as EC2 does ({ec2}).")),
        Some(ratio) => format!("CloudWatch shows {cloudwatch}, {} times EC2's {ec2}", times(ratio)),
    };
    let words = |term| match term {
        TermKind::Unattributed if report.health.map_full_packets > 0 => labels::SHARE_WITHOUT_ROOM,
        term => labels::share_of_term(term),
    };
    let cause = verdict.cause.map(|(term, part)| format!(": {:.0} % {}", percent(part), words(term)));
    Some(format!("{compared}{}.", cause.unwrap_or_default()))
}

/// What is known of the two.
fn unknown(why: Unknown, report: &Report, scale: Scale) -> String {
    let rates = Scale::rates(scale.units(), report.window.duration_ns);
    let why_not = labels::unknown(why);
    match report.accounting.container_insights.node_network_total_bytes.filter(|_| why != Unknown::NoTime) {
        Some(total) => {
            format!("CloudWatch shows {}; what EC2 shows is not known: {why_not}.", rates.bytes(total))
        }
        None => format!("What CloudWatch and EC2 show is not known: {why_not}."),
    }
}

/// "Flows with --path eni only:", and what the file was limited to before.
fn limits(selection: &Selection) -> String {
    let is_new = |filter: &&String| !selection.filtered_before.contains(filter);
    let new: Vec<&String> = selection.filters.iter().filter(is_new).collect();
    if selection.filtered_before.is_empty() {
        return format!("Flows with {} only:", listed(&new));
    }
    let before = before(selection);
    if new.is_empty() { format!("{before}:") } else { format!("{before}; of these, flows with {} only:", listed(&new)) }
}

/// "The file has only flows with --pod default/web".
pub(super) fn before(selection: &Selection) -> String {
    format!("The file has only flows with {}", listed(&selection.filtered_before.iter().collect::<Vec<_>>()))
}

fn listed(filters: &[&String]) -> String {
    filters.iter().map(|filter| sanitise(filter)).collect::<Vec<_>>().join(" ")
}

/// Rounded as in the table: nothing short of all is 100 %.
fn percent(part: f64) -> f64 {
    if part < 1.0 { (part * 100.0).min(99.0) } else { part * 100.0 }
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

/// The totals by path.
pub(super) fn where_the_bytes_went(report: &Report, view: &View, scale: Scale) -> Block {
    let all = view.all;
    let sum = |totals: &Totals| totals.by_path.values().fold(0u64, |sum, total| sum.saturating_add(total.bytes));
    let totals = report.selection.as_ref().map_or(&report.totals, |selection| &selection.totals);
    let whole = sum(totals);
    let mut block = Block {
        title: "WHERE THE BYTES WENT".to_owned(),
        columns: vec![Column::words(""), Column::number(scale.heading()), Column::number("SHARE")],
        ..Block::default()
    };
    let parts = parts(report);
    let mut row = |label: &str, bytes: u64, tone| {
        let label = Cell::toned(label.to_owned(), tone);
        block.row([label, scale.bytes(bytes).into(), share(bytes, whole).into()]);
    };
    for path in PathClass::ALL {
        let total = totals.by_path.get(&path).copied().unwrap_or_default();
        let always = matches!(path, PathClass::Eni | PathClass::Local | PathClass::Host);
        if always || total.flows > 0 {
            row(labels::path(path), total.bytes, Tone::of(path));
        }
        let of_which = match path {
            PathClass::Eni => vec![
                ("of which between pods of this node", parts.eni_between_local_pods),
                ("of which link-local (IMDS, DNS, NTP)", parts.eni_link_local),
            ],
            PathClass::Undelivered => vec![("of which came in by an ENI", parts.undelivered_from_eni)],
            _ => Vec::new(),
        };
        for (label, bytes) in of_which.into_iter().filter(|(_, bytes)| *bytes > if all { 0 } else { whole / SMALL }) {
            row(&format!("  {label}"), bytes, Tone::Plain);
        }
    }
    // Not to be added to the sum: the first went inside packets that are in it, and the others are in it already.
    for (label, total) in [
        ("inside tunnel and IPsec packets above", totals.in_tunnels),
        ("crossed an ENI a second time", totals.eni_again),
        ("netpath's own, asking about a new ENI", totals.own),
    ] {
        if total.bytes > 0 {
            block.row([label.to_owned(), scale.bytes(total.bytes)]);
        }
    }
    if let Some(selection) = &report.selection {
        let (these, node) = (scale.bytes(whole), scale.bytes(sum(&report.totals)));
        block.notes.push(format!(
            "{} {these} of the node's {node}. CloudWatch and devices: the whole node.",
            limits(selection)
        ));
    }
    block
}

fn rate(count: Option<u64>, rates: Scale) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| rates.bytes(count))
}

/// What a term is.
pub(in crate::render) fn label(term: TermKind, report: &Report, rates: Scale) -> String {
    match term {
        TermKind::Eni => {
            let ec2 = &report.accounting.ec2;
            let [input, output] = [ec2.network_in_bytes, ec2.network_out_bytes].map(|count| rate(count, rates));
            format!("on ENIs (EC2: in {input}, out {output})")
        }
        TermKind::Cause(CauseKind::Sampling) => {
            let within = report.window.skew_ns.map(|skew| duration(skew.start.max(skew.end)));
            within.map_or_else(|| labels::term(term).to_owned(), |within| labels::sampling(&within))
        }
        TermKind::Unattributed if report.health.map_full_packets > 0 => labels::NO_ROOM.to_owned(),
        name => labels::term(name).to_owned(),
    }
}

/// The terms that are shown: those of no bytes are not, but for that of ENIs.
pub fn terms(report: &Report) -> impl Iterator<Item = &Term> {
    report.accounting.terms.iter().filter(|term| term.bytes != 0 || term.name == TermKind::Eni)
}

/// The terms, as rates: CloudWatch shows one.
pub(super) fn why(report: &Report, view: &View, scale: Scale) -> Block {
    let rates = Scale::rates(view.units, report.window.duration_ns);
    let accounting = &report.accounting;
    let total = accounting.container_insights.node_network_total_bytes;
    let mut block = Block {
        title: "WHY CLOUDWATCH DISAGREES WITH EC2".to_owned(),
        columns: vec![Column::words(""), Column::number("BYTES/S"), Column::number("SHARE")],
        ..Block::default()
    };
    let part = |bytes: i64| total.map_or_else(String::new, |total| signed_share(bytes, total));
    let is_small = |term: &&Term| {
        let shown = view.all || matches!(term.name, TermKind::Eni | TermKind::Residual);
        !shown && total.is_some_and(|total| term.bytes.unsigned_abs() < total / SMALL)
    };
    let small_count = terms(report).filter(is_small).count();
    // One alone may as well have its name.
    let are_merged = small_count > 1;
    for term in terms(report).filter(|term| !(are_merged && is_small(term))) {
        let label = label(term.name, report, rates);
        let tone = if term.name == TermKind::Residual { Tone::Warning } else { Tone::Plain };
        block.row([Cell::toned(format!("+ {label}"), tone), rates.signed(term.bytes).into(), part(term.bytes).into()]);
    }
    if are_merged {
        let small = terms(report).filter(is_small).fold(0i64, |sum, term| sum.saturating_add(term.bytes));
        block.row([format!("+ {small_count} small parts (--all)"), rates.signed(small), part(small)]);
    }
    let sum = Cell::toned("= node_network_total_bytes".to_owned(), Tone::Strong);
    block.row([
        sum,
        Cell::from(rate(total, rates)),
        Cell::from(total.map_or_else(String::new, |total| share(total, total))),
    ]);
    let vanished = accounting.container_insights.vanished_devices_bytes;
    if vanished > 0 {
        block.notes.push(format!(
            "Removed devices took their counters with them: {} of the total is netpath's own count.",
            scale.bytes(vanished)
        ));
    }
    block
}
