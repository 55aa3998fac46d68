//! What ends a measurement: the time, a command, or a signal.
//!
//! In: the options. Out: one event, with the exit status to pass on.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Rlimit;
use thiserror::Error;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::signals::Signals;
use crate::descriptors;

/// The exit status when the command's time is up, as of timeout(1).
const TIMED_OUT: u8 = 124;
/// How long a command has to end before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The command could not be started.
#[derive(Debug, Error)]
#[error("cannot run '{program}': {why}")]
pub struct NotStarted {
    program: String,
    why: String,
    /// The exit status, as of shells: 127 if there is no such command, 126 if it cannot be run.
    pub status: u8,
}

impl NotStarted {
    fn new(program: &OsString, error: &io::Error) -> Self {
        let path = Path::new(program);
        let (why, status) = match error.kind() {
            io::ErrorKind::NotFound if !program.as_encoded_bytes().contains(&b'/') => {
                ("no such command in PATH; check its name after '--'", 127)
            }
            io::ErrorKind::NotFound if path.exists() => ("its interpreter is missing; check its first line", 127),
            io::ErrorKind::NotFound => ("no such file; check the path after '--'", 127),
            io::ErrorKind::PermissionDenied if path.is_dir() => ("it is a directory; name a command after '--'", 126),
            io::ErrorKind::PermissionDenied => ("permission denied; make it executable (chmod +x)", 126),
            _ => return Self::because(program, format!("{error}; check the command after '--'"), 126),
        };
        Self::because(program, why.to_owned(), status)
    }

    fn because(program: &OsString, why: String, status: u8) -> Self {
        Self { program: program.to_string_lossy().escape_debug().to_string(), why, status }
    }
}

/// How a command is run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// How long it may run at most.
    pub limit: Option<Duration>,
    /// Its stdout goes to stderr, since a report in JSON has stdout.
    pub stdout_to_stderr: bool,
}

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
    /// The end of a command, or of its time.
    With {
        /// The command.
        child: Box<Child>,
        /// When its time is up. It then has a process group of its own, which is ended as a whole.
        limit: Option<Instant>,
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
        run: Run,
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
        if run.limit.is_some() {
            command.process_group(0);
        }
        if run.stdout_to_stderr {
            let stderr = io::stderr().as_fd().try_clone_to_owned().context("cannot hand stderr to the command")?;
            command.stdout(Stdio::from(stderr));
        }
        // SAFETY: it makes only system calls that are async-signal-safe, on values made before the fork.
        unsafe { command.pre_exec(restore) };
        let child = command.spawn().map_err(|error| match error.raw_os_error() {
            // The cause is not the command, and has a fix of its own.
            Some(libc::EMFILE | libc::ENFILE) => error.into(),
            _ => anyhow::Error::new(NotStarted::new(program, &error)),
        })?;
        Ok(Self::With { child: Box::new(child), limit: run.limit.map(|limit| Instant::now() + limit), signals })
    }

    /// Waits for it. Cancel safe.
    ///
    /// A signal ends a measurement. That of a command ends with the command: a terminal sends Ctrl-C and Ctrl-\\ to both, and
    /// every other signal is handed on. A command that is in a group of its own gets none from the terminal, so that all are
    /// handed on. When its time is up, it gets SIGTERM.
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
            Self::With { child, limit, signals } => loop {
                tokio::select! {
                    status = child.wait() => return Ok(exit_code(status.context("cannot wait for the command")?)),
                    () = up(*limit) => {
                        hand_on(libc::SIGTERM, child, true);
                        // Or it could not act on it.
                        hand_on(libc::SIGCONT, child, true);
                        return Ok(ExitCode::from(TIMED_OUT));
                    }
                    signal = signals.next() => match signal {
                        libc::SIGINT | libc::SIGQUIT if limit.is_none() => {}
                        signal => hand_on(signal, child, limit.is_some()),
                    },
                }
            },
        }
    }

    /// Waits for the command, if there is one: the measurement has ended before.
    pub async fn of_command(&mut self) -> anyhow::Result<ExitCode> {
        match self {
            Self::With { .. } => {
                let status = self.reached().await?;
                self.ended().await?;
                Ok(status)
            }
            Self::Never(_) | Self::At { .. } => Ok(ExitCode::SUCCESS),
        }
    }

    /// Waits until a command whose time is up has ended, and kills what does not.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        if let Self::With { child, limit: Some(_), .. } = self
            && timeout(GRACE, child.wait()).await.is_err()
        {
            hand_on(libc::SIGKILL, child, true);
            child.wait().await.context("cannot wait for the command")?;
        }
        Ok(())
    }
}

/// Waits until the time is up; for ever without a limit.
async fn up(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// The command's exit status; for one that a signal ended, as shells have it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Sends a signal to the command, or to all of its process group.
fn hand_on(signal: libc::c_int, child: &Child, group: bool) {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill(2) takes no pointers. The child has not been waited for, so the number is still its own.
        unsafe { libc::kill(if group { -pid } else { pid }, signal) };
    }
}
