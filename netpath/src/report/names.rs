//! Where the names of pods and services came from, and which are missing.
//!
//! In: made by `node::pods` and `path::names`. Out: serialised as it stands. It must not compute anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::NameSourceReport;

/// Where the names of pods and services came from, which are missing, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Names {
    /// Every source, in order of precedence; empty if none was asked.
    pub sources: Vec<NameSourceReport>,
    /// Veths with traffic whose pod no source knows.
    pub unknown_veths: u64,
    /// Veths of which two sources say different pods: not named.
    pub disputed_veths: u64,
    /// Addresses that two pods had in the window, or two sources give to different pods: not named, save where the veth
    /// tells the two apart.
    pub disputed_addresses: u64,
    /// Addresses that a pod had in a part of the window only: named only where the veth proves it.
    pub passing_addresses: u64,
}
