//! Which network of frames one belongs to: what bonds, bridges and VLAN devices make of its tags.
//!
//! In: devices, with what they stand on and are ports of. Out: for a device and tags, where the frame is once the node has
//! taken off the tags that it takes off.
//!
//! - A VLAN device takes its tag off the frames of the device below, and of that one's ports (a bond's, a bridge's).
//! - A bridge with VLAN filtering has as many networks as VLANs, whatever tags the frames have at its ports. One of them is
//!   the node's own where the bridge or a VLAN device on it takes part.
//! - All ports of another bridge are in one network.

use hashbrown::HashMap;

use crate::model::DeviceClass;
use crate::snapshot::{Device, PortVlans};

/// Devices on devices are followed this far: a replayed file may be circular.
const MAX_STEPS: usize = 16;

/// A network of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct L2Segment {
    /// The highest device that its frames come to without being routed.
    pub link: u32,
    /// It is a VLAN of a bridge that the node itself takes no part in; `vlans` begins with its number.
    pub bridged: bool,
    /// The tags that no device of the node takes off, outer then inner; 0 where there is none.
    pub vlans: [u16; 2],
}

/// The node's networks of frames, for look-up.
#[derive(Debug, Default)]
pub struct L2Segments {
    /// For a device and a tag, the device that takes it off.
    strippers: HashMap<(u32, u16), u32>,
    /// For a device, the one that its frames come to unchanged.
    above: HashMap<u32, u32>,
    /// For the port of a filtering bridge: the bridge, and the VLAN of untagged frames.
    ports: HashMap<u32, (u32, u16)>,
    /// For a filtering bridge and one of its VLANs, the least of those that untagged frames mix it with.
    mixed: HashMap<(u32, u16), u16>,
    /// For a filtering bridge, the VLAN of its own untagged frames.
    own: HashMap<u32, u16>,
}

impl L2Segments {
    /// Reads the devices, by index.
    pub fn new(devices: &HashMap<u32, &Device>) -> Self {
        let mut segments = Self::default();
        let mut all: Vec<&Device> = devices.values().copied().collect();
        all.sort_unstable_by_key(|device| device.facts.ifindex);
        for device in all {
            if let Some(vlan) = device.vlan {
                // Two devices cannot take one tag off one device; where a file says so, the lower index does.
                segments.strippers.entry((vlan.lower_ifindex, vlan.id)).or_insert(device.facts.ifindex);
            }
            // Frames come to several of them, so that they say nothing of the frames' network but by their own tags.
            let on_another = matches!(device.facts.kind.as_deref(), Some("macvlan" | "macvtap"));
            if let Some(lower) = device.lower.filter(|_| on_another) {
                segments.above.entry(lower).or_insert(device.facts.ifindex);
            }
        }
        segments.above.retain(|_, upper| segments.strippers.keys().any(|(lower, _)| lower == upper));
        for device in devices.values() {
            let Some(master) = device.master.and_then(|master| devices.get(&master)) else { continue };
            if master.vlan_filtering {
                let vlans = device.port_vlans.clone().unwrap_or_default();
                segments.ports.insert(device.facts.ifindex, (master.facts.ifindex, vlans.pvid.unwrap_or_default()));
                segments.mix(master.facts.ifindex, &vlans);
            } else if master.facts.class == DeviceClass::Bridge
                || matches!(master.facts.kind.as_deref(), Some("bond" | "team"))
            {
                segments.above.insert(device.facts.ifindex, master.facts.ifindex);
            }
        }
        for bridge in devices.values().filter(|device| device.vlan_filtering) {
            let vlans = bridge.port_vlans.clone().unwrap_or_default();
            segments.own.insert(bridge.facts.ifindex, vlans.pvid.unwrap_or_default());
            segments.mix(bridge.facts.ifindex, &vlans);
        }
        segments
    }

    /// Untagged frames of several VLANs go out by one port: nobody can tell them apart there.
    fn mix(&mut self, bridge: u32, vlans: &PortVlans) {
        let all = vlans.pvid.iter().chain(&vlans.untagged);
        let found: Vec<u16> = all.map(|&vid| self.vlan(bridge, vid)).collect();
        let Some(&least) = found.iter().min() else { return };
        for vid in found.into_iter().filter(|&vid| vid != least) {
            self.mixed.insert((bridge, vid), least);
        }
    }

    fn vlan(&self, bridge: u32, mut vid: u16) -> u16 {
        while let Some(&less) = self.mixed.get(&(bridge, vid)) {
            vid = less;
        }
        vid
    }

    /// The network of a frame that is seen at the device with these tags.
    pub fn of(&self, mut link: u32, mut vlans: [u16; 2]) -> L2Segment {
        for _ in 0..MAX_STEPS {
            if let Some(&upper) = self.strippers.get(&(link, vlans[0])).filter(|_| vlans[0] != 0) {
                (link, vlans) = (upper, [vlans[1], 0]);
            } else if let Some(&(bridge, pvid)) = self.ports.get(&link) {
                let (vid, inner) = if vlans[0] == 0 { (pvid, 0) } else { (vlans[0], vlans[1]) };
                return self.in_bridge(bridge, vid, inner);
            } else if let Some(&upper) = self.above.get(&link) {
                link = upper;
            } else if let Some(&own) = self.own.get(&link) {
                let (vid, inner) = if vlans[0] == 0 { (own, 0) } else { (vlans[0], vlans[1]) };
                return self.in_bridge(link, vid, inner);
            } else {
                break;
            }
        }
        L2Segment { link, bridged: false, vlans }
    }

    /// The network of a frame that is in a filtering bridge.
    fn in_bridge(&self, bridge: u32, vid: u16, inner: u16) -> L2Segment {
        let vlan = self.vlan(bridge, vid);
        let is_own = |&own: &u16| own != 0 && self.vlan(bridge, own) == vlan;
        if self.own.get(&bridge).is_some_and(is_own) {
            return L2Segment { link: bridge, bridged: false, vlans: [inner, 0] };
        }
        let stripper =
            self.strippers.iter().filter(|((lower, id), _)| *lower == bridge && self.vlan(bridge, *id) == vlan);
        match stripper.map(|(_, &upper)| upper).min() {
            Some(upper) => L2Segment { link: upper, bridged: false, vlans: [inner, 0] },
            None => L2Segment { link: bridge, bridged: true, vlans: [vlan, inner] },
        }
    }
}
