//! `netpath diff`: compares two reports or recordings.
//!
//! In: two files. Out: what differs, on stdout or in a file.

use std::path::Path;
use std::process::ExitCode;

use super::input::{Recording, Reports, is_recording, open};
use super::output::Output;
use super::screen::screen;
use super::{Usage, resolve_ports};
use crate::cli::{DiffArgs, DiffFormat};
use crate::path::compare::{Sums, diff};
use crate::path::select::{Filter, select};
use crate::render::units::Scale;
use crate::report::GroupBy;
use crate::{path, render};

/// Compares.
pub fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let is_stdin = |path: &Path| path == Path::new("-");
    if is_stdin(&args.before) && is_stdin(&args.after) {
        return Err(Usage("only one of the two can be stdin; write the other to a file".to_owned()).into());
    }
    let mut filter = args.filter.filter();
    resolve_ports(&mut filter, None)?;
    let mut output = Output::open(args.output.as_deref())?;
    let default = [GroupBy::Path, GroupBy::Pod, GroupBy::Service];
    let by = if args.group_by.is_empty() { &default } else { args.group_by.as_slice() };
    let diff = diff(sums(&args.before, by, &filter)?, sums(&args.after, by, &filter)?);
    let (screen, scale) = (screen(&output), Scale::sums(args.units));
    output.write(|mut out| match args.format {
        DiffFormat::Table => render::diff::write(&diff, &mut out, args.top, scale, &screen),
        DiffFormat::Markdown => render::diff::write_markdown(&diff, &mut out, args.top, scale, &screen),
        DiffFormat::Csv => render::csv::write_diff(&diff, &mut out),
        DiffFormat::Json => render::json::write(&diff, &mut out),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The windows of a file, added up: a file without one is an error when it is read.
fn sums(path: &Path, by: &[GroupBy], filter: &Filter) -> anyhow::Result<Sums> {
    let mut sums = Sums::new(by);
    let mut add = |mut report| {
        select(&mut report, filter);
        sums.add(report);
    };
    let (name, mut from) = open(path)?;
    if is_recording(&mut from) {
        for window in Recording::new((name, from)) {
            add(path::report(&window?.1));
        }
    } else {
        for report in Reports::of((name, from))? {
            add(report?);
        }
    }
    Ok(sums)
}
