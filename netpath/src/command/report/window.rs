//! When the window ends: after a time, with a command, or on Ctrl-C.
//!
//! In: the options. Out: one event, with the exit status to pass on.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::cli::MeasureArgs;

/// The signals that end a window.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// An open window.
#[derive(Debug)]
pub struct Window {
    end: End,
    signals: Signals,
}

#[derive(Debug)]
enum End {
    At { end: Instant, duration: Duration },
    With(Box<Child>),
}

impl Signals {
    /// Takes over SIGINT and SIGTERM.
    pub fn new() -> anyhow::Result<Self> {
        let take = |kind| signal(kind).context("cannot handle signals");
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    /// Waits for either. Cancel safe.
    pub async fn either(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

impl Window {
    /// Starts the clock, or the command.
    pub fn open(args: &MeasureArgs, signals: Signals) -> anyhow::Result<Self> {
        let end = match args.command.split_first() {
            None => End::At { end: Instant::now() + args.duration, duration: args.duration },
            Some((program, arguments)) => {
                let child = Command::new(program).args(arguments).spawn().with_context(|| {
                    format!("cannot run '{}'; check the command after '--'", program.to_string_lossy().escape_debug())
                })?;
                End::With(Box::new(child))
            }
        };
        Ok(Self { end, signals })
    }

    /// How long it will be, if that is known.
    pub fn duration(&self) -> Option<Duration> {
        match self.end {
            End::At { duration, .. } => Some(duration),
            End::With(_) => None,
        }
    }

    /// Waits for the end. Cancel safe.
    ///
    /// A signal ends a timed window. The window of a command ends with the command: Ctrl-C on a terminal goes to both,
    /// and SIGTERM is handed on.
    pub async fn closed(&mut self) -> anyhow::Result<ExitCode> {
        match &mut self.end {
            End::At { end, .. } => {
                tokio::select! {
                    () = sleep_until(*end) => {}
                    () = self.signals.either() => {}
                }
                Ok(ExitCode::SUCCESS)
            }
            End::With(child) => loop {
                let Signals { interrupt, terminate } = &mut self.signals;
                tokio::select! {
                    status = child.wait() => return Ok(exit_code(status.context("cannot wait for the command")?)),
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => terminate_child(child),
                }
            },
        }
    }
}

/// The command's exit status; for one that a signal ended, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn terminate_child(child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill(2) takes no pointers. The child has not been waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}
