//! `netpath explain`: says in sentences which numbers a flow or a device moved, and why.
//!
//! In: the options, and a window that it measures or a report that was written before. Out: sentences on stdout, and the
//! exit status of the command that was measured, if there was one.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::measure::{Windows, measure};
use super::output::{Output, Reader};
use crate::cli::{ExplainArgs, MeasureArgs};
use crate::path;
use crate::render::explain::{self, Selection};
use crate::render::units::Scale;
use crate::report::{Report, SCHEMA};

/// Measures or reads, and explains.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    // What can be found wrong is found before a window is measured.
    let selection = match &args.device {
        Some(device) => Selection::Device(device),
        None => Selection::flows(&args.flow)?,
    };
    let (report, status) = match &args.from {
        Some(path) => (read(path)?, ExitCode::SUCCESS),
        None => measured(&args.measure)?,
    };
    let text = explain::text(&report, &selection, args.top, Scale::sums(args.units))?;
    Output::Stdout.write(|out| out.write_all(text.as_bytes()))?;
    Ok(status)
}

/// Measures one window.
fn measured(args: &MeasureArgs) -> anyhow::Result<(Report, ExitCode)> {
    let mut window = None;
    let status = measure(args, Windows::default(), false, |snapshot| {
        window = Some(snapshot);
        Ok(Reader::Reads)
    })?;
    Ok((path::report(&window.context("no window was measured; run it again")?), status))
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let name = path.display().to_string();
    let name = name.escape_debug();
    let text = fs::read(path).with_context(|| format!("cannot read {name}; give --from a report that is there"))?;
    let report: Report = serde_json::from_slice(&text)
        .with_context(|| format!("{name} is no report; write one with netpath report --format json --output FILE"))?;
    ensure!(
        report.schema == SCHEMA,
        "{name} is of schema {}, not {SCHEMA}; write one with this netpath",
        report.schema.escape_debug()
    );
    Ok(report)
}
