//! Options of `netpath serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;

use super::AttachArgs;
use super::record::size;
use super::time::{age, interval};
use crate::serve::emf::Target;
use crate::serve::otlp::Endpoint;
use crate::serve::zones::Zone;

/// Options of `netpath serve`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "\
Examples:
  netpath serve                               curl http://127.0.0.1:9456/metrics
  netpath serve --listen 0.0.0.0:9456         for a Prometheus elsewhere; anybody who reaches it may read it
  netpath serve --flows /var/lib/netpath/flows
                                              files of flow records besides
  netpath serve --otlp http://127.0.0.1:4318  for an OpenTelemetry collector on this node
  netpath serve --config /etc/netpath.toml    options from a file

FILE is TOML with the long names of these options; what is given on the command line goes before it:
  listen = \"127.0.0.1:9456\"
  eni = [\"ens*\"]
  zone = [\"10.0.0.0/19=use1-az1\", \"10.0.32.0/19=use1-az2\"]

Needs what report needs, and keeps no more than four capabilities. Ends on SIGTERM or Ctrl-C."
)]
pub struct ServeArgs {
    /// Where to listen. On another address than loopback anybody who reaches it may read what this node's pods talk to.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9456")]
    pub listen: SocketAddr,
    /// Length of each window.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = interval, allow_negative_numbers = true)]
    pub interval: Duration,
    /// Send series and flows of each window to the OpenTelemetry collector at this URL, as OTLP over HTTP.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<Endpoint>,
    /// Take options from this file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the cluster, for systems that want one.
    #[arg(long, value_name = "NAME", env = "CLUSTER_NAME", default_value = "", hide_default_value = true)]
    pub cluster: String,
    /// Name of this node in the cluster [default: its host name].
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Write CloudWatch events (EMF): to stdout, for a log collector such as Fluent Bit, or to the CloudWatch agent (tcp:127.0.0.1:25888).
    #[arg(long, value_name = "stdout|tcp:ADDRESS:PORT")]
    pub emf: Option<Target>,
    /// The log group that the CloudWatch agent writes these events to.
    #[arg(long, value_name = "NAME", default_value = "/netpath/performance", requires = "emf")]
    pub emf_log_group: String,
    /// Have series of veths, too. A pod's bytes are in its own series without it.
    #[arg(long)]
    pub veths: bool,
    /// How many series of pods, devices and ENIs there may be. Further ones are left out, and counted.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub max_series: usize,
    /// The availability zone id of a subnet, for bytes by zone: 10.0.0.0/19=use1-az1. May be given more than once. This node's own
    /// zone is known by IMDS, or else by its ENIs' addresses.
    #[arg(long = "zone", value_name = "SUBNET=ID")]
    pub zones: Vec<Zone>,
    /// Write records of all flows into this folder, for ClickHouse, DuckDB or Athena to read;
    /// <https://github.com/netpath/netpath/blob/main/docs/fleet.md> has their queries. Several nodes may share it.
    #[arg(long, value_name = "DIR")]
    pub flows: Option<PathBuf>,
    /// How large this node's files there may become together; then the oldest go.
    #[arg(long, value_name = "SIZE", default_value = "1GB", value_parser = size, requires = "flows")]
    pub flows_max_size: ByteSize,
    /// How old they may become.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = age, requires = "flows")]
    pub flows_max_age: Duration,
    /// What to measure.
    #[command(flatten)]
    pub attach: AttachArgs,
}
