//! The report, schema `netpath.report/1`: the one model that every renderer, exporter and test reads.
//!
//! In: made by `path::account`. Out: serialised as it stands. Absent facts are `null`, never 0. Fields are added, never
//! renamed. This file must not compute anything.

mod accounting;
mod conversation;
mod device;
mod diff;
mod flow;
mod grouping;
mod names;
mod under_way;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::accounting::*;
pub use self::conversation::*;
pub use self::device::*;
pub use self::diff::*;
pub use self::flow::*;
pub use self::grouping::*;
pub use self::names::*;
pub use self::under_way::*;
use crate::model::{Conntrack, ConntrackTable, Eni, Ipam, NodeInfo, Source, Window};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "netpath.report/1";

/// One window of one node, explained.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Version of the netpath that made the report.
    pub netpath_version: String,
    /// The node.
    pub node: NodeInfo,
    /// The time that was measured.
    pub window: Window,
    /// Every device, in order of ifindex.
    pub devices: Vec<Device>,
    /// Every flow, most bytes first.
    pub flows: Vec<Flow>,
    /// Each byte counted once, at its flow's first hop.
    pub totals: Totals,
    /// The numbers other tools show, and what they are made of.
    pub accounting: Accounting,
    /// What netpath knows of its own gaps.
    pub health: Health,
    /// Where names came from, and which are missing.
    #[serde(default)]
    pub names: Names,
    /// What `flows` is limited to; `null` if it has all. Everything else in the report is of the whole node.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// `flows` by who talked to whom, most bytes first.
    #[serde(default)]
    pub conversations: Vec<Conversation>,
    /// `flows` added up, if that was asked for.
    #[serde(default)]
    pub grouping: Option<Grouping>,
    /// ENIs and branch ENIs, those with a device first, in order of ifindex.
    #[serde(default)]
    pub enis: Vec<Eni>,
    /// What ipamd's metrics say; `null` if they could not be read.
    #[serde(default)]
    pub ipam: Option<Ipam>,
    /// Who was asked about ENIs, and how that went. Those of names are in `names`.
    #[serde(default)]
    pub sources: Vec<Source>,
}

/// What netpath knows of its own gaps.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Health {
    /// Whether a device was taken for an ENI. If none was, nothing in the report can have crossed one, and its paths and
    /// totals are not to be trusted.
    #[serde(default)]
    pub eni: EniHealth,
    /// If none was: why that matters, and what to do, as one line; otherwise `null`.
    #[serde(default)]
    pub eni_reason: Option<String>,
    /// Packets of flows that found no room in the map.
    pub map_full_packets: u64,
    /// Packets whose headers could not be read.
    pub unparsed_packets: u64,
    /// Later fragments whose first fragment was not seen.
    pub orphan_fragment_packets: u64,
    /// Packets that are neither IPv4 nor IPv6.
    pub non_ip_packets: u64,
    /// Packets that found no room even in the unattributed counters; their device is unknown.
    pub lost_packets: u64,
    /// Whether NAT could be followed.
    pub conntrack: Conntrack,
    /// If it could not: why, and what to do; otherwise `null`.
    pub conntrack_reason: Option<String>,
    /// How full its table was, and what that led to; `null` if it could not be read.
    #[serde(default)]
    pub conntrack_table: Option<ConntrackTable>,
    /// Flows whose path is unknown, since a partner of what was seen is missing: those of class `unresolved`.
    pub unjoined_flows: u64,
    /// Flows whose addresses conntrack translates in more than one way (a port was reused in the window, or zones
    /// differ), so that netpath did not follow NAT for them.
    pub ambiguous_flows: u64,
    /// Devices whose traffic was not (fully) seen.
    pub blind_devices: u64,
    /// How often the kernel dropped messages about devices, since too many waited. The devices were read anew then; those that
    /// had come and gone meanwhile are not in the report.
    #[serde(default)]
    pub device_overruns: u64,
    /// Why packets that the kernel drops could not be seen; `null` if they could.
    #[serde(default)]
    pub drops_unseen: Option<String>,
    /// Dropped packets that there was no room to record.
    #[serde(default)]
    pub drops_lost_packets: u64,
    /// Devices on which netpath made a clsact qdisc, for which the kernel takes their queues out of service for a moment.
    #[serde(default)]
    pub clsact_new_devices: u64,
    /// Packets that these devices were to send and dropped at that moment, as they count them; `null` if the kernel does not
    /// count them (before Linux 6.11), or netpath made no qdisc.
    #[serde(default)]
    pub clsact_lost_packets: Option<u64>,
}

/// Whether a device was taken for an ENI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EniHealth {
    /// None was, and it is not known whether there is a default route. Also in reports of a netpath that did not look.
    #[default]
    Unknown,
    /// At least one.
    Found,
    /// None, though a default route leads somewhere: the report cannot be trusted.
    None,
    /// None, and no default route either: as far as routes tell, this network leads nowhere else.
    NoUplink,
}
