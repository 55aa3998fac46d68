//! Options of `netpath explain`.

use std::path::PathBuf;

use clap::Args;

use super::MeasureArgs;
use super::number::positive;
use crate::render::units::Units;

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
    /// :port, a pod or a service (namespace/name; wildcards: 'default/web-*'). All of them must match.
    #[arg(value_name = "FLOW", required_unless_present = "device")]
    pub flow: Vec<String>,
    /// Which device; wildcards: 'eni*'.
    #[arg(long, value_name = "NAME", conflicts_with = "flow")]
    pub device: Option<String>,
    /// Read this report (JSON, as `netpath report` writes it) instead of measuring; '-' is stdin. Of many, the last one.
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "command", "duration", "globs", "introspection", "metrics", "max_flows", "host_root", "clsact", "no_new_qdisc",
    ])]
    pub from: Option<PathBuf>,
    /// Explain this many flows, those with the most bytes.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = positive::<usize>, allow_negative_numbers = true)]
    pub top: usize,
    /// Units: decimal (1 kB = 1000 bytes) or binary (1 KiB = 1024 bytes).
    #[arg(long, value_enum, default_value_t = Units::Si)]
    pub units: Units,
    /// What to measure.
    #[command(flatten)]
    pub measure: MeasureArgs,
}
