//! Facts about the node: devices, ENIs, conntrack, names of pods and services.

pub mod conntrack;
pub mod devices;
pub mod diversions;
pub mod enis;
pub mod ethtool;
pub mod nftables;
mod pace;
pub mod pods;
pub mod port_names;
pub mod source;
