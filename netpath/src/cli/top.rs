//! Options of `netpath top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::time::{duration, interval};
use super::{AttachArgs, FilterArgs};
use crate::render::units::Units;

/// Options of `netpath top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath top                                 this node, each second, until q
  netpath top --pod 'default/web-*'           only these pods; '/' in the view changes that
  netpath top --replay node.rec               a recording, at its own pace; Left and Right seek

Keys: 1 to 5 choose pods, conversations, devices, services, or the parts of CloudWatch's number; Enter opens
what is selected; ? has all others. Attaches once. Needs what report needs; a replay needs no rights.
In a pipe or file use netpath report --interval.")]
pub struct TopArgs {
    /// Length of each window.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, allow_negative_numbers = true)]
    pub interval: Duration,
    /// End after this time [default: when q is pressed].
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
    /// Show what was recorded by netpath record, instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "interval", "duration", "globs", "introspection", "metrics", "host_root", "max_flows", "clsact", "no_new_qdisc",
    ])]
    pub replay: Option<PathBuf>,
    /// Units to begin with: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
    /// Which flows to show.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What to measure.
    #[command(flatten)]
    pub attach: AttachArgs,
}
