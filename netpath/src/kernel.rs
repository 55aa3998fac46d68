//! The kernel side as user space sees it: load the object, attach its programs, see who else is attached, drain its maps.
//!
//! In: devices to attach to. Out: counts per flow and hook. It must not know what a flow means.

pub mod attach;
mod bpf;
pub mod btf;
pub mod drain;
pub mod error;
mod filter_owner;
pub mod flow_counts;
pub mod frees;
pub mod hooks;
pub mod load;
pub mod stale_filters;
pub mod symbols;
pub mod trace;
