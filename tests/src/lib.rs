//! The lab: a simulated EKS node in network namespaces, traffic to run on it, and witnesses that measure it.
//!
//! In: which pods, which NAT. Out: real packets through real veth pairs, and the kernel's own account of them.
//! The lab must not use any code of netpath: its numbers are what netpath's numbers are held against.
//!
//! Everything needs root. Every namespace, process and socket made here ends with the [`Lab`] that made it; what a killed
//! process left behind is removed when the next lab starts.
//!
//! ```text
//!  netpath-<pid>-<n>-…   pod-client  pod-server            node                  vpc                outside
//!                          eth0        eth0     eni<11 hex>    eth0    node-eth0    outside0         eth0
//!                            └───────────└──────── × 2 ── routes ──────── 10.0.0.1 ──────────── 198.51.100.7
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod binary;
mod bpf;
mod cable;
mod capture;
mod cleanup;
mod conntrack;
mod containerd;
mod counters;
mod hooks;
pub mod http;
mod interrupt;
mod iperf;
mod namespace;
mod nat;
mod offload;
mod overlay;
mod peering;
mod process;
mod programs;
mod prometheus;
mod qdisc;
mod records;
pub mod report;
mod schema;
pub mod terminal;
mod topology;
pub mod trace;
pub mod traffic;
mod tun;
mod wait;
mod window;
mod wiring;
mod xdp;

pub use binary::{netpath_binary, python};
pub use capture::{Capture, Packet};
pub use cleanup::{namespaces_of, remove_all_and_stop_building};
pub use conntrack::{Connection, Tuple, add_connections, connections, conntrack_drops, conntrack_number};
pub use containerd::Containerd;
pub use counters::{Counters, counters, device_counters};
pub use hooks::{TcFilter, attached_programs, detach_first, netpath_hooks, tc_filters};
pub use interrupt::{clean_up_when_interrupted, stop_if_interrupted};
pub use iperf::{Load, Stream, Totals, iperf3};
pub use namespace::Namespace;
pub use nat::TrafficPolicy;
pub use offload::set_offload;
pub use peering::join_vpcs;
pub use process::{Running, output_within, resident_kb, signal};
pub use programs::{Answer, attach, behind_vlan_push, vlan_mark};
pub use prometheus::Prometheus;
pub use qdisc::{RootQdisc, root_qdisc, tc};
pub use report::Report;
pub use schema::read;
pub use topology::{Eni, Host, Lab, LabBuilder, NODE_ETH1_IPV4, POD_NAMESPACE, Pod, VPC_CIDR, veth_name};
pub use tun::open_tun;
pub use wait::wait_until;
pub use window::{Measured, OpenWindow, wait_until_open};
pub use wiring::{introduce, ip, ip_batch};
pub use xdp::{Xdp, XdpAnswer, XdpRun};
