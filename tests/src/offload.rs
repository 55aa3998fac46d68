//! What devices leave to the other side or do for the kernel: segmentation (TSO), merging (GRO), tags.

use std::time::Duration;

use anyhow::Result;

use crate::namespace::Namespace;

/// Switches a feature of a device on or off, by the name that `ethtool -K` has for it.
///
/// # Errors
/// When ethtool is not installed, or the device cannot do it.
pub fn set_offload(namespace: &Namespace, device: &str, feature: &str, on: bool) -> Result<()> {
    let on = if on { "on" } else { "off" };
    namespace.output("ethtool", &["-K", device, feature, on]).map(drop)
}

/// How long a device with NAPI waits for more frames to merge. Without it, it merges only those that it finds together.
///
/// # Errors
/// When there is no such device.
pub(crate) fn set_merge_wait(namespace: &Namespace, device: &str, wait: Duration) -> Result<()> {
    let set = format!("echo {} >/sys/class/net/{device}/gro_flush_timeout", wait.as_nanos());
    namespace.output("sh", &["-c", &set]).map(drop)
}
