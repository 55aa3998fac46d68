//! The devices of a report: what they are, what they and netpath's hooks counted, and why the two differ.
//!
//! In: made by `path::account`. Out: serialised as it stands. It must not compute anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Drops, KernelCounters, KernelSlack, NameOrigin, OtherProgram, Qdisc, Xdp};

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

/// A network device.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Device {
    /// The kernel's index. Of a device that is gone and whose index another one has since: a number of its own, from 2³¹ − 1
    /// downwards.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// What it is.
    pub class: DeviceClass,
    /// `IFLA_INFO_KIND`, if it has one.
    pub kind: Option<String>,
    /// Driver, if it tells.
    pub driver: Option<String>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// EC2's id of the ENI.
    pub eni_id: Option<String>,
    /// The pod behind a veth, as `namespace/name`.
    pub pod: Option<String>,
    /// Where that name came from.
    #[serde(default)]
    pub pod_origin: Option<NameOrigin>,
    /// How netpath is attached.
    pub attach: Attach,
    /// Why the device's traffic was not (fully) seen.
    pub blind: Option<String>,
    /// Whether Container Insights counts it in `node_network_total_bytes` (google/cadvisor,
    /// `container/libcontainer/handler.go`, `ignoredDevicePrefixes`).
    pub counted_by_container_insights: bool,
    /// What the ingress hook saw; `null` if not attached.
    pub rx: Option<HookCounts>,
    /// What the egress hook saw; `null` if not attached.
    pub tx: Option<HookCounts>,
    /// The device's own counters over the window; `null` if they could not be read at both ends.
    pub kernel: Option<KernelCounters>,
    /// How far these may be from what passed the hooks in the window: what cannot be blamed on anything but the time between
    /// reading the one and the other. Measured, not estimated.
    #[serde(default)]
    pub kernel_slack: Option<KernelSlack>,
    /// Packets that the device says it dropped in the window.
    #[serde(default)]
    pub drops: Option<Drops>,
    /// What its root qdisc did in the window; `null` if that is not known.
    #[serde(default)]
    pub qdisc: Option<Qdisc>,
    /// Packets that legacy tc filters on the device dropped in the window, in both directions together; `null` if that is not
    /// known.
    #[serde(default)]
    pub filter_drops: Option<u64>,
    /// The XDP program on the device.
    #[serde(default)]
    pub xdp: Option<Xdp>,
    /// Who else was on the device's hooks when the window was closed, in the order in which packets meet them, and then who was
    /// ahead of netpath before; `null` if that is not known.
    #[serde(default)]
    pub other_programs: Option<Vec<OtherProgram>>,
    /// It came into being, or into this network namespace, in the window.
    #[serde(default)]
    pub appeared: bool,
    /// It went away in the window.
    #[serde(default)]
    pub vanished: bool,
    /// What the kernel counted less what netpath saw, and why they differ; `null` if `kernel` is.
    #[serde(default)]
    pub residual: Option<Residuals>,
}

/// Of both directions of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Residuals {
    /// Of what it received.
    pub rx: Residual,
    /// Of what it sent.
    pub tx: Residual,
}

/// What the kernel counted less what netpath's hook saw, of one direction of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Residual {
    /// Bytes; negative where the hook saw more.
    pub bytes: i64,
    /// Packets; negative where the hook saw more.
    pub packets: i64,
    /// Why, as far as the numbers prove it.
    pub causes: Vec<Cause>,
    /// Of `bytes`, those without a known cause.
    pub unexplained_bytes: i64,
}

/// A reason for which the kernel counted other bytes than netpath's hook saw.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Cause {
    /// Stable identifier ("`gro_gso_headers`", "sampling", …), which is also the term's.
    pub name: String,
    /// Of the residual's bytes, those it explains; `null` if the kernel does not tell how many they are.
    pub bytes: Option<i64>,
    /// Packets, where it is about packets.
    pub packets: Option<u64>,
    /// One sentence for people.
    pub explanation: String,
}

/// What one hook saw in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct HookCounts {
    /// Bytes (`skb->len`) of everything the hook saw, unattributed ones included.
    pub bytes: u64,
    /// Packets of everything the hook saw, unattributed ones included.
    pub packets: u64,
    /// Bytes as frames on the wire.
    pub wire_bytes: u64,
    /// Of `bytes`, those in no flow.
    pub unattributed_bytes: u64,
    /// Of `packets`, those in no flow.
    pub unattributed_packets: u64,
}
