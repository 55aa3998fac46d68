//! The command line, as clap types. It must not do anything but describe and parse.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Which bytes crossed an ENI, and which stayed on this node?
#[derive(Debug, Parser)]
#[command(name = "netpath", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure for a while, then say where the bytes went.
    Report(ReportArgs),
    /// List the network devices and what netpath takes them for (needs no root).
    Devices(DevicesArgs),
}

/// Options of `netpath report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath report                              ten seconds of this node
  netpath report --duration 1m --format json --output report.json
  netpath report -- curl -sO https://example.com/file
                                              for as long as the command runs; its exit status is passed on
  netpath report --eni 'ens*'                 where netpath cannot tell which devices are ENIs")]
pub struct ReportArgs {
    /// How long to measure: 500ms, 10s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, conflicts_with = "command")]
    pub duration: Duration,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which devices to take for ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
    /// Show this many conversations in the table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// How many flows the kernel can hold between two drains, for IPv4 and for IPv6 each.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_flows: u32,
    /// Measure while this command runs, and pass its exit status on.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Options of `netpath devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Format of the list.
    #[arg(long, value_enum, default_value_t = DevicesFormat::Table)]
    pub format: DevicesFormat,
    /// Which devices to take for ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
}

/// Which devices to take for ENIs.
#[derive(Debug, Args)]
pub struct EniArgs {
    /// Take devices whose name matches for ENIs, instead of deciding by driver. May be given more than once.
    #[arg(long = "eni", value_name = "GLOB")]
    pub globs: Vec<String>,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Schema `netpath.report/1`.
    Json,
}

/// An output format of `netpath devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DevicesFormat {
    /// For people.
    Table,
    /// Schema `netpath.devices/1`.
    Json,
}

/// Parses "500ms", "10s", "5m", "1h".
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time; write it as 500ms, 10s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let millis = match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    match millis {
        Some(0) | None => Err(bad()),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for bad in ["", "10", "s", "0s", "-1s", "1.5s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
