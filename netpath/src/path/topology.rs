//! What the node's devices and addresses tell about a place where a packet was seen.
//!
//! In: a snapshot's devices, and the routes that deliver to the node. Out: look-ups. It must not judge flows: that is
//! `classify`'s.

mod networks;
mod segments;

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use self::networks::Networks;
pub use self::segments::L2Segment;
use self::segments::L2Segments;
use crate::model::{Attach, DeviceClass, Direction};
use crate::snapshot::{Device, LocalRoute, Observation};

/// VLAN devices on VLAN devices are followed this far: the parser reads two tags, and a replayed file may be circular.
const MAX_STACKED: u8 = 4;

/// Which side of the node's boundary a device is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What passes here leaves or enters the node: an ENI, a tunnel, a VLAN device on either.
    Outside,
    /// What passes here leaves or enters a pod, or a virtual machine: the host's end of a veth pair, a tap, a tunnel to a pod.
    Pod,
    /// What passes here leaves or enters a process of this node, such as a VPN or a translator: a tun device.
    Process,
    /// On the way between the others: a bridge, a veth pair with both ends on the node, or anything else.
    Inside,
}

/// A device with what can be told of it by looking at the others.
pub struct Place<'a> {
    /// The device.
    pub device: &'a Device,
    /// Which side of the node's boundary it is on.
    pub role: Role,
    /// How many devices are below it: packets go out by the highest first, and come in by the lowest first.
    pub height: u8,
}

/// The node's devices and addresses, for look-up.
pub struct Topology<'a> {
    places: HashMap<u32, Place<'a>>,
    own: HashSet<IpAddr>,
    delivered: Networks,
    sometimes_delivered: Networks,
    broadcast: HashSet<Ipv4Addr>,
    pods: HashMap<IpAddr, &'a Device>,
    segments: L2Segments,
    hidden: bool,
}

impl<'a> Topology<'a> {
    /// Reads the devices. Of two devices with one ifindex the first in `devices` counts. `local_routes` deliver to the node.
    /// `hidden`: some devices may have sent what
    /// netpath did not see.
    #[must_use]
    pub fn new(devices: &[&'a Device], local_routes: &[LocalRoute], hidden: bool) -> Self {
        let mut by_index: HashMap<u32, &'a Device> = HashMap::new();
        for device in devices {
            by_index.entry(device.facts.ifindex).or_insert(device);
        }
        let mut topology = Self {
            places: HashMap::new(),
            own: HashSet::new(),
            delivered: local_routes.iter().filter(|route| route.unconditional).map(|route| route.network).collect(),
            sometimes_delivered: local_routes.iter().map(|route| route.network).collect(),
            broadcast: HashSet::new(),
            pods: HashMap::new(),
            segments: L2Segments::new(&by_index),
            hidden: hidden || devices.iter().any(|device| hides(device)),
        };
        for device in devices {
            for (address, prefix) in device.facts.addresses.iter().filter_map(|text| parse(text)) {
                topology.own.insert(address);
                topology.broadcast.extend(broadcast(address, prefix));
            }
        }
        for device in by_index.values() {
            let (role, height) = place(device, &by_index);
            topology.places.insert(device.facts.ifindex, Place { device, role, height });
            if role == Role::Pod {
                for &address in &device.routed {
                    // Two routes to one address: as above.
                    let owner = topology.pods.entry(address).or_insert(device);
                    if device.facts.ifindex < owner.facts.ifindex {
                        *owner = device;
                    }
                }
            }
        }
        topology.add_former_pods();
        let to_pods: Vec<u32> =
            by_index.values().filter(|it| topology.ends_at_pod(it)).map(|it| it.facts.ifindex).collect();
        for ifindex in to_pods {
            topology.places.entry(ifindex).and_modify(|place| place.role = Role::Pod);
        }
        topology
    }

    /// Addresses that were a pod's until it went, and are nobody's since.
    fn add_former_pods(&mut self) {
        let mut pods: Vec<&Place> = self.places.values().filter(|place| place.role == Role::Pod).collect();
        pods.sort_unstable_by_key(|place| place.device.facts.ifindex);
        for device in pods.into_iter().map(|place| place.device) {
            for &address in &device.formerly_routed {
                self.pods.entry(address).or_insert(device);
            }
        }
    }

    /// Whether the device is a tunnel whose other end is a local pod.
    fn ends_at_pod(&self, device: &Device) -> bool {
        let Some(remote) = device.remote.filter(|_| device.facts.class == DeviceClass::Tunnel) else { return false };
        self.pod(remote).is_some_and(|pod| pod.facts.ifindex != device.facts.ifindex)
            || self.is_behind_inner_bridge(remote)
    }

    /// Whether the address is in a network of this node that lies on a bridge without a way out of the node.
    fn is_behind_inner_bridge(&self, address: IpAddr) -> bool {
        let inside = |bridge: &Device| {
            bridge.facts.class == DeviceClass::Bridge
                && !self.is_own(address)
                && bridge
                    .facts
                    .addresses
                    .iter()
                    .filter_map(|text| text.parse::<IpNet>().ok())
                    .any(|net| net.contains(&address))
        };
        let ports = |bridge: u32| self.places.values().filter(move |place| place.device.master == Some(bridge));
        self.places.values().filter(|place| inside(place.device)).any(|place| {
            let mut ports = ports(place.device.facts.ifindex).peekable();
            ports.peek().is_some() && ports.all(|port| port.role == Role::Pod)
        })
    }

    /// The device of this index, if the snapshot has it.
    #[must_use]
    pub fn place(&self, ifindex: u32) -> Option<&Place<'a>> {
        self.places.get(&ifindex)
    }

    /// Whether one of the hops is of this direction, on a device of this role.
    #[must_use]
    pub fn saw(&self, hops: &[Observation], role: Role, direction: Direction) -> bool {
        hops.iter().any(|hop| hop.direction == direction && self.role(hop.ifindex) == role)
    }

    /// The role of the device of this index; one that the snapshot lacks tells nothing, so it is merely inside.
    #[must_use]
    pub fn role(&self, ifindex: u32) -> Role {
        self.place(ifindex).map_or(Role::Inside, |place| place.role)
    }

    /// The device at the bottom of a stack of VLAN devices; the device itself if it is none.
    #[must_use]
    pub fn base(&self, mut ifindex: u32) -> u32 {
        for _ in 0..MAX_STACKED {
            match self.place(ifindex).map(|place| (place.device.facts.class, place.device.vlan)) {
                Some((DeviceClass::Vlan, Some(vlan))) => ifindex = vlan.lower_ifindex,
                _ => break,
            }
        }
        ifindex
    }

    /// Whether the device of this index is a tunnel.
    #[must_use]
    pub fn is_tunnel(&self, ifindex: u32) -> bool {
        self.place(ifindex).is_some_and(|place| place.device.facts.class == DeviceClass::Tunnel)
    }

    /// The other end of a veth pair with both ends on the node: what goes out by the one comes in by the other.
    #[must_use]
    pub fn peer(&self, ifindex: u32) -> Option<u32> {
        let place = self.place(ifindex).filter(|place| place.role == Role::Inside)?;
        place.device.lower.filter(|_| place.device.facts.class == DeviceClass::Veth)
    }

    /// Whether packets to this address that go out by this device are for the pod behind it; `None` if that is not known, as
    /// nothing is routed to it. A device may get copies of packets for others, or what its pod is to route on.
    #[must_use]
    pub fn is_for(&self, ifindex: u32, address: IpAddr) -> Option<bool> {
        let device = self.place(ifindex)?.device;
        if device.routed.contains(&address) || device.formerly_routed.contains(&address) {
            return Some(true);
        }
        let of_another = self.is_own(address) || self.pods.contains_key(&address);
        (of_another || !device.routed.is_empty()).then_some(false)
    }

    /// Whether programs or filters that are not netpath's are on the device's hooks.
    #[must_use]
    pub fn has_programs(&self, hop: &Observation) -> bool {
        let programs = |place: &Place| place.device.facts.other_programs.iter().flatten().next().is_some();
        self.place(hop.ifindex).is_some_and(programs)
    }

    /// Whether this node's own stack has the address: a device has it, or a route delivers it here. Packets with no source
    /// address yet (DHCP, duplicate address detection) come from a stack too.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let delivered = || self.delivered.contain(address) && !self.pods.contains_key(&address);
        self.own.contains(&address) || address.is_loopback() || address.is_unspecified() || delivered()
    }

    /// Whether some packets to the address, and not all, are delivered to this node: those that a rule has take a route that
    /// does so.
    #[must_use]
    pub fn is_own_by_rule(&self, address: IpAddr) -> bool {
        !self.is_own(address) && self.sometimes_delivered.contain(address)
    }

    /// The veth whose pod has the address.
    #[must_use]
    pub fn pod(&self, address: IpAddr) -> Option<&'a Device> {
        self.pods.get(&address).copied()
    }

    /// Whether the address is a broadcast address, of everywhere or of a network that this node is in.
    #[must_use]
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.is_broadcast() || self.broadcast.contains(&v4))
    }

    /// Whether packets to the address go to many at once: multicast, broadcast.
    #[must_use]
    pub fn is_multicast_or_broadcast(&self, address: IpAddr) -> bool {
        address.is_multicast() || self.is_broadcast(address)
    }

    /// Whether a packet could have left, or entered, by a device where netpath did not see it.
    #[must_use]
    pub fn hides_traffic(&self) -> bool {
        self.hidden
    }

    /// Whether some devices are ports of VRFs.
    #[must_use]
    pub fn has_vrfs(&self) -> bool {
        self.places.values().any(|place| place.device.facts.kind.as_deref() == Some("vrf"))
    }

    /// The VRF that the device of this index is a port of, or its bridge is.
    #[must_use]
    pub fn vrf(&self, ifindex: u32) -> Option<u32> {
        let master = |ifindex: u32| self.places.get(&ifindex)?.device.master;
        let is_vrf = |ifindex: &u32| {
            self.places.get(ifindex).is_some_and(|place| place.device.facts.kind.as_deref() == Some("vrf"))
        };
        let masters = std::iter::successors(master(ifindex), |&ifindex| master(ifindex));
        masters.take(MAX_STACKED.into()).find(is_vrf)
    }

    /// Which network of frames one seen at `ifindex` with these tags belongs to.
    #[must_use]
    pub fn segment(&self, ifindex: u32, vlans: [u16; 2]) -> L2Segment {
        self.segments.of(ifindex, vlans)
    }
}

fn parse(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = text.split_once('/')?;
    Some((address.parse().ok()?, prefix.parse().ok()?))
}

fn broadcast(address: IpAddr, prefix: u32) -> Option<Ipv4Addr> {
    // RFC 3021: networks of 31 bits have no broadcast address.
    let IpAddr::V4(v4) = address else { return None };
    (1..31).contains(&prefix).then(|| Ipv4Addr::from_bits(v4.to_bits() | u32::MAX >> prefix))
}

/// A device that netpath did not watch, unless its own counter says that it sent nothing, or what it sends goes out by its
/// ports.
fn hides(device: &Device) -> bool {
    let idle = device.facts.kernel.is_some_and(|kernel| kernel.tx_packets == 0);
    let has_ports = matches!(device.facts.kind.as_deref(), Some("bond" | "team" | "vrf"));
    device.facts.attach == Attach::None && device.facts.class != DeviceClass::Loopback && !idle && !has_ports
}

fn place(device: &Device, by_index: &HashMap<u32, &Device>) -> (Role, u8) {
    let (mut lowest, mut height) = (device, 0);
    while let (DeviceClass::Vlan, Some(vlan)) = (lowest.facts.class, lowest.vlan) {
        match by_index.get(&vlan.lower_ifindex) {
            Some(lower) if height < MAX_STACKED => (lowest, height) = (lower, height + 1),
            _ => break,
        }
    }
    match (lowest.facts.class, height) {
        (DeviceClass::Tunnel, 0) if lowest.facts.kind.as_deref() == Some("tun") => (Role::Process, 0),
        (DeviceClass::Eni | DeviceClass::Tunnel, _) => (Role::Outside, height),
        (DeviceClass::Veth, 0) if !has_peer(device, by_index) => (Role::Pod, 0),
        (DeviceClass::Tap, 0) => (Role::Pod, 0),
        (DeviceClass::Veth, 0) => (Role::Inside, 0),
        // A bridge is above its ports, and VLAN devices on it are above the bridge.
        _ => (Role::Inside, height + 1),
    }
}

/// Whether both ends of a veth pair are on the node, as veths. One that is taken for an ENI is a way out.
fn has_peer(device: &Device, by_index: &HashMap<u32, &Device>) -> bool {
    let peer = device.lower.and_then(|peer| by_index.get(&peer));
    peer.is_some_and(|peer| {
        peer.facts.class == DeviceClass::Veth && peer.lower == Some(device.facts.ifindex) && !peer.facts.vanished
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeviceFacts;

    /// `IFLA_LINK` of a veth is an index in the network namespace of its peer, and a device of the node may have the same index.
    #[test]
    fn both_ends_of_a_veth_pair() {
        let role = |other: Device| {
            let one = Device { lower: Some(8), ..Device::new(DeviceFacts::new(7, "veth7", DeviceClass::Veth)) };
            Topology::new(&[&one, &other], &[], false).role(7)
        };
        let other = |class, lower| Device { lower, ..Device::new(DeviceFacts::new(8, "veth8", class)) };
        assert_eq!(role(other(DeviceClass::Veth, Some(7))), Role::Inside);
        assert_eq!(role(other(DeviceClass::Veth, Some(9))), Role::Pod);
        assert_eq!(role(other(DeviceClass::Eni, Some(7))), Role::Pod);
        let mut vanished = other(DeviceClass::Veth, Some(7));
        vanished.facts.vanished = true;
        assert_eq!(role(vanished), Role::Pod);
    }
}
