//! `netpath report`: measures one window, or one after the other, and writes a report of each.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::process::ExitCode;

use console::{Term, colors_enabled};

use super::measure::{Windows, measure};
use super::output::Output;
use crate::cli::{Format, ReportArgs};
use crate::render::table::Style;
use crate::{path, privilege, render};

/// Measures and reports.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut output = Output::open(args.output.as_deref())?;
    let writes_file = matches!(output, Output::File { .. });
    let style = style(args, &output);
    let windows = Windows { interval: args.interval, count: args.count };
    let mut is_first = true;
    measure(&args.measure, windows, writes_file, |snapshot| {
        let mut report = path::report(&snapshot);
        path::select::select(&mut report, &args.filter.filter());
        if let Some(by) = args.group_by {
            path::group::group(&mut report, by);
        }
        let separate = !std::mem::replace(&mut is_first, false);
        let mut write = || {
            output.write(|mut out| match args.format {
                Format::Table => {
                    if separate {
                        writeln!(out)?;
                    }
                    render::table::write(&report, &mut out, style)
                }
                Format::Json if args.interval.is_some() => render::json::write_line(&report, &mut out),
                Format::Json => render::json::write(&report, &mut out),
            })
        };
        if writes_file { privilege::to_write_a_file(write) } else { write() }
    })
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
