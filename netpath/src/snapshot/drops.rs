//! Packets that the kernel dropped, by the tracepoint `skb:kfree_skb`.

use serde::{Deserialize, Serialize};

use super::Tuple;

/// What the kernel dropped in the window, in all network namespaces of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDrops {
    /// Whether drops were seen at all. In snapshots of a netpath that did not look: no.
    pub watched: bool,
    /// If not: why.
    #[serde(default)]
    pub unwatched_reason: Option<String>,
    /// Dropped packets that there was no room to record.
    #[serde(default)]
    pub lost_packets: u64,
    /// Those that were recorded, in no particular order.
    #[serde(default)]
    pub records: Vec<KernelDrop>,
}

/// Packets of a flow that were dropped for one reason at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDrop {
    /// As they were then: between two hooks NAT may have changed them.
    pub tuple: Tuple,
    /// The name of the kernel's reason (`NETFILTER_DROP`); `None` before Linux 5.17, which has no reasons.
    #[serde(default)]
    pub reason: Option<String>,
    /// The function that dropped them, and how far in it: `nf_hook_slow+0x9c`; `None` if the kernel does not show names.
    #[serde(default)]
    pub location: Option<String>,
    /// Whether it was in the node's own network namespace; `None` if that is not known.
    #[serde(default)]
    pub in_node: Option<bool>,
    /// How many.
    pub packets: u64,
}
