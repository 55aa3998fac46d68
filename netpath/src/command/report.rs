//! `netpath report`: measures one window, or one after the other, and writes a report of each; or looks again at one that was
//! written before.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::process::ExitCode;

use super::input::Reports;
use super::measure::{Plan, Windows, measure};
use super::output::{Output, Reader};
use super::resolve_ports;
use super::screen::screen;
use crate::cli::{Format, ReportArgs, ViewArgs};
use crate::path::select::Filter;
use crate::render::block::Screen;
use crate::render::report::View;
use crate::report::Report;
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
    let (view, screen) = (view(&args.view), screen(&output));
    let mut writer = Writer { args, filter, output, view, screen, is_first: true };
    let Some(reports) = from else {
        return measure(&args.measure, plan, |snapshot| {
            let report = path::report(&snapshot);
            if plan.writes_file { privilege::to_write_a_file(|| writer.write(report)) } else { writer.write(report) }
        });
    };
    for report in reports {
        if writer.write(report?)? == Reader::Gone {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes one report after the other.
struct Writer<'a> {
    args: &'a ReportArgs,
    filter: Filter,
    output: Output,
    view: View,
    screen: Screen,
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
        let Self { output, view, screen, .. } = self;
        output.write(|mut out| match args.format {
            Format::Table => {
                if separate {
                    writeln!(out)?;
                }
                render::table::write(&report, &mut out, view, screen)
            }
            Format::Markdown => render::markdown::write(&report, &mut out, view, screen),
            // One of many.
            Format::Json if report.window.interval_ns.is_some() => render::json::write_line(&report, &mut out),
            Format::Json => render::json::write(&report, &mut out),
        })
    }
}

fn view(args: &ViewArgs) -> View {
    View {
        top: args.top,
        flows: args.flows,
        devices: args.devices,
        enis: args.enis,
        names: args.names,
        wide: args.wide,
        all: args.all,
        units: args.units,
        per_second: args.per_second,
    }
}
