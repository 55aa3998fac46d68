//! The kernel's own byte and packet counters, from /proc/net/dev as read inside a namespace. A witness: reads, never writes.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::namespace::Namespace;

/// What the kernel counted on one device. Bytes include the Ethernet header; a GSO packet counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

impl Counters {
    /// Bytes in one direction: "rx" is received, all else sent.
    #[must_use]
    pub fn bytes(self, direction: &str) -> u64 {
        if direction == "rx" { self.rx_bytes } else { self.tx_bytes }
    }

    /// Packets in one direction: "rx" is received, all else sent.
    #[must_use]
    pub fn packets(self, direction: &str) -> u64 {
        if direction == "rx" { self.rx_packets } else { self.tx_packets }
    }

    /// What was counted since `earlier`, an older reading of the same device.
    ///
    /// # Panics
    /// When a counter ran backwards: then it is not an older reading of the same device.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let difference = |now: u64, before: u64| now.checked_sub(before).expect("device counters only grow");
        Self {
            rx_bytes: difference(self.rx_bytes, earlier.rx_bytes),
            rx_packets: difference(self.rx_packets, earlier.rx_packets),
            tx_bytes: difference(self.tx_bytes, earlier.tx_bytes),
            tx_packets: difference(self.tx_packets, earlier.tx_packets),
        }
    }
}

/// The counters of every device of a namespace, by name.
///
/// # Errors
/// When the namespace cannot be entered, or /proc/net/dev is not as expected.
pub fn device_counters(namespace: &Namespace) -> Result<BTreeMap<String, Counters>> {
    // /proc/net is that of the process's main thread; this one is in the namespace.
    let text = namespace.run(|| fs::read("/proc/thread-self/net/dev"))?.context("cannot read /proc/net/dev")?;
    // Names need not be UTF-8.
    String::from_utf8_lossy(&text)
        .lines()
        .skip(2)
        .map(|line| parse(line).with_context(|| format!("unexpected line in /proc/net/dev: {line:?}")))
        .collect()
}

/// The counters of one device.
///
/// # Errors
/// As [`device_counters`], and when there is no such device.
pub fn counters(namespace: &Namespace, device: &str) -> Result<Counters> {
    device_counters(namespace)?
        .remove(device)
        .with_context(|| format!("no device {device} in namespace {}", namespace.name()))
}

fn parse(line: &str) -> Option<(String, Counters)> {
    let (name, numbers) = line.rsplit_once(':')?;
    let numbers: Vec<u64> = numbers.split_whitespace().map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let [rx_bytes, rx_packets, _, _, _, _, _, _, tx_bytes, tx_packets, ..] = numbers[..] else { return None };
    Some((name.trim().to_owned(), Counters { rx_bytes, rx_packets, tx_bytes, tx_packets }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_net_dev() {
        let line = "eni0123456789a: 1500      3    0    0    0     0          0         0     2500       5    0    0    0     0       0          0";
        let expected = Counters { rx_bytes: 1500, rx_packets: 3, tx_bytes: 2500, tx_packets: 5 };
        assert_eq!(parse(line), Some(("eni0123456789a".to_owned(), expected)));
        assert_eq!(parse("  lo: 1 2 3"), None);
    }
}
