//! `netpath explain`: says in sentences which numbers a flow or a device moved, and why.
//!
//! In: the options, and a window that it measures or a report that was written before. Out: sentences on stdout, and the
//! exit status of the command that was measured, if there was one.

use std::process::ExitCode;

use anyhow::Context as _;

use super::input::Reports;
use super::measure::{Plan, measure};
use super::output::{Output, Reader};
use super::screen::screen;
use super::{Usage, resolve_ports};
use crate::cli::{ExplainArgs, MeasureArgs};
use crate::path;
use crate::render::block::{Screen, write_wrapped};
use crate::render::explain::{self, Selection};
use crate::render::units::Scale;
use crate::report::Report;

/// Measures or reads, and explains.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    // What can be found wrong is found before a window is measured.
    let mut output = Output::open(None)?;
    let mut selection = match &args.device {
        Some(device) => Selection::Device(device),
        None => Selection::flows(&args.flow).map_err(|error| Usage(error.to_string()))?,
    };
    if let Selection::Flows(filter) = &mut selection {
        resolve_ports(filter, args.measure.attach.host_root.as_deref())?;
    }
    let (report, status) = match &args.from {
        Some(path) => (Reports::open(path)?.last()?, ExitCode::SUCCESS),
        None => measured(&args.measure)?,
    };
    let text = explain::text(&report, &selection, args.top, Scale::sums(args.units))?;
    let screen = screen(&output);
    // What goes to a file or pipe has a line for each flow or device.
    let screen = Screen { width: screen.width.filter(|_| screen.height.is_some()), ..screen };
    output.write(|mut out| text.lines().try_for_each(|line| write_wrapped(&mut out, &screen, line, 0)))?;
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
