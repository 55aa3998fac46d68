//! Facts about the node: devices, conntrack.

pub mod conntrack;
