//! `netpath report`: measures one window, or one after the other, and writes a report of each; or looks again at one that was
//! written before.
//!
//! In: the options. Out: reports on stdout or in a file, and the exit status of the command that was measured, if there was
//! one. Everything that can be found wrong before measuring is found then, so that no window is lost to a mistyped path.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::Usage;
use super::input::Reports;
use super::measure::{Plan, Windows, measure};
use super::output::Reader;
use super::writer::Writer;
use crate::cli::{Format, ReportArgs};
use crate::{path, privilege};

/// Measures or reads, and reports.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    if args.interval.is_some() && args.show.format == Format::Html {
        let why = "a page is of one report; for windows: netpath record FILE, then netpath replay FILE --format html";
        return Err(Usage(why.to_owned()).into());
    }
    let from = args.from.as_deref().map(Reports::open).transpose()?;
    let mut writer = Writer::new(&args.show, args.measure.attach.host_root.as_deref())?;
    let plan = Plan {
        windows: Windows { interval: args.interval, count: args.count },
        writes_file: writer.writes_file(),
        json_on_stdout: writer.json_on_stdout(),
        ..Plan::default()
    };
    let Some(mut reports) = from else {
        return measure(&args.measure, plan, |snapshot| {
            let report = path::report(&snapshot);
            if plan.writes_file { privilege::to_write_a_file(|| writer.write(report)) } else { writer.write(report) }
        });
    };
    if writer.is_page() {
        let report = reports.next().context("no report")??;
        ensure!(
            reports.next().is_none(),
            "a page is of one report, and the file has several; choose one, as in: sed -n 1p FILE | netpath report --from -"
        );
        writer.write(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    for report in reports {
        if writer.write(report?)? == Reader::Gone {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
