//! The report as text: columns that fit the screen, and as many rows as it has room for.

use std::io::{self, Write};

use super::block::{Block, Screen, write_wrapped};
use super::report::{Page, View, page};
use super::tone::Tone;
use crate::report::Report;

/// Rows that are shown also where the screen has no room for them.
const LEAST_ROWS: usize = 1;
/// The line in which the shell asks for the next command.
const PROMPT: usize = 1;

/// Writes the report.
///
/// # Errors
/// If `out` fails.
pub fn write(report: &Report, out: &mut impl Write, view: &View, screen: &Screen) -> io::Result<()> {
    let screen = Screen { width: screen.width.filter(|_| !view.wide && !view.all), ..*screen };
    let page = page(report, view, screen.width);
    let mut before = Vec::new();
    write_answer(&page, &mut before, &screen)?;
    let mut after = Vec::new();
    write_rest(&page, &mut after, &screen)?;
    out.write_all(&before)?;
    let used = lines(&before) + lines(&after) + PROMPT;
    write_rows(&page, out, view, &screen, screen.height.map(|height| height.saturating_sub(used)))?;
    out.write_all(&after)
}

fn lines(text: &[u8]) -> usize {
    text.split_inclusive(|byte| *byte == b'\n').count()
}

fn write_answer(page: &Page, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    if let Some(warning) = &page.warning {
        for line in super::block::wrap(&screen.text(warning), screen.width) {
            writeln!(out, "{}", screen.styled(&line, Tone::Bad))?;
        }
    }
    writeln!(out, "{}", page.head)?;
    for line in page.verdict.iter().flat_map(|verdict| super::block::wrap(&screen.text(verdict), screen.width)) {
        writeln!(out, "{}", screen.styled(&line, Tone::Strong))?;
    }
    writeln!(out)?;
    for block in &page.answer {
        block.write(out, screen)?;
        writeln!(out)?;
    }
    Ok(())
}

/// As many rows as asked for, or as the screen has room for.
fn write_rows(page: &Page, out: &mut impl Write, view: &View, screen: &Screen, room: Option<usize>) -> io::Result<()> {
    let there = page.rows.rows.len();
    if there == 0 {
        return Ok(());
    }
    let mut shown = view.rows(there);
    if let Some(room) = room.filter(|_| view.top.is_none() && !view.all) {
        let first = |count: usize| Block { rows: page.rows.rows[..count].to_vec(), ..page.rows.clone() };
        while shown > LEAST_ROWS && first(shown).height(screen) > room {
            shown -= 1;
        }
    }
    let rows = page.rows.rows[..shown].to_vec();
    Block { title: page.title(shown), rows, ..page.rows.clone() }.write(out, screen)
}

fn write_rest(page: &Page, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    for block in &page.more {
        writeln!(out)?;
        block.write(out, screen)?;
    }
    if let Some(good) = &page.good {
        if !page.more.is_empty() {
            writeln!(out)?;
        }
        for (number, line) in super::block::wrap(&format!("HEALTH  {good}"), screen.width).iter().enumerate() {
            match line.strip_prefix("HEALTH  ").filter(|_| number == 0) {
                Some(first) => {
                    writeln!(out, "{}  {}", screen.styled("HEALTH", Tone::Strong), screen.styled(first, Tone::Good))?;
                }
                None => writeln!(out, "  {}", screen.styled(line, Tone::Good))?,
            }
        }
    } else if !page.problems.is_empty() {
        writeln!(out)?;
        writeln!(out, "{}", screen.styled("WHAT TO KNOW ABOUT THIS REPORT", Tone::Strong))?;
        for problem in &page.problems {
            write_wrapped(out, screen, problem, 2)?;
        }
    }
    Ok(())
}
