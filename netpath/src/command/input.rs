//! What was written before, from a file or from stdin: reports as JSON, one or one after the other, or the windows of a recording.
//!
//! In: a path, `-` for stdin. Out: reports or windows, in their order, each as soon as it is there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer};

use super::reason;
use crate::record::{self, Recorded};
use crate::report::{Report, SCHEMA};
use crate::snapshot::Snapshot;

/// Reports that are read one by one. There is one at least.
pub struct Reports {
    /// As the user gave it, fit to print.
    name: String,
    stream: StreamDeserializer<'static, IoRead<Box<dyn Read>>, Report>,
    count: usize,
}

const FIX: &str = "write one with netpath report --format json --output FILE";

/// A file, or stdin, and its name as the user gave it, fit to print.
pub fn open(path: &Path) -> anyhow::Result<(String, Box<dyn BufRead>)> {
    if path == Path::new("-") {
        return Ok(("stdin".to_owned(), Box::new(BufReader::new(io::stdin()))));
    }
    let name = path.display().to_string().escape_debug().to_string();
    let file = File::open(path)
        .and_then(|file| if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) });
    let file = file.map_err(|error| cannot_read(&name, &error))?;
    Ok((name, Box::new(BufReader::new(file))))
}

/// The error of a file that cannot be read.
pub fn cannot_read(name: &str, error: &io::Error) -> anyhow::Error {
    anyhow!("cannot read {name}: {}", reason(error))
}

/// The error of a file without a whole window.
pub fn no_whole_window(name: &str) -> anyhow::Error {
    anyhow!("{name} has no whole window: it was cut off, or is no recording; record one with netpath record FILE")
}

/// Whether what comes is a recording, which is gzip (RFC 1952). What cannot be read is said when it is read.
pub fn is_recording(from: &mut dyn BufRead) -> bool {
    from.fill_buf().is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]))
}

/// The windows of a recording, with their times. What is cut off is said on stderr; if nothing is whole, that is an error.
pub struct Recording {
    /// As the user gave it, fit to print.
    pub name: String,
    windows: record::Windows<Box<dyn BufRead>>,
    /// When the last window ended that was read.
    pub until: Option<Timestamp>,
}

impl Recording {
    /// Of what [`open`] opened.
    pub fn new((name, from): (String, Box<dyn BufRead>)) -> Self {
        Self { name, windows: record::Windows::new(from), until: None }
    }

    fn check(&mut self, recorded: io::Result<Recorded>) -> anyhow::Result<Option<(Timestamp, Snapshot)>> {
        let name = &self.name;
        match recorded.map_err(|error| cannot_read(name, &error))? {
            Recorded::Window(window) => {
                let at: Timestamp = window
                    .window
                    .started_at
                    .parse()
                    .map_err(|_| anyhow!("{name} has a window without a time; record it again"))?;
                let duration = Duration::from_nanos(window.window.duration_ns);
                self.until = Some(at.checked_add(duration).unwrap_or(at));
                Ok(Some((at, *window)))
            }
            Recorded::CutOff => {
                let Some(until) = self.until else {
                    return Err(no_whole_window(name));
                };
                eprintln!("netpath: {name} is cut off or damaged: it is read up to {until:.0}");
                Ok(None)
            }
        }
    }
}

impl Iterator for Recording {
    type Item = anyhow::Result<(Timestamp, Snapshot)>;

    fn next(&mut self) -> Option<Self::Item> {
        let recorded = self.windows.next()?;
        self.check(recorded).transpose()
    }
}

/// The schema of another of netpath's documents, by how the file begins.
fn other_schema(start: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&start[..start.len().min(256)]).into_owned();
    let (_, behind) = text.split_once("\"schema\"")?;
    let schema = behind.split('"').nth(1)?;
    (schema.starts_with("netpath.") && schema != SCHEMA).then(|| schema.escape_debug().to_string())
}

impl Reports {
    /// Opens the file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::of(open(path)?)
    }

    /// Of what [`open`] opened.
    pub fn of((name, mut from): (String, Box<dyn BufRead>)) -> anyhow::Result<Self> {
        // What cannot be read is said when it is read.
        if let Some(other) = from.fill_buf().ok().and_then(other_schema) {
            bail!("{name} has schema {other}, and not {SCHEMA}; {FIX}");
        }
        Ok(Self::new(name, Box::new(from)))
    }

    fn new(name: String, from: Box<dyn Read>) -> Self {
        Self { name, stream: Deserializer::from_reader(from).into_iter(), count: 0 }
    }

    fn check(&self, report: serde_json::Result<Report>) -> anyhow::Result<Report> {
        let Self { name, count, .. } = self;
        let which = match *count {
            1 => String::new(),
            2 => " after 1 report".to_owned(),
            count => format!(" after {} reports", count - 1),
        };
        let report = report.map_err(|error| match error.io_error_kind() {
            Some(kind) => cannot_read(name, &kind.into()),
            None => anyhow::Error::new(error).context(format!("{name} is not a report{which}; {FIX}")),
        })?;
        ensure!(
            report.schema == SCHEMA,
            "{name} has schema {}, not {SCHEMA}; write one with this netpath",
            report.schema.escape_debug()
        );
        Ok(report)
    }

    /// The last one.
    pub fn last(self) -> anyhow::Result<Report> {
        let mut last = None;
        for report in self {
            last = Some(report?);
        }
        last.context("no report")
    }
}

impl Iterator for Reports {
    type Item = anyhow::Result<Report>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.stream.next();
        if next.is_none() && self.count == 0 {
            self.count = 1;
            let name = &self.name;
            return Some(Err(anyhow!("{name} is empty; write a report with netpath report --format json")));
        }
        self.count += 1;
        next.map(|report| self.check(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let reports = Reports::new("FILE".to_owned(), Box::new(io::Cursor::new(text.to_owned())));
        reports
            .map(|one| one.map_or_else(|error| format!("{error:#}"), |report| report.node.hostname))
            .take(3)
            .collect()
    }

    fn report(host: &str) -> String {
        let mut report =
            crate::path::report(&Snapshot::new(crate::model::NodeInfo::default(), crate::model::Window::default()));
        host.clone_into(&mut report.node.hostname);
        serde_json::to_string(&report).expect("JSON")
    }

    #[test]
    fn one_report_or_many() {
        let (one, two) = (report("one"), report("two"));
        assert_eq!(read(&one), ["one"]);
        assert_eq!(read(&format!("{one}\n{two}\n")), ["one", "two"]);
        // The writer was killed.
        let broken = read(&format!("{one}\n{}", &two[..two.len() / 2]));
        assert!(broken.len() == 2 && broken[1].starts_with("FILE is not a report after 1 report; write"), "{broken:?}");
    }

    #[test]
    fn what_is_no_report() {
        assert_eq!(read("")[0], "FILE is empty; write a report with netpath report --format json");
        assert!(read("{}")[0].starts_with("FILE is not a report; write one with netpath report --format json"));
        let other = report("one").replace("netpath.report/1", "netpath.report/9\\u001b");
        assert!(read(&other)[0].contains("FILE has schema"), "{:?}", read(&other));
        for (path, why) in [("/no/such", "cannot read /no/such: no such file"), ("/proc", "/proc: it is a directory")] {
            let error = Reports::open(Path::new(path)).err().expect("an error").to_string();
            assert!(error.ends_with(why), "{error}");
        }
    }
}
