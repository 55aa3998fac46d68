//! The report as GitHub's markdown, for tickets and chats.

use std::io::{self, Write};

use super::block::{Screen, escape};
use super::report::{View, page};
use crate::report::Report;

/// Writes the report.
///
/// # Errors
/// If `out` fails.
pub fn write(report: &Report, out: &mut impl Write, view: &View, screen: &Screen) -> io::Result<()> {
    let escape = |text: &str| escape(&screen.text(text));
    let page = page(report, view, None);
    if let Some(warning) = &page.warning {
        writeln!(out, "**{}**\n", escape(warning))?;
    }
    if let Some(verdict) = &page.verdict {
        writeln!(out, "**{}**\n", escape(verdict))?;
    }
    writeln!(out, "{}\n", escape(&page.head))?;
    let rows = page.rows.titled();
    for block in page.answer.iter().chain([&rows]).chain(&page.more).filter(|block| !block.rows.is_empty()) {
        block.write_markdown(out, screen)?;
        writeln!(out)?;
    }
    for line in page.good.iter().chain(&page.problems) {
        writeln!(out, "- {}", escape(line))?;
    }
    Ok(())
}
