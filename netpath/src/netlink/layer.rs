//! How the frames of a device begin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a device's frames begin, by its hardware type (`ARPHRD_*`): it decides which program can read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// With an Ethernet header. The loopback device has one too.
    Ethernet,
    /// With the IP header.
    Ip,
    /// With something netpath does not know: its traffic cannot be attributed.
    Unknown,
}
