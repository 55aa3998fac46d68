//! Options of `netpath trace`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use netpath_ebpf::trace::MAX_SNAPLEN;

use super::number::positive;
use super::time::duration;
use crate::render::trace::pcapng::HopChoice;

/// Options of `netpath trace`.
#[expect(clippy::struct_excessive_bools, reason = "switches")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netpath trace --pod default/client --count 5 tcp port 8080
  netpath trace --drops                            what the kernel drops, and why
  netpath trace 'tcp[tcpflags] & tcp-rst != 0'     who resets connections
  netpath trace seq 75297                          the segment with this sequence number, before NAT and behind
  netpath trace svc default/api and not host 10.0.0.7 -d 1m
  netpath trace -f pcapng -o trace.pcapng host 198.51.100.7
                                                   for Wireshark: a packet id for each trip, a comment for each hop
  netpath trace -f json udp port 53 | jq -c 'select(.end == \"dropped\")'
  netpath trace --pod default/client -- curl -s http://api.default

FILTER is tcpdump's language (host, net, port, portrange, src, dst, ip, ip6, tcp, udp, icmp, icmp6, sctp, proto, less,
greater, tcp[tcpflags], and, or, not, parentheses), and pod NS/NAME, ns NAME, svc NS/NAME[:PORT], dev NAME, seq NUMBER. It is
enough that it fits a packet at one of its hops: those before and behind are shown, too.

Needs what report needs; CAP_SYSLOG besides, which root has, names the places of drops.")]
pub struct TraceArgs {
    /// Which packets; without it, all.
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only packets of this pod (namespace/name). netpath then attaches to ENIs and to this pod alone. May be given more than
    /// once.
    #[arg(long = "pod", value_name = "NS/NAME")]
    pub pods: Vec<String>,
    /// End after this many packets.
    #[arg(short = 'n', long, value_name = "N", value_parser = positive::<u64>, allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// How long to trace: 10 (seconds), 500ms, 1m30s, 1h [default: 10s]. With COMMAND, how long it may run at most.
    #[arg(short, long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true)]
    pub duration: Option<Duration>,
    /// Only packets that the kernel dropped. Before Linux 5.17 it gives no reasons: then those that it freed.
    #[arg(long)]
    pub drops: bool,
    /// Format of the output. With JSON or pcapng on stdout, what COMMAND writes to its stdout goes to stderr.
    #[arg(short, long, value_enum, default_value_t = TraceFormat::Text)]
    pub format: TraceFormat,
    /// Write to this file instead of stdout; '-' is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Which hops of a packet to write as pcapng. Wireshark takes further ones for retransmissions.
    #[arg(long, value_enum, default_value_t = HopChoice::All)]
    pub hop: HopChoice,
    /// Keep this many bytes of each packet.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = snaplen())]
    pub snaplen: u32,
    /// Trace one packet in N: all of its hops, or none.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive::<u32>, allow_negative_numbers = true)]
    pub sample: u32,
    /// Trace this many packets a second at most. What is over is counted.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = positive::<u32>, allow_negative_numbers = true)]
    pub rate: u32,
    /// Room for what was not written yet, in MiB: a power of two. What finds no room is counted.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = buffer)]
    pub buffer: u32,
    /// Log what the programs in the kernel decide in rare cases: a buffer that has another
    /// packet than before, for one. To stderr; it takes time for these packets alone.
    #[arg(long)]
    pub debug: bool,
    /// Take devices whose name matches for ENIs, instead of deciding by evidence. May be given more than once.
    #[arg(long = "eni", value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Where the host's files are, for the names of pods [default: found by netpath: /, or /host or /proc/1/root in a pod].
    #[arg(long, value_name = "DIR")]
    pub host_root: Option<PathBuf>,
    /// Attach legacy filters (clsact), as on kernels before 6.6, though this one has TCX.
    #[arg(long)]
    pub clsact: bool,
    /// Make no clsact qdisc: before Linux 6.6, or with --clsact, watch only the devices that have one already.
    #[arg(long)]
    pub no_new_qdisc: bool,
    /// Trace while this command runs, and pass its exit status on.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// An output format of `netpath trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// For people.
    Text,
    /// Schema `netpath.trace/1`: a packet a line, then the summary.
    Json,
    /// For Wireshark, tshark, tcpdump.
    Pcapng,
}

fn snaplen() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::try_from(MAX_SNAPLEN).unwrap_or(i64::MAX))
}

fn buffer(text: &str) -> Result<u32, String> {
    let mib: u32 = text.parse().map_err(|_| "it is no number; give MiB, as 16".to_owned())?;
    if mib.is_power_of_two() && mib <= 1_024 { Ok(mib) } else { Err("give a power of two up to 1024".to_owned()) }
}
