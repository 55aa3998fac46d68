//! The numbers that other tools show, and what they are made of.
//!
//! In: made by `path::account`. Out: serialised as it stands. It must not compute anything.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CauseKind;

/// The numbers other tools show, and what they are made of.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Accounting {
    /// By cAdvisor's and the CloudWatch agent's rules.
    pub container_insights: ContainerInsights,
    /// By EC2's rules.
    pub ec2: Ec2,
    /// The parts of `node_network_total_bytes`; their sum is exactly that number.
    pub terms: Vec<Term>,
    /// The same by name: bytes.
    #[serde(default)]
    pub term_bytes: BTreeMap<String, i64>,
}

/// `node_network_total_bytes` (Container Insights), from the kernel's device counters.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ContainerInsights {
    /// Rx and tx bytes of every counted device, in the window.
    pub node_network_total_bytes: Option<u64>,
    /// The same as CloudWatch shows it: bytes a second.
    pub bytes_per_second: Option<f64>,
    /// Of `node_network_total_bytes`, those of devices that took their counters along when they went away in the window:
    /// netpath's own count of them.
    #[serde(default)]
    pub vanished_devices_bytes: u64,
    /// What it logs for each interface that it counts, in order of ifindex.
    #[serde(default)]
    pub interfaces: Vec<InterfaceMetrics>,
    /// What it logs for the pod behind each veth, in order of ifindex.
    #[serde(default)]
    pub pods: Vec<PodMetrics>,
}

/// A metric of traffic.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Traffic {
    /// In the window.
    pub bytes: u64,
    /// As CloudWatch shows it; `null` for a window without length.
    pub bytes_per_second: Option<f64>,
}

/// What Container Insights logs for one interface of the node.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct InterfaceMetrics {
    /// Device name.
    pub device: String,
    /// Device index.
    pub ifindex: u32,
    /// Received.
    pub node_interface_network_rx_bytes: Traffic,
    /// Sent.
    pub node_interface_network_tx_bytes: Traffic,
    /// Both.
    pub node_interface_network_total_bytes: Traffic,
}

/// What Container Insights logs for one pod, as far as it passes this veth. The pod's view: it receives what the host's end
/// of the pair sends.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct PodMetrics {
    /// `namespace/name`; `null` if it is not known whose veth it is.
    pub pod: Option<String>,
    /// Name of the host's end of its veth pair.
    pub device: String,
    /// Index of that.
    pub ifindex: u32,
    /// Received by the pod.
    pub pod_network_rx_bytes: Traffic,
    /// Sent by the pod.
    pub pod_network_tx_bytes: Traffic,
}

/// EC2's `NetworkIn` and `NetworkOut`, from the ENIs' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Ec2 {
    /// Sum of rx bytes over the ENIs, in the window.
    pub network_in_bytes: Option<u64>,
    /// Sum of tx bytes over the ENIs, in the window.
    pub network_out_bytes: Option<u64>,
}

/// A part of `node_network_total_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Term {
    /// Which.
    pub name: TermKind,
    /// Bytes; negative where netpath saw more than the kernel counted.
    pub bytes: i64,
    /// One sentence for people.
    pub explanation: String,
}

/// What a part of `node_network_total_bytes` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermKind {
    /// Seen on the ENIs themselves.
    Eni,
    /// The same bytes again, on the host's end of the pods' veth pairs.
    EniCopyOnVeth,
    /// The same bytes again, on VLAN devices that stand on an ENI.
    EniCopyOnVlan,
    /// Between pods of this node.
    Local,
    /// Between this node and its own pods.
    Host,
    /// Dropped on this node.
    Undelivered,
    /// Path unknown.
    Unresolved,
    /// Seen on bridges, tunnels and other devices on the way.
    OtherDevices,
    /// Seen, but in no flow.
    Unattributed,
    /// Not seen by netpath, for no known reason.
    Residual,
    /// Not seen by netpath, for this reason.
    #[serde(untagged)]
    Cause(CauseKind),
}

/// As it is serialised.
impl fmt::Display for TermKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
