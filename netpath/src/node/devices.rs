//! The network devices of the calling thread's network namespace: what there is, and what changes.
//!
//! In: rtnetlink (links, addresses, routes, rules, bridges' VLANs), ethtool (drivers), and the user's `--eni` globs. Out:
//! [`Link`]s, and [`LinkEvent`]s from a [`LinkMonitor`]. Needs no privilege. It must not change anything on the node.
//!
//! The messages are read here, attribute by attribute, instead of by a library that decodes all of a message: such a
//! library skips a message it cannot decode (a name that is not UTF-8, an attribute of a newer kernel), and then a device
//! would be missing from every sum without a warning.

mod choice;
mod class;
mod dump;
mod inventory;
pub mod message;
mod monitor;
mod tables;
pub mod uplink;

use std::fmt;
use std::net::IpAddr;

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use choice::EniChoice;
pub use monitor::LinkMonitor;

use crate::model::{DeviceClass, DeviceFacts, KernelCounters, Xdp};
pub use crate::netlink::Layer;
use crate::snapshot::{self, PortVlans};

/// A network device as it is now.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Link {
    /// The kernel's index: the device's identity in this namespace.
    pub ifindex: u32,
    /// Name, with U+FFFD for bytes that are not UTF-8. Sanitised only when printed.
    pub name: String,
    /// Further names of it, as `ip link property` sets them.
    pub altnames: Vec<String>,
    /// What it is, by evidence.
    pub class: DeviceClass,
    /// Why it is taken for an ENI; `None` if it is not.
    pub eni_evidence: Option<EniEvidence>,
    /// `IFLA_INFO_KIND` ("veth", "vxlan"), if it has one.
    pub kind: Option<String>,
    /// Driver by ethtool. Asked only where there is no kind, since a kind decides as well.
    pub driver: Option<String>,
    /// Hardware address as lower-case hex with colons; `None` if it has none or it is not of 6 bytes.
    pub mac: Option<String>,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// Addresses with prefix length ("10.0.0.5/24"), in numerical order, IPv4 first.
    pub addresses: Vec<String>,
    /// Addresses that are routed straight to this device (`/32`, `/128`, no gateway) in a table that packets are looked up
    /// in, other than its own: those of the pod behind it.
    pub routed: Vec<IpAddr>,
    /// How its frames begin.
    pub layer: Layer,
    /// `IFLA_LINK`: the device this one sits on (VLAN, macvlan, tunnel), or a veth's peer. `None` if there is none, or if
    /// it is in another namespace.
    pub lower: Option<u32>,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// The id of a VLAN device.
    pub vlan_id: Option<u16>,
    /// It is a bridge with VLAN filtering.
    pub vlan_filtering: bool,
    /// The VLANs of a bridge's port, or of a bridge itself.
    pub port_vlans: Option<PortVlans>,
    /// Where a tunnel sends all its packets, if it has one place for them.
    pub remote: Option<IpAddr>,
    /// The XDP program on it.
    pub xdp: Option<Xdp>,
    /// The device's own counters since it exists.
    pub counters: KernelCounters,
}

/// Why a device is taken for an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EniEvidence {
    /// Its driver is one that EC2 instances use for ENIs.
    Driver,
    /// It is an Ethernet device of the machine: it has no link kind, and sits on a bus.
    Hardware,
    /// `--eni` matches its name.
    Named,
    /// IMDS names its hardware address as that of an ENI of this instance, and it is the lowest device with it.
    Imds,
}

/// A change among the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A device is there: made, or moved into this namespace (then its counters need not be zero).
    Appeared(Link),
    /// Something about a device other than its counters is different: name, up or down, addresses, routes to it.
    Changed(Link),
    /// A device is gone: deleted, or moved to another namespace.
    Gone {
        /// Which.
        ifindex: u32,
        /// Its counters at the end. `None` if they are unknown: the message was lost, or it was a veth that was deleted (not
        /// moved). A veth's rx is its peer's tx, and the kernel unlinks the two before it reports the end (drivers/net/veth.c,
        /// `veth_dellink`), so that the report shows an rx of 0.
        last: Option<KernelCounters>,
        /// The highest that was ever reported: what it counted at least. Of a deleted veth, tx is exact.
        at_least: KernelCounters,
    },
    /// Messages were lost. The devices were read again; the differences follow as events. Devices that
    /// came and went meanwhile were never seen.
    Lost,
}

/// As a log has it.
impl fmt::Display for LinkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appeared(link) => write!(f, "{} ({}) is there", link.name, link.ifindex),
            Self::Changed(link) => write!(f, "{} ({}) has changed", link.name, link.ifindex),
            Self::Gone { ifindex, .. } => write!(f, "the device with index {ifindex} is gone"),
            Self::Lost => f.write_str("messages about devices were lost, and the devices were read again"),
        }
    }
}

impl Link {
    /// A device with an Ethernet header that is up and of which nothing else is known.
    #[cfg(test)]
    pub(crate) fn new(ifindex: u32, name: &str, class: DeviceClass) -> Self {
        Self {
            ifindex,
            name: name.to_owned(),
            altnames: Vec::new(),
            class,
            eni_evidence: None,
            kind: None,
            driver: None,
            mac: None,
            up: true,
            addresses: Vec::new(),
            routed: Vec::new(),
            layer: Layer::Ethernet,
            lower: None,
            master: None,
            vlan_id: None,
            vlan_filtering: false,
            port_vlans: None,
            remote: None,
            xdp: None,
            counters: KernelCounters::default(),
        }
    }

    /// The device as a snapshot holds it, with nothing attached and no counters of a window yet.
    #[must_use]
    pub fn to_device(&self) -> snapshot::Device {
        let facts = DeviceFacts {
            kind: self.kind.clone(),
            driver: self.driver.clone(),
            mac: self.mac.clone(),
            addresses: self.addresses.clone(),
            xdp: self.xdp,
            ..DeviceFacts::new(self.ifindex, &*self.name, self.class)
        };
        snapshot::Device {
            routed: self.routed.clone(),
            lower: self.lower,
            master: self.master,
            vlan_filtering: self.vlan_filtering,
            port_vlans: self.port_vlans.clone(),
            remote: self.remote,
            vlan: self.lower.zip(self.vlan_id).map(|(lower_ifindex, id)| snapshot::Vlan { lower_ifindex, id }),
            ..snapshot::Device::new(facts)
        }
    }
}

/// The veths whose other end is in another network namespace: their index, and the kernel's number for that namespace.
///
/// # Errors
/// If netlink refuses.
pub(crate) fn veths_to_elsewhere() -> anyhow::Result<Vec<(u32, i32)>> {
    let messages = dump::dump(dump::Subject::Links).context("cannot list the network devices")?;
    let veth = |message| match message {
        message::Message::NewLink(link) if matches!(link.info.kind.as_deref(), Some("veth" | "netkit")) => {
            Some((link.ifindex, link.elsewhere?))
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(veth).collect())
}

/// Lists the devices there are, in order of ifindex.
///
/// # Errors
/// If netlink refuses, or if one of the `--eni` globs matches no device or a pod's.
pub fn list(eni: &EniChoice) -> anyhow::Result<Vec<Link>> {
    let mut inventory = inventory::Inventory::new(eni.clone());
    inventory.read().context("cannot list the network devices")?;
    inventory.check()?;
    inventory.learn(eni.macs()).context("cannot list the network devices")?;
    Ok(inventory.links())
}

/// A hardware address as lower-case hex with colons.
fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
