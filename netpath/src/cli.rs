//! The command line, as clap types. It must not do anything but describe and parse.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::render::units::Units;

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
    /// Say in sentences which numbers a flow or a device moved, and why.
    Explain(ExplainArgs),
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
  netpath report --eni 'ens*'                 where netpath cannot tell which devices are ENIs

Kernel memory with the defaults: 40 MB and 0.5 MB a CPU, whatever the traffic (41 MB on 2 CPUs, 87 MB on 96).
Each flow that --max-flows makes room for takes another 0.5 kB.")]
pub struct ReportArgs {
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show this many conversations in the table.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Show bytes a second in the table, on the average over the window, instead of sums.
    #[arg(long)]
    pub per_second: bool,
    /// Units of the table: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Options of `netpath explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath explain 10.0.0.21:34756                  what its flows moved in ten seconds
  netpath explain tcp 10.0.0.21 :443 -- curl -sO https://example.com/file
  netpath explain --device eth0 --from report.json
                                                   from a report that `netpath report --format json` wrote; needs no root
  netpath explain 3 --from report.json             the flow with id 3 in it")]
pub struct ExplainArgs {
    /// Which flows: an id of the report, or what they must have at some hop: a protocol (tcp), an address, address:port or
    /// :port, the pod's name (namespace/name). All of them must match.
    #[arg(value_name = "FLOW", required_unless_present = "device")]
    pub flow: Vec<String>,
    /// Which device.
    #[arg(long, value_name = "NAME", conflicts_with = "flow")]
    pub device: Option<String>,
    /// Read this report (JSON, as `netpath report` writes it) instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "duration", "globs", "max_flows"])]
    pub from: Option<PathBuf>,
    /// Explain this many flows, those with the most bytes.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Units: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// How long to measure: 500ms, 10s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, conflicts_with = "command")]
    pub duration: Duration,
    /// Which devices to take for ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
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
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn what_explain_takes() {
        let explain = |line: &str| Cli::try_parse_from(line.split_whitespace()).is_ok();
        assert!(explain("netpath explain 3 --from report.json"));
        assert!(explain("netpath explain tcp :443 -- curl -sO https://example.com"));
        assert!(explain("netpath explain --device eth0"));
        assert!(!explain("netpath explain"), "of what");
        assert!(!explain("netpath explain 3 --device eth0"), "one or the other");
        assert!(!explain("netpath explain 3 --from report.json --duration 1s"), "a report is not measured");
    }

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
