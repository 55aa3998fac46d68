//! A device in a snapshot: what it is, what the kernel counted on it, and who else has a hand in its packets.
//!
//! In: filled by `measure`. Out: read by `path`. It must not compute anything but differences of counters.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Attach, DeviceClass, Direction};

/// The index of the first device in a snapshot that is gone and whose index the kernel gave to another one; the next ones count
/// down. The kernel's begin at 1.
pub const FIRST_RETIRED_IFINDEX: u32 = i32::MAX.cast_unsigned();

/// A network device and what the kernel counted on it in the window.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Device {
    /// The kernel's index, or one from [`FIRST_RETIRED_IFINDEX`] down; unique in a snapshot.
    pub ifindex: u32,
    /// The kernel's index, if `ifindex` is another one, since the device is gone and its index was reused.
    #[serde(default)]
    pub former_ifindex: Option<u32>,
    /// Name, sanitised only when printed.
    pub name: String,
    /// What it is, by evidence.
    pub class: DeviceClass,
    /// `IFLA_INFO_KIND` ("veth", "vxlan"), if it has one.
    pub kind: Option<String>,
    /// Driver by ethtool ("ena"), if it tells.
    pub driver: Option<String>,
    /// Hardware address as lower-case hex with colons.
    pub mac: Option<String>,
    /// Addresses with prefix length ("10.0.0.5/24").
    pub addresses: Vec<String>,
    /// Addresses that the routing table sends to this device alone (`/32`, `/128`): those of the pod behind it.
    pub routed: Vec<IpAddr>,
    /// The same earlier in the window, and no longer: those of a pod that is gone.
    #[serde(default)]
    pub formerly_routed: Vec<IpAddr>,
    /// How netpath was attached.
    pub attach: Attach,
    /// Why the device's traffic was not (fully) seen.
    pub blind: Option<String>,
    /// The device's own counters over the window: end minus start.
    pub kernel: Option<KernelCounters>,
    /// How far those may be from what passed the hooks in the window; `None` if it was not measured.
    #[serde(default)]
    pub kernel_slack: Option<KernelSlack>,
    /// Packets that the device says it dropped in the window.
    #[serde(default)]
    pub drops: Option<Drops>,
    /// What its root qdisc did in the window; `None` if that is not known.
    #[serde(default)]
    pub qdisc: Option<Qdisc>,
    /// Packets that legacy tc filters on the device dropped in the window, in both directions together; `None` if that is not
    /// known.
    #[serde(default)]
    pub filter_drops: Option<u64>,
    /// The XDP program on the device.
    #[serde(default)]
    pub xdp: Option<Xdp>,
    /// Who else was on the device's hooks when the window was closed, in the order in which packets meet them, and then who was
    /// ahead of netpath before; `None` if that is not known.
    #[serde(default)]
    pub other_programs: Option<Vec<OtherProgram>>,
    /// It came into being, or into this network namespace, in the window.
    #[serde(default)]
    pub appeared: bool,
    /// It went away in the window.
    #[serde(default)]
    pub vanished: bool,
    /// For a VLAN device, what it stands on; otherwise, or where that is unknown, `None`.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// The device below, or the other end of a veth pair (`IFLA_LINK`); `None` if there is none in this network namespace.
    #[serde(default)]
    pub lower: Option<u32>,
    /// The bridge, bond or VRF that it is a port of (`IFLA_MASTER`).
    #[serde(default)]
    pub master: Option<u32>,
    /// It is a bridge with VLAN filtering: it takes tags off and puts them on.
    #[serde(default)]
    pub vlan_filtering: bool,
    /// The VLANs of a bridge's port, or of a bridge itself (`bridge vlan`); they mean nothing without VLAN filtering.
    #[serde(default)]
    pub port_vlans: Option<PortVlans>,
    /// Where a tunnel sends all its packets, if it has one place for them (`ip -d link`, "remote").
    #[serde(default)]
    pub remote: Option<IpAddr>,
    /// EC2's id of the ENI.
    #[serde(default)]
    pub eni_id: Option<String>,
}

impl Device {
    /// A device of which nothing else is known, and that netpath is not attached to.
    #[must_use]
    pub fn new(ifindex: u32, name: impl Into<String>, class: DeviceClass) -> Self {
        Self {
            ifindex,
            former_ifindex: None,
            name: name.into(),
            class,
            kind: None,
            driver: None,
            mac: None,
            addresses: Vec::new(),
            routed: Vec::new(),
            formerly_routed: Vec::new(),
            attach: Attach::None,
            blind: None,
            kernel: None,
            kernel_slack: None,
            drops: None,
            qdisc: None,
            filter_drops: None,
            xdp: None,
            other_programs: None,
            appeared: false,
            vanished: false,
            vlan: None,
            lower: None,
            master: None,
            vlan_filtering: false,
            port_vlans: None,
            remote: None,
            eni_id: None,
        }
    }
}

/// What a VLAN device stands on: it takes this tag off the frames of that device, and puts it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Vlan {
    /// Index of the device below (`IFLA_LINK`): the trunk ENI of a branch ENI.
    pub lower_ifindex: u32,
    /// The VLAN id (`IFLA_VLAN_ID`), 1 to 4094.
    pub id: u16,
}

/// Which VLANs of a filtering bridge a port's untagged frames are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct PortVlans {
    /// That of the untagged frames that come in (`PVID`).
    pub pvid: Option<u16>,
    /// Those whose frames go out untagged, in ascending order.
    pub untagged: Vec<u16>,
}

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
/// `kernel - below` and no more than `kernel + above`. Both are 0 where nothing passed meanwhile.
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

/// clsact qdiscs that netpath made: for each the kernel takes the device's queues out of service for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NewQdiscs {
    /// On so many devices.
    pub devices: u64,
    /// Packets that were to leave by these devices and were dropped meanwhile, as the devices count them; `None` if the kernel
    /// does not count them (before Linux 6.11), or no qdisc was made.
    pub lost_packets: Option<u64>,
}

impl NewQdiscs {
    /// One more, which cost so many packets.
    pub fn add(&mut self, lost_packets: Option<u64>) {
        let before = if self.devices == 0 { Some(0) } else { self.lost_packets };
        self.devices += 1;
        self.lost_packets = before.zip(lost_packets).map(|(before, lost)| before.saturating_add(lost));
    }
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
