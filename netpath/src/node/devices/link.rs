//! One device, from the messages that rtnetlink has of it.
//!
//! In: messages. Out: [`Link`]. It must not ask for anything but the driver.

use std::fmt::Write as _;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};

use super::class::{Evidence, classify};
use super::counters::Counted;
use super::{EniChoice, Ethtool};
use crate::kernel::attach::Layer;
use crate::report::DeviceClass;
use crate::snapshot::{Drops, KernelCounters, Vlan};

/// A device.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The kernel's index.
    pub ifindex: u32,
    /// Name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// What it is.
    pub class: DeviceClass,
    /// `IFLA_INFO_KIND`.
    pub kind: Option<String>,
    /// Driver by ethtool.
    pub driver: Option<String>,
    /// Hardware address as lower-case hex with colons.
    pub mac: Option<String>,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Addresses that the main routing table sends to this device alone.
    pub routed: Vec<IpAddr>,
    /// What its packets begin with.
    pub layer: Layer,
    /// For a VLAN device, what it stands on, if that is in this namespace.
    pub vlan: Option<Vlan>,
    /// Its counters since it was made.
    pub counters: Counted,
}

impl Link {
    pub(super) fn new(message: &LinkMessage, ethtool: &Ethtool, choice: &EniChoice) -> Self {
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            class: DeviceClass::Other,
            kind: None,
            driver: None,
            mac: None,
            addresses: Vec::new(),
            routed: Vec::new(),
            layer: match message.header.link_layer_type {
                LinkLayerType::Ether | LinkLayerType::Loopback => Layer::Ethernet,
                _ => Layer::Ip,
            },
            vlan: None,
            counters: counters(message).unwrap_or_default(),
        };
        let (mut has_parent, mut lower, mut vlan_id, mut elsewhere) = (false, None, None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(octets) if !octets.is_empty() => link.mac = Some(hex(octets)),
                LinkAttribute::ParentDevName(_) => has_parent = true,
                LinkAttribute::Link(ifindex) => lower = Some(*ifindex),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                            LinkInfo::Data(InfoData::Vlan(data)) => vlan_id = data.iter().find_map(id_of),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link.driver = ethtool.driver(&link.name);
        link.vlan = match (lower, vlan_id) {
            (Some(lower_ifindex), Some(id)) if !elsewhere => Some(Vlan { lower_ifindex, id }),
            _ => None,
        };
        let evidence = Evidence {
            layer_type: message.header.link_layer_type,
            kind: link.kind.as_deref(),
            driver: link.driver.as_deref(),
            has_parent,
        };
        link.class = match (choice.decides(&link.name), classify(&evidence)) {
            (Some(true), _) => DeviceClass::Eni,
            (Some(false), DeviceClass::Eni) => DeviceClass::Other,
            (_, class) => class,
        };
        link
    }

    pub(super) fn add_address(&mut self, message: &AddressMessage) {
        let address = |wanted: fn(&AddressAttribute) -> Option<&IpAddr>| message.attributes.iter().find_map(wanted);
        // IFA_LOCAL is this end's, IFA_ADDRESS the other's where they differ (point to point).
        let local = address(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(address),
            _ => None,
        });
        let any = address(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(address),
            _ => None,
        });
        if let Some(address) = local.or(any) {
            self.addresses.push(format!("{address}/{}", message.header.prefix_len));
        }
    }
}

fn id_of(data: &InfoVlan) -> Option<u16> {
    match data {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().enumerate().fold(String::new(), |mut text, (at, octet)| {
        let _ = write!(text, "{}{octet:02x}", if at == 0 { "" } else { ":" });
        text
    })
}

/// `IFLA_STATS64` of a message.
pub(super) fn counters(message: &LinkMessage) -> Option<Counted> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(Counted {
            kernel: KernelCounters {
                rx_bytes: stats.rx_bytes,
                rx_packets: stats.rx_packets,
                tx_bytes: stats.tx_bytes,
                tx_packets: stats.tx_packets,
            },
            drops: Drops { rx_packets: stats.rx_dropped, tx_packets: stats.tx_dropped },
        }),
        _ => None,
    })
}

/// The device and address of a route to a single host, of the main table, without a gateway.
pub(super) fn host_route(message: &RouteMessage) -> Option<(u32, IpAddr)> {
    let RouteHeader { destination_prefix_length, table, kind, .. } = message.header;
    if table != RouteHeader::RT_TABLE_MAIN || kind != RouteType::Unicast {
        return None;
    }
    let (mut device, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            RouteAttribute::Oif(ifindex) => device = Some(*ifindex),
            RouteAttribute::Destination(RouteAddress::Inet(to)) if destination_prefix_length == 32 => {
                address = Some(IpAddr::V4(*to));
            }
            RouteAttribute::Destination(RouteAddress::Inet6(to)) if destination_prefix_length == 128 => {
                address = Some(IpAddr::V6(*to));
            }
            _ => {}
        }
    }
    Some((device?, address?))
}
