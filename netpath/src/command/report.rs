//! `netpath report`: measures one window, then writes the report.
//!
//! In: the options. Out: the report on stdout or in a file, and the exit status of the command that was measured, if
//! there was one. Everything that can be found wrong before measuring is found then, so that no window is lost to a
//! mistyped path.

mod signals;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use console::{Term, colors_enabled};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::yield_now;
use tokio::time::interval;

use self::signals::Signals;
use self::window::Window;
use super::output::Output;
use crate::cli::{Format, MeasureArgs, ReportArgs};
use crate::measure::{Measurement, Options};
use crate::privilege::Purpose;
use crate::render::table::Style;
use crate::report::Report;
use crate::snapshot::Snapshot;
use crate::{descriptors, path, render};

const REDRAW_EVERY: Duration = Duration::from_millis(200);

/// Measures and reports.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let output = Output::open(args.output.as_deref())?;
    let (mut report, status) = measured(&args.measure, matches!(output, Output::File { .. }))?;
    path::select::select(&mut report, &args.filter.filter());
    if let Some(by) = args.group_by {
        path::group::group(&mut report, by);
    }
    let style = style(args, &output);
    output.write(|mut out| match args.format {
        Format::Table => render::table::write(&report, &mut out, style),
        Format::Json => render::json::write(&report, &mut out),
    })?;
    Ok(status)
}

/// Measures one window. The exit status is that of the command that was measured, if there was one. `writes_file`: the caller
/// will.
pub(super) fn measured(args: &MeasureArgs, writes_file: bool) -> anyhow::Result<(Report, ExitCode)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    let (snapshot, status) = runtime.block_on(measure(args, writes_file))?;
    Ok((path::report(&snapshot), status))
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

async fn measure(args: &MeasureArgs, writes_file: bool) -> anyhow::Result<(Snapshot, ExitCode)> {
    // The signals are taken before anything is attached: from here on they end the window, not the process.
    let mut signals = Signals::new()?;
    let files = descriptors::raise_limit();
    // The kernel waits for a grace period with each program that it attaches: some seconds for hundreds of devices.
    let attaching = ProgressBar::new_spinner().with_message("attaching to the devices");
    // Drawn once: what draws it again is a thread, which would keep the capabilities that `Measurement` gives up.
    attaching.tick();
    let options = Options {
        eni_globs: &args.eni.globs,
        max_flows: args.max_flows,
        clsact: args.clsact,
        new_qdiscs: !args.no_new_qdisc,
        places: args.eni.places(),
        host_root: args.host_root.as_deref(),
        purpose: Purpose { writes_file, runs_command: !args.command.is_empty() },
    };
    let started = tokio::select! {
        biased;
        _ = signals.next() => Err(anyhow::anyhow!("interrupted before the window was open; run it again to measure")),
        started = Measurement::start(options) => started,
    };
    attaching.finish_and_clear();
    let mut measurement = started?;
    let mut window = Window::open(args, signals, files)?;
    let progress = progress(&window);
    let mut redraw = interval(REDRAW_EVERY);
    let status = loop {
        tokio::select! {
            // In this order, or the end would have to wait while devices come and go.
            biased;
            status = window.closed() => break status?,
            _ = redraw.tick() => {
                progress.set_position(progress.elapsed().as_secs());
                progress.set_message(format!("{} devices, {} flows", measurement.attached(), measurement.flows()));
            }
            changed = measurement.follow() => {
                changed?;
                // Lets tokio see the clock and signals.
                yield_now().await;
            }
        }
    };
    progress.finish_and_clear();
    Ok((measurement.finish()?, status))
}

/// A line on stderr; nothing where stderr is no terminal.
fn progress(window: &Window) -> ProgressBar {
    let (bar, template) = match window.duration() {
        Some(duration) => {
            (ProgressBar::new(duration.as_secs()), "measuring, {pos} of {len} s: {msg}; Ctrl-C ends early and reports")
        }
        None => (ProgressBar::no_length(), "measuring while the command runs, {elapsed}: {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
