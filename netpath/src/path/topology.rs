//! What the node's devices and addresses tell about a place where a packet was seen.
//!
//! In: a snapshot's devices. Out: look-ups. It must not judge flows: that is `classify`'s.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::report::{Attach, DeviceClass, Direction};
use crate::snapshot::{Device, Observation};

/// VLAN devices on VLAN devices are followed this far: the parser reads two tags, and a replayed file may be circular.
const MAX_STACKED: u8 = 4;

/// Which side of the node's boundary a device is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What passes here leaves or enters the node: an ENI, a tunnel, a VLAN device on either.
    Outside,
    /// What passes here leaves or enters a pod: the host's end of a veth pair.
    Pod,
    /// On the way between the two: a bridge, or anything else.
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
    broadcast: HashSet<Ipv4Addr>,
    pods: HashMap<IpAddr, &'a Device>,
    stripped: HashMap<(u32, u16), u32>,
    hidden: bool,
}

impl<'a> Topology<'a> {
    /// Reads the devices. Of two devices with one ifindex the first in `devices` counts. `blind`: on some of them netpath saw
    /// not all that passed.
    #[must_use]
    pub fn new(devices: &[&'a Device], blind: bool) -> Self {
        let mut by_index: HashMap<u32, &'a Device> = HashMap::new();
        for device in devices {
            by_index.entry(device.ifindex).or_insert(device);
        }
        let mut topology = Self {
            places: HashMap::new(),
            own: HashSet::new(),
            broadcast: HashSet::new(),
            pods: HashMap::new(),
            stripped: HashMap::new(),
            hidden: blind || devices.iter().any(|device| hides(device)),
        };
        for device in devices {
            for (address, prefix) in device.addresses.iter().filter_map(|text| parse(text)) {
                topology.own.insert(address);
                topology.broadcast.extend(broadcast(address, prefix));
            }
        }
        for device in by_index.values() {
            let (role, height) = place(device, &by_index);
            topology.places.insert(device.ifindex, Place { device, role, height });
            if let Some(vlan) = device.vlan {
                // Two devices cannot take one tag off one device; where a file says so, the lower index does.
                let taker = topology.stripped.entry((vlan.lower_ifindex, vlan.id)).or_insert(device.ifindex);
                *taker = (*taker).min(device.ifindex);
            }
            if device.class == DeviceClass::Veth {
                for &address in &device.routed {
                    // Two routes to one address: as above.
                    let owner = topology.pods.entry(address).or_insert(device);
                    if device.ifindex < owner.ifindex {
                        *owner = device;
                    }
                }
            }
        }
        topology
    }

    /// The device of this index, if the snapshot has it.
    #[must_use]
    pub fn place(&self, ifindex: u32) -> Option<&Place<'a>> {
        self.places.get(&ifindex)
    }

    /// Whether one of the hops is of this direction, on a device of this role.
    #[must_use]
    pub fn saw(&self, hops: &[Observation], role: Role, direction: Direction) -> bool {
        hops.iter().any(|hop| self.role(hop.ifindex) == role && hop.direction == direction)
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
            match self.place(ifindex).map(|place| (place.device.class, place.device.vlan)) {
                Some((DeviceClass::Vlan, Some(vlan))) if self.places.contains_key(&vlan.lower_ifindex) => {
                    ifindex = vlan.lower_ifindex;
                }
                _ => break,
            }
        }
        ifindex
    }

    /// Whether the device of this index is a tunnel.
    #[must_use]
    pub fn is_tunnel(&self, ifindex: u32) -> bool {
        self.place(ifindex).is_some_and(|place| place.device.class == DeviceClass::Tunnel)
    }

    /// Whether this node's own stack has the address. Packets with no source address yet (DHCP, duplicate address
    /// detection) come from a stack too.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address) || address.is_loopback() || address.is_unspecified()
    }

    /// Whether some packets to the address are for this node's own stack.
    #[must_use]
    pub fn may_be_own(&self, _address: IpAddr) -> bool {
        false
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

    /// Whether a packet could have left, or entered, by a device where netpath did not see it.
    #[must_use]
    pub fn hides_traffic(&self) -> bool {
        self.hidden
    }

    /// Where a frame seen at `ifindex` with these tags is once the node's VLAN devices have taken off theirs: the
    /// highest such device, and the tags that are left.
    #[must_use]
    pub fn untagged(&self, mut ifindex: u32, mut vlans: [u16; 2]) -> (u32, [u16; 2]) {
        while vlans[0] != 0 {
            let Some(&upper) = self.stripped.get(&(ifindex, vlans[0])) else { break };
            ifindex = upper;
            vlans = [vlans[1], 0];
        }
        (ifindex, vlans)
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

/// A device that netpath did not watch, unless its own counter says that it sent nothing.
fn hides(device: &Device) -> bool {
    let idle = device.kernel.is_some_and(|kernel| kernel.tx_packets == 0);
    device.attach == Attach::None && device.class != DeviceClass::Loopback && !idle
}

fn place(device: &Device, by_index: &HashMap<u32, &Device>) -> (Role, u8) {
    let (mut lowest, mut height) = (device, 0);
    while let (DeviceClass::Vlan, Some(vlan)) = (lowest.class, lowest.vlan) {
        match by_index.get(&vlan.lower_ifindex) {
            Some(lower) if height < MAX_STACKED => (lowest, height) = (lower, height + 1),
            _ => break,
        }
    }
    match (lowest.class, height) {
        (DeviceClass::Eni | DeviceClass::Tunnel, _) => (Role::Outside, height),
        (DeviceClass::Veth, 0) => (Role::Pod, 0),
        // A bridge is above its ports.
        _ => (Role::Inside, MAX_STACKED + 1),
    }
}
