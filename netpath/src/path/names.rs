//! Which pod a veth or an address belongs to, and which service an address is.
//!
//! In: what the node's records say, and its devices. Out: look-ups, and how many names are missing. It must not name
//! anything wrongly: where records contradict each other, or are true for a part of the window only, there is no name.
//!
//! - **A veth** is a pod's if its other end is in the pod's network namespace (the kernel's word), or its name is the VPC
//!   CNI's hash of the pod's name; with neither, if it alone has a route to the pod's address.
//! - **An address** is a pod's if no record gives it to another pod, and one gives it to this pod throughout the window.
//! - **An end of a flow** is the pod of the veth that it was seen on; else the pod of its address. So an address that passed
//!   from one pod to another in the window still has names where the veths tell the two apart. A pod that got a copy of
//!   somebody else's packets (tc's mirror, TEE), or routes them on, is no end. A veth that nothing is known of may be a pod's
//!   that took over the address: then there is no name, unless it was there throughout the window as the pod was, and has no
//!   routes that would tell (a bridge's port).
//!
//! Of several records that agree, the first in the order of [`NameLink`], then of `NameSource`, is given as the origin.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use sha1::{Digest as _, Sha1};

use super::topology::{Role, Topology};
use crate::model::{DeviceClass, Direction, NameLink, NameOrigin};
use crate::report::{self};
use crate::snapshot::{Device, Observation, PodRecord, Snapshot};

/// Hex digits of the SHA-1 in a veth's name, and how long the prefix before them may be
/// (`AWS_VPC_K8S_CNI_VETHPREFIX`; amazon-vpc-cni-k8s, `pkg/networkutils/names.go`).
const HASH_DIGITS: usize = 11;
const PREFIX_BYTES: std::ops::RangeInclusive<usize> = 1..=4;
/// A pod on several network cards has a veth for each; the hashed name of all but the first ends with its number. More than
/// any instance has.
const CARDS: u32 = 32;

/// A pod's name, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Where it came from.
    pub origin: NameOrigin,
}

impl<'a> Named<'a> {
    fn new(record: &'a PodRecord, by: NameLink) -> Self {
        Self { namespace: &record.namespace, name: &record.name, origin: NameOrigin { source: record.source, by } }
    }

    /// Namespace and name.
    #[must_use]
    pub fn pod(self) -> (&'a str, &'a str) {
        (self.namespace, self.name)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full(self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// What records say of one thing, all together.
#[derive(Clone, Copy)]
enum Claim<'a> {
    One(Named<'a>),
    Disputed,
}

impl<'a> Claim<'a> {
    fn add(slot: &mut Option<Self>, named: Named<'a>) {
        *slot = Some(match *slot {
            None => Self::One(named),
            Some(Self::One(known)) if known.pod() == named.pod() => {
                let rank = |named: Named| (named.origin.by, named.origin.source);
                Self::One(if rank(named) < rank(known) { named } else { known })
            }
            Some(_) => Self::Disputed,
        });
    }
}

#[derive(Clone, Copy, Default)]
struct Address<'a> {
    claim: Option<Claim<'a>>,
    /// It is claimed for the whole window.
    throughout: bool,
}

/// The names of one window, for look-up.
pub struct Names<'a> {
    veths: HashMap<u32, Claim<'a>>,
    /// The devices that lead to a pod.
    links: HashSet<u32>,
    addresses: HashMap<IpAddr, Address<'a>>,
    services: HashMap<(u8, IpAddr, u16), Option<&'a str>>,
    /// Veths that were there throughout the window and have no routes to a pod's addresses.
    unrouted: HashSet<u32>,
    records: &'a crate::snapshot::Names,
}

impl<'a> Names<'a> {
    /// Weighs the records against each other.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, devices: &[&'a Device], topology: &Topology) -> Self {
        let records = &snapshot.names;
        let mut addresses: HashMap<IpAddr, Address> = HashMap::new();
        for record in &records.pods {
            for &address in record.addresses.iter().filter(|&&address| !topology.is_own(address)) {
                let entry = addresses.entry(address).or_default();
                Claim::add(&mut entry.claim, Named::new(record, NameLink::Address));
                entry.throughout |= record.at_start && record.at_end;
            }
        }
        let is_link = |ifindex| topology.role(ifindex) == Role::Pod && !topology.is_tunnel(ifindex);
        let veths: Vec<&Device> = devices.iter().copied().filter(|device| is_link(device.facts.ifindex)).collect();
        let claims = claims(&veths, &records.pods, &addresses);

        for device in &veths {
            let Some(&Claim::One(named)) = claims.get(&device.facts.ifindex) else { continue };
            if named.origin.by == NameLink::Address {
                continue;
            }
            let stayed = !device.facts.appeared && !device.facts.vanished;
            let routed = device.routed.iter().map(|&address| (address, stayed));
            let formerly = device.formerly_routed.iter().map(|&address| (address, false));
            for (address, throughout) in routed.chain(formerly).filter(|&(address, _)| !topology.is_own(address)) {
                let entry = addresses.entry(address).or_default();
                Claim::add(&mut entry.claim, named);
                entry.throughout |= throughout;
            }
        }
        let mut services: HashMap<_, Option<&str>> = HashMap::new();
        for record in &records.services {
            let name = services.entry((record.proto, record.address, record.port)).or_insert(Some(&record.name));
            if *name != Some(record.name.as_str()) {
                *name = None;
            }
        }
        let links = veths.iter().map(|device| device.facts.ifindex).collect();
        let is_unrouted = |device: &&&Device| {
            let has_route = !device.routed.is_empty() || !device.formerly_routed.is_empty();
            !has_route && !device.facts.appeared && !device.facts.vanished
        };
        let unrouted = veths.iter().filter(is_unrouted).map(|device| device.facts.ifindex).collect();
        Self { veths: claims, links, addresses, services, unrouted, records }
    }

    /// The pod of a veth.
    #[must_use]
    pub fn veth(&self, ifindex: u32) -> Option<Named<'a>> {
        match self.veths.get(&ifindex) {
            Some(&Claim::One(named)) => Some(named),
            _ => None,
        }
    }

    /// Names the devices.
    pub fn name(&self, devices: &mut [report::Device]) {
        for device in devices {
            let pod = self.veth(device.facts.ifindex);
            device.pod = pod.map(Named::full);
            device.pod_origin = pod.map(|pod| pod.origin);
        }
    }

    /// The pod that a flow comes from: `from` is its address before NAT, `hops` are in order.
    #[must_use]
    pub fn source(&self, from: Option<IpAddr>, hops: &[Observation], topology: &Topology) -> Option<Named<'a>> {
        self.end(from, hops, Direction::Rx, topology)
    }

    /// The pod that a flow goes to: `to` is its address after NAT, `hops` are in order.
    #[must_use]
    pub fn destination(&self, to: Option<IpAddr>, hops: &[Observation], topology: &Topology) -> Option<Named<'a>> {
        self.end(to, hops, Direction::Tx, topology)
    }

    /// The pod of a flow's end with this address, if that is known: packets came out of it (rx), or went into it (tx).
    fn end(
        &self,
        address: Option<IpAddr>,
        hops: &[Observation],
        direction: Direction,
        topology: &Topology,
    ) -> Option<Named<'a>> {
        let by_address = address
            .and_then(|address| self.addresses.get(&address))
            .filter(|address| address.throughout)
            .and_then(|address| match address.claim {
                Some(Claim::One(named)) => Some(named),
                _ => None,
            });
        let Some(veth) = only_veth(hops, direction, topology) else { return by_address };
        // Of several ends, one may be outside.
        if address.is_none() && topology.saw(hops, Role::Outside, direction) {
            return None;
        }
        let is_end = address.and_then(|address| topology.is_for(veth, address));
        match self.veths.get(&veth) {
            Some(&Claim::One(named)) => {
                if let Some(address) = address {
                    let passed_on =
                        || topology.saw(hops, Role::Outside, direction) || !may_end(address, direction, is_end);
                    let known = || is_end == Some(true) || self.gives(address, named);
                    if topology.is_own(address) || !known() && passed_on() {
                        // The address may be another pod's behind it; a record of the veth speaks against that.
                        return None;
                    }
                }
                by_address.is_none_or(|other| other.pod() == named.pod()).then_some(named)
            }
            None if is_end.is_none() && self.unrouted.contains(&veth) => by_address,
            // A veth that nobody knows may be that of a pod that nobody knows, with an address that was another's before.
            Some(Claim::Disputed) | None => None,
        }
    }

    /// Whether a record gives the address to the pod.
    fn gives(&self, address: IpAddr, pod: Named) -> bool {
        let of_pod = |record: &&PodRecord| (record.namespace.as_str(), record.name.as_str()) == pod.pod();
        self.records.pods.iter().filter(of_pod).any(|record| record.addresses.contains(&address))
    }

    /// The service at an address, `namespace/name:port`.
    #[must_use]
    pub fn service(&self, proto: u8, address: IpAddr, port: u16) -> Option<&'a str> {
        self.services.get(&(proto, address, port)).copied().flatten()
    }

    /// What the report says of names as a whole; `devices` are the report's.
    #[must_use]
    pub fn summary(&self, devices: &[report::Device]) -> report::Names {
        let busy = |device: &&report::Device| {
            let seen = [device.rx, device.tx].into_iter().flatten().any(|hook| hook.packets > 0);
            device.facts.class == DeviceClass::Veth && self.links.contains(&device.facts.ifindex) && seen
        };
        let mut names = report::Names { sources: self.records.sources.clone(), ..report::Names::default() };
        for device in devices.iter().filter(busy) {
            match self.veths.get(&device.facts.ifindex) {
                Some(Claim::One(_)) => {}
                Some(Claim::Disputed) => names.disputed_veths += 1,
                None => names.unknown_veths += 1,
            }
        }
        for address in self.addresses.values() {
            match address.claim {
                Some(Claim::Disputed) => names.disputed_addresses += 1,
                Some(Claim::One(_)) if !address.throughout => names.passing_addresses += 1,
                _ => {}
            }
        }
        names
    }
}

/// Whether an address that no record gives to a veth's pod may be its all the same. `is_for`: whether packets to it are routed
/// there. What comes out of a pod is mostly from it; what goes into it by a route is for the routed addresses, save on the
/// link itself.
fn may_end(address: IpAddr, direction: Direction, is_for: Option<bool>) -> bool {
    let on_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) || address.is_multicast();
    direction == Direction::Rx || is_for.is_none() || on_link
}

/// The veth by which a flow came out of a pod (rx) or went into one (tx). Of two nobody knows which is the end: a pod may
/// forward, or an address and port may have passed to another pod.
fn only_veth(hops: &[Observation], direction: Direction, topology: &Topology) -> Option<u32> {
    let mut veths = hops
        .iter()
        .filter(|hop| hop.direction == direction && topology.role(hop.ifindex) == Role::Pod)
        .map(|hop| hop.ifindex);
    let first = veths.next()?;
    veths.all(|other| other == first).then_some(first)
}

/// What the records say of each veth.
fn claims<'a>(
    veths: &[&'a Device],
    records: &'a [PodRecord],
    addresses: &HashMap<IpAddr, Address<'a>>,
) -> HashMap<u32, Claim<'a>> {
    let mut claims: HashMap<u32, Option<Claim>> = HashMap::new();
    for record in records {
        for &ifindex in &record.veths {
            Claim::add(claims.entry(ifindex).or_default(), Named::new(record, NameLink::NetworkNamespace));
        }
    }
    by_hash(veths, records, &mut claims);

    let mut routes: HashMap<IpAddr, usize> = HashMap::new();
    for address in veths.iter().flat_map(|device| device.routed.iter().chain(&device.formerly_routed)) {
        *routes.entry(*address).or_default() += 1;
    }
    for device in veths {
        for address in device.routed.iter().chain(&device.formerly_routed).filter(|address| routes[*address] == 1) {
            let Some(Address { claim: Some(Claim::One(named)), throughout }) = addresses.get(address).copied() else {
                continue;
            };
            let slot = claims.entry(device.facts.ifindex).or_default();
            // What is true for a part of the window cannot contradict what the veth itself tells.
            if slot.is_some() && throughout || same_time(device, *address, named, records) {
                Claim::add(slot, named);
            }
        }
    }
    // Records may be about devices that this window did not have.
    let there: HashSet<u32> = veths.iter().map(|device| device.facts.ifindex).collect();
    claims
        .into_iter()
        .filter(|(ifindex, _)| there.contains(ifindex))
        .filter_map(|(i, claim)| Some((i, claim?)))
        .collect()
}

/// Whether a pod that had the address for a part of the window can have had it at this veth: the veth of a pod that came in
/// the window came too, and that of a pod that went did not outlive it.
fn same_time(device: &Device, address: IpAddr, named: Named, records: &[PodRecord]) -> bool {
    let of_pod = |record: &&PodRecord| {
        (record.namespace.as_str(), record.name.as_str()) == named.pod() && record.addresses.contains(&address)
    };
    let (mut at_start, mut at_end) = (false, false);
    for record in records.iter().filter(of_pod) {
        at_start |= record.at_start;
        at_end |= record.at_end;
    }
    (at_start != device.facts.appeared) && (at_end != device.facts.vanished)
}

/// Adds what the veths' names say, where they are the VPC CNI's hashes of pods' names.
fn by_hash<'a>(veths: &[&'a Device], records: &'a [PodRecord], claims: &mut HashMap<u32, Option<Claim<'a>>>) {
    let mut hashed: HashMap<&str, Vec<u32>> = HashMap::new();
    for device in veths {
        if let Some(hash) = hash_of(&device.facts.name) {
            hashed.entry(hash).or_default().push(device.facts.ifindex);
        }
    }
    // The first network card of every pod, then the others if veths are left.
    for card in 0..CARDS {
        if hashed.is_empty() {
            return;
        }
        let mut matched = HashSet::new();
        for record in records {
            let (namespace, name) = (&record.namespace, &record.name);
            let text = if card == 0 { format!("{namespace}.{name}") } else { format!("{namespace}.{name}.{card}") };
            let digest = format!("{:x}", Sha1::digest(text));
            let hash = &digest[..HASH_DIGITS];
            for &ifindex in hashed.get(hash).into_iter().flatten() {
                Claim::add(claims.entry(ifindex).or_default(), Named::new(record, NameLink::VethName));
                matched.insert(hash.to_owned());
            }
        }
        hashed.retain(|hash, _| !matched.contains(*hash));
    }
}

/// The part of a veth's name that is a hash, if it looks like one.
fn hash_of(name: &str) -> Option<&str> {
    let prefix = name.len().checked_sub(HASH_DIGITS).filter(|prefix| PREFIX_BYTES.contains(prefix))?;
    let hash = name.get(prefix..)?;
    hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(hash)
}

#[cfg(test)]
mod tests;
