//! Facts about the node: devices, conntrack, names of pods and services.

pub mod conntrack;
pub mod devices;
pub mod ethtool;
pub mod netlink;
pub mod pods;
