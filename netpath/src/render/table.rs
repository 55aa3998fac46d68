//! The report as text: columns that fit the screen, and as many rows as it has room for.

use std::io::{self, Write};
use std::iter::{once, repeat};

use super::block::{Screen, wrap, write_styled, write_wrapped};
use super::report::{Page, Rows, View, page};
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
    let mut page = page(report, view, screen.width);
    // About the whole node; who asks for some of its flows wants to see these.
    if report.selection.is_some() && screen.height.is_some() && !view.all {
        page.answer.clear();
    }
    let mut before = Vec::new();
    write_answer(&page, &mut before, &screen)?;
    let mut after = Vec::new();
    write_rest(&page, &mut after, &screen)?;
    out.write_all(&before)?;
    let used = lines(&before) + lines(&after) + PROMPT;
    write_rows(page.rows, out, view, &screen, screen.height.map(|height| height.saturating_sub(used)))?;
    out.write_all(&after)
}

fn lines(text: &[u8]) -> usize {
    text.split_inclusive(|byte| *byte == b'\n').count()
}

fn write_answer(page: &Page, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    if let Some(warning) = &page.warning {
        write_styled(out, screen, warning, Tone::Bad)?;
    }
    write_wrapped(out, screen, &page.head, 0)?;
    if let Some(verdict) = &page.verdict {
        write_styled(out, screen, verdict, Tone::Strong)?;
    }
    for block in &page.answer {
        writeln!(out)?;
        block.write(out, screen)?;
    }
    if page.rows.there > 0 {
        writeln!(out)?;
    }
    Ok(())
}

/// As many rows as asked for, or as the screen has room for.
fn write_rows(
    mut rows: Rows,
    out: &mut impl Write,
    view: &View,
    screen: &Screen,
    room: Option<usize>,
) -> io::Result<()> {
    if rows.there == 0 {
        return Ok(());
    }
    if let Some(room) = room.filter(|_| view.top.is_none() && !view.all) {
        while rows.block.rows.len() > LEAST_ROWS && rows.block.height(screen) > room {
            rows.block.rows.pop();
        }
        while rows.block.height(screen) > room
            && rows.block.rows.last_mut().is_some_and(|row| row.details.pop().is_some())
        {}
    }
    rows.titled().write(out, screen)
}

fn write_rest(page: &Page, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    for block in &page.more {
        writeln!(out)?;
        block.write(out, screen)?;
    }
    if let Some(good) = &page.good {
        // It belongs to the rows, if they are just above.
        if page.rows.there == 0 || !page.more.is_empty() {
            writeln!(out)?;
        }
        let width = screen.width.map(|width| width.saturating_sub("HEALTH  ".len()));
        for (label, line) in once("HEALTH").chain(repeat("      ")).zip(wrap(&screen.text(good), width)) {
            writeln!(out, "{}  {}", screen.styled(label, Tone::Strong), screen.styled(&line, Tone::Good))?;
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
