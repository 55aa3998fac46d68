//! A device in a snapshot: what it is, what the kernel counted on it, and who else has a hand in its packets.
//!
//! In: filled by `measure`. Out: read by `path`. It must not compute anything but differences of counters.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Blind, DeviceFacts};

/// The index of the first device in a snapshot that is gone and whose index the kernel gave to another one; the next ones count
/// down. The kernel's begin at 1.
pub const FIRST_RETIRED_IFINDEX: u32 = i32::MAX.cast_unsigned();

/// A network device and what the kernel counted on it in the window.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Device {
    /// What it is, and what was counted on it.
    #[serde(flatten)]
    pub facts: DeviceFacts,
    /// The kernel's index, if `ifindex` is another one, since the device is gone and its index was reused.
    #[serde(default)]
    pub former_ifindex: Option<u32>,
    /// Addresses that the routing table sends to this device alone (`/32`, `/128`): those of the pod behind it.
    pub routed: Vec<IpAddr>,
    /// The same earlier in the window, and no longer: those of a pod that is gone.
    #[serde(default)]
    pub formerly_routed: Vec<IpAddr>,
    /// Why the device's traffic was not (fully) seen.
    #[serde(default)]
    pub blind: Vec<Blind>,
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
}

impl Device {
    /// A device of which nothing else is known.
    #[must_use]
    pub fn new(facts: DeviceFacts) -> Self {
        Self {
            facts,
            former_ifindex: None,
            routed: Vec::new(),
            formerly_routed: Vec::new(),
            blind: Vec::new(),
            vlan: None,
            lower: None,
            master: None,
            vlan_filtering: false,
            port_vlans: None,
            remote: None,
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
