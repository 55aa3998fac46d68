//! The command line, as clap types. It must not do anything but describe and parse.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::node::enis::{self, Endpoints};
use crate::path::select::{Condition, Filter};
use crate::render::units::Units;
use crate::report::{GroupBy, PathClass};

/// Which bytes crossed an ENI, and which stayed on this node?
#[derive(Debug, Parser)]
#[command(name = "netpath", version, max_term_width = 100)]
pub struct Cli {
    /// Log to stderr what netpath does; -vv and -vvv log more. The variable `NETPATH_LOG` chooses by module, as in
    /// `NETPATH_LOG=netpath::node=debug`.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
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
    /// Say whether a report would be right here, and what to do if not (needs no root, sees more with it).
    Doctor(DoctorArgs),
    /// Remove what a killed netpath left attached (only on kernels before 6.6, or after --clsact).
    Cleanup(CleanupArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Write man pages, one a subcommand.
    Man(ManArgs),
}

/// Options of `netpath report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath report                              ten seconds of this node
  netpath report --duration 1m --format json --output report.json
  netpath report -- curl -sO https://example.com/file
                                              for as long as the command runs; its exit status is passed on
  netpath report --interval 10s                a report every ten seconds, until Ctrl-C
  netpath report --interval 1s --count 60 --format json | jq -c .totals
                                              one report a line, as it comes
  netpath report --pod 'default/web-*' --path eni
                                              what these pods moved over an ENI
  netpath report --group-by namespace         sums instead of conversations
  netpath report --eni 'ens*'                 where netpath cannot tell which devices are ENIs

Needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, which root has. It gives up all others before the window is open, and these
when it is closed; a command runs with what it would have without netpath.
Kernel memory with the defaults: 42 MB and 0.5 MB a CPU, whatever the traffic (43 MB on 2 CPUs, 90 MB on 96).
Each flow that --max-flows makes room for takes another 0.5 kB.
The process itself takes 35 MB, and 1 kB for each flow at a device. It tells eight times --max-flows of them apart in a window
(524,288 by default, which is 0.6 GB); packets of later ones are counted as in no flow.")]
pub struct ReportArgs {
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Write the report to this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Report again and again, each time on as long a window: 1s, 10s, 1m. The windows follow each other without a gap, and go
    /// on until --count, --duration, the end of the command, or Ctrl-C. JSON is then one report a line.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    pub interval: Option<Duration>,
    /// End after this many reports.
    #[arg(long, value_name = "N", requires = "interval", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What to show.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Add flows up by what they have in common, instead of listing conversations.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub group_by: Option<GroupBy>,
    /// Which flows to report.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// What the table shows.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to show")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct ViewArgs {
    /// Show this many conversations, groups or devices [default: as many as the terminal has room for].
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Show each connection by itself, instead of merging a client's ports.
    #[arg(long)]
    pub flows: bool,
    /// Show what each device counted, and why that differs from what netpath saw.
    #[arg(long)]
    pub devices: bool,
    /// Show what is known of ENIs, and ipamd's numbers.
    #[arg(long)]
    pub enis: bool,
    /// Show where the names of pods come from.
    #[arg(long)]
    pub names: bool,
    /// Show all columns, and names in full.
    #[arg(long)]
    pub wide: bool,
    /// Show everything: all blocks, columns and rows.
    #[arg(long)]
    pub all: bool,
    /// Show average bytes per second instead of sums.
    #[arg(long)]
    pub per_second: bool,
    /// Units of the table: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
}

/// Which flows to report. Everything is measured; the sums for CloudWatch and the devices stay the whole node's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which flows to report (one option twice: either; two options: both)")]
pub struct FilterArgs {
    /// Only flows of this pod; wildcards: 'default/web-*'.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Condition::pod)]
    pub pod: Vec<Condition>,
    /// Only flows of pods of this namespace.
    #[arg(long, value_name = "NAME")]
    pub namespace: Vec<String>,
    /// Only flows with this address, or one of this network, at any hop.
    #[arg(long, value_name = "ADDRESS", value_parser = Condition::net)]
    pub ip: Vec<Condition>,
    /// Only flows with this port, at any hop.
    #[arg(long, value_name = "PORT")]
    pub port: Vec<u16>,
    /// Only flows of this protocol: tcp, udp, icmp, …, or its number.
    #[arg(long, value_name = "NAME")]
    pub proto: Vec<String>,
    /// Only flows that went this way.
    #[arg(long, value_enum, value_name = "PATH")]
    pub path: Vec<PathClass>,
    /// Only flows that passed this device; wildcards: 'eni*'.
    #[arg(long, value_name = "NAME", value_parser = Condition::device)]
    pub device: Vec<Condition>,
}

impl FilterArgs {
    /// As one filter.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter::new([
            self.pod.clone(),
            self.namespace.iter().cloned().map(Condition::Namespace).collect(),
            self.ip.clone(),
            self.port.iter().copied().map(Condition::Port).collect(),
            self.proto.iter().map(|name| Condition::Proto(name.to_ascii_lowercase())).collect(),
            self.path.iter().copied().map(Condition::Path).collect(),
            self.device.clone(),
        ])
    }
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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["command", "duration", "globs", "max_flows", "host_root", "clsact", "no_new_qdisc"])]
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
#[command(next_help_heading = "What to measure")]
pub struct MeasureArgs {
    /// How long to measure: 500ms, 10s, 5m, 1h [default: 10s, without --interval].
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "command")]
    pub duration: Option<Duration>,
    /// Which devices to take for ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
    /// Where the host's files are, for the names of pods [default: found by netpath: /, or /host or /proc/1/root in a pod].
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// How many flows the kernel can hold between two drains, for IPv4 and for IPv6 each. Eight times as many, of both
    /// together, are told apart in a window.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_flows: u32,
    /// Attach legacy filters (clsact), as on kernels before 6.6, though this one has TCX. It is done at once, where TCX
    /// takes some 25 ms a device, but 'kill -9' leaves the filters until 'netpath cleanup' or the next start, and a device
    /// without a clsact qdisc gets one: the kernel then loses what the device sends for about a millisecond. What waits in a
    /// queue is never thrown away: netpath waits until it is empty, and does not measure a device whose queue stays in use.
    #[arg(long)]
    pub clsact: bool,
    /// Make no clsact qdisc: before Linux 6.6, or with --clsact, measure only the devices that have one already.
    #[arg(long)]
    pub no_new_qdisc: bool,
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

/// Options of `netpath doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 if a report would be right, 1 if it would be wrong or there would be none.")]
pub struct DoctorArgs {
    /// Format of the findings.
    #[arg(long, value_enum, default_value_t = DoctorFormat::Table)]
    pub format: DoctorFormat,
    /// Which devices to take for ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
}

/// Options of `netpath cleanup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath cleanup --dry-run                   what would be removed
  netpath cleanup                             remove it, in this network namespace

Only filters of a netpath that is not running any more are removed. Those of one that is running, other programs' filters,
and clsact qdiscs, which others may use, stay. A new 'netpath report' removes the same by itself when it starts.")]
pub struct CleanupArgs {
    /// Only say what would be removed.
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `netpath completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath completions bash > /etc/bash_completion.d/netpath
  netpath completions zsh > \"${fpath[1]}/_netpath\"")]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Options of `netpath man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  netpath man /usr/local/share/man/man1 && man netpath-report")]
pub struct ManArgs {
    /// The folder to write to; it is made if it is not there.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Which devices to take for ENIs, and whom to ask about them.
#[derive(Debug, Args)]
pub struct EniArgs {
    /// Take devices whose name matches for ENIs, instead of deciding by evidence (driver, place on a bus, hardware addresses that
    /// IMDS names). May be given more than once. The host's ends of pods' veth pairs are refused, whatever their name.
    #[arg(long = "eni", value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Where the VPC CNI's ipamd serves its introspection: the variable `INTROSPECTION_BIND_ADDRESS` of aws-node.
    #[arg(long = "ipamd-introspection", value_name = "ADDRESS:PORT", default_value_t = enis::INTROSPECTION, hide_short_help = true)]
    pub introspection: SocketAddr,
    /// Where the VPC CNI's ipamd serves its metrics.
    #[arg(long = "ipamd-metrics", value_name = "ADDRESS:PORT", default_value_t = enis::METRICS, hide_short_help = true)]
    pub metrics: SocketAddr,
    /// Send no packet: ask neither the instance metadata service nor ipamd. ENIs then have no more names than the kernel
    /// has for them.
    #[arg(long, env = "NETPATH_OFFLINE", value_parser = FalseyValueParser::new())]
    pub offline: bool,
}

impl EniArgs {
    /// Whom to ask.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        if self.offline { Endpoints::none() } else { Endpoints::new(self.introspection, self.metrics) }
    }
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For tickets: GitHub's markdown.
    Markdown,
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

/// An output format of `netpath doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DoctorFormat {
    /// For people.
    Table,
    /// Schema `netpath.doctor/1`.
    Json,
}

/// Less is not worth a window: to open one takes the kernel some 20 ms.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST_INTERVAL {
        return Err(format!("give {} ms or more", SHORTEST_INTERVAL.as_millis()));
    }
    Ok(interval)
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
