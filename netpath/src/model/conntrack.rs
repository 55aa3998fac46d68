//! Whether NAT can be followed, and how full conntrack's table is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether NAT could be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conntrack {
    /// Dumps and events are complete.
    Ok,
    /// This kernel or namespace has none, or netpath may not read it.
    Unavailable,
    /// Events were lost; a fresh dump was taken.
    Overrun,
}

/// How full conntrack's table is, and what conntrack counted in the window. `drop`, `early_drop` and `insert_failed` are the
/// kernel's names, as in `conntrack -S`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ConntrackTable {
    /// Connections in it when the window was closed.
    pub connections: u64,
    /// For how many there is room (`nf_conntrack_max`); `None` if for any number.
    pub limit: Option<u64>,
    /// Packets that were dropped, since a full table had no room for their connection, or since they raced another packet of
    /// the same new connection.
    pub drop: u64,
    /// Connections that a full table gave up for new ones.
    pub early_drop: u64,
    /// Connections that were not taken into the table, mostly those that lost such a race.
    pub insert_failed: u64,
}

impl ConntrackTable {
    /// Whether so many connections are nearly as many as there is room for.
    #[must_use]
    pub const fn nearly_full(connections: u64, limit: u64) -> bool {
        limit > 0 && connections >= limit - limit / 10
    }
}
