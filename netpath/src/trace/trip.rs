//! What is known of one packet on this node: schema `netpath.trace/1`, one trip a line, and a summary as the last line.
//!
//! In: made by `stitch`. Out: serialised as it stands. Fields are added, never renamed.

use std::net::IpAddr;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{DeviceClass, Direction};

/// The value of `schema` in each line.
pub const SCHEMA: &str = "netpath.trace/1";

/// A line of `netpath trace --format json`.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A packet.
    Trip(Box<Trip>),
    /// The last line.
    Summary(SummaryLine),
}

/// One packet: all hops that the node's hooks saw of it, in order.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Trip {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Its number, from 1 on.
    pub trip: u64,
    /// When it was at its first hop: RFC 3339, UTC, nanoseconds.
    pub at: String,
    /// Protocol: "tcp", "udp", or its number.
    pub proto: String,
    /// IANA number of the protocol.
    #[serde(skip)]
    pub protocol: u8,
    /// `skb->len` at the first hop, in bytes: a super-packet (GSO, GRO) is one packet.
    pub length: u32,
    /// Bytes behind the TCP or UDP header.
    pub payload: u32,
    /// TCP's sequence number, or that of an ICMP echo message.
    pub seq: Option<u32>,
    /// TCP's acknowledgement number, if it has one.
    pub ack: Option<u32>,
    /// TCP's flags as tcpdump writes them: "S", "P.".
    pub flags: Option<String>,
    /// Type and code of an ICMP message.
    pub icmp: Option<[u8; 2]>,
    /// Identification of an IPv4 packet.
    pub ip_id: Option<u16>,
    /// "first" or "later", if it is a fragment.
    pub fragment: Option<Fragment>,
    /// Where it was seen, in order.
    pub hops: Vec<Hop>,
    /// What became of it.
    pub end: End,
    /// Why it was dropped: the kernel's name (`enum skb_drop_reason`), as `NETFILTER_DROP`.
    pub reason: Option<String>,
    /// Where in the kernel it was freed: "`nf_hook_slow+0x9c`".
    pub location: Option<String>,
    /// When it was freed, since the last hop, in ns.
    pub freed_after_ns: Option<u64>,
    /// What is not known of its end, and why, as a sentence.
    pub note: Option<String>,
    /// The trip of the packet whose bytes it repeats.
    pub retransmission_of: Option<u64>,
    /// How long after that one, in ns.
    pub retransmitted_after_ns: Option<u64>,
    /// Whether all that was seen of it could be put together. If not, `note` has the reason.
    pub joined: bool,
    /// Whether no event of it was lost.
    pub complete: bool,
    /// The pod that sent it: `namespace/name`.
    pub src_pod: Option<String>,
    /// The pod that it is for.
    pub dst_pod: Option<String>,
    /// The service that it was sent to: `namespace/name:port`.
    pub service: Option<String>,
}

/// A packet at one hook.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Hop {
    /// The device's name.
    pub device: String,
    /// Its index.
    pub ifindex: u32,
    /// What the device is.
    pub class: DeviceClass,
    /// The pod behind it: `namespace/name`.
    pub pod: Option<String>,
    /// Rx is TC ingress, tx is TC egress.
    pub direction: Direction,
    /// Source address here.
    pub src: IpAddr,
    /// Source port; the identifier of an echo message, 0 of protocols without.
    pub sport: u16,
    /// Destination address here.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Time since the hop before, in ns; 0 for the first.
    pub since_ns: u64,
    /// What changed in the addresses and ports since the hop before.
    pub nat: Option<Translation>,
    /// The hook was passed before the filter accepted the packet: its headers were noted, its bytes were not.
    pub before_match: bool,
    /// `CLOCK_REALTIME`, ns since 1970.
    #[serde(skip)]
    pub at_ns: u64,
    /// The first bytes of the packet, from its link header on; none for a hop before the match.
    #[serde(skip)]
    pub bytes: Bytes,
    /// `skb->len` here.
    #[serde(skip)]
    pub len_bytes: u32,
}

/// What NAT did between two hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Translation {
    /// The source was changed.
    Snat,
    /// The destination was changed: to a service's backend, or back to the pod behind SNAT.
    Dnat,
    /// Both.
    Both,
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fragment {
    /// It has the ports.
    First,
    /// It has none.
    Later,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It left by an ENI, or by a device that sends it on.
    Forwarded,
    /// It came for an address of this node.
    Host,
    /// It left by the veth of a pod.
    Pod,
    /// The kernel dropped it.
    Dropped,
    /// Not known; `note` has the reason.
    Unknown,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct SummaryLine {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// What was traced, and what was not.
    pub summary: Summary,
}

/// What was traced, and what was not. Events are hops and ends of trips: `matched` = `received` + `no_room` + `over_rate` +
/// `sampled_out`.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Summary {
    /// How long the hooks were watched, in ns.
    pub duration_ns: u64,
    /// Trips that were shown.
    pub trips: u64,
    /// Trips that `--count` or `--drops` left out.
    pub not_shown: u64,
    /// Hops of the trips that were shown.
    pub hops: u64,
    /// Events of packets that the filter accepted.
    pub matched: u64,
    /// Events that netpath read.
    pub received: u64,
    /// Events for which the buffer had no room.
    pub no_room: u64,
    /// Events of packets over `--rate`.
    pub over_rate: u64,
    /// Events of packets that are not in the sample.
    pub sampled_out: u64,
    /// Devices that netpath could not attach to, and why.
    pub unwatched: Vec<String>,
    /// Whether drops could be seen, and if not, why.
    pub drops_unseen: Option<String>,
}
