//! The report, schema `netpath.report/1`: the one model that every renderer, exporter and test reads.
//!
//! In: made by `path::account`. Out: serialised as it stands. Absent facts are `null`, never 0. Fields are added, never
//! renamed. This file must not compute anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The value of [`Report::schema`].
pub const SCHEMA: &str = "netpath.report/1";

/// One window of one node, explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Version of the netpath that made the report.
    pub netpath_version: String,
    /// The node.
    pub node: NodeInfo,
    /// The time that was measured.
    pub window: Window,
    /// Every device, in order of ifindex.
    pub devices: Vec<Device>,
    /// Every flow, most bytes first.
    pub flows: Vec<Flow>,
    /// Each byte counted once, at its flow's first hop.
    pub totals: Totals,
    /// The numbers other tools show, and what they are made of.
    pub accounting: Accounting,
    /// What netpath knows of its own gaps.
    pub health: Health,
    /// Where names came from, and which are missing.
    #[serde(default)]
    pub names: Names,
    /// What `flows` is limited to; `null` if it has all. Everything else in the report is of the whole node.
    #[serde(default)]
    pub selection: Option<Selection>,
    /// `flows` added up, if that was asked for.
    #[serde(default)]
    pub grouping: Option<Grouping>,
    /// ENIs and branch ENIs, those with a device first, in order of ifindex.
    #[serde(default)]
    pub enis: Vec<Eni>,
    /// What ipamd's metrics say; `null` if they could not be read.
    #[serde(default)]
    pub ipam: Option<Ipam>,
    /// What was asked for facts about the node, and how that went.
    #[serde(default)]
    pub sources: Vec<Source>,
}

/// Where the names of pods and services came from, which are missing, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Every source, in order of precedence; empty if none was asked.
    pub sources: Vec<NameSourceReport>,
    /// Veths with traffic whose pod no source knows.
    pub unknown_veths: u64,
    /// Veths of which two sources say different pods: not named.
    pub disputed_veths: u64,
    /// Addresses that two pods had in the window, or two sources give to different pods: not named, save where the veth
    /// tells the two apart.
    pub disputed_addresses: u64,
    /// Addresses that a pod had in a part of the window only: named only where the veth proves it.
    pub passing_addresses: u64,
}

/// A source of names, in order of precedence: where several say the same, the first is named as the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSource {
    /// The VPC CNI's record of addresses, `/var/run/aws-node/ipam.json`.
    VpcCni,
    /// The container runtime's socket (CRI): containerd's or CRI-O's.
    Cri,
    /// Network namespaces of processes and their cgroups; the names for the uids come from another source.
    Processes,
    /// The folders of `/var/log/pods`.
    PodLogs,
    /// kube-proxy's NAT rules.
    KubeProxy,
}

/// What a source of names was good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameSourceReport {
    /// Which.
    pub source: NameSource,
    /// Whether it could be read: the worst of the window's readings.
    pub state: NameSourceState,
    /// How many pods or services it named at some time in the window.
    pub count: u64,
    /// If something is missing: why, as one line.
    pub reason: Option<String>,
}

/// Whether a source of names could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameSourceState {
    /// It was.
    Ok,
    /// This node has none.
    Absent,
    /// It is there, and parts of it are not as they should be; what could be read is used.
    Incomplete,
    /// It is there, and is not what it should be.
    Malformed,
    /// It is there, and netpath may not or cannot read it.
    Unreadable,
    /// It did not answer in time.
    Slow,
}

/// Where a pod's name came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameOrigin {
    /// Who has the name.
    pub source: NameSource,
    /// How it belongs to the device or the flow.
    pub by: NameLink,
}

/// What ties a pod's name to a device or a flow, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameLink {
    /// The veth's other end is in the pod's network namespace.
    NetworkNamespace,
    /// The veth's name is the VPC CNI's hash of the pod's name.
    VethName,
    /// The pod had the address, throughout the window.
    Address,
}

/// The node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// `uname -n`.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// EC2 instance id.
    pub instance_id: Option<String>,
}

/// The time that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Length by the monotonic clock, nanoseconds.
    pub duration_ns: u64,
    /// How far apart the devices' counters and netpath's own were read at the window's ends; `null` if they were not read.
    #[serde(default)]
    pub skew_ns: Option<Skew>,
}

/// From the first to the last reading of a device's counters around one end of the window, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skew {
    /// When the window was opened.
    pub start: u64,
    /// When it was closed.
    pub end: u64,
}

/// Direction as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// TC ingress.
    Rx,
    /// TC egress.
    Tx,
}

/// What a device is, by evidence (driver, link kind, hardware type), never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// `lo`.
    Loopback,
    /// Anything else (dummy, ifb, bond, …).
    Other,
}

/// How netpath's programs are attached to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Who else was on the device's hooks when the window was closed, in the order in which packets meet them; `null` if that is
    /// not known.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residuals {
    /// Of what it received.
    pub rx: Residual,
    /// Of what it sent.
    pub tx: Residual,
}

/// What the kernel counted less what netpath's hook saw, of one direction of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

pub use crate::snapshot::enis::{
    Allowances, Eni, EniRole, Fact, Ipam, IpamMetric, Origin, PodAddresses, Source, SourceState,
};
pub use crate::snapshot::{Drops, KernelCounters, KernelSlack, OtherProgram, Qdisc, Xdp, XdpMode};

/// Where a flow went, by where its packets were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum PathClass {
    /// A hop on an ENI or tunnel.
    Eni,
    /// Pod to pod on this node, veths only.
    Local,
    /// Between this node's own stack and a local pod.
    Host,
    /// In by an ENI and out by an ENI.
    Transit,
    /// Entered, never left, and not for this node: dropped here.
    Undelivered,
    /// Seen on one hook, partner unknown.
    Unresolved,
}

impl PathClass {
    /// Every class, in the order of the report.
    pub const ALL: [Self; 6] = [Self::Eni, Self::Local, Self::Host, Self::Transit, Self::Undelivered, Self::Unresolved];

    /// Its name in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eni => "eni",
            Self::Local => "local",
            Self::Host => "host",
            Self::Transit => "transit",
            Self::Undelivered => "undelivered",
            Self::Unresolved => "unresolved",
        }
    }
}

/// What is special about a flow's addresses. AWS's link-local services are told by their documented addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The instance metadata service: 169.254.169.254, `fd00:ec2::254`.
    Imds,
    /// Amazon's DNS resolver by its link-local address: 169.254.169.253, `fd00:ec2::253`.
    AmazonDns,
    /// Amazon Time Sync: 169.254.169.123, `fd00:ec2::123`.
    AmazonNtp,
    /// The EKS Pod Identity agent: 169.254.170.23, `fd00:ec2::23`.
    PodIdentity,
    /// Any other address of 169.254.0.0/16 or `fe80::/10`.
    LinkLocal,
    /// To a multicast address.
    Multicast,
    /// To 255.255.255.255, or to the broadcast address of a network that this node is in.
    Broadcast,
}

/// One direction of one conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Unique in the report, from 1.
    pub id: u64,
    /// Shared by the two directions of one conversation, from 1.
    pub conversation: u64,
    /// Protocol name ("tcp", "udp", "icmp", …) or its number.
    pub proto: String,
    /// Source address at the first hop.
    pub src: IpAddr,
    /// Source port at the first hop; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address at the first hop.
    pub dst: IpAddr,
    /// Destination port at the first hop; `null` where the protocol has none.
    pub dport: Option<u16>,
    /// Where it went.
    pub path: PathClass,
    /// What is special about its addresses; `null` for ordinary ones.
    pub scope: Option<Scope>,
    /// Both ends are pods of this node, and yet it crossed an ENI.
    pub local_pair_left_node: bool,
    /// Whether it is the initiator's direction, by conntrack; `null` where conntrack does not tell.
    pub from_initiator: Option<bool>,
    /// `skb->len`, counted once, at the first hop.
    pub bytes: u64,
    /// Packets at the first hop.
    pub packets: u64,
    /// Wire bytes at the first hop.
    pub wire_bytes: u64,
    /// `namespace/name` of the source pod.
    pub src_pod: Option<String>,
    /// `namespace/name` of the destination pod.
    pub dst_pod: Option<String>,
    /// Where the source pod's name came from.
    #[serde(default)]
    pub src_pod_origin: Option<NameOrigin>,
    /// Where the destination pod's name came from.
    #[serde(default)]
    pub dst_pod_origin: Option<NameOrigin>,
    /// The service whose address the initiator used: `namespace/name:port`.
    #[serde(default)]
    pub service: Option<String>,
    /// The hooks it passed, in order.
    pub hops: Vec<Hop>,
    /// What it is in `node_network_total_bytes`: its part of each of the accounting's terms.
    #[serde(default)]
    pub terms: Vec<FlowTerm>,
}

/// A flow's part of a term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTerm {
    /// The term's name.
    pub name: Cow<'static, str>,
    /// Bytes of the flow, at all hops that the term is about.
    pub bytes: u64,
}

/// A flow at one hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// Device name.
    pub device: String,
    /// Device index.
    pub ifindex: u32,
    /// Direction as the device sees it.
    pub direction: Direction,
    /// VLAN ids, outermost first; empty where untagged.
    pub vlans: Vec<u16>,
    /// `skb->len`.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Wire bytes.
    pub wire_bytes: u64,
    /// Source address as the packet had it here.
    pub src: IpAddr,
    /// Source port here; `null` where the protocol has none.
    pub sport: Option<u16>,
    /// Destination address here.
    pub dst: IpAddr,
    /// Destination port here; `null` where the protocol has none.
    pub dport: Option<u16>,
}

/// Each flow's bytes counted once, at its first hop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// By path class; every class is present.
    pub by_path: BTreeMap<PathClass, PathTotal>,
    /// Of `by_path`, the flows that passed a tunnel device. The tunnel's own packets, which carry them, are flows between
    /// this node and the tunnel's other end: where they passed an ENI, these bytes are in `by_path` twice.
    #[serde(default)]
    pub in_tunnels: PathTotal,
}

/// Sum over the flows of one path class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTotal {
    /// Bytes at the flows' first hops.
    pub bytes: u64,
    /// Packets at the flows' first hops.
    pub packets: u64,
    /// Number of flows.
    pub flows: u64,
}

/// What a report's flows are limited to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The options that chose them ("--pod default/web"). Of those with one name, one at least holds; of different names all.
    pub filters: Vec<String>,
    /// As the report's totals, of these flows only.
    pub totals: Totals,
}

/// What flows are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The pods at their ends.
    Pod,
    /// The namespaces of these.
    Namespace,
    /// Where they went.
    Path,
    /// The devices they passed.
    Device,
    /// The services whose addresses their initiators used.
    Service,
}

/// Flows, added up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouping {
    /// By what.
    pub by: GroupBy,
    /// Most bytes first.
    pub groups: Vec<Group>,
}

/// The flows that have something in common. A flow between two pods is in the groups of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// `namespace/name` of the pod, name of the namespace, path, device or service; `null` for flows that have none.
    pub name: Option<String>,
    /// How many; of a device, how often one passed a hook of it.
    pub flows: u64,
    /// `skb->len`: at the flows' first hops, of a device at its hooks.
    pub bytes: u64,
    /// Packets, likewise.
    pub packets: u64,
    /// Of `bytes`, those that the pod, namespace or service sent, or that left by the device; `null` for a path.
    pub sent_bytes: Option<u64>,
    /// Of `bytes`, those that it received. What a pod sends to itself is both.
    pub received_bytes: Option<u64>,
    /// `bytes` by where the flows went.
    pub by_path: BTreeMap<PathClass, u64>,
}

/// The numbers other tools show, and what they are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accounting {
    /// By cAdvisor's and the CloudWatch agent's rules.
    pub container_insights: ContainerInsights,
    /// By EC2's rules.
    pub ec2: Ec2,
    /// The parts of `node_network_total_bytes`; their sum is exactly that number.
    pub terms: Vec<Term>,
}

/// `node_network_total_bytes` (Container Insights), from the kernel's device counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInsights {
    /// Rx and tx bytes of every counted device, in the window.
    pub node_network_total_bytes: Option<u64>,
    /// The same as CloudWatch shows it: bytes a second.
    pub bytes_per_second: Option<f64>,
    /// Of `node_network_total_bytes`, those of devices that took their counters along when they went away in the window:
    /// netpath's own count of them.
    #[serde(default)]
    pub vanished_devices_bytes: u64,
    /// What it logs for each interface that it counts, in order of ifindex.
    #[serde(default)]
    pub interfaces: Vec<InterfaceMetrics>,
    /// What it logs for the pod behind each veth, in order of ifindex.
    #[serde(default)]
    pub pods: Vec<PodMetrics>,
}

/// A metric of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// In the window.
    pub bytes: u64,
    /// As CloudWatch shows it; `null` for a window without length.
    pub bytes_per_second: Option<f64>,
}

/// What Container Insights logs for one interface of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceMetrics {
    /// Device name.
    pub device: String,
    /// Device index.
    pub ifindex: u32,
    /// Received.
    pub node_interface_network_rx_bytes: Traffic,
    /// Sent.
    pub node_interface_network_tx_bytes: Traffic,
    /// Both.
    pub node_interface_network_total_bytes: Traffic,
}

/// What Container Insights logs for one pod, as far as it passes this veth. The pod's view: it receives what the host's end
/// of the pair sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodMetrics {
    /// `namespace/name`; `null` if it is not known whose veth it is.
    pub pod: Option<String>,
    /// Name of the host's end of its veth pair.
    pub device: String,
    /// Index of that.
    pub ifindex: u32,
    /// Received by the pod.
    pub pod_network_rx_bytes: Traffic,
    /// Sent by the pod.
    pub pod_network_tx_bytes: Traffic,
}

/// EC2's `NetworkIn` and `NetworkOut`, from the ENIs' counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ec2 {
    /// Sum of rx bytes over the ENIs, in the window.
    pub network_in_bytes: Option<u64>,
    /// Sum of tx bytes over the ENIs, in the window.
    pub network_out_bytes: Option<u64>,
}

/// A part of `node_network_total_bytes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Term {
    /// Stable identifier ("eni", "local", "residual", …).
    pub name: String,
    /// Bytes; negative where netpath saw more than the kernel counted.
    pub bytes: i64,
    /// One sentence for people.
    pub explanation: String,
}

/// What netpath knows of its own gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Packets of flows that found no room in the map.
    pub map_full_packets: u64,
    /// Packets whose headers could not be read.
    pub unparsed_packets: u64,
    /// Later fragments whose first fragment was not seen.
    pub orphan_fragment_packets: u64,
    /// Packets that are neither IPv4 nor IPv6.
    pub non_ip_packets: u64,
    /// Packets that found no room even in the unattributed counters; their device is unknown.
    pub lost_packets: u64,
    /// Whether NAT could be followed.
    pub conntrack: Conntrack,
    /// If it could not: why, and what to do; otherwise `null`.
    pub conntrack_reason: Option<String>,
    /// Flows whose path is unknown, since a partner of what was seen is missing: those of class `unresolved`.
    pub unjoined_flows: u64,
    /// Flows whose addresses conntrack translates in more than one way (a port was reused in the window, or zones
    /// differ), so that netpath did not follow NAT for them.
    pub ambiguous_flows: u64,
    /// Devices whose traffic was not (fully) seen.
    pub blind_devices: u64,
    /// How often the kernel dropped messages about devices, since too many waited. The devices were read anew then; those that
    /// had come and gone meanwhile are not in the report.
    #[serde(default)]
    pub device_overruns: u64,
}

/// Whether NAT could be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conntrack {
    /// Dumps and events are complete.
    Ok,
    /// This kernel or namespace has none, or netpath may not read it.
    Unavailable,
    /// Events were lost; a fresh dump was taken.
    Overrun,
}
