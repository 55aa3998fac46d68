//! `netpath replay`: reports of what was recorded.
//!
//! In: a recording, and which of its windows. Out: a report of all of them as one, or of each.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;

use super::output::Reader;
use super::reason;
use super::writer::Writer;
use crate::cli::ReplayArgs;
use crate::path;
use crate::record::{Recorded, Windows};
use crate::snapshot::Snapshot;

/// Replays.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let name = if args.file == Path::new("-") {
        "stdin".to_owned()
    } else {
        args.file.display().to_string().escape_debug().to_string()
    };
    let from: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let file = File::open(&args.file).and_then(|file| {
            if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
        });
        Box::new(BufReader::new(file.map_err(|error| anyhow!("cannot read {name}: {}", reason(&error)))?))
    };
    let mut writer = Writer::new(&args.show, None)?;
    let mut range = Range::default();
    let mut whole: Option<Snapshot> = None;
    let mut last: Option<Timestamp> = None;
    for recorded in Windows::new(from) {
        let window = match recorded.map_err(|error| anyhow!("cannot read {name}: {}", reason(&error)))? {
            Recorded::Window(window) => *window,
            Recorded::CutOff => {
                let Some(until) = last else {
                    bail!(
                        "{name} has no whole window: it was cut off, or is no recording; record one with netpath record FILE"
                    );
                };
                eprintln!("netpath: {name} is cut off or damaged: it replays up to {until:.0}");
                break;
            }
        };
        let at = started(&window).with_context(|| format!("{name} has a window without a time; record it again"))?;
        last = Some(ended(at, &window));
        match range.holds(args, at) {
            Held::Before => {}
            Held::After => break,
            Held::Within if args.each => {
                if writer.write(path::report(&window))? == Reader::Gone {
                    return Ok(ExitCode::SUCCESS);
                }
                range.held += 1;
            }
            Held::Within => {
                range.held += 1;
                whole = Some(match whole {
                    Some(before) => before.merge(window),
                    None => window,
                });
            }
        }
    }
    if let Some(mut whole) = whole {
        // One window, as if it had been one.
        (whole.window.interval_ns, whole.window.late_ns) = (None, None);
        writer.write(path::report(&whole))?;
    }
    match (range.held, range.start.zip(last)) {
        (0, Some((start, end))) => bail!("{name} has no window in that time; it is from {start:.0} to {end:.0}"),
        (0, None) => bail!("{name} has no window; record one with netpath record FILE"),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Which windows are asked for.
#[derive(Default)]
struct Range {
    /// When the recording begins.
    start: Option<Timestamp>,
    /// How many windows there were of those.
    held: u64,
}

enum Held {
    Before,
    Within,
    After,
}

impl Range {
    fn holds(&mut self, args: &ReplayArgs, at: Timestamp) -> Held {
        let start = *self.start.get_or_insert(at);
        if args.from.is_some_and(|from| at < from.resolve(start)) {
            Held::Before
        } else if args.to.is_some_and(|to| at >= to.resolve(start)) {
            Held::After
        } else {
            Held::Within
        }
    }
}

fn started(snapshot: &Snapshot) -> Option<Timestamp> {
    snapshot.window.started_at.parse().ok()
}

fn ended(start: Timestamp, snapshot: &Snapshot) -> Timestamp {
    let duration = std::time::Duration::from_nanos(snapshot.window.duration_ns);
    start.checked_add(duration).unwrap_or(start)
}
