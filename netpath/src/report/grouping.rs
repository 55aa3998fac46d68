//! What a user limited a report's flows to, and what they are added up by.
//!
//! In: made by `path`. Out: serialised as it stands. It must not compute anything.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PathClass, Totals};

/// What a report's flows are limited to.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Selection {
    /// The options that chose them ("--pod default/web"). Of those with one name, one at least holds; of different names all.
    /// If the report was read from a file, those that it was limited to before come first, and hold besides.
    pub filters: Vec<String>,
    /// Of `filters`, those that the file was written with: it has no other flows, so that none can be found in it.
    #[serde(default)]
    pub filtered_before: Vec<String>,
    /// As the report's totals, of these flows only.
    pub totals: Totals,
    /// If no flow is left: what there was instead, one line an option or more ("pods: default/web, default/db").
    #[serde(default)]
    pub there: Vec<String>,
}

/// What flows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The pods at their ends.
    Pod,
    /// The namespaces of these.
    Namespace,
    /// Where they went.
    Path,
    /// The devices they passed.
    Device,
    /// The services whose addresses their initiators used.
    Service,
    /// Where the other end is: internet, VPC, this node, pods here or elsewhere, link-local.
    Peer,
    /// The pods' workloads, by the pods' names: deployment, daemon set, stateful set, job.
    Workload,
}

/// Flows, added up.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Grouping {
    /// By what.
    pub by: GroupBy,
    /// Most bytes first.
    pub groups: Vec<Group>,
}

/// The flows that have something in common. A flow between two pods is in the groups of both.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Group {
    /// `namespace/name` of the pod, name of the namespace, path, device or service; `null` for flows that have none.
    pub name: Option<String>,
    /// How many; of a device, how often one passed a hook of it.
    pub flows: u64,
    /// `skb->len`: at the flows' first hops, of a device at its hooks.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Of `bytes`, those that the pod, namespace or service sent, or that left by the device; `null` for a path.
    pub sent_bytes: Option<u64>,
    /// Of `bytes`, those that it received. What a pod sends to itself is both.
    pub received_bytes: Option<u64>,
    /// `bytes` by where the flows went.
    pub by_path: BTreeMap<PathClass, u64>,
}
