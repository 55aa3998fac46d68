//! `netpath explain`: says in sentences which numbers a flow or a device moved, and why.
//!
//! In: the options, and a window that it measures or a report that was written before. Out: sentences on stdout, and the
//! exit status of the command that was measured, if there was one.

use std::process::ExitCode;

use anyhow::Context as _;

use super::input::Reports;
use super::measure::{Plan, measure};
use super::output::{Output, Reader};
use super::resolve_ports;
use crate::cli::{ExplainArgs, MeasureArgs};
use crate::path;
use crate::render::explain::{self, Selection};
use crate::render::units::Scale;
use crate::report::Report;

/// Measures or reads, and explains.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    // What can be found wrong is found before a window is measured.
    let mut output = Output::open(None)?;
    let mut selection = match &args.device {
        Some(device) => Selection::Device(device),
        None => Selection::flows(&args.flow)?,
    };
    if let Selection::Flows(filter) = &mut selection {
        resolve_ports(filter, &args.measure)?;
    }
    let (report, status) = match &args.from {
        Some(path) => (Reports::open(path)?.last()?, ExitCode::SUCCESS),
        None => measured(&args.measure)?,
    };
    let text = explain::text(&report, &selection, args.top, Scale::sums(args.units))?;
    output.write(|out| out.write_all(text.as_bytes()))?;
    Ok(status)
}

/// Measures one window.
fn measured(args: &MeasureArgs) -> anyhow::Result<(Report, ExitCode)> {
    let mut window = None;
    let status = measure(args, Plan::default(), |snapshot| {
        window = Some(snapshot);
        Ok(Reader::Reads)
    })?;
    Ok((path::report(&window.context("no window was measured; run it again")?), status))
}
