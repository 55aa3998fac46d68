//! `netpath report`: measures one window, or one after the other, and writes a report of each; or looks again at one that was
//! written before.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::io::{self, Write as _};
use std::process::ExitCode;

use console::{Term, colors_enabled};

use super::input::Reports;
use super::measure::{Plan, Windows, measure};
use super::output::{Output, Reader};
use super::resolve_ports;
use crate::cli::{Format, ReportArgs};
use crate::path::select::Filter;
use crate::render::table::Style;
use crate::report::Report;
use crate::sanitise::sanitise;
use crate::{path, privilege, render};

/// Measures or reads, and reports.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut filter = args.filter.filter();
    resolve_ports(&mut filter, &args.measure)?;
    let from = args.from.as_deref().map(Reports::open).transpose()?;
    let output = Output::open(args.output.as_deref())?;
    let plan = Plan {
        windows: Windows { interval: args.interval, count: args.count },
        writes_file: matches!(output, Output::File { .. }),
        json_on_stdout: args.format == Format::Json && matches!(output, Output::Stdout),
    };
    let style = style(args, &output);
    let mut writer = Writer { args, filter, output, style, is_first: true };
    let Some(reports) = from else {
        return measure(&args.measure, plan, |snapshot| {
            let report = path::report(&snapshot);
            if plan.writes_file { privilege::to_write_a_file(|| writer.write(report)) } else { writer.write(report) }
        });
    };
    for report in reports {
        let report = report?;
        if writer.is_first && !writer.filter.is_empty() {
            warn_of_earlier_filters(&report);
        }
        if writer.write(report)? == Reader::Gone {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A report cannot have more flows than it was written with.
fn warn_of_earlier_filters(report: &Report) {
    if let Some(selection) = &report.selection {
        let filters: Vec<_> = selection.filters.iter().map(|filter| sanitise(filter)).collect();
        // Its terminal may be gone.
        let _ = writeln!(
            io::stderr(),
            "netpath: the report has only the flows of {}; measure again for others",
            filters.join(" ")
        );
    }
}

/// Writes one report after the other.
struct Writer<'a> {
    args: &'a ReportArgs,
    filter: Filter,
    output: Output,
    style: Style,
    is_first: bool,
}

impl Writer<'_> {
    fn write(&mut self, mut report: Report) -> anyhow::Result<Reader> {
        let args = self.args;
        path::select::select(&mut report, &self.filter);
        if let Some(by) = args.group_by {
            path::group::group(&mut report, by);
        }
        let separate = !std::mem::replace(&mut self.is_first, false);
        let style = self.style;
        self.output.write(|mut out| match args.format {
            Format::Table => {
                if separate {
                    writeln!(out)?;
                }
                render::table::write(&report, &mut out, style)
            }
            // One of many.
            Format::Json if report.window.interval_ns.is_some() => render::json::write_line(&report, &mut out),
            Format::Json => render::json::write(&report, &mut out),
        })
    }
}

/// Colours and the terminal's width where the report goes to a terminal.
fn style(args: &ReportArgs, output: &Output) -> Style {
    let terminal = Some(Term::stdout()).filter(|term| matches!(output, Output::Stdout) && term.is_term());
    let width = terminal.as_ref().and_then(Term::size_checked).map(|(_rows, columns)| columns);
    Style {
        top: args.top,
        colour: terminal.is_some() && colors_enabled(),
        width,
        units: args.units,
        per_second: args.per_second,
    }
}
