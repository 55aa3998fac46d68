//! What the drivers of ENIs count against EC2's allowances, by window, and which device is which ENI.
//!
//! In: the devices of a session, readings at a window's ends. Out: candidates for `node::enis`, and ids of ENIs for devices.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::tracked::TrackedDevice;
use crate::model::{Allowances, DeviceClass, Eni};
use crate::node::enis::{self, Candidate};
use crate::snapshot::Device;

/// What a device's driver has counted so far against EC2's allowances, if it is an ENI that tells.
pub fn allowances(device: &TrackedDevice) -> Option<Allowances> {
    (device.link.class == DeviceClass::Eni && !device.gone).then(|| enis::allowances(&device.link.name))?
}

/// Those of all ENIs that tell, by ifindex.
pub fn read_allowances(ledger: &Ledger) -> BTreeMap<u32, Allowances> {
    ledger.iter().filter_map(|device| Some((device.link.ifindex, allowances(device)?))).collect()
}

/// The devices, with what their drivers counted in the window.
pub fn candidates<'a>(
    ledger: &'a Ledger,
    start: &BTreeMap<u32, Allowances>,
    end: &BTreeMap<u32, Allowances>,
) -> Vec<Candidate<'a>> {
    let candidate = |device: &'a TrackedDevice| {
        let ifindex = device.link.ifindex;
        let allowances = start.get(&ifindex).zip(end.get(&ifindex)).map(|(start, end)| end.since(*start));
        Candidate { link: &device.link, allowances }
    };
    ledger.iter().map(candidate).collect()
}

/// Names the devices that are ENIs.
pub fn name_enis(devices: &mut [Device], enis: &[Eni]) {
    for device in devices {
        let eni = enis.iter().find(|eni| eni.ifindex == Some(device.facts.ifindex));
        device.facts.eni_id = eni.and_then(|eni| eni.id.as_ref()).map(|id| id.value.clone());
    }
}
