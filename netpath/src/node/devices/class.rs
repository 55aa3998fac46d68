//! What a device is, by its own evidence, never by what it is called.
//!
//! In: a link's kind, flags, hardware type, driver and place on a bus. Out: [`DeviceClass`], [`Layer`], [`EniEvidence`]. Pure.

use super::message::RawLink;
use super::{EniEvidence, Layer};
use crate::model::DeviceClass;
use crate::node::ethtool::DriverInfo;

/// Drivers of ENIs: current instances, older ones with enhanced networking, and Xen instances (`vif` is xen-netfront).
const ENI_DRIVERS: [&str; 3] = ["ena", "ixgbevf", "vif"];

// linux/if_arp.h; not in libc.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;

/// The class of a link, and why it is an ENI if it is one.
///
/// - Loopback: `IFF_LOOPBACK`.
/// - A link kind (`IFLA_INFO_KIND`) decides for everything made of software.
/// - ENI: no kind and a driver of [`ENI_DRIVERS`]; or no kind, Ethernet, and a place on a bus (`IFLA_PARENT_DEV_NAME`, or
///   ethtool's `bus-info` before kernel 5.14), which means that it is the machine's own hardware, real or emulated.
pub fn classify(link: &RawLink, driver: &DriverInfo) -> (DeviceClass, Option<EniEvidence>) {
    if link.flags & libc::IFF_LOOPBACK.cast_unsigned() != 0 {
        return (DeviceClass::Loopback, None);
    }
    if let Some(kind) = link.info.kind.as_deref() {
        let class = match kind {
            // Before kernel 4.20 the type is not in the message; a tun device has no Ethernet header.
            "tun" if link.info.tap.unwrap_or(link.hardware_type == libc::ARPHRD_ETHER) => DeviceClass::Tap,
            "veth" | "netkit" => DeviceClass::Veth,
            "vlan" => DeviceClass::Vlan,
            "bridge" => DeviceClass::Bridge,
            "vxlan" | "geneve" | "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" | "ipip"
            | "sit" | "ip6tnl" | "vti" | "vti6" | "xfrm" | "wireguard" | "tun" | "bareudp" | "gtp" | "amt" => {
                DeviceClass::Tunnel
            }
            _ => DeviceClass::Other,
        };
        return (class, None);
    }
    if driver.driver.as_deref().is_some_and(|driver| ENI_DRIVERS.contains(&driver)) {
        return (DeviceClass::Eni, Some(EniEvidence::Driver));
    }
    let on_a_bus = link.parent.is_some() || driver.bus.is_some();
    if on_a_bus && link.hardware_type == libc::ARPHRD_ETHER {
        return (DeviceClass::Eni, Some(EniEvidence::Hardware));
    }
    (DeviceClass::Other, None)
}

/// How the frames of a device of this hardware type begin.
pub fn layer(hardware_type: u16) -> Layer {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Layer::Ethernet,
        libc::ARPHRD_NONE
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE
        | ARPHRD_IP6GRE
        | ARPHRD_RAWIP => Layer::Ip,
        _ => Layer::Unknown,
    }
}

#[cfg(test)]
mod tests;
