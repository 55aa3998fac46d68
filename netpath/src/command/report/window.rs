//! When the window ends: after a time, with a command, or by a signal.
//!
//! In: the options. Out: one event, with the exit status to pass on.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Rlimit;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use super::signals::Signals;
use crate::cli::MeasureArgs;
use crate::descriptors;

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

impl Window {
    /// Starts the clock, or the command, which gets the limit on open files and the handling of signals that netpath was
    /// started with.
    pub fn open(args: &MeasureArgs, signals: Signals, files: Rlimit) -> anyhow::Result<Self> {
        let end = match args.command.split_first() {
            None => End::At { end: Instant::now() + args.duration, duration: args.duration },
            Some((program, arguments)) => {
                let before = signals.before();
                let restore = move || {
                    descriptors::set_limit(files)?;
                    before.restore()
                };
                let mut command = Command::new(program);
                command.args(arguments);
                // SAFETY: it makes only system calls that are async-signal-safe, on values made before the fork.
                unsafe { command.pre_exec(restore) };
                let child = command.spawn().with_context(|| {
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
    /// A signal ends a timed window. The window of a command ends with the command: a terminal sends Ctrl-C and Ctrl-\\ to both,
    /// and every other signal is handed on.
    pub async fn closed(&mut self) -> anyhow::Result<ExitCode> {
        match &mut self.end {
            End::At { end, .. } => {
                tokio::select! {
                    () = sleep_until(*end) => {}
                    _ = self.signals.next() => {}
                }
                Ok(ExitCode::SUCCESS)
            }
            End::With(child) => loop {
                tokio::select! {
                    status = child.wait() => return Ok(exit_code(status.context("cannot wait for the command")?)),
                    signal = self.signals.next() => match signal {
                        libc::SIGINT | libc::SIGQUIT => {}
                        signal => hand_on(signal, child),
                    },
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

fn hand_on(signal: libc::c_int, child: &Child) {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill(2) takes no pointers. The child has not been waited for, so the number is still its own.
        unsafe { libc::kill(pid, signal) };
    }
}
