//! `netpath replay`: reports of what was recorded.
//!
//! In: a recording, and which of its windows. Out: a report of all of them as one, or of each.

use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Usage;
use super::input::{self, Recording};
use super::output::Reader;
use super::writer::Writer;
use crate::cli::ReplayArgs;
use crate::path;
use crate::snapshot::Snapshot;

/// Replays.
pub fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let mut recording = Recording::new(input::open(&args.file)?);
    let mut writer = Writer::new(&args.show, None)?;
    if args.each && writer.is_page() {
        let why = "a page is of one report, and shows every window's bytes by path; leave out --each";
        return Err(Usage(why.to_owned()).into());
    }
    let mut range = Range::default();
    let mut whole: Option<Snapshot> = None;
    for window in recording.by_ref() {
        let (at, window) = window?;
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
                if writer.is_page() {
                    writer.note_window(path::report(&window));
                }
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
    let name = &recording.name;
    match (range.held, range.start.zip(recording.until)) {
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
