//! Names of the programs and maps in the object. The kernel keeps 15 characters of each.

/// Ingress of a device with Ethernet headers.
pub const RX: &str = "netpath_rx";
/// Egress of a device with Ethernet headers.
pub const TX: &str = "netpath_tx";
/// Ingress of a device without link layer.
pub const RX_IP: &str = "netpath_rx_ip";
/// Egress of a device without link layer.
pub const TX_IP: &str = "netpath_tx_ip";
/// Ingress of a device with Ethernet headers, for a trace.
pub const HOP_RX: &str = "netpath_hop_rx";
/// Egress of a device with Ethernet headers, for a trace.
pub const HOP_TX: &str = "netpath_hop_tx";
/// Ingress of a device without link layer, for a trace.
pub const HOP_RX_IP: &str = "netpath_hoprxip";
/// Egress of a device without link layer, for a trace.
pub const HOP_TX_IP: &str = "netpath_hoptxip";
/// Every program on a device's hooks.
pub const PROGRAMS: [&str; 8] = [RX, TX, RX_IP, TX_IP, HOP_RX, HOP_TX, HOP_RX_IP, HOP_TX_IP];
/// Counts dropped packets, on kernels that give no reason.
pub const COUNT_FREED: &str = "netpath_freed";
/// Counts dropped packets, with the reason.
pub const COUNT_DROPPED: &str = "netpath_dropped";
/// The end of packets on a trip, on kernels that give no reason.
pub const FREED: &str = "netpath_endfree";
/// The end of packets on a trip, with the reason.
pub const DROPPED: &str = "netpath_enddrop";

/// `KeyV4` → `Counts`, one map an epoch.
pub const V4: [&str; 2] = ["NETPATH_V4_0", "NETPATH_V4_1"];
/// `KeyV6` → `Counts`, one map an epoch.
pub const V6: [&str; 2] = ["NETPATH_V6_0", "NETPATH_V6_1"];
/// `IcmpErrorKey` → `Counts`, one map an epoch.
pub const ICMP_ERRORS: [&str; 2] = ["NETPATH_ICMP_0", "NETPATH_ICMP_1"];
/// `UnattributedKey` → `Counts`, one map an epoch.
pub const UNATTRIBUTED: [&str; 2] = ["NETPATH_UNATT_0", "NETPATH_UNATT_1"];
/// `slot_index` → `Block<KeyV4>`, on each CPU.
pub const SLOTS_V4: &str = "NETPATH_SLOT_V4";
/// `slot_index` → `Block<KeyV6>`, on each CPU.
pub const SLOTS_V6: &str = "NETPATH_SLOT_V6";
/// The programs' only global variable: the number of the epoch to count into, from 1. Even epochs have the first map of
/// each pair.
pub const EPOCH: &str = ".bss";
/// `Counts` of even and of odd epochs: packets that not even the unattributed counters had room for.
pub const LOST: &str = "NETPATH_LOST";
/// `DropKey` → packets, one map an epoch.
pub const DROPS: [&str; 2] = ["NETPATH_DROPS_0", "NETPATH_DROPS_1"];
/// Dropped packets of even and of odd epochs that these had no room for.
pub const DROPS_LOST: &str = "NETPATH_DRPLOST";
/// A global variable, `SkbOffsets`.
pub const OFFSETS: &str = "NETPATH_OFFSETS";
/// `FragmentKey` → `FragmentValue`.
pub const FRAGMENTS: &str = "NETPATH_FRAG";

/// Of a trace: `Settings`.
pub const TRACE_SETTINGS: &str = "NETPATH_CONFIG";
/// Of a trace: the filter, `[Test; TESTS]`.
pub const TRACE_TESTS: &str = "NETPATH_TESTS";
/// Of a trace: number of a set and address, as five words; the value means nothing.
pub const TRACE_SETS: &str = "NETPATH_SETS";
/// Of a trace: `Ends` here → `Ends` elsewhere.
pub const TRACE_NAT: &str = "NETPATH_NAT";
/// Of a trace: two `CpuState` on each CPU.
pub const TRACE_STATE: &str = "NETPATH_STATE";
/// Of a trace: the ring buffer with `Event`s, each with bytes of its packet behind it.
pub const TRACE_EVENTS: &str = "NETPATH_EVENTS";
/// Of a trace: the programs' variables that change, two words: whether a trip began, and whether the trace is over.
pub const TRACE_FLAGS: &str = ".bss";
