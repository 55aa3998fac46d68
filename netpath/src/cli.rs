//! The command line, as clap types. It must not do anything but describe and parse.

mod diff;
mod explain;
mod filter;
mod measure;
mod number;
mod record;
mod serve;
mod time;
mod top;
mod trace;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::diff::{DiffArgs, DiffFormat};
pub use self::explain::ExplainArgs;
pub use self::filter::FilterArgs;
pub use self::measure::{AttachArgs, EniArgs, MeasureArgs};
pub use self::record::{Moment, RecordArgs, ReplayArgs};
pub use self::serve::ServeArgs;
pub use self::top::TopArgs;
pub use self::trace::{TraceArgs, TraceFormat};
pub use self::view::{Format, ShowArgs, ViewArgs};

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
    Report(Box<ReportArgs>),
    /// Watch this node live, or a recording: pods, conversations, devices, services.
    Top(Box<TopArgs>),
    /// Explain in sentences which numbers a flow or a device moved, and why.
    Explain(ExplainArgs),
    /// Follow single packets through this node, hop by hop, through NAT, and say where and why they end.
    Trace(Box<TraceArgs>),
    /// Record window after window in a file.
    Record(Box<RecordArgs>),
    /// Look again at what was recorded, with every option of a report (needs no root).
    Replay(Box<ReplayArgs>),
    /// Compare two reports or recordings: what grew, what shrank, what is new (needs no root).
    Diff(Box<DiffArgs>),
    /// Measure for ever, and serve the sums to Prometheus.
    Serve(Box<ServeArgs>),
    /// List the network devices and what each one is (needs no root).
    Devices(DevicesArgs),
    /// Check whether netpath can measure this node correctly, and say what to fix (needs no root, sees more with it).
    Doctor(DoctorArgs),
    /// Remove what a killed netpath left attached (only on kernels before 6.6, or after --clsact).
    Cleanup(CleanupArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Write man pages, one per subcommand.
    Man(ManArgs),
}

/// Options of `netpath report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath report                              ten seconds of this node
  netpath report -d 1m -f json -o report.json
  netpath report --from report.json --path internet
                                              the same window, looked at again
  netpath report -- curl -sO https://example.com/file
                                              for as long as the command runs; its exit status is passed on
  netpath report --interval 10s                a report every ten seconds, until Ctrl-C
  netpath report --interval 1s --count 60 --format json | jq -c .totals
                                              one report per line, as it comes
  netpath report --pod 'default/web-*' --path eni
                                              what these pods moved over an ENI
  netpath report --between default/web 10.0.0.0/16 --nat any
  netpath report --group-by namespace         sums instead of conversations
  netpath report -f html -o report.html       a page for a browser, with pictures: one file, to send on
  netpath report --eni 'ens*'                 where netpath cannot tell which devices are ENIs

Needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, which root has. netpath drops all others before the
window opens, and these when it closes; a command keeps what it would have without netpath.
Kernel memory with the defaults: 44 MB and 0.5 MB per CPU, whatever the traffic (45 MB on 2 CPUs,
92 MB on 96). Each flow that --max-flows makes room for takes another 0.5 kB.
The process itself takes 35 MB, and 1 kB for each flow at a device, of which a window can hold eight
times --max-flows (524,288 by default, which is 0.6 GB); packets of later ones count as in no flow.")]
pub struct ReportArgs {
    /// What to show, and how.
    #[command(flatten)]
    pub show: ShowArgs,
    /// Look again at a report that was written as JSON, with every filter, grouping and format, instead of measuring; '-' is
    /// stdin. Of many reports (--interval), each in its order. Needs no root.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "command", "duration", "interval", "globs", "introspection", "metrics", "host_root", "max_flows", "clsact",
        "no_new_qdisc", "count",
    ])]
    pub from: Option<PathBuf>,
    /// Report repeatedly, on windows of this length: 1 (second), 10s, 1m30s. The windows follow each other without a gap, and go
    /// on until --count, --duration, the end of the command, or Ctrl-C. JSON is then one report per line.
    #[arg(long, value_name = "TIME", value_parser = time::interval, allow_negative_numbers = true)]
    pub interval: Option<Duration>,
    /// End after this many reports.
    #[arg(long, value_name = "N", requires = "interval", value_parser = number::positive::<u64>, allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}

/// Options of `netpath devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Format of the list.
    #[arg(short, long, value_enum, default_value_t = DevicesFormat::Table)]
    pub format: DevicesFormat,
    /// Which devices to treat as ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
}

/// Options of `netpath doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 if netpath can measure this node correctly, 1 if not.")]
pub struct DoctorArgs {
    /// Format of the findings.
    #[arg(short, long, value_enum, default_value_t = DoctorFormat::Table)]
    pub format: DoctorFormat,
    /// Where the host's files are, to find out whether this is the node's network [default: /host in a pod].
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Which devices to treat as ENIs.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// Help and man pages are for every locale.
    #[test]
    fn help_is_ascii() {
        let mut command = <Cli as clap::CommandFactory>::command();
        command.build();
        for one in [&mut command.clone()].into_iter().chain(command.get_subcommands_mut()) {
            let help = one.render_long_help().to_string();
            assert!(help.is_ascii(), "{help}");
        }
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
}
