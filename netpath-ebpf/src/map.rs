//! Names of the programs and maps in the object. The kernel keeps 15 characters of each.

/// Ingress of a device with Ethernet headers.
pub const RX: &str = "netpath_rx";
/// Egress of a device with Ethernet headers.
pub const TX: &str = "netpath_tx";
/// Ingress of a device without link layer.
pub const RX_IP: &str = "netpath_rx_ip";
/// Egress of a device without link layer.
pub const TX_IP: &str = "netpath_tx_ip";
/// Every program.
pub const PROGRAMS: [&str; 4] = [RX, TX, RX_IP, TX_IP];

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
/// `FragmentKey` → `FragmentValue`.
pub const FRAGMENTS: &str = "NETPATH_FRAG";
