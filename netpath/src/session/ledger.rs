//! The devices of a session: which exist, and which have existed in the window.
//!
//! In: link events, and the boundaries between windows. Out: the devices of each window. Pure bookkeeping: it reads nothing
//! and attaches nothing.

use std::collections::BTreeMap;

use super::boundary::Boundary;
use super::tracked::TrackedDevice;
use crate::model::KernelCounters;
use crate::node::devices::Link;
use crate::snapshot::{Device, FIRST_RETIRED_IFINDEX};

/// The devices of a session.
#[derive(Debug)]
pub struct Ledger {
    /// By index: the kernel's, but for those that are gone and whose index was reused.
    devices: BTreeMap<u32, TrackedDevice>,
    /// What the next one of those gets.
    next_retired: u32,
    /// How often messages about devices were lost in the window.
    pub overruns: u64,
}

impl Ledger {
    /// None yet.
    pub fn new() -> Self {
        Self { devices: BTreeMap::new(), next_retired: FIRST_RETIRED_IFINDEX, overruns: 0 }
    }

    /// A device is there.
    pub fn insert(&mut self, device: TrackedDevice) {
        self.devices.insert(device.link.ifindex, device);
    }

    /// A device.
    pub fn get_mut(&mut self, ifindex: u32) -> Option<&mut TrackedDevice> {
        self.devices.get_mut(&ifindex)
    }

    /// All devices.
    pub fn iter(&self) -> impl Iterator<Item = &TrackedDevice> {
        self.devices.values()
    }

    /// All devices, by index.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut TrackedDevice)> {
        self.devices.iter_mut().map(|(ifindex, device)| (*ifindex, device))
    }

    /// Makes room for a new device with this index: gives the device that had it, if there was one, another index, and
    /// returns that.
    pub fn retire(&mut self, ifindex: u32) -> Option<u32> {
        let mut former = self.devices.remove(&ifindex)?;
        let retired = self.next_retired;
        self.next_retired -= 1;
        former.link.ifindex = retired;
        former.former_ifindex = Some(ifindex);
        self.insert(former);
        Some(retired)
    }

    /// A device is another than before in something but its counters.
    pub fn changed(&mut self, link: Link) {
        if let Some(device) = self.devices.get_mut(&link.ifindex) {
            device.changed(link);
        }
    }

    /// A device has gone, with these counters if that can be told.
    pub fn removed(&mut self, ifindex: u32, last: Option<KernelCounters>) {
        if let Some(device) = self.devices.get_mut(&ifindex) {
            device.removed(last);
        }
    }

    /// Whether a device that has come with this index is one that the ledger lacks.
    pub fn lacks(&self, ifindex: u32) -> bool {
        self.devices.get(&ifindex).is_none_or(|former| former.gone)
    }

    /// The devices of the window between these boundaries.
    pub fn devices(&self, opened: &Boundary, closed: &Boundary) -> Vec<Device> {
        self.devices.values().map(|device| device.device(opened, closed)).collect()
    }

    /// Begins the window that this boundary opens, with the devices that exist then.
    pub fn open(&mut self, opened: &Boundary) {
        self.devices.retain(|ifindex, device| !device.gone && opened.has(*ifindex));
        for device in self.devices.values_mut() {
            device.open(opened);
        }
        self.overruns = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Instant;

    use jiff::Timestamp;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{DeviceClass, Direction, NodeInfo, Window};
    use crate::netlink::counters::{Counted, Reading};
    use crate::snapshot::{Counts, Observation, Snapshot, Tuple};

    /// What happens on a node.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A device with this index comes, if there is none.
        Appear(u32),
        /// It goes.
        Remove(u32),
        /// A pod behind it gets another address.
        Change(u32, u8),
        /// It receives a packet of so many bytes.
        Receive(u32, u16),
        /// A window ends.
        Cut,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = || 2..5_u32;
        let step = prop_oneof![
            2 => index().prop_map(Step::Appear),
            1 => index().prop_map(Step::Remove),
            1 => (index(), any::<u8>()).prop_map(|(index, address)| Step::Change(index, address)),
            4 => (index(), 60..1500_u16).prop_map(|(index, bytes)| Step::Receive(index, bytes)),
            2 => Just(Step::Cut),
        ];
        vec(step, 1..60)
    }

    /// A node whose devices count, and a session on it.
    struct Node {
        links: BTreeMap<u32, Link>,
        made: usize,
        ledger: Ledger,
        opened: Boundary,
        seen: HashMap<u32, Counts>,
        windows: Vec<Snapshot>,
    }

    impl Node {
        fn new() -> Self {
            let opened = boundary(&BTreeMap::new());
            Self {
                links: BTreeMap::new(),
                made: 0,
                ledger: Ledger::new(),
                opened,
                seen: HashMap::new(),
                windows: vec![],
            }
        }

        fn step(&mut self, step: Step) {
            match step {
                Step::Appear(index) if !self.links.contains_key(&index) => {
                    self.made += 1;
                    let link = Link::new(index, &format!("veth{}", self.made), DeviceClass::Veth);
                    if let Some(retired) = self.ledger.retire(index)
                        && let Some(counts) = self.seen.remove(&index)
                    {
                        self.seen.insert(retired, counts);
                    }
                    self.ledger.insert(TrackedDevice::appeared(link.clone()));
                    self.links.insert(index, link);
                }
                Step::Remove(index) => {
                    if let Some(link) = self.links.remove(&index) {
                        self.ledger.removed(index, Some(link.counters));
                    }
                }
                Step::Change(index, address) => {
                    if let Some(link) = self.links.get_mut(&index) {
                        link.routed = vec![[10, 0, 0, address].into()];
                        self.ledger.changed(link.clone());
                    }
                }
                Step::Receive(index, bytes) => {
                    if let Some(link) = self.links.get_mut(&index) {
                        link.counters.rx_packets += 1;
                        link.counters.rx_bytes += u64::from(bytes);
                        let counts = Counts { packets: 1, bytes: bytes.into(), wire_bytes: bytes.into() };
                        *self.seen.entry(index).or_default() += counts;
                    }
                }
                Step::Cut => self.cut(),
                Step::Appear(_) => {}
            }
        }

        fn cut(&mut self) {
            let closed = boundary(&self.links);
            let node = NodeInfo::default();
            let tuple = Tuple { proto: 17, src: [10, 0, 0, 1].into(), sport: 1, dst: [10, 0, 0, 2].into(), dport: 2 };
            let observation = |(ifindex, counts)| Observation {
                ifindex,
                direction: Direction::Rx,
                vlans: [0; 2],
                tuple,
                about: None,
                counts,
            };
            self.windows.push(Snapshot {
                devices: self.ledger.devices(&self.opened, &closed),
                observations: self.seen.drain().map(observation).collect(),
                device_overruns: self.ledger.overruns,
                ..Snapshot::new(node, Window::default())
            });
            self.ledger.open(&closed);
            self.opened = closed;
        }
    }

    fn boundary(links: &BTreeMap<u32, Link>) -> Boundary {
        let now = Instant::now();
        let counted = |link: &Link| Counted { kernel: link.counters, ..Counted::default() };
        let reading = || Reading {
            began: now,
            ended: now,
            devices: links.iter().map(|(index, link)| (*index, counted(link))).collect(),
        };
        Boundary {
            early: reading(),
            qdiscs: None,
            before: reading(),
            at: now,
            time: Timestamp::UNIX_EPOCH,
            after: reading(),
        }
    }

    /// The devices by their names, which are never used again, and what was seen at each. Indexes may differ.
    fn by_name(snapshot: &Snapshot) -> BTreeMap<String, (Device, Counts)> {
        let of = |device: &Device| {
            let mut all = Counts::default();
            for observation in snapshot.observations.iter().filter(|one| one.ifindex == device.facts.ifindex) {
                all += observation.counts;
            }
            let mut device = device.clone();
            device.facts.ifindex = device.former_ifindex.take().unwrap_or(device.facts.ifindex);
            (device.facts.name.clone(), (device, all))
        };
        snapshot.devices.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn the_sum_of_all_windows_is_one_window(steps in steps()) {
            let (mut cut, mut whole) = (Node::new(), Node::new());
            for step in steps {
                cut.step(step);
                if !matches!(step, Step::Cut) {
                    whole.step(step);
                }
            }
            cut.cut();
            whole.cut();
            let merged = cut.windows.into_iter().reduce(Snapshot::merge).expect("one at least");
            let bytes: u64 = merged.observations.iter().map(|one| one.counts.bytes).sum();
            let by_device: u64 = by_name(&merged).values().map(|(_, counts)| counts.bytes).sum();
            prop_assert_eq!(bytes, by_device, "each is at one device");
            prop_assert_eq!(by_name(&merged), by_name(&whole.windows[0]));
        }
    }
}
