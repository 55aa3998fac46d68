//! What a device is, by evidence.
//!
//! In: what the kernel says of it. Out: its class. Names are no evidence: `eni1a2b3c4d5e6` is a pod's veth, and `ens5` an
//! ENI.

use rtnetlink::packet_route::link::LinkLayerType;

use crate::report::DeviceClass;

/// What the kernel says of a device.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// ARPHRD type.
    pub layer_type: LinkLayerType,
    /// `IFLA_INFO_KIND`.
    pub kind: Option<&'a str>,
    /// Driver by ethtool.
    pub driver: Option<&'a str>,
    /// It stands on a bus (`IFLA_PARENT_DEV_NAME`, Linux 5.14 and newer).
    pub has_parent: bool,
}

/// Drivers of EC2's network interfaces: Nitro, enhanced networking of older instances, and Xen. They say so on kernels
/// that do not tell the parent.
const ENI_DRIVERS: [&str; 4] = ["ena", "ixgbevf", "vif", "xen_netfront"];

/// The class of a device. Only software devices have a link kind, so a device without one that stands on a bus, or has an
/// ENI's driver, is one that packets leave the node by.
pub fn classify(evidence: &Evidence) -> DeviceClass {
    if evidence.layer_type == LinkLayerType::Loopback {
        return DeviceClass::Loopback;
    }
    match evidence.kind {
        Some("veth" | "netkit") => DeviceClass::Veth,
        Some("vlan") => DeviceClass::Vlan,
        Some("bridge") => DeviceClass::Bridge,
        Some(
            "vxlan" | "geneve" | "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" | "ipip" | "ip6tnl"
            | "sit" | "vti" | "vti6" | "xfrm" | "wireguard" | "tun" | "gtp" | "bareudp" | "amt",
        ) => DeviceClass::Tunnel,
        Some(_) => DeviceClass::Other,
        None => {
            let is_eni = evidence.has_parent || evidence.driver.is_some_and(|driver| ENI_DRIVERS.contains(&driver));
            if is_eni && evidence.layer_type == LinkLayerType::Ether { DeviceClass::Eni } else { DeviceClass::Other }
        }
    }
}
