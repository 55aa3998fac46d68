//! Facts about the node: devices, ENIs, conntrack.

pub mod conntrack;
pub mod devices;
pub mod enis;
pub mod ethtool;
pub mod netlink;
