//! The answer: what `node_network_total_bytes` is made of as a bar, EC2's number at the same scale, and both tables.

use maud::{Markup, html};

use super::super::block::Block;
use super::super::report::View;
use super::super::report::answer::{label, terms};
use super::super::units::{Scale, signed_share};
use super::table::{Layout, heading, table};
use crate::report::{CauseKind, Report, Term, TermKind};

/// A part of the bar.
struct Part {
    class: &'static str,
    letter: String,
    /// Percent of the bar, from the left.
    x: f64,
    width: f64,
    title: String,
    /// It is negative.
    is_taken: bool,
}

/// The section. `answer`: its two tables, in full.
pub fn section(answer: &[Block], report: &Report, view: &View) -> Markup {
    let [went, why] = answer else {
        return html! { section id="answer" { h2 { "Nothing to show" } p { "What there was instead: below." } } };
    };
    let rates = Scale::rates(view.units, report.window.duration_ns);
    let total = report.accounting.container_insights.node_network_total_bytes;
    // In the order of the table's rows.
    let terms: Vec<&Term> = terms(report).collect();
    let marks: Vec<_> = terms.iter().enumerate().map(|(index, term)| (class(term.name), letter(index))).collect();
    let marked = |block, first, marks| table(block, &Layout { first, shown: usize::MAX, sorts: false, marks });
    html! {
        section id="answer" class="wide" {
            h2 { (heading(&why.title)) }
            @if let Some(total) = total.filter(|total| *total > 0 || positive(&terms) > 0) { (bars(&terms, total, report, rates)) }
            div class="two" {
                div { (marked(why, "Part", &marks)) @for note in &why.notes { p class="note" { (note) } } }
                div {
                    h2 { (heading(&went.title)) }
                    (marked(went, "Path", &[]))
                    @for note in &went.notes { p class="note" { (note) } }
                }
            }
        }
    }
}

/// CloudWatch's number by its parts, and EC2's, at one scale.
fn bars(terms: &[&Term], total: u64, report: &Report, rates: Scale) -> Markup {
    let ec2 = &report.accounting.ec2;
    let ec2 = ec2.network_in_bytes.zip(ec2.network_out_bytes).map(|(input, output)| input.saturating_add(output));
    let whole = positive(terms).max(total).max(ec2.unwrap_or(0));
    let title = |term: &Term| {
        let (rate, share) = (rates.signed(term.bytes), signed_share(term.bytes, total));
        format!("{}: {rate}, {share}", label(term.name, report, rates))
    };
    let [added, taken] = parts(terms, whole, title);
    let negative = terms.iter().fold(0i64, |sum, term| sum.saturating_add(term.bytes.min(0)));
    let is_drawn = taken.iter().any(|part| part.width >= 0.5);
    html! {
        p class="bar-label" { "CloudWatch " code { "node_network_total_bytes" } " " b { (rates.bytes(total)) } }
        (bar(&added, "node_network_total_bytes by its parts"))
        @if is_drawn { (bar(&taken, "Taken off")) }
        @if let Some(ec2) = ec2 {
            p class="bar-label" { "EC2 " code { "NetworkIn + NetworkOut" } " " b { (rates.bytes(ec2)) } }
            svg class="bar" role="img" aria-label={ "EC2: " (rates.bytes(ec2)) ", " (share_of(ec2, total)) " of that" } {
                rect class="none" width="100%" height="100%" {}
                rect class="eni" width=(percent(part_of(ec2, whole))) height="100%" {}
            }
        }
        p class="note" {
            "The letters are those of the table. Orange stripes: bytes of an ENI that are counted again."
            @if negative < 0 {
                " Negative parts, " (rates.signed(negative)) " in all, "
                @if is_drawn { "are below the first bar and end where its sum is." } @else { "are too small to draw." }
            }
        }
    }
}

fn bar(parts: &[Part], what: &str) -> Markup {
    let words = parts.iter().map(|part| format!("{}: {}", part.letter, part.title)).collect::<Vec<_>>().join("; ");
    let is_taken = parts.iter().any(|part| part.is_taken);
    html! {
        svg class=(if is_taken { "bar taken" } else { "bar" }) role="img" aria-label={ (what) ". " (words) } {
            @if !is_taken { rect class="none" width="100%" height="100%" {} }
            @for part in parts {
                g {
                    title { (part.title) }
                    rect class=(part.class) x={ (percent(part.x)) } width={ (percent(part.width)) } height="100%" {}
                    @if part.width > 3.0 {
                        text x=(percent(part.x + part.width / 2.0)) y="50%" { (part.letter) }
                    }
                }
            }
        }
    }
}

fn positive(terms: &[&Term]) -> u64 {
    terms.iter().fold(0u64, |sum, term| sum.saturating_add(u64::try_from(term.bytes).unwrap_or(0)))
}

/// What is positive, side by side from the left; and what is negative, from where that ends back to the left. What is left is
/// the total.
fn parts(terms: &[&Term], whole: u64, title: impl Fn(&Term) -> String) -> [Vec<Part>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    let mut ends = [0.0, part_of(positive(terms), whole)];
    for (index, term) in terms.iter().enumerate().filter(|(_, term)| term.bytes != 0) {
        let is_taken = term.bytes < 0;
        let at = usize::from(is_taken);
        let width = part_of(term.bytes.unsigned_abs(), whole);
        let x = if is_taken { ends[at] - width } else { ends[at] };
        ends[at] = if is_taken { x } else { x + width };
        let (class, letter) = (class(term.name), letter(index));
        parts[at].push(Part { class, letter, x, width, title: title(term), is_taken });
    }
    parts
}

fn share_of(part: u64, whole: u64) -> String {
    signed_share(i64::try_from(part).unwrap_or(i64::MAX), whole)
}

/// Percent.
#[expect(clippy::cast_precision_loss, reason = "for a picture")]
pub fn part_of(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

pub fn percent(part: f64) -> String {
    format!("{part:.3}%")
}

/// "A" to "Z".
fn letter(index: usize) -> String {
    char::from(b'A' + u8::try_from(index % 26).unwrap_or(0)).to_string()
}

const fn class(term: TermKind) -> &'static str {
    match term {
        TermKind::Eni => "eni",
        TermKind::EniCopyOnVeth | TermKind::EniCopyOnVlan => "again",
        TermKind::Local => "local",
        TermKind::Host => "host",
        TermKind::Undelivered => "bad",
        TermKind::Unresolved | TermKind::Residual | TermKind::Cause(CauseKind::NotAttached) => "warn",
        TermKind::OtherDevices | TermKind::Unattributed | TermKind::Cause(_) => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_bar() {
        let term = |name, bytes| Term { name, bytes, explanation: String::new() };
        let terms = [term(TermKind::Eni, 600), term(TermKind::Local, 500), term(TermKind::Residual, -100)];
        let [added, taken] = parts(&terms.iter().collect::<Vec<_>>(), 1100, |_| String::new());
        assert_eq!(added.iter().map(|part| part.letter.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let end = added.iter().fold(0.0, |sum, part| sum + part.width);
        assert!((end - 100.0).abs() < 1e-9, "{end}");
        assert!((added[1].x - 600.0 / 11.0).abs() < 1e-9, "{}", added[1].x);
        assert_eq!(taken.iter().map(|part| part.letter.as_str()).collect::<Vec<_>>(), ["C"]);
        // It ends where the sum does.
        let sum = part_of(1000, 1100);
        assert!(
            (taken[0].x - sum).abs() < 1e-9 && (taken[0].x + taken[0].width - 100.0).abs() < 1e-9,
            "{}",
            taken[0].x
        );
    }
}
