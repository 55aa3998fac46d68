//! Queues of devices: sets them up with tc, and reads what the kernel counts of them, as tc tells.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::output_within;

const LIMIT: Duration = Duration::from_secs(5);

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

/// Runs tc in a namespace.
///
/// # Errors
/// When tc is not installed, or refuses.
pub fn tc(namespace: &Namespace, arguments: &str) -> Result<Vec<u8>> {
    let output = output_within(namespace.command("tc")?.args(arguments.split(' ')), LIMIT)?;
    ensure!(
        output.status.success(),
        "tc {arguments} in namespace {}: {}",
        namespace.name(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// Reads a device's root qdisc.
///
/// # Errors
/// As [`tc`], and when there is none.
pub fn root_qdisc(namespace: &Namespace, device: &str) -> Result<RootQdisc> {
    let text = tc(namespace, &format!("-s -j qdisc show dev {device} root"))?;
    let all: Value = serde_json::from_slice(&text).context("tc writes no JSON that can be read")?;
    let number = |name: &str| all[0][name].as_u64().with_context(|| format!("{device} has no root qdisc with {name}"));
    Ok(RootQdisc {
        bytes: number("bytes")?,
        drops: number("drops")?,
        qlen: number("qlen")?,
        backlog: number("backlog")?,
    })
}
