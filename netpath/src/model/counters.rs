//! What the kernel counts on a device, and who else has a hand in its packets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Direction;

/// A device's own counters (`struct rtnl_link_stats64`), as a difference between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct KernelCounters {
    /// `rx_bytes`.
    pub rx_bytes: u64,
    /// `rx_packets`.
    pub rx_packets: u64,
    /// `tx_bytes`.
    pub tx_bytes: u64,
    /// `tx_packets`.
    pub tx_packets: u64,
}

impl std::ops::Add for KernelCounters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_bytes: self.rx_bytes.saturating_add(other.rx_bytes),
            rx_packets: self.rx_packets.saturating_add(other.rx_packets),
            tx_bytes: self.tx_bytes.saturating_add(other.tx_bytes),
            tx_packets: self.tx_packets.saturating_add(other.tx_packets),
        }
    }
}

impl KernelCounters {
    /// More than any device counts: of a slack that is not known.
    pub const UNBOUNDED: Self =
        Self { rx_bytes: u64::MAX, rx_packets: u64::MAX, tx_bytes: u64::MAX, tx_packets: u64::MAX };

    /// What was counted since `earlier`; `None` if a counter ran backwards, since then it is not the same device's, or the
    /// driver has begun anew.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            rx_bytes: self.rx_bytes.checked_sub(earlier.rx_bytes)?,
            rx_packets: self.rx_packets.checked_sub(earlier.rx_packets)?,
            tx_bytes: self.tx_bytes.checked_sub(earlier.tx_bytes)?,
            tx_packets: self.tx_packets.checked_sub(earlier.tx_packets)?,
        })
    }
}

/// How far a device's counters may be from what passed its hooks in the window. They are read before and after the moments
/// at which the hooks' counts begin and end. So what the device counted of the packets that the hooks saw is no less than
/// `kernel - below` and no more than `kernel + above`. Both are 0 where nothing passed meanwhile, and 2⁶⁴ − 1 where the device went away
/// before it could be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct KernelSlack {
    /// What `kernel` may have too much.
    pub below: KernelCounters,
    /// What `kernel` may lack.
    pub above: KernelCounters,
}

/// Packets that a device says it dropped (`rx_dropped`, `tx_dropped` of `struct rtnl_link_stats64`). It does not say where,
/// nor how many bytes they had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Drops {
    /// `rx_dropped`.
    pub rx_packets: u64,
    /// `tx_dropped`.
    pub tx_packets: u64,
}

impl std::ops::Add for Drops {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_add(other.rx_packets),
            tx_packets: self.tx_packets.saturating_add(other.tx_packets),
        }
    }
}

impl Drops {
    /// What was dropped since `earlier`; `None` if a counter ran backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Self> {
        Some(Self {
            rx_packets: self.rx_packets.checked_sub(earlier.rx_packets)?,
            tx_packets: self.tx_packets.checked_sub(earlier.tx_packets)?,
        })
    }
}

/// What a device's root qdisc did in the window with the packets it was given (`tc -s qdisc`), its children included. Packets
/// come to it from the egress hook, and go on to the device and its counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Qdisc {
    /// Its kind ("tbf", "mq", "noqueue").
    pub kind: String,
    /// Bytes that it passed on, as frames on the wire: a super-packet's with the headers that each of its frames has.
    pub passed_bytes: u64,
    /// Packets that it dropped, a super-packet being one unless it was cut first. The kernel does not tell their bytes.
    pub dropped_packets: u64,
    /// Packets that wait in it at the end of the window, less those that waited at its start.
    pub queued_packets: i64,
    /// The same in bytes, as frames on the wire.
    pub queued_bytes: i64,
}

/// An XDP program on a device: it sees what the device received before TC ingress does, may drop or redirect it, and may send
/// past TC egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Xdp {
    /// Where it runs.
    pub mode: XdpMode,
    /// The kernel's number for it; `None` if there are several, or the kernel does not tell.
    pub program_id: Option<u32>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpMode {
    /// In the driver ("native").
    Driver,
    /// In the kernel's receive path, for drivers without XDP.
    Generic,
    /// On the network card.
    Hardware,
    /// There are several.
    Several,
}

/// A program or filter on one of a device's hooks that is not netpath's.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct OtherProgram {
    /// The hook.
    pub direction: Direction,
    /// Whether it comes before netpath's program.
    pub ahead: bool,
    /// "tcx", or the kind of a legacy filter ("bpf", "flower").
    pub kind: String,
    /// The kernel's number for it, if it is an eBPF program.
    pub program_id: Option<u32>,
    /// Its name, if it has one, sanitised only when printed.
    pub name: Option<String>,
    /// It runs on the network card, or may.
    pub offloaded: bool,
}

/// "`cil_from_netdev` (tcx program 47)", "flower filter".
impl std::fmt::Display for OtherProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = &self.kind;
        match (&self.name, self.program_id) {
            (Some(name), Some(id)) => write!(f, "{name} ({kind} program {id})"),
            (Some(name), None) => write!(f, "{name} ({kind} filter)"),
            (None, Some(id)) => write!(f, "{kind} program {id}"),
            (None, None) => write!(f, "{kind} filter"),
        }
    }
}
