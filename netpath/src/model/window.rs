//! The node, the time that was measured, and the two directions of a device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Direction as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// TC ingress.
    Rx,
    /// TC egress.
    Tx,
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `uname -n`.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// EC2 instance id.
    pub instance_id: Option<String>,
    /// Id of its availability zone, the same for every account (`use1-az1`); `null` if it is not known.
    #[serde(default)]
    pub zone_id: Option<String>,
    /// The VPC's CIDR blocks; empty if they are not known.
    #[serde(default)]
    pub vpc_cidr_blocks: Vec<String>,
}

/// The time that was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Window {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Length by the monotonic clock, nanoseconds.
    pub duration_ns: u64,
    /// How far apart the devices' counters and netpath's own were read at the window's ends; `null` if they were not read.
    #[serde(default)]
    pub skew_ns: Option<Skew>,
    /// Length as asked for (`--interval`), nanoseconds; `null` if there is one window.
    #[serde(default)]
    pub interval_ns: Option<u64>,
    /// How much later than asked for it was closed, nanoseconds; `null` if there is one window, or it was ended by other means.
    /// What passed meanwhile is in the window.
    #[serde(default)]
    pub late_ns: Option<u64>,
}

/// From the first to the last reading of a device's counters around one end of the window, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Skew {
    /// When the window was opened.
    pub start: u64,
    /// When it was closed.
    pub end: u64,
}
