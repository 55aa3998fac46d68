//! Reports that were written before: JSON from a file or from stdin, one report or one after the other.
//!
//! In: a path, `-` for stdin. Out: reports, in their order, each as soon as it is there.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::de::IoRead;
use serde_json::{Deserializer, StreamDeserializer};

use super::reason;
use crate::report::{Report, SCHEMA};

/// Reports that are read one by one. There is one at least.
pub struct Reports {
    /// As the user gave it, fit to print.
    name: String,
    stream: StreamDeserializer<'static, IoRead<Box<dyn Read>>, Report>,
    count: usize,
}

const FIX: &str = "write one with netpath report --format json --output FILE";

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
        if path == Path::new("-") {
            return Ok(Self::new("stdin".to_owned(), Box::new(BufReader::new(io::stdin()))));
        }
        let name = path.display().to_string().escape_debug().to_string();
        let file = File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        });
        let file = file.map_err(|error| anyhow::anyhow!("cannot read {name}: {}", reason(&error)))?;
        let mut file = BufReader::new(file);
        // What cannot be read is said when it is read.
        if let Some(other) = file.fill_buf().ok().and_then(other_schema) {
            bail!("{name} has schema {other}, and not {SCHEMA}; {FIX}");
        }
        Ok(Self::new(name, Box::new(file)))
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
            Some(kind) => anyhow::anyhow!("cannot read {name}: {}", reason(&kind.into())),
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
            return Some(Err(anyhow::anyhow!("{name} is empty; write a report with netpath report --format json")));
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
        let mut report = crate::path::report(&crate::snapshot::Snapshot::new(
            crate::model::NodeInfo::default(),
            crate::model::Window::default(),
        ));
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
