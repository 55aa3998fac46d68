//! The words for what the report has as values: short enough for a cell, and the same in every format.

use std::net::{IpAddr, SocketAddr};

use crate::model::DeviceClass;
use crate::path::verdict::Unknown;
use crate::report::{CauseKind, Nat, PathClass, PeerKind, Scope, TermKind};

/// `10.0.0.21:80`, `[fd00::1]:80`, `10.0.0.21`.
pub fn address_and_port(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

/// "1 packet", "12 packets", "2 addresses".
pub fn counted(count: u64, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// What the bytes of a path did.
pub const fn path(path: PathClass) -> &'static str {
    match path {
        PathClass::Eni => "crossed an ENI",
        PathClass::Local => "stayed on this node, pod to pod",
        PathClass::Host => "between this node and its own pods",
        PathClass::Transit => "passed through, in and out by an ENI",
        PathClass::Undelivered => "dropped on this node",
        PathClass::Unresolved => "path unknown",
    }
}

/// A part of `node_network_total_bytes`.
pub const fn term(term: TermKind) -> &'static str {
    match term {
        TermKind::Eni => "on ENIs",
        TermKind::EniCopyOnVeth => "the same bytes again, on pod veths",
        TermKind::EniCopyOnVlan => "the same bytes again, on VLAN devices",
        TermKind::Local => "pod to pod, counted on both veths",
        TermKind::Host => "node and its pods, on one veth",
        TermKind::Undelivered => "dropped on this node",
        TermKind::Unresolved => "path unknown",
        TermKind::OtherDevices => "bridges, tunnels, other devices",
        TermKind::Unattributed => "in no flow (ARP and the like)",
        TermKind::Cause(CauseKind::NotAttached) => "devices that were not watched",
        TermKind::Cause(kind) => cause(kind),
        TermKind::Residual => "unexplained",
    }
}

/// The same, as the end of "76 % …".
pub const fn share_of_term(term: TermKind) -> &'static str {
    match term {
        TermKind::Eni => "crossed ENIs",
        TermKind::EniCopyOnVeth => "is ENI traffic counted again on pod veths",
        TermKind::EniCopyOnVlan => "is ENI traffic counted again on VLAN devices",
        TermKind::Local => "stayed between pods of this node, counted twice",
        TermKind::Host => "stayed between this node and its own pods",
        TermKind::Undelivered => "was dropped on this node",
        TermKind::Unresolved => "took a path that netpath saw only in part",
        TermKind::OtherDevices => "was counted again on bridges, tunnels and other devices",
        TermKind::Unattributed => "is in no flow (ARP and the like)",
        TermKind::Cause(CauseKind::NotAttached) => "passed devices that netpath did not watch",
        TermKind::Cause(_) => "is headers and other bytes that only one side counts",
        TermKind::Residual => "is unexplained",
    }
}

/// [`TermKind::Unattributed`] where the flow table was full.
pub const NO_ROOM: &str = "in no flow, as the table was full";

/// The same, as the end of "76 % …".
pub const SHARE_WITHOUT_ROOM: &str = "did not fit into the flow table (--max-flows)";

/// [`CauseKind::Sampling`] where it is known how long that took.
pub fn sampling(within: &str) -> String {
    format!("passed in the {within} of reading counters")
}

/// Why the kernel's count differs from netpath's.
pub const fn cause(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::ShownAgain => "packets that pass the hook twice",
        CauseKind::GroGsoHeaders => "headers of merged frames (GRO, GSO)",
        CauseKind::EthernetHeaders => "Ethernet headers, not counted",
        CauseKind::Encryption => "WireGuard's own bytes",
        CauseKind::VlanTags => "VLAN tags beside packets",
        CauseKind::DroppedBeforeHook => "dropped before netpath saw it",
        CauseKind::DroppedAfterHook => "dropped after netpath saw it",
        CauseKind::DroppedByFilter => "dropped by a tc filter (policy)",
        CauseKind::OtherProgram => "possibly taken by another program",
        CauseKind::HardwareOffload => "possibly passed by the card alone",
        CauseKind::XdpProgram => "possibly taken or sent by XDP",
        CauseKind::DroppedByQdisc => "dropped by the device's queue (qdisc)",
        CauseKind::Queued => "waiting in the device's queue (qdisc)",
        CauseKind::AttachWindow => "before netpath was attached",
        CauseKind::Sampling => "passed while counters were read",
        CauseKind::NotAttached => "not watched",
    }
}

/// Why it is not known what CloudWatch and EC2 show.
pub const fn unknown(why: Unknown) -> &'static str {
    match why {
        Unknown::NoTime => "the window has no length",
        Unknown::NoEni => "no ENI was recognised",
        Unknown::NoneCounted => "Container Insights counts none of these devices",
        Unknown::Counters => "the counters of a device could not be read",
    }
}

/// What is special about addresses.
pub const fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Imds => "IMDS",
        Scope::AmazonDns => "Amazon DNS",
        Scope::AmazonNtp => "Amazon Time Sync",
        Scope::PodIdentity => "EKS Pod Identity",
        Scope::LinkLocal => "link-local",
        Scope::Multicast => "multicast",
        Scope::Broadcast => "broadcast",
    }
}

/// What parentheses around a device's name mean.
pub const IN_PARENTHESES: &str = "Devices in parentheses are not in node_network_total_bytes.";

/// What NAT changes.
pub const fn nat(nat: Nat) -> &'static str {
    match nat {
        Nat::None => "-",
        Nat::Snat => "SNAT",
        Nat::Dnat => "DNAT",
        Nat::Both => "both",
    }
}

/// Where an end is.
pub const fn peer(kind: PeerKind) -> &'static str {
    match kind {
        PeerKind::PodHere => "pods here",
        PeerKind::PodElsewhere => "pods elsewhere",
        PeerKind::ThisNode => "this node",
        PeerKind::Vpc => "VPC",
        PeerKind::Private => "private addresses",
        PeerKind::Internet => "internet",
        PeerKind::LinkLocal => "link-local",
        PeerKind::Many => "multicast, broadcast",
    }
}

/// What a device is.
pub const fn device_class(class: DeviceClass) -> &'static str {
    match class {
        DeviceClass::Eni => "ENI",
        DeviceClass::Veth => "veth",
        DeviceClass::Vlan => "vlan",
        DeviceClass::Bridge => "bridge",
        DeviceClass::Tunnel => "tunnel",
        DeviceClass::Tap => "tap",
        DeviceClass::Loopback => "loopback",
        DeviceClass::Other => "other",
    }
}
