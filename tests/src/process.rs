//! Child processes that cannot be forgotten: each leads a process group that is killed with its owner, and waiting is bounded.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A child process with the group it leads. Dropping it kills the group.
#[derive(Debug)]
pub struct Running {
    child: Child,
    program: String,
}

impl Running {
    /// Starts `command` as the leader of a process group.
    ///
    /// # Errors
    /// When the program cannot be started, say because it is not installed.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().with_context(|| {
            format!("cannot start {program}; is it installed? (`cargo xtask setup` installs what the lab needs)")
        })?;
        Ok(Self { child, program })
    }

    /// The process id, which is also the process group's.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone, not to its group.
    pub fn signal(&self, signal: i32) {
        kill(self.child.id().cast_signed(), signal);
    }

    /// Waits for the process to end.
    ///
    /// # Errors
    /// When it has not ended `within` the time; it is killed then.
    pub fn wait(mut self, within: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.program))? {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} has not ended within {within:?} and was killed", self.program);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(-self.child.id().cast_signed(), libc::SIGKILL);
        // Reaps it; an error means that it was reaped before.
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end and collects what it prints.
///
/// # Errors
/// When it cannot be started, or has not ended `within` the time; its group is killed then. Its exit status is for the
/// caller to judge.
pub fn output_within(command: &mut Command, within: Duration) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| {
            format!("cannot start {program}; is it installed? (`cargo xtask setup` installs what the lab needs)")
        })?;
    let group = -child.id().cast_signed();
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || sender.send(child.wait_with_output()));
    let result = receiver.recv_timeout(within);
    if result.is_err() {
        kill(group, libc::SIGKILL);
        let _ = reader.join();
        bail!("{program} has not ended within {within:?} and was killed");
    }
    result?.with_context(|| format!("cannot read what {program} prints"))
}

/// Sends a signal to a process that must be there: a child that has not been waited for, say.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn signal(process: u32, signal: i32) {
    // SAFETY: kill(2) takes no pointers.
    let sent = unsafe { libc::kill(process.cast_signed(), signal) };
    assert_eq!(sent, 0, "there is no process {process}");
}

/// The resident memory of a process in kB, as the kernel counts it (`VmRSS`).
///
/// # Errors
/// When there is no such process.
pub fn resident_kb(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let number = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("/proc/{process}/status has no VmRSS"))
}

/// Sends a signal; the process (or, for a negative number, the group) may have ended already.
pub(crate) fn kill(process: i32, signal: i32) {
    // SAFETY: kill(2) reads no memory of ours.
    unsafe { libc::kill(process, signal) };
}
