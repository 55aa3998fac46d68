//! A recording, at its own pace or another.
//!
//! In: a file, and what the user asks for. Out: its windows, as they are to be shown. Where each window begins is remembered, so that
//! going back reads no more than is shown.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::super::input::{cannot_read, no_whole_window};
use super::terminal::{Ended, Terminal, Update};
use crate::path;
use crate::record::{self, Recorded, Skipped, Windows};
use crate::snapshot::Snapshot;
use crate::top::{Control, Position, State};

/// After a jump, so many windows before the one that is shown are read for its history, if that takes no longer than this;
/// to judge them takes as long.
const HISTORY: usize = 60;
const HISTORY_WITHIN: Duration = Duration::from_millis(200);

/// Shows a recording.
pub fn run(file: &Path, state: State) -> anyhow::Result<()> {
    ensure!(file != Path::new("-"), "a recording in a pipe cannot be played; name a file, or use netpath replay -");
    let mut recording = Recording::open(file)?;
    // What is no recording is said before the terminal is taken over.
    let Some(first) = recording.next()? else {
        bail!("{} has no window; record one with netpath record FILE", recording.name);
    };
    let (sender, updates) = mpsc::channel();
    let (controls, asked) = mpsc::channel();
    let player =
        thread::spawn(move || Player { recording, updates: sender, speed: 1.0, held: false }.play(&first, &asked));
    match Terminal::open()?.show(state, &updates, Some(&controls))? {
        // It may be reading for long; it ends with the process.
        Ended::ByUser => Ok(()),
        Ended::NothingMore => player.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// The windows of a file, one by one, and from where one wants.
struct Recording {
    /// As the user gave it, fit to print.
    name: String,
    file: BufReader<File>,
    /// Where each window begins, of those that were reached.
    offsets: Vec<u64>,
    /// Index of the window that is read next.
    next: usize,
    /// The rest is cut off.
    cut_off: bool,
}

impl Recording {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string().escape_debug().to_string();
        let file = File::open(path).map_err(|error| cannot_read(&name, &error))?;
        Ok(Self { name, file: BufReader::new(file), offsets: Vec::new(), next: 0, cut_off: false })
    }

    /// The next window; `None` at the end.
    fn next(&mut self) -> anyhow::Result<Option<Snapshot>> {
        if self.cut_off && self.next >= self.offsets.len() {
            return Ok(None);
        }
        let name = &self.name;
        let cannot = |error: io::Error| cannot_read(name, &error);
        let offset = self.file.stream_position().map_err(cannot)?;
        match Windows::new(&mut self.file).next() {
            None => Ok(None),
            Some(Ok(Recorded::Window(window))) => {
                if self.next == self.offsets.len() {
                    self.offsets.push(offset);
                }
                self.next += 1;
                Ok(Some(*window))
            }
            Some(Ok(Recorded::CutOff)) if self.offsets.is_empty() => Err(no_whole_window(name)),
            Some(Ok(Recorded::CutOff)) => {
                self.cut_off = true;
                Ok(None)
            }
            Some(Err(error)) => Err(cannot(error)),
        }
    }

    /// The window of this index is read next; of those that were not reached yet, the first.
    fn seek(&mut self, index: usize) -> anyhow::Result<()> {
        if let Some(offset) = self.offsets.get(index) {
            let sought = self.file.seek(SeekFrom::Start(*offset));
            sought.map_err(|error| cannot_read(&self.name, &error))?;
            self.next = index;
        }
        Ok(())
    }

    /// Finds where the window of this index begins, and returns the index; that of the last window if there are fewer.
    fn reach(&mut self, index: usize) -> anyhow::Result<usize> {
        let name = &self.name;
        let cannot = |error: io::Error| cannot_read(name, &error);
        if index >= self.offsets.len() && !self.cut_off {
            let last = self.offsets.len().saturating_sub(1);
            self.file.seek(SeekFrom::Start(self.offsets.get(last).copied().unwrap_or(0))).map_err(cannot)?;
            self.offsets.truncate(last);
            while index >= self.offsets.len() {
                let offset = self.file.stream_position().map_err(cannot)?;
                match record::skip(&mut self.file).map_err(cannot)? {
                    Skipped::Window => self.offsets.push(offset),
                    Skipped::End => break,
                    Skipped::CutOff => {
                        self.cut_off = true;
                        break;
                    }
                }
            }
        }
        Ok(index.min(self.offsets.len().saturating_sub(1)))
    }

    /// Passes over the next window, which was read before.
    fn pass(&mut self) -> anyhow::Result<()> {
        record::skip(&mut self.file).map_err(|error| cannot_read(&self.name, &error))?;
        self.next += 1;
        Ok(())
    }

    fn is_at_end(&mut self) -> bool {
        self.cut_off && self.next >= self.offsets.len() || self.file.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
}

/// Plays a recording.
struct Player {
    recording: Recording,
    updates: Sender<Update>,
    speed: f64,
    held: bool,
}

/// Nobody looks any more.
struct Gone;

impl Player {
    fn play(mut self, first: &Snapshot, asked: &Receiver<Control>) -> anyhow::Result<()> {
        let mut due = self.show(first);
        while let Ok(length) = due {
            let waits = self.held || self.recording.is_at_end();
            let asked = if waits {
                asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                asked.recv_timeout(length.div_f64(self.speed))
            };
            due = match asked {
                Ok(control) => self.act(control, length)?,
                Err(RecvTimeoutError::Timeout) => match self.recording.next()? {
                    Some(window) => self.show(&window),
                    None => self.position().map(|()| length),
                },
                Err(RecvTimeoutError::Disconnected) => Err(Gone),
            };
        }
        Ok(())
    }

    fn act(&mut self, control: Control, length: Duration) -> anyhow::Result<Result<Duration, Gone>> {
        match control {
            Control::Hold(held) => self.held = held,
            Control::Speed(speed) => self.speed = speed,
            Control::Seek(by) => return self.seek(by),
        }
        Ok(self.position().map(|()| length))
    }

    /// Shows the window so many further on.
    fn seek(&mut self, by: i64) -> anyhow::Result<Result<Duration, Gone>> {
        let shown = self.recording.next.saturating_sub(1);
        let to = i64::try_from(shown).unwrap_or(i64::MAX).saturating_add(by);
        let to = usize::try_from(to).unwrap_or(0);
        let to = self.recording.reach(to)?;
        let windows = self.history(to)?;
        let length = windows.last().map_or(0, |window| window.window.duration_ns);
        let reports = windows.iter().map(|window| Arc::new(path::report(window))).collect();
        let sent = self.updates.send(Update::Restart(reports)).map_err(|_| Gone);
        Ok(sent.and_then(|()| self.position()).map(|()| Duration::from_nanos(length)))
    }

    /// The window of this index, and as many before it as can be judged in the time, in their order.
    fn history(&mut self, to: usize) -> anyhow::Result<Vec<Snapshot>> {
        let begin = Instant::now();
        let mut windows = Vec::new();
        for index in (to.saturating_sub(HISTORY - 1)..=to).rev() {
            self.recording.seek(index)?;
            windows.extend(self.recording.next()?);
            if begin.elapsed() > HISTORY_WITHIN {
                break;
            }
        }
        windows.reverse();
        self.recording.seek(to)?;
        self.recording.pass()?;
        Ok(windows)
    }

    fn show(&mut self, window: &Snapshot) -> Result<Duration, Gone> {
        let report = Arc::new(path::report(window));
        self.updates.send(Update::Window(report)).map_err(|_| Gone)?;
        self.position()?;
        Ok(Duration::from_nanos(window.window.duration_ns))
    }

    fn position(&mut self) -> Result<(), Gone> {
        let is_last = self.recording.is_at_end();
        let position = Position { window: self.recording.next, is_last, speed: self.speed };
        self.updates.send(Update::Position(position)).map_err(|_| Gone)?;
        if is_last && self.recording.cut_off {
            let message = format!("{} is cut off or damaged after this window", self.recording.name);
            self.updates.send(Update::Message(message)).map_err(|_| Gone)?;
        }
        Ok(())
    }
}
