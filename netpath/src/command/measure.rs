//! Measures windows of this node: attaches, and hands each window to the caller as it ends.
//!
//! In: the options, and where windows go. Out: the exit status of the command that was measured, if there was one.

mod end;
mod schedule;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, interval, sleep_until};

pub use self::end::{End, NotStarted, Run};
use self::schedule::Schedule;
pub use self::signals::Signals;
use super::output::Reader;
use crate::cli::{AttachArgs, MeasureArgs};
use crate::descriptors;
use crate::privilege::Purpose;
use crate::session::{Options, Session};
use crate::snapshot::Snapshot;

const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// How long a single window is, if nothing ends it otherwise.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// How many windows, and of what length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Windows {
    /// Length of each; `None` for one window.
    pub interval: Option<Duration>,
    /// How many; `None` for any number.
    pub count: Option<u64>,
}

/// What to measure, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// What to attach to, and how.
    pub attach: &'a AttachArgs,
    /// For how long, if it is known.
    pub duration: Option<Duration>,
    /// While this runs, if there is one.
    pub command: &'a [OsString],
}

impl<'a> From<&'a MeasureArgs> for Measured<'a> {
    fn from(args: &'a MeasureArgs) -> Self {
        Self { attach: &args.attach, duration: args.duration, command: &args.command }
    }
}

/// What the caller does with windows.
#[derive(Clone, Copy, Default)]
pub struct Plan<'a> {
    /// How many there are.
    pub windows: Windows,
    /// It writes them to a file.
    pub writes_file: bool,
    /// It writes JSON to stdout, which is then not the command's.
    pub json_on_stdout: bool,
    /// Called once the first window is open.
    pub opened: Option<&'a dyn Fn()>,
    /// From then on nothing but the caller writes to the terminal.
    pub takes_terminal: bool,
    /// Ends the measurement.
    pub stop: Option<&'a Notify>,
}

/// Measures, and gives each window to `each` when it ends.
pub fn measure<'a>(
    what: impl Into<Measured<'a>>,
    plan: Plan,
    each: impl FnMut(Snapshot) -> anyhow::Result<Reader>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(run(what.into(), plan, each))
}

async fn run(
    what: Measured<'_>,
    Plan { windows, writes_file, json_on_stdout, opened, takes_terminal, stop }: Plan<'_>,
    mut each: impl FnMut(Snapshot) -> anyhow::Result<Reader>,
) -> anyhow::Result<ExitCode> {
    // The signals are taken before anything is attached: from here on they end the measurement, not the process.
    let mut signals = Signals::new()?;
    let files = descriptors::raise_limit();
    let mut session = attach(what, writes_file, &mut signals).await?;
    let duration = what.duration.or(windows.interval.is_none().then_some(DEFAULT_DURATION));
    let run = Run { limit: what.duration, stdout_to_stderr: json_on_stdout };
    let mut end = End::start(what.command, duration, run, signals, files)?;
    let mut schedule = windows.interval.map(|interval| Schedule::new(interval, windows.count, Instant::now()));
    let progress = if takes_terminal { ProgressBar::hidden() } else { progress(&end) };
    let progress = progress.with_message(seen(&session));
    if let Some(opened) = opened {
        opened();
    }
    let mut redraw = interval(REDRAW_EVERY);
    let mut was_late = false;
    let status = loop {
        tokio::select! {
            // In this order, or the end would have to wait while devices come and go.
            biased;
            status = end.reached() => break Some(status?),
            () = due(schedule.as_ref()) => {
                let Some(schedule) = &mut schedule else { continue };
                if schedule.is_last() {
                    break None;
                }
                let late = schedule.roll(Instant::now());
                let mut snapshot = session.cut()?;
                set_times(&mut snapshot, windows, Some(late));
                let is_late = schedule.is_missed(late);
                if is_late && !was_late && !takes_terminal {
                    progress.suspend(|| eprintln!("netpath: {}", late_warning(late)));
                }
                was_late = is_late;
                if progress.suspend(|| each(snapshot))? == Reader::Gone {
                    drop(session);
                    return end.of_command().await;
                }
            }
            () = stopped(stop) => return Ok(ExitCode::SUCCESS),
            _ = redraw.tick() => {
                progress.set_message(seen(&session));
                progress.set_position(progress.elapsed().as_secs());
            }
            changed = session.follow() => {
                changed?;
                // Lets tokio see the clock and signals.
                yield_now().await;
            }
        }
    };
    progress.finish_and_clear();
    let late =
        schedule.filter(|_| status.is_none()).map(|schedule| Instant::now().saturating_duration_since(schedule.due()));
    let mut snapshot = session.finish()?;
    set_times(&mut snapshot, windows, late);
    each(snapshot)?;
    match status {
        Some(status) => {
            end.ended().await?;
            Ok(status)
        }
        None => end.of_command().await,
    }
}

async fn attach(what: Measured<'_>, writes_file: bool, signals: &mut Signals) -> anyhow::Result<Session> {
    // The kernel waits for a grace period with each program that it attaches: some seconds for hundreds of devices.
    let attaching = shown(ProgressBar::no_length()).with_style(style("{msg}")).with_message("attaching to the devices");
    // Drawn once: what draws it again is a thread, which would keep the capabilities that `Session` gives up.
    attaching.tick();
    let args = what.attach;
    let options = Options {
        eni_globs: &args.eni.globs,
        max_flows: args.max_flows,
        clsact: args.clsact,
        new_qdiscs: !args.no_new_qdisc,
        endpoints: args.eni.endpoints(),
        host_root: args.host_root.as_deref(),
        purpose: Purpose { writes_file, runs_command: !what.command.is_empty() },
    };
    let session = tokio::select! {
        biased;
        _ = signals.next() => Err(anyhow::anyhow!("interrupted before the window was open; run it again to measure")),
        session = Session::attach(options) => session,
    };
    attaching.finish_and_clear();
    session
}

/// Waits until the window is to end; for ever if there is one window.
async fn due(schedule: Option<&Schedule>) {
    match schedule {
        Some(schedule) => sleep_until(schedule.due()).await,
        None => std::future::pending().await,
    }
}

/// Waits until the caller ends it; for ever if it cannot.
async fn stopped(stop: Option<&Notify>) {
    match stop {
        Some(stop) => stop.notified().await,
        None => std::future::pending().await,
    }
}

fn set_times(snapshot: &mut Snapshot, windows: Windows, late: Option<Duration>) {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    snapshot.window.interval_ns = windows.interval.map(nanoseconds);
    snapshot.window.late_ns = late.map(nanoseconds);
}

fn late_warning(late: Duration) -> String {
    let seconds = late.as_secs_f64();
    let late = if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.1} s") };
    format!(
        "a window was closed {late} late, since reading and reporting takes longer than --interval; no packet is lost; choose a \
         longer --interval"
    )
}

/// "12 devices, 345 flows".
fn seen(session: &Session) -> String {
    format!("{} devices, {} flows", session.attached(), session.flows())
}

/// A line on stderr; nothing where stderr is no terminal.
fn progress(end: &End) -> ProgressBar {
    let (bar, template) = match end {
        End::At { duration, .. } => {
            (ProgressBar::new(duration.as_secs()), "measuring, {pos} of {len} s: {msg}; Ctrl-C ends early and reports")
        }
        End::Never { .. } => (ProgressBar::no_length(), "measuring, {elapsed}: {msg}; Ctrl-C ends"),
        End::With { .. } => (ProgressBar::no_length(), "measuring while the command runs, {elapsed}: {msg}"),
    };
    shown(bar).with_style(style(template))
}

/// The bar, unless log lines would be written into it.
fn shown(bar: ProgressBar) -> ProgressBar {
    if log::log_enabled!(log::Level::Info) { ProgressBar::hidden() } else { bar }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
