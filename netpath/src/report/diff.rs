//! What differs between two times, or two nodes.
//!
//! In: made by `path::compare`. Out: serialised as it stands. It must not compute anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GroupBy;
use crate::model::NodeInfo;

/// The schema of a [`Diff`].
pub const DIFF_SCHEMA: &str = "netpath.diff/1";

/// Two reports or recordings, compared. They may be of different length, so that rates are compared.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Diff {
    /// Always [`DIFF_SCHEMA`].
    pub schema: String,
    /// Version of the netpath that compared.
    pub netpath_version: String,
    /// The one.
    pub before: Compared,
    /// The other.
    pub after: Compared,
    /// What the flows were added up by, one after the other.
    pub comparisons: Vec<Comparison>,
}

/// One of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Compared {
    /// The node.
    pub node: NodeInfo,
    /// The options that chose its flows, as in a report's selection, those that the file was written with included; empty for
    /// all flows.
    pub filters: Vec<String>,
    /// When the first window began: RFC 3339, UTC.
    pub started_at: String,
    /// How long its windows are, together: nanoseconds.
    pub duration_ns: u64,
    /// How many windows.
    pub windows: u64,
    /// Rx and tx bytes of every device that Container Insights counts; `null` if that is not known of all windows.
    pub node_network_total_bytes: Option<u64>,
    /// What ENIs received, likewise.
    pub network_in_bytes: Option<u64>,
    /// What ENIs sent, likewise.
    pub network_out_bytes: Option<u64>,
    /// Packets that are in no flow, for want of room or since they could not be read.
    pub packets_in_no_flow: u64,
    /// Devices that netpath did not (fully) see; the most of all windows.
    pub blind_devices: u64,
    /// Why nothing that is said of ENIs can be trusted, if that is so.
    pub eni_reason: Option<String>,
}

/// Flows of both, added up by what they have in common.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Comparison {
    /// By what.
    pub by: GroupBy,
    /// The largest change first.
    pub changes: Vec<Change>,
}

/// A pod, a path or the like, in both.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Change {
    /// As in a report's groups; `null` for flows that have none.
    pub name: Option<String>,
    /// Which way.
    pub kind: ChangeKind,
    /// `null` if it was not there.
    pub before: Option<Amount>,
    /// `null` if it is not there.
    pub after: Option<Amount>,
    /// Bytes a second after, less those before; `null` for windows without length.
    pub bytes_per_second: Option<f64>,
}

/// Which way something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It was not there before.
    New,
    /// It is no longer there.
    Gone,
    /// More bytes a second.
    Grew,
    /// Fewer.
    Shrank,
    /// As many, or that is not known.
    Same,
}

/// What one of the two moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Amount {
    /// As in a report's groups.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// How many; of several windows, the most in one of them.
    pub flows: u64,
    /// On the average; `null` for windows without length.
    pub bytes_per_second: Option<f64>,
}
