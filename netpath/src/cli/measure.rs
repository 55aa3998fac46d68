//! Options of what is measured, and who is asked about it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::time::duration;
use crate::node::enis::{self, Endpoints};
use crate::pattern::Pattern;

/// What to measure, and for how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to measure")]
pub struct MeasureArgs {
    /// How long to measure: 10 (seconds), 500ms, 1m30s, 1h [default: 10s]. With COMMAND, how long it may
    /// run at most: then the window closes, the command and its children get SIGTERM (SIGKILL 5 seconds later), and the exit
    /// status is 124, as of timeout(1).
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
    /// What to attach to, and how.
    #[command(flatten)]
    pub attach: AttachArgs,
    /// Measure while this command runs, and pass its exit status on: 127 if there is no such command, 126 if it cannot be run.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// What to attach to, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to measure")]
pub struct AttachArgs {
    /// Which devices to treat as ENIs.
    #[command(flatten)]
    pub eni: EniArgs,
    /// Where the host's files are, for the names of pods [default: found by netpath: /, or /host or /proc/1/root in a pod].
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// How many flows the kernel can hold between two drains, for IPv4 and for IPv6 each. A window can hold eight
    /// times as many, of both together.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_flows: u32,
    /// Attach legacy filters (clsact), as on kernels before 6.6, even if this one has TCX. That is quicker (TCX takes some
    /// 17 ms per device), but 'kill -9' leaves the filters until 'netpath cleanup' or the next start, and a device
    /// without a clsact qdisc gets one: the kernel then loses what the device sends for about a millisecond. What waits in a
    /// queue is never thrown away: netpath waits until it is empty, and does not measure a device whose queue stays in use.
    #[arg(long)]
    pub clsact: bool,
    /// Create no clsact qdisc: before Linux 6.6, or with --clsact, measure only the devices that have one already.
    #[arg(long)]
    pub no_new_qdisc: bool,
}

/// Which devices to treat as ENIs, and whom to ask about them.
#[derive(Debug, Args)]
pub struct EniArgs {
    /// Treat devices whose name matches as ENIs, instead of deciding by evidence (driver, place on a bus, hardware addresses that
    /// IMDS names). May be given more than once. The host's ends of pods' veth pairs are refused, whatever their name.
    #[arg(long = "eni", value_name = "GLOB", value_parser = glob)]
    pub globs: Vec<String>,
    /// Where the VPC CNI's ipamd serves its introspection: the variable `INTROSPECTION_BIND_ADDRESS` of aws-node.
    #[arg(long = "ipamd-introspection", value_name = "ADDRESS:PORT", default_value_t = enis::INTROSPECTION, hide_short_help = true)]
    pub introspection: SocketAddr,
    /// Where the VPC CNI's ipamd serves its metrics.
    #[arg(long = "ipamd-metrics", value_name = "ADDRESS:PORT", default_value_t = enis::METRICS, hide_short_help = true)]
    pub metrics: SocketAddr,
    /// Send no packet: ask neither the instance metadata service nor ipamd. ENIs then have only the names that the
    /// kernel has for them.
    #[arg(long, env = "NETPATH_OFFLINE", value_parser = FalseyValueParser::new())]
    pub offline: bool,
}

fn glob(text: &str) -> Result<String, String> {
    Pattern::new(text).map(|_| text.to_owned()).map_err(|why| format!("{why}; write it like 'eth*' or 'ens5'"))
}

impl EniArgs {
    /// Whom to ask.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        if self.offline { Endpoints::none() } else { Endpoints::new(self.introspection, self.metrics) }
    }
}
