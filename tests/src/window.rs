//! Runs netpath for exactly as long as a closure: its window is open before the first packet and closes after the last.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process;
use crate::trace::Trace;
use crate::{Lab, Report, read};
use anyhow::{Context as _, Result, bail, ensure};

/// What the measured command says when it starts, which is when the window is open.
const OPEN: &str = "the window is open";

/// What netpath said and wrote.
#[derive(Debug)]
pub struct Measured {
    /// The report.
    pub report: Report,
    /// The same as netpath wrote it.
    pub json: String,
    /// All of stderr, but for the line that says that the window is open.
    pub messages: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Lab {
    /// Runs `netpath report --format json` in the node while `work` runs, and waits before and after for a quiet lab, so
    /// that whole packets are counted and no others. The lab's ENIs are named to netpath, which takes them for veths.
    ///
    /// # Errors
    /// When netpath does not start, fails, or writes no JSON.
    pub fn measure(&self, arguments: &[&str], work: impl FnOnce() -> Result<()>) -> Result<Measured> {
        let (stdout, messages, status) = self.measure_json(arguments, work)?;
        Ok(Measured { report: read(&stdout)?, json: String::from_utf8(stdout)?, messages, status })
    }

    /// As [`measure`](Self::measure), for reports so large that the caller reads them by a type of its own with [`read`]: what
    /// netpath wrote, what it said, and how it ended.
    ///
    /// # Errors
    /// When netpath does not start, or fails.
    pub fn measure_json(
        &self,
        arguments: &[&str],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<(Vec<u8>, String, ExitStatus)> {
        self.wait_until_quiet()?;
        let window = self.open_window(arguments)?;
        let worked = work().and_then(|()| self.wait_until_quiet());
        let measured = window.finish();
        worked?;
        measured
    }

    /// Starts `netpath report --format json` in the node, and returns when its window is open, quiet or not.
    ///
    /// # Errors
    /// When netpath does not start.
    pub fn open_window(&self, arguments: &[&str]) -> Result<OpenWindow> {
        self.open_report("json", arguments)
    }

    /// The same, in that format.
    ///
    /// # Errors
    /// When netpath does not start.
    pub fn open_report(&self, format: &str, arguments: &[&str]) -> Result<OpenWindow> {
        let mut command = self.netpath(&["report", "--format", format, "--eni", "eth*"])?;
        command.args(arguments).args(["--", "sh", "-c", &format!("echo {OPEN} >&2; cat >/dev/null")]);
        let mut window = OpenWindow::start(command)?;
        window.wait_until_open()?;
        Ok(window)
    }
}

impl Lab {
    /// Starts `netpath record` with these arguments, and returns once it is attached. It ends with [`OpenWindow::finish`].
    ///
    /// # Errors
    /// When netpath does not start.
    pub fn open_recording(&self, arguments: &[&str]) -> Result<OpenWindow> {
        let mut command = self.netpath(&["record", "--eni", "eth*"])?;
        command.args(arguments).args(["--", "sh", "-c", &format!("echo {OPEN} >&2; cat >/dev/null")]);
        let mut window = OpenWindow::start(command)?;
        window.wait_until_open()?;
        Ok(window)
    }

    /// Starts `netpath trace --format json` with these arguments, and returns once it is attached. It ends with
    /// [`OpenWindow::trace`].
    ///
    /// # Errors
    /// When netpath does not start.
    pub fn open_trace(&self, arguments: &[&str]) -> Result<OpenWindow> {
        let mut command = self.netpath(&["trace", "--format", "json", "--eni", "eth*"])?;
        command.args(arguments).args(["--", "sh", "-c", &format!("echo {OPEN} >&2; cat >/dev/null")]);
        let mut trace = OpenWindow::start(command)?;
        trace.wait_until_open()?;
        Ok(trace)
    }
}

/// Waits until the window of a netpath that measures no command is open: then its drain thread runs, the last that starts.
/// That its programs are on their hooks says less: it asks about ENIs after that.
///
/// # Errors
/// When netpath ends before, or takes minutes.
pub fn wait_until_open(netpath: &mut Child) -> Result<()> {
    let tasks = format!("/proc/{}/task", netpath.id());
    let is_drain =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "drain\n");
    let end = Instant::now() + Duration::from_mins(2);
    while !fs::read_dir(&tasks)?.flatten().any(is_drain) {
        if let Some(status) = netpath.try_wait()? {
            bail!("netpath ended with {status} before its window was open");
        }
        ensure!(Instant::now() < end, "netpath's window is not open after two minutes");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A running netpath; ended when dropped.
#[derive(Debug)]
pub struct OpenWindow {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
    messages: String,
}

impl OpenWindow {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let errors = BufReader::new(child.stderr.take().context("stderr is a pipe")?);
        Ok(Self { child, errors, messages: String::new() })
    }

    fn wait_until_open(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            ensure!(
                self.errors.read_line(&mut line)? > 0,
                "netpath ended before its window was open: {}",
                self.messages.trim()
            );
            if line.trim_end() == OPEN {
                return Ok(());
            }
            self.messages.push_str(&line);
        }
    }

    /// netpath's process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to netpath.
    pub fn signal(&self, signal: i32) {
        process::signal(self.id(), signal);
    }

    /// Ends netpath by SIGKILL.
    ///
    /// # Errors
    /// When the kernel does not do that.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends the window, and reads the report.
    ///
    /// # Errors
    /// When netpath fails, or writes no JSON.
    pub fn report(self) -> Result<Report> {
        read(&self.finish()?.0)
    }

    /// Ends the trace, and reads its lines.
    ///
    /// # Errors
    /// When netpath fails, or writes no JSON.
    pub fn trace(self) -> Result<Trace> {
        Trace::read(&self.finish()?.0)
    }

    /// Closes the command's standard input, which ends it and the window: what netpath wrote, what it said, and how it ended.
    ///
    /// # Errors
    /// When netpath fails.
    pub fn finish(mut self) -> Result<(Vec<u8>, String, ExitStatus)> {
        drop(self.child.stdin.take());
        let mut stdout = Vec::new();
        self.child.stdout.take().context("stdout is a pipe")?.read_to_end(&mut stdout)?;
        self.errors.read_to_string(&mut self.messages)?;
        let status = self.child.wait()?;
        let messages = std::mem::take(&mut self.messages);
        ensure!(status.success(), "netpath failed with {status}: {}", messages.trim());
        Ok((stdout, messages, status))
    }
}

impl Drop for OpenWindow {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Already gone after `finish`.
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
