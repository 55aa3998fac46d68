//! The report as one page for a browser: everything is in the file, and its policy (CSP) lets no request leave it.
//!
//! In: a report, what of it to show, and the windows it is of. Out: HTML that reads and prints without its script, which sorts
//! and filters. Pictures are laid out here, as SVG. Strings from elsewhere are sanitised, then escaped by maud; those within
//! scripts of data are JSON without `<`.

mod flows;
mod patterns;
mod sankey;
mod table;
mod terms;
mod timeline;
mod width;

use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use maud::{Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use self::patterns::patterns;
use self::table::{Layout, heading, table};
pub use self::timeline::Slice;
use super::block::Block;
use super::report::{Page, View, page};
use super::{json, units};
use crate::report::Report;
use crate::sanitise::sanitise;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");
/// How many rows of a table there are without the script, and at first with it.
const ROWS: usize = 300;
/// And at most, where more are asked for: a browser takes a minute for 65,536.
const MOST_ROWS: usize = 3_000;
/// How many conversations have pictures.
const PICTURES: usize = 20;
/// How the JSON gets out of the page without a browser.
const TAKE_OUT: &str = r#"sed -n '/^<script id="report"/,/^<\/script>/{//!p}' PAGE | base64 -d | gunzip"#;

/// Writes the page. `slices`: the windows that the report is of, if there are several.
///
/// # Errors
/// If `out` fails.
pub fn write(report: &Report, slices: &[Slice], out: &mut impl Write, view: &View) -> io::Result<()> {
    let everything = View { all: true, ..*view };
    let page = page(report, &everything, None);
    let shown = if view.all { MOST_ROWS } else { view.top.unwrap_or(ROWS).min(MOST_ROWS) };
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n{}\n<body>", head(report).into_string())?;
    let has_timeline = slices.len() > 1 && !page.answer.is_empty();
    writeln!(out, "{}\n<main>", banner(&page, has_timeline).into_string())?;
    let Page { answer, rows, more, good, problems, .. } = page;
    writeln!(out, "{}", patterns().into_string())?;
    writeln!(out, "{}", terms::section(&answer, report, view).into_string())?;
    writeln!(out, "{}", health(good.as_deref(), &problems).into_string())?;
    writeln!(out, "{}", sankey::section(report, view).into_string())?;
    if has_timeline {
        writeln!(out, "{}", timeline::section(slices, view).into_string())?;
    }
    let first = if report.grouping.is_some() { "Name" } else { "From" };
    let rows = rows.titled();
    writeln!(out, "{}", section(&rows, "conversations", first, shown).into_string())?;
    let count = if view.all { ROWS } else { view.top.unwrap_or(PICTURES).min(ROWS) };
    writeln!(out, "{}", flows::section(report, view, count).into_string())?;
    for (index, block) in with_rows(&more).enumerate() {
        writeln!(out, "{}", section(block, &format!("more-{index}"), "Name", shown).into_string())?;
    }
    writeln!(out, "{}\n</main>", about(report).into_string())?;
    write_report(report, out)?;
    writeln!(out, "<script>{SCRIPT}</script>\n</body>\n</html>")
}

fn with_rows(more: &[Block]) -> impl Iterator<Item = &Block> {
    more.iter().filter(|block| !block.rows.is_empty())
}

/// What no page may do but show itself.
fn policy() -> String {
    let [style, script] = [STYLE, SCRIPT].map(|text| BASE64_STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; img-src data:; base-uri 'none'; \
         form-action 'none'"
    )
}

fn head(report: &Report) -> Markup {
    let host = sanitise(&report.node.hostname);
    let since = super::report::moment(&report.window.started_at);
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy());
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="referrer" content="no-referrer";
            link rel="icon" href="data:,";
            title { "netpath: " (host) ", " (since) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// The answer, and of what.
fn banner(page: &Page, has_timeline: bool) -> Markup {
    let nothing =
        if page.answer.is_empty() { "No flow matches the filters." } else { "Where the bytes of this node went." };
    let answer = page.verdict.as_deref().unwrap_or(nothing);
    let links = [
        ("answer", "Why"),
        ("health", "Health"),
        ("picture", "Picture"),
        ("time", "Over time"),
        ("conversations", "Conversations"),
        ("flows", "Flows"),
    ];
    let links = links.into_iter().filter(|(id, _)| has_timeline || *id != "time");
    let links = links.map(|(id, words)| (id.to_owned(), words.to_owned()));
    let more = with_rows(&page.more).enumerate();
    let more = more.map(|(index, block)| (format!("more-{index}"), heading(&block.title)));
    let links = links.chain(more).chain([("json".to_owned(), "JSON".to_owned())]);
    html! {
        header {
            p class="head" { b { "netpath" } " " (page.head) }
            @if let Some(warning) = &page.warning { p class="warning" role="alert" { (warning) } }
            h1 { (answer) }
            nav aria-label="Parts of this page" {
                @for (id, words) in links {
                    a href={ "#" (id) } { (words) }
                }
            }
        }
    }
}

fn health(good: Option<&str>, problems: &[String]) -> Markup {
    html! {
        section id="health" {
            h2 { "Health" }
            @if let Some(good) = good { p class="good" { "✓ " (good) } }
            @if !problems.is_empty() {
                ul class="problems" { @for problem in problems { li { (problem) } } }
            }
        }
    }
}

fn section(block: &Block, id: &str, first: &str, shown: usize) -> Markup {
    html! {
        section id=(id) {
            h2 { (heading(&block.title)) }
            @if block.rows.is_empty() { p { "None." } }
            @else { (table(block, &Layout { first, shown, sorts: true, marks: &[] })) }
            @for note in &block.notes { p class="note" { (note) } }
        }
    }
}

fn about(report: &Report) -> Markup {
    let window = units::duration(report.window.duration_ns);
    let only = report.selection.as_ref().map(|selection| sanitise(&selection.filters.join(" ")).into_owned());
    html! {
        section id="json" {
            h2 { "The report itself" }
            p {
                "This file holds the " @if only.is_none() { "whole " } "report (" (window) ", schema " (sanitise(&report.schema))
                "), as JSON"
                @if let Some(only) = only { "; of its flows only those with " (only) ", but the devices and totals of the node" }
                ". "
                button type="button" id="save" hidden { "Save JSON" }
            }
            p class="note" { "In a shell: " code { (TAKE_OUT) } }
        }
        footer { p class="note" { "netpath " (sanitise(&report.netpath_version)) ". This page asks nothing of any network." } }
    }
}

/// The JSON: gzip, as base64 on a line of its own.
fn write_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    json::write_line(report, &mut packed)?;
    let text = BASE64_STANDARD.encode(packed.finish()?);
    writeln!(out, "<script id=\"report\" type=\"application/octet-stream\">\n{text}\n</script>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.1) of "#0a5ca8" or "#fff".
    fn luminance(colour: &str) -> f64 {
        let digits: String = match colour.trim_start_matches('#') {
            short if short.len() == 3 => short.chars().flat_map(|digit| [digit, digit]).collect(),
            long => long.to_owned(),
        };
        let linear = |at: usize| {
            let value = f64::from(u8::from_str_radix(&digits[at..at + 2], 16).expect("digits")) / 255.0;
            if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(0) + 0.7152 * linear(2) + 0.0722 * linear(4)
    }

    /// Every colour of text on every background of every scheme: light, dark, paper.
    #[test]
    fn text_can_be_read() {
        let schemes: Vec<&str> =
            STYLE.split(":root{").skip(1).map(|rest| rest.split('}').next().expect("one")).collect();
        assert_eq!(schemes.len(), 3);
        for scheme in schemes {
            let of = |name: &str| {
                let (_, rest) = scheme.split_once(&format!("--{name}:")).expect(name);
                luminance(rest.split([';', '\n']).next().expect("a colour"))
            };
            for back in ["bg", "card", "soft"] {
                for text in ["text", "muted", "eni", "local", "host", "bad", "warn", "good", "other", "transit", "link"]
                {
                    let (one, other) = (of(text), of(back));
                    let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                    assert!(contrast >= 4.5, "{text} on {back}: {contrast:.2} in {scheme}");
                }
            }
        }
    }

    /// Nothing in them ends the element that they are in.
    #[test]
    fn style_and_script_are_whole() {
        assert!(!STYLE.contains('<') && !SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
        assert_eq!(STYLE.matches('{').count(), STYLE.matches('}').count());
    }
}
