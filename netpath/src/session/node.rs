//! What a window knows of the node itself.

use rustix::system::uname;

use crate::model::NodeInfo;
use crate::node::devices::uplink::Uplinks;

/// The devices of default routes; `None` if routes cannot be read.
pub fn default_routes() -> Option<Vec<u32>> {
    Uplinks::read().ok().map(|uplinks| uplinks.devices())
}

/// Its name and kernel (`uname(2)`), still without what EC2 knows of it.
pub fn node_info() -> NodeInfo {
    let name = uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    NodeInfo {
        hostname: text(name.nodename()),
        kernel: text(name.release()),
        instance_id: None,
        vpc_cidr_blocks: Vec::new(),
    }
}
