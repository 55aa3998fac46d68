//! The devices of a report: what they are, what they and netpath's hooks counted, and why the two differ.
//!
//! In: made by `path::account`. Out: serialised as it stands. It must not compute anything.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Blind, DeviceFacts, NameOrigin};

/// A network device.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Device {
    /// What it is, and what was counted on it.
    #[serde(flatten)]
    pub facts: DeviceFacts,
    /// The pod behind a veth, as `namespace/name`.
    pub pod: Option<String>,
    /// Where that name came from.
    #[serde(default)]
    pub pod_origin: Option<NameOrigin>,
    /// Why the device's traffic was not (fully) seen, as one line; `null` if it was.
    pub blind: Option<String>,
    /// The same by kind; empty if all was seen.
    #[serde(default)]
    pub blind_reasons: Vec<Blind>,
    /// Whether Container Insights counts it in `node_network_total_bytes` (google/cadvisor,
    /// `container/libcontainer/handler.go`, `ignoredDevicePrefixes`).
    pub counted_by_container_insights: bool,
    /// What the ingress hook saw; `null` if not attached.
    pub rx: Option<HookCounts>,
    /// What the egress hook saw; `null` if not attached.
    pub tx: Option<HookCounts>,
    /// What the kernel counted less what netpath saw, and why they differ; `null` if `kernel` is.
    #[serde(default)]
    pub residual: Option<Residuals>,
}

/// Of both directions of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Residuals {
    /// Of what it received.
    pub rx: Residual,
    /// Of what it sent.
    pub tx: Residual,
}

/// What the kernel counted less what netpath's hook saw, of one direction of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Residual {
    /// Bytes; negative where the hook saw more.
    pub bytes: i64,
    /// Packets; negative where the hook saw more.
    pub packets: i64,
    /// Why, as far as the numbers prove it.
    pub causes: Vec<Cause>,
    /// Of `bytes`, those without a known cause.
    pub unexplained_bytes: i64,
}

/// A reason for which the kernel counted other bytes than netpath's hook saw.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Cause {
    /// Which; the term of the same name sums it over all devices.
    pub name: CauseKind,
    /// Of the residual's bytes, those it explains; `null` if the kernel does not tell how many they are.
    pub bytes: Option<i64>,
    /// Packets, where it is about packets.
    pub packets: Option<u64>,
    /// One sentence for people.
    pub explanation: String,
}

/// Why the kernel counted other bytes than netpath's hook saw, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseKind {
    /// netpath had no hook on the device.
    NotAttached,
    /// Packets that pass the ingress hook a second time, and that the device counted once.
    ShownAgain,
    /// Headers of frames that the kernel handles merged (GRO, GSO).
    GroGsoHeaders,
    /// Ethernet headers that the device leaves out of its count.
    EthernetHeaders,
    /// What `WireGuard` puts around each packet.
    Encryption,
    /// VLAN tags that one of the two counts leaves out.
    VlanTags,
    /// Dropped between the device's counter and the ingress hook.
    DroppedBeforeHook,
    /// Dropped between the egress hook and the device's counter.
    DroppedAfterHook,
    /// Dropped by a tc filter behind netpath's.
    DroppedByFilter,
    /// Dropped by the device's queue.
    DroppedByQdisc,
    /// Waiting in the device's queue.
    Queued,
    /// Possibly dropped, redirected or sent by an XDP program.
    XdpProgram,
    /// Possibly dropped or redirected by another program on the hook.
    OtherProgram,
    /// Possibly passed by the network card alone.
    HardwareOffload,
    /// Counted on a new device before netpath was attached.
    AttachWindow,
    /// Passed while counters were being read.
    Sampling,
}

/// As it is serialised.
impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What one hook saw in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct HookCounts {
    /// Bytes (`skb->len`) of everything the hook saw, unattributed ones included.
    pub bytes: u64,
    /// Packets of everything the hook saw, unattributed ones included.
    pub packets: u64,
    /// Bytes as frames on the wire.
    pub wire_bytes: u64,
    /// Of `bytes`, those in no flow.
    pub unattributed_bytes: u64,
    /// Of `packets`, those in no flow.
    pub unattributed_packets: u64,
}
