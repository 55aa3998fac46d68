//! Sources of the names of pods and services, and what ties a name to a device or a flow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A source of names, in order of precedence: where several say the same, the first is named as the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The VPC CNI's record of addresses, `/var/run/aws-node/ipam.json`.
    VpcCni,
    /// The container runtime's socket (CRI): containerd's or CRI-O's.
    Cri,
    /// Network namespaces of processes and their cgroups; the names for the uids come from another source.
    Processes,
    /// The folders of `/var/log/pods`.
    PodLogs,
    /// kube-proxy's NAT rules.
    KubeProxy,
}

/// What a source of names was good for.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NameSourceReport {
    /// Which.
    pub source: NameSource,
    /// Whether it could be read: the worst of the window's readings.
    pub state: NameSourceState,
    /// How many pods or services it named at some time in the window.
    pub count: u64,
    /// If something is missing: why, as one line.
    pub reason: Option<String>,
}

/// Whether a source of names could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSourceState {
    /// It was.
    Ok,
    /// This node has none.
    Absent,
    /// It is there, and parts of it are not as they should be; what could be read is used.
    Incomplete,
    /// It is there, and is not what it should be.
    Malformed,
    /// It is there, and netpath may not or cannot read it.
    Unreadable,
    /// It did not answer in time.
    Slow,
}

/// Where a pod's name came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NameOrigin {
    /// Who has the name.
    pub source: NameSource,
    /// How it belongs to the device or the flow.
    pub by: NameLink,
}

/// What ties a pod's name to a device or a flow, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameLink {
    /// The veth's other end is in the pod's network namespace.
    NetworkNamespace,
    /// The veth's name is the VPC CNI's hash of the pod's name.
    VethName,
    /// The pod had the address, throughout the window.
    Address,
}
