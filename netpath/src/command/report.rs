//! `netpath report`: measures one window, or one after the other, and writes a report of each.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::env;
use std::process::ExitCode;

use console::{Term, colors_enabled};

use super::measure::{Windows, measure};
use super::output::Output;
use crate::cli::{Format, ReportArgs, ViewArgs};
use crate::render::block::Screen;
use crate::render::report::View;
use crate::{path, privilege, render};

/// Columns of a report that goes to a file or pipe, without --wide.
const PIPE_COLUMNS: usize = 100;

/// Measures and reports.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let mut output = Output::open(args.output.as_deref())?;
    let writes_file = matches!(output, Output::File { .. });
    let (view, screen) = (view(&args.view), screen(&output));
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
                    render::table::write(&report, &mut out, &view, &screen)
                }
                Format::Markdown => render::markdown::write(&report, &mut out, &view),
                Format::Json if args.interval.is_some() => render::json::write_line(&report, &mut out),
                Format::Json => render::json::write(&report, &mut out),
            })
        };
        if writes_file { privilege::to_write_a_file(write) } else { write() }
    })
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
fn screen(output: &Output) -> Screen {
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
