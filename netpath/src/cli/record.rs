//! Options of `netpath record` and `netpath replay`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::Offset;

use super::time::{duration, interval};
use super::{MeasureArgs, ShowArgs};

/// Options of `netpath record`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath record node.rec --interval 10s --duration 1h
  netpath record node.rec --max-size 1GB      the last windows, as many as fit, until Ctrl-C
  netpath record node.rec -- ./load-test.sh   while the command runs
  zcat node.rec | jq .snapshot.window         a recording is gzip, with a line of JSON for each window

A crash or a full disk costs the window that is being written, and no other.")]
pub struct RecordArgs {
    /// The file to make. What is there already is not written over. '-' is stdout, where `--max-size` is no limit.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Length of each window.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval, allow_negative_numbers = true)]
    pub interval: Duration,
    /// How large the file may grow; then the oldest windows go.
    #[arg(long, value_name = "SIZE", default_value = "100MB", value_parser = size)]
    pub max_size: ByteSize,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Options of `netpath replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath replay node.rec                     all of it, as one report
  netpath replay node.rec --from 14:05 --to 14:10 --pod default/web
  netpath replay node.rec --from 10m          from ten minutes after its beginning
  netpath replay node.rec --each -f json      a report of each window, one a line
  netpath replay node.rec -f html -o page.html
                                              a page for a browser, with bytes by path over time
  zcat old.rec.gz | netpath replay -          (a recording that was compressed once more)

Needs no root, and no netpath on the machine where it was recorded.")]
pub struct ReplayArgs {
    /// The recording; '-' is stdin.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only windows that begin at this time or later: 2026-01-31T14:05:00Z, 14:05 (UTC, of the recording's first day), or 10m (after
    /// its beginning).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Moment>,
    /// Only windows that begin before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Moment>,
    /// A report of each window, instead of one of all.
    #[arg(long)]
    pub each: bool,
    /// What to show, and how.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// A time in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A point in time.
    At(Timestamp),
    /// A time of the recording's first day, UTC.
    OfDay(Time),
    /// So long after its beginning.
    After(Duration),
}

impl Moment {
    /// Of a recording that begins at `start`.
    #[must_use]
    pub fn resolve(self, start: Timestamp) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::OfDay(time) => {
                let day = Offset::UTC.to_datetime(start).date();
                Offset::UTC.to_timestamp(day.to_datetime(time)).unwrap_or(start)
            }
            Self::After(time) => start.checked_add(time).unwrap_or(Timestamp::MAX),
        }
    }
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    const LEAST: u64 = 1_000_000;
    let size: ByteSize = text.parse().map_err(|_| "write it like 100MB, 1GB or 512MiB".to_owned())?;
    if size.as_u64() < LEAST { Err("give 1MB or more".to_owned()) } else { Ok(size) }
}

fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Moment::At(time));
    }
    if let Ok(time) = text.parse::<DateTime>()
        && let Ok(time) = Offset::UTC.to_timestamp(time)
    {
        return Ok(Moment::At(time));
    }
    if text.contains(':')
        && let Ok(time) = text.parse::<Time>()
    {
        return Ok(Moment::OfDay(time));
    }
    let forms = || "write it like 2026-01-31T14:05:00Z, 14:05, or 10m (after the beginning)".to_owned();
    duration(text).map(Moment::After).map_err(|_| forms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let start: Timestamp = "2026-01-31T14:00:00Z".parse().unwrap_or(Timestamp::MIN);
        let at = |text| moment(text).map(|moment| moment.resolve(start).to_string());
        for text in ["2026-01-31T14:05:00Z", "2026-01-31 14:05", "14:05", "14:05:00", "5m", "300"] {
            assert_eq!(at(text).as_deref(), Ok("2026-01-31T14:05:00Z"), "{text}");
        }
        assert!(["yesterday", "25:00", "-5m", ""].into_iter().all(|text| at(text).is_err()));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("100MB").map(|size| size.as_u64()), Ok(100_000_000));
        assert_eq!(size("1GiB").map(|size| size.as_u64()), Ok(1 << 30));
        assert!(["10", "much", "-1MB", "1kB"].into_iter().all(|text| size(text).is_err()));
    }
}
