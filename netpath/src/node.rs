//! Facts about the node: devices, conntrack.

pub mod conntrack;
pub mod devices;
pub mod ethtool;
pub mod netlink;
