//! The devices of a session: which exist, and which have existed in the window.
//!
//! In: link events, and the boundaries between windows. Out: the devices of each window. Pure bookkeeping: it reads nothing
//! and attaches nothing.

use std::collections::BTreeMap;

use super::boundary::Boundary;
use super::tracked::TrackedDevice;
use crate::node::devices::Link;
use crate::snapshot::{Device, FIRST_RETIRED_IFINDEX, KernelCounters};

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
