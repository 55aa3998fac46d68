//! What ends a measurement: the time, a command, or a signal.
//!
//! In: the options. Out: one event, with the exit status to pass on.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Rlimit;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use super::signals::Signals;
use crate::descriptors;

/// What ends a measurement.
#[derive(Debug)]
pub enum End {
    /// A signal.
    Never(Signals),
    /// The clock, or a signal.
    At {
        /// When.
        at: Instant,
        /// How long the measurement is to be.
        duration: Duration,
        /// What ends it before.
        signals: Signals,
    },
    /// The end of a command.
    With {
        /// The command.
        child: Box<Child>,
        /// What is handed on to it.
        signals: Signals,
    },
}

impl End {
    /// Starts the clock, or the command, which gets the limit on open files and the handling of signals that netpath was
    /// started with.
    pub fn start(
        command: &[OsString],
        duration: Option<Duration>,
        signals: Signals,
        files: Rlimit,
    ) -> anyhow::Result<Self> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(match duration {
                Some(duration) => Self::At { at: Instant::now() + duration, duration, signals },
                None => Self::Never(signals),
            });
        };
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
        Ok(Self::With { child: Box::new(child), signals })
    }

    /// Waits for it. Cancel safe.
    ///
    /// A signal ends a measurement. That of a command ends with the command: a terminal sends Ctrl-C and Ctrl-\\ to both, and
    /// every other signal is handed on.
    pub async fn reached(&mut self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Never(signals) => {
                signals.next().await;
                Ok(ExitCode::SUCCESS)
            }
            Self::At { at, signals, .. } => {
                tokio::select! {
                    () = sleep_until(*at) => {}
                    _ = signals.next() => {}
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::With { child, signals } => loop {
                tokio::select! {
                    status = child.wait() => return Ok(exit_code(status.context("cannot wait for the command")?)),
                    signal = signals.next() => match signal {
                        libc::SIGINT | libc::SIGQUIT => {}
                        signal => hand_on(signal, child),
                    },
                }
            },
        }
    }

    /// Waits for the command, if there is one: the measurement has ended before.
    pub async fn of_command(&mut self) -> anyhow::Result<ExitCode> {
        match self {
            Self::With { .. } => self.reached().await,
            Self::Never(_) | Self::At { .. } => Ok(ExitCode::SUCCESS),
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
