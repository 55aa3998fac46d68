//! What a window knows of the node itself.

use std::os::unix::fs::MetadataExt as _;

use rustix::system::uname;

use crate::model::NodeInfo;
use crate::node::devices::uplink::Uplinks;

/// The devices of default routes; `None` if routes cannot be read.
pub fn default_routes() -> Option<Vec<u32>> {
    Uplinks::read().ok().map(|uplinks| uplinks.devices())
}

/// The inode of this process's network namespace; 0 if it is not known.
pub fn own_netns() -> u32 {
    let inode = std::fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
    u32::try_from(inode).unwrap_or_default()
}

/// Its name and kernel (`uname(2)`), still without what EC2 knows of it.
pub fn node_info() -> NodeInfo {
    let name = uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    NodeInfo { hostname: text(name.nodename()), kernel: text(name.release()), ..NodeInfo::default() }
}
