//! What a device is, and what is known of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Drops, KernelCounters, KernelSlack, OtherProgram, Qdisc, Xdp};

/// What a device is, by evidence (driver, link kind, hardware type), never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceClass {
    /// A network interface of the instance: physical, or named by `--eni`.
    Eni,
    /// One end of a veth (or netkit) pair.
    Veth,
    /// A VLAN device on another device, such as a branch ENI.
    Vlan,
    /// A bridge.
    Bridge,
    /// VXLAN, Geneve, GRE, IP-in-IP, `WireGuard`, tun and the like.
    Tunnel,
    /// The network card of a virtual machine on this node.
    Tap,
    /// `lo`.
    Loopback,
    /// Anything else (dummy, ifb, bond, …).
    Other,
}

/// As it is serialised.
impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How netpath's programs are attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// TCX links at the head of the chain (kernel 6.6 and newer).
    Tcx,
    /// Legacy filters on a clsact qdisc.
    Clsact,
    /// Not attached.
    None,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "TCX",
            Self::Clsact => "filters of a clsact qdisc",
            Self::None => "nothing",
        })
    }
}

/// What a snapshot and a report know of a device alike. Counts are of the window: end minus start.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// The kernel's index. Of a device that is gone and whose index another one has since: a number of its own, from 2³¹ − 1
    /// downwards. Unique in a window.
    pub ifindex: u32,
    /// Name, sanitised only when printed.
    pub name: String,
    /// What it is.
    pub class: DeviceClass,
    /// `IFLA_INFO_KIND` ("veth", "vxlan"), if it has one.
    pub kind: Option<String>,
    /// Driver by ethtool ("ena"), if it names one.
    pub driver: Option<String>,
    /// Hardware address as lower-case hex with colons.
    pub mac: Option<String>,
    /// Addresses with prefix length ("10.0.0.5/24").
    pub addresses: Vec<String>,
    /// EC2's id of the ENI.
    #[serde(default)]
    pub eni_id: Option<String>,
    /// How netpath is attached.
    pub attach: Attach,
    /// The device's own counters; `null` if they could not be read at both ends.
    pub kernel: Option<KernelCounters>,
    /// How far these may be from what passed the hooks in the window: what cannot be blamed on anything but the time between
    /// reading the one and the other. Measured, not estimated.
    #[serde(default)]
    pub kernel_slack: Option<KernelSlack>,
    /// Packets that the device counts as dropped.
    #[serde(default)]
    pub drops: Option<Drops>,
    /// What its root qdisc did; `null` if that is not known.
    #[serde(default)]
    pub qdisc: Option<Qdisc>,
    /// Packets that legacy tc filters on the device dropped, in both directions together; `null` if that is not known.
    #[serde(default)]
    pub filter_drops: Option<u64>,
    /// The XDP program on the device.
    #[serde(default)]
    pub xdp: Option<Xdp>,
    /// Other programs on the device's hooks when the window was closed, in the order in which packets meet them, and then those
    /// that were ahead of netpath before; `null` if that is not known.
    #[serde(default)]
    pub other_programs: Option<Vec<OtherProgram>>,
    /// It came into being, or into this network namespace, in the window.
    #[serde(default)]
    pub appeared: bool,
    /// It went away in the window.
    #[serde(default)]
    pub vanished: bool,
}

impl DeviceFacts {
    /// A device of which nothing else is known, and that netpath is not attached to.
    #[must_use]
    pub fn new(ifindex: u32, name: impl Into<String>, class: DeviceClass) -> Self {
        Self {
            ifindex,
            name: name.into(),
            class,
            kind: None,
            driver: None,
            mac: None,
            addresses: Vec::new(),
            eni_id: None,
            attach: Attach::None,
            kernel: None,
            kernel_slack: None,
            drops: None,
            qdisc: None,
            filter_drops: None,
            xdp: None,
            other_programs: None,
            appeared: false,
            vanished: false,
        }
    }
}
