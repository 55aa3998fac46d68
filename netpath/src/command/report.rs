//! `netpath report`: measures one window, or one after the other, and writes a report of each; or looks again at one that was
//! written before.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use console::{Term, colors_enabled};

use super::input::Reports;
use super::measure::{Plan, Windows, measure};
use super::output::{Output, Reader};
use super::resolve_ports;
use crate::cli::{Format, ReportArgs, ViewArgs};
use crate::path::select::Filter;
use crate::render::block::Screen;
use crate::render::report::View;
use crate::report::Report;
use crate::sanitise::sanitise;
use crate::{path, privilege, render};

/// Columns of a report that goes to a file or pipe, without --wide.
const PIPE_COLUMNS: usize = 100;

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
            Format::Markdown => render::markdown::write(&report, &mut out, view),
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

/// The terminal's size, and what it can show; for a file or pipe, lines of [`PIPE_COLUMNS`] or `COLUMNS`.
pub(super) fn screen(output: &Output) -> Screen {
    let terminal = Some(Term::stdout()).filter(|term| matches!(output, Output::Stdout) && term.is_term());
    let size = terminal.as_ref().and_then(Term::size_checked);
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Screen {
        width: Some(size.map_or_else(|| columns.unwrap_or(PIPE_COLUMNS), |(_, columns)| columns.into())),
        height: size.map(|(rows, _)| rows.into()),
        colour: terminal.is_some() && colors_enabled(),
        unicode: is_utf8(|name| env::var(name).ok()),
    }
}

/// Whether the locale's characters are UTF-8 (POSIX: the first of these that is set and not empty). Without any, as in a
/// container, they are taken to be.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::is_utf8;

    #[test]
    fn locales() {
        let locale = |set: &[(&str, &str)]| {
            is_utf8(|name| set.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(locale(&[]) && locale(&[("LANG", "en_US.UTF-8")]) && locale(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(!locale(&[("LANG", "C")]) && !locale(&[("LC_ALL", "POSIX"), ("LANG", "en_US.UTF-8")]));
    }
}
