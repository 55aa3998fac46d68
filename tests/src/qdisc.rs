//! Queues of devices: sets them up with tc, and reads what the kernel counts of them, as tc tells.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::namespace::Namespace;

/// What a device's root qdisc counted, and what waits in it (`tc -s qdisc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootQdisc {
    /// Bytes sent.
    pub bytes: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Packets that wait.
    pub qlen: u64,
    /// Their bytes.
    pub backlog: u64,
}

/// Runs `tc` in a namespace, and returns what it prints; the arguments are separated by spaces.
///
/// # Errors
/// When it refuses.
pub fn tc(namespace: &Namespace, arguments: &str) -> Result<String> {
    namespace.output("tc", &arguments.split(' ').collect::<Vec<_>>())
}

/// Reads a device's root qdisc.
///
/// # Errors
/// As [`tc`], and when there is none.
pub fn root_qdisc(namespace: &Namespace, device: &str) -> Result<RootQdisc> {
    let text = tc(namespace, &format!("-s -j qdisc show dev {device} root"))?;
    let all: Value = serde_json::from_str(&text).context("tc writes no JSON that can be read")?;
    let number = |name: &str| all[0][name].as_u64().with_context(|| format!("{device} has no root qdisc with {name}"));
    Ok(RootQdisc {
        bytes: number("bytes")?,
        drops: number("drops")?,
        qlen: number("qlen")?,
        backlog: number("backlog")?,
    })
}
