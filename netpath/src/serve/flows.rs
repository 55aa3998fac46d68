//! Flow records for a fleet: files that ClickHouse, DuckDB and Athena read.
//!
//! In: a report of each window. Out: NDJSON in files, each there as a whole or not at all, and no more of them than there may be. What
//! cannot be written is counted and given up: the next window tries again.

pub mod files;
pub mod layout;
pub mod record;
pub mod sources;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use self::files::{Bounds, Files, Unfinished};
use self::layout::{Kind, NodeFolder, hour};
use self::record::{ENI, EniFacts, EniRecord, FlowRecord, Observed, WindowRecord};
use self::sources::Sources;
use super::names::Names;
use crate::report::Report;

/// A file is finished when its windows come to so many seconds.
const FILE_SECONDS: i64 = 60;

/// What to write, and where.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The folder of all nodes.
    pub folder: PathBuf,
    /// Bytes of all files of this node.
    pub most_bytes: u64,
    /// How long a file stays.
    pub longest: Duration,
    /// Those of this node and its cluster.
    pub names: Names,
}

/// How many records came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In files that readers see.
    pub written: u64,
    /// Given up.
    pub dropped: u64,
}

/// Writes records.
#[derive(Debug)]
pub struct Writer {
    choice: Arc<Choice>,
    files: Files,
    flows: Option<Unfinished>,
    windows: Option<Unfinished>,
    /// The ENIs that were last written, and the hour of that.
    enis: (Vec<u8>, i64),
    sources: Sources,
    /// Records since `add` returned the last counts.
    counts: Counts,
    /// Of the time since nothing could be written.
    failing: Option<u64>,
    line: Vec<u8>,
}

/// The moments of a window.
struct Window<'a> {
    observed: Observed<'a>,
    start: i64,
    end: i64,
}

impl Writer {
    /// Looks whether files can be made there, and removes what there is too much.
    pub fn open(choice: Choice, now: Timestamp) -> io::Result<Self> {
        let invalid =
            || io::Error::new(io::ErrorKind::InvalidInput, "the node's name is empty or too long for a folder");
        let node = NodeFolder::new(&choice.names.node).ok_or_else(invalid)?;
        let seconds = i64::try_from(choice.longest.as_secs()).unwrap_or(i64::MAX);
        let mut files = Files::open(&choice.folder, node, Bounds { bytes: choice.most_bytes, seconds })?;
        files.make_room(now.as_second())?;
        // Removed at once: there is nothing to say yet.
        files.begin(Kind::Window, now.as_second())?.complete()?;
        Ok(Self {
            choice: Arc::new(choice),
            files,
            flows: None,
            windows: None,
            enis: (Vec::new(), 0),
            sources: Sources::default(),
            counts: Counts::default(),
            failing: None,
            line: Vec::new(),
        })
    }

    /// Adds a window. Returns what has been written, or given up, since the last call.
    pub fn add(&mut self, report: &Report) -> Counts {
        let choice = Arc::clone(&self.choice);
        let start = report.window.started_at.parse::<Timestamp>().unwrap_or_default();
        let length = i64::try_from(report.window.duration_ns / 1_000_000_000).unwrap_or_default();
        let window = Window {
            observed: Observed::new(&choice.names.node, &choice.names.cluster, report, start),
            start: start.as_second(),
            end: start.as_second().saturating_add(length),
        };
        let outcome = self.add_window(report, &window);
        self.judge(outcome);
        std::mem::take(&mut self.counts)
    }

    /// Finishes the files. Returns as [`Self::add`] does.
    pub fn finish(&mut self) -> Counts {
        let outcome = self.finish_flows().and(self.finish_windows());
        self.judge(outcome);
        std::mem::take(&mut self.counts)
    }

    /// Says so when writing has begun to fail, and when it works again.
    fn judge(&mut self, outcome: io::Result<()>) {
        match (outcome, self.failing) {
            (Ok(()), None) => {}
            (Ok(()), Some(dropped)) => {
                log::warn!("flow records are written again; {dropped} were given up meanwhile");
                self.failing = None;
            }
            (Err(error), before) => {
                if before.is_none() {
                    let folder = self.choice.folder.display().to_string().escape_debug().to_string();
                    log::warn!(
                        "flow records are given up until they can be written again: {error}; look after {folder}"
                    );
                }
                self.failing = Some(before.unwrap_or_default() + self.counts.dropped);
            }
        }
    }

    fn add_window(&mut self, report: &Report, window: &Window<'_>) -> io::Result<()> {
        let all = report.flows.len() as u64;
        if let Err(error) = self.files.make_room(window.end) {
            self.counts.dropped += all + 1;
            return Err(error);
        }
        let enis = self.add_enis(report, window);
        let mut added = 0;
        let flows = self.add_flows(report, window, &mut added);
        self.counts.dropped += all - added;
        let windows = self.add_record(Kind::Window, &WindowRecord::new(&window.observed, report), window);
        self.counts.dropped += u64::from(windows.is_err());
        let finished = if flows.is_ok() && windows.is_ok() { self.rotate(window) } else { Ok(()) };
        flows.and(windows).and(enis).and(finished)
    }

    /// All flows, or as many as there is room for on the disk.
    fn add_flows(&mut self, report: &Report, window: &Window<'_>, added: &mut u64) -> io::Result<()> {
        for flow in &report.flows {
            self.add_record(Kind::Flow, &FlowRecord::new(&window.observed, flow), window)?;
            *added += 1;
            if self.flows.as_ref().is_some_and(|file| file.bytes() >= self.files.file_bytes()) {
                self.finish_flows()?;
                self.files.make_room(window.end)?;
            }
        }
        Ok(())
    }

    /// Adds a record to the file of its kind. What is in a file that cannot be written is lost, and counted.
    fn add_record(&mut self, kind: Kind, record: &impl Serialize, window: &Window<'_>) -> io::Result<()> {
        let slot = if kind == Kind::Flow { &mut self.flows } else { &mut self.windows };
        // A file has one hour's records.
        if let Some(file) = slot.take_if(|file| hour(file.start()) != hour(window.start)) {
            finish(&mut self.files, file, &mut self.counts)?;
        }
        let mut file = match slot.take() {
            Some(file) => file,
            None => self.files.begin(kind, window.start)?,
        };
        write_line(&mut self.line, record)?;
        if let Err(error) = file.add(&self.line) {
            self.counts.dropped += file.lines;
            return Err(error);
        }
        *slot = Some(file);
        Ok(())
    }

    /// ENIs, once an hour and when what is known of them changes.
    fn add_enis(&mut self, report: &Report, window: &Window<'_>) -> io::Result<()> {
        self.sources.add(report, window.start);
        let mut facts: Vec<EniFacts<'_>> = report.enis.iter().map(EniFacts::new).collect();
        let now = (serde_json::to_vec(&(&window.observed.zone_id, &facts))?, hour(window.start));
        if now == self.enis || facts.is_empty() {
            return Ok(());
        }
        for (facts, eni) in facts.iter_mut().zip(&report.enis) {
            self.sources.complete(facts, eni.ifindex);
        }
        let written = self.files.begin(Kind::Eni, window.start).and_then(|mut file| {
            for eni in &facts {
                write_line(&mut self.line, &EniRecord { schema: ENI, observed: &window.observed, eni: eni.clone() })?;
                file.add(&self.line)?;
            }
            self.files.finish(file)
        });
        let count = facts.len() as u64;
        match &written {
            Ok(()) => (self.enis, self.counts.written) = (now, self.counts.written + count),
            Err(_) => self.counts.dropped += count,
        }
        written
    }

    fn rotate(&mut self, window: &Window<'_>) -> io::Result<()> {
        let is_full = |file: &Unfinished| window.end - file.start() >= FILE_SECONDS;
        let flows = if self.flows.as_ref().is_some_and(is_full) { self.finish_flows() } else { Ok(()) };
        let windows = if self.windows.as_ref().is_some_and(is_full) { self.finish_windows() } else { Ok(()) };
        flows.and(windows)
    }

    fn finish_flows(&mut self) -> io::Result<()> {
        self.flows.take().map_or(Ok(()), |file| finish(&mut self.files, file, &mut self.counts))
    }

    fn finish_windows(&mut self) -> io::Result<()> {
        self.windows.take().map_or(Ok(()), |file| finish(&mut self.files, file, &mut self.counts))
    }
}

fn finish(files: &mut Files, file: Unfinished, counts: &mut Counts) -> io::Result<()> {
    let lines = file.lines;
    let finished = files.finish(file);
    match finished {
        Ok(()) => counts.written += lines,
        Err(_) => counts.dropped += lines,
    }
    finished
}

fn write_line(line: &mut Vec<u8>, record: &impl Serialize) -> io::Result<()> {
    line.clear();
    serde_json::to_writer(&mut *line, record)?;
    line.push(b'\n');
    Ok(())
}
