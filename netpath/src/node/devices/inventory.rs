//! What is known of the devices: filled by dumps, kept up to date by messages.
//!
//! In: [`Message`]s in the order the kernel sent them. Out: [`Link`]s, and what each message changed. It reads the kernel
//! in [`Inventory::read`] and asks for the drivers of new devices; everything else is plain bookkeeping.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::choice::Surroundings;
use super::dump::{Subject, dump};
use super::message::{HostRoute, Message, RawLink};
use super::tables::{Reach, Tables};
use super::uplink::Uplinks;
use super::{EniChoice, EniEvidence, Link, LinkEvent, class, mac};
use crate::model::{DeviceClass, KernelCounters};
use crate::node::ethtool::{self, DriverInfo};
use crate::snapshot::{LocalRoute, PortVlans};

/// The devices, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Inventory {
    eni: EniChoice,
    /// `routed` of the links in here is up to date after every call.
    links: BTreeMap<u32, Link>,
    /// May name devices that are not known (yet).
    routes: BTreeSet<HostRoute>,
    tables: Tables,
    /// May name devices that are not known (yet).
    port_vlans: BTreeMap<u32, PortVlans>,
    /// Of the devices without a kind, asked for once: it cannot change, and every question takes the kernel's RTNL lock.
    drivers: BTreeMap<u32, DriverInfo>,
}

impl Inventory {
    pub fn new(eni: EniChoice) -> Self {
        Self {
            eni,
            links: BTreeMap::new(),
            routes: BTreeSet::new(),
            tables: Tables::default(),
            port_vlans: BTreeMap::new(),
            drivers: BTreeMap::new(),
        }
    }

    /// The devices, in order of ifindex.
    pub fn links(&self) -> Vec<Link> {
        self.links.values().cloned().collect()
    }

    /// Every route that delivered to this node at some time.
    pub fn local_routes(&self) -> Vec<LocalRoute> {
        self.tables.local_routes()
    }

    /// Forgets the routes that do not deliver to this node any more.
    pub fn forget_past_routes(&mut self) {
        self.tables.forget_past();
    }

    /// Reads everything from the kernel.
    pub fn read(&mut self) -> anyhow::Result<()> {
        *self = Self::new(self.eni.clone());
        #[expect(clippy::cast_possible_truncation, reason = "AF_INET is 2, AF_INET6 is 10")]
        let (v4, v6) = (libc::AF_INET as u8, libc::AF_INET6 as u8);
        for subject in [Subject::Links, Subject::Addresses] {
            for message in dump(subject)? {
                self.apply(message);
            }
        }
        // Optional in the kernel's configuration.
        for subject in [Subject::PortVlans, Subject::Rules(v4), Subject::Rules(v6)] {
            for message in dump(subject).unwrap_or_default() {
                self.apply(message);
            }
        }
        for subject in [Subject::Routes(v4), Subject::Routes(v6)] {
            for message in dump(subject)? {
                self.apply(message);
            }
        }
        Ok(())
    }

    /// Reads everything from the kernel again, and returns what is different.
    pub fn reread(&mut self) -> anyhow::Result<Vec<LinkEvent>> {
        let mut fresh = Self::new(self.eni.clone());
        fresh.read()?;
        let events = differences(&self.links, &fresh.links);
        fresh.tables.remember(std::mem::take(&mut self.tables));
        *self = fresh;
        Ok(events)
    }

    /// Checks the `--eni` globs against the devices there are.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let links = self.links();
        self.eni.check(&links)?;
        if self.eni.is_by_name() {
            let elsewhere = super::veths_to_elsewhere()?.into_iter().map(|(ifindex, _)| ifindex).collect();
            self.eni.check_veths(&links, &Surroundings { uplinks: Uplinks::read()?, elsewhere })?;
        }
        Ok(())
    }

    /// Takes IMDS's hardware addresses of ENIs for evidence, unless the user names ENIs. Returns the devices that are ENIs by
    /// it, and by nothing else.
    pub fn learn(&mut self, macs: &[String]) -> anyhow::Result<Vec<Link>> {
        if macs.is_empty() || self.eni.is_by_name() {
            return Ok(Vec::new());
        }
        let learned = self.eni.learn(macs, &self.links(), &Uplinks::read()?);
        let mut enis = Vec::new();
        for link in self.links.values_mut().filter(|link| learned.contains(&link.ifindex)) {
            (link.class, link.eni_evidence) = (DeviceClass::Eni, Some(EniEvidence::Imds));
            enis.push(link.clone());
        }
        Ok(enis)
    }

    /// Applies a message, and returns what it changed: nothing, if it only brought new counters.
    pub fn apply(&mut self, message: Message) -> Vec<LinkEvent> {
        match message {
            Message::NewLink(raw) => self.apply_link(raw),
            Message::DelLink { ifindex, counters, complete } => {
                self.drivers.remove(&ifindex);
                self.port_vlans.remove(&ifindex);
                self.eni.forget(ifindex);
                let known = self.links.remove(&ifindex);
                let last = complete.then_some(counters);
                let mut events: Vec<_> = known
                    .map(|link| LinkEvent::Gone { ifindex, last, at_least: highest(counters, link.counters) })
                    .into_iter()
                    .collect();
                events.extend(self.forget_routes(ifindex));
                events.extend(self.clear_peer(ifindex));
                if self.tables.set_vrf(ifindex, None) {
                    events.extend(self.update_all_routed());
                }
                events
            }
            Message::NewAddress { ifindex, address } => self.change_addresses(ifindex, |all| {
                if !all.contains(&address) {
                    all.push(address);
                    all.sort_by_cached_key(|address| host(address));
                }
            }),
            Message::DelAddress { ifindex, address } => {
                self.change_addresses(ifindex, |all| all.retain(|known| *known != address))
            }
            Message::NewRoute { route, replaces } => self.change_routes(route.to, |routes| {
                if replaces {
                    let key = |route: &HostRoute| (route.to, route.table, route.metric);
                    routes.retain(|known| key(known) != key(&route));
                }
                routes.insert(route);
            }),
            Message::DelRoute(route) => self.change_routes(route.to, |routes| {
                routes.remove(&route);
            }),
            Message::NewDelivery(route) => {
                self.tables.deliver(route);
                self.update_routed(&self.devices_routed_into(route.network))
            }
            Message::DelDelivery(route) => {
                self.tables.stop_delivering(route);
                self.update_routed(&self.devices_routed_into(route.network))
            }
            Message::NewRule(rule) => {
                self.tables.add_rule(rule);
                self.update_all_routed()
            }
            Message::DelRule(rule) => {
                self.tables.remove_rule(rule);
                self.update_all_routed()
            }
            Message::PortVlans { ifindex, vlans } => self.apply_vlans(ifindex, vlans),
            Message::Other | Message::Malformed => Vec::new(),
        }
    }

    fn apply_link(&mut self, raw: RawLink) -> Vec<LinkEvent> {
        let driver = self.driver(&raw);
        let up = raw.flags & libc::IFF_UP.cast_unsigned() != 0;
        // The kernel removes the routes of a device that goes down, IPv4 ones without a message.
        let mut events = if up { Vec::new() } else { self.forget_routes(raw.ifindex) };
        let new_vrf = self.tables.set_vrf(raw.ifindex, raw.info.vrf_table);
        let (class, evidence) = class::classify(&raw, &driver);
        let name = String::from_utf8_lossy(&raw.name).into_owned();
        let (class, eni_evidence) = self.eni.decide_link(&raw, &name, class, evidence);
        let addresses = self.links.get(&raw.ifindex).map_or_else(Vec::new, |link| link.addresses.clone());
        let link = Link {
            ifindex: raw.ifindex,
            name,
            altnames: raw.altnames,
            class,
            eni_evidence,
            kind: raw.info.kind,
            driver: driver.driver,
            mac: raw.mac.map(mac),
            up,
            routed: routed(&self.routes, &self.tables, raw.ifindex, &addresses),
            addresses,
            layer: class::layer(raw.hardware_type),
            lower: raw.lower,
            master: raw.master,
            vlan_id: raw.info.vlan_id,
            vlan_filtering: raw.info.vlan_filtering,
            port_vlans: self.port_vlans.get(&raw.ifindex).cloned(),
            remote: raw.info.remote,
            xdp: raw.xdp,
            counters: raw.counters,
        };
        match self.links.insert(raw.ifindex, link.clone()) {
            None => events.push(LinkEvent::Appeared(link)),
            Some(old) if same(&old, &link) => {}
            Some(_) => events.push(LinkEvent::Changed(link)),
        }
        if new_vrf {
            events.extend(self.update_all_routed());
        }
        events
    }

    fn apply_vlans(&mut self, ifindex: u32, vlans: PortVlans) -> Vec<LinkEvent> {
        self.port_vlans.insert(ifindex, vlans.clone());
        match self.links.get_mut(&ifindex) {
            Some(link) if link.port_vlans.as_ref() != Some(&vlans) => {
                link.port_vlans = Some(vlans);
                vec![LinkEvent::Changed(link.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// Clears the peer of a veth, which is gone from this namespace. The kernel need not send a message if the peer was moved.
    fn clear_peer(&mut self, peer: u32) -> Vec<LinkEvent> {
        let parted = self.links.values_mut().filter(|link| link.class == DeviceClass::Veth && link.lower == Some(peer));
        parted
            .map(|link| {
                link.lower = None;
                LinkEvent::Changed(link.clone())
            })
            .collect()
    }

    fn driver(&mut self, raw: &RawLink) -> DriverInfo {
        if raw.info.kind.is_some() {
            return DriverInfo::default();
        }
        if let Some(known) = self.drivers.get(&raw.ifindex) {
            return known.clone();
        }
        // An error: it has no driver, or has been renamed or deleted meanwhile; a message about that follows.
        let Ok(driver) = ethtool::driver_info(&raw.name) else { return DriverInfo::default() };
        self.drivers.insert(raw.ifindex, driver.clone());
        driver
    }

    fn change_addresses(&mut self, ifindex: u32, change: impl FnOnce(&mut Vec<String>)) -> Vec<LinkEvent> {
        let Some(link) = self.links.get_mut(&ifindex) else { return Vec::new() };
        let before = link.clone();
        change(&mut link.addresses);
        link.routed = routed(&self.routes, &self.tables, ifindex, &link.addresses);
        if same(&before, link) { Vec::new() } else { vec![LinkEvent::Changed(link.clone())] }
    }

    /// Changes the routes to one address, and returns the links whose `routed` that changed.
    fn change_routes(&mut self, to: IpAddr, change: impl FnOnce(&mut BTreeSet<HostRoute>)) -> Vec<LinkEvent> {
        let mut affected = self.devices_routed_to(to);
        change(&mut self.routes);
        affected.extend(self.devices_routed_to(to));
        self.update_routed(&affected)
    }

    /// Forgets the routes to a device, and returns the links whose `routed` that changed: an address it had may have a second
    /// route, to another device.
    fn forget_routes(&mut self, ifindex: u32) -> Vec<LinkEvent> {
        let forgotten: Vec<HostRoute> = self.routes.extract_if(.., |route| route.ifindex == ifindex).collect();
        let affected = forgotten.iter().flat_map(|route| self.devices_routed_to(route.to)).chain([ifindex]).collect();
        self.update_routed(&affected)
    }

    /// The devices that have a route to this address.
    fn devices_routed_to(&self, to: IpAddr) -> BTreeSet<u32> {
        self.devices_routed_into(to.into())
    }

    /// The devices that have a route to an address in this network.
    fn devices_routed_into(&self, network: IpNet) -> BTreeSet<u32> {
        let first = HostRoute { to: network.network(), table: 0, metric: 0, ifindex: 0 };
        self.routes.range(first..).take_while(|route| network.contains(&route.to)).map(|route| route.ifindex).collect()
    }

    /// As [`Self::update_routed`], of all links that routes lead to.
    fn update_all_routed(&mut self) -> Vec<LinkEvent> {
        self.update_routed(&self.routes.iter().map(|route| route.ifindex).collect())
    }

    /// Brings `routed` of these links up to date, and returns those that changed.
    fn update_routed(&mut self, affected: &BTreeSet<u32>) -> Vec<LinkEvent> {
        let mut changed = Vec::new();
        for ifindex in affected {
            let Some(link) = self.links.get_mut(ifindex) else { continue };
            let now = routed(&self.routes, &self.tables, link.ifindex, &link.addresses);
            if link.routed != now {
                link.routed = now;
                changed.push(LinkEvent::Changed(link.clone()));
            }
        }
        changed
    }
}

/// The addresses that are routed to this device, other than its own.
fn routed(routes: &BTreeSet<HostRoute>, tables: &Tables, ifindex: u32, own: &[String]) -> Vec<IpAddr> {
    let is_own = |to: IpAddr| own.iter().any(|address| host(address) == Some(to));
    let mut all = Vec::new();
    for route in routes.iter().filter(|route| route.ifindex == ifindex && !is_own(route.to)) {
        if all.last() != Some(&route.to) && is_taken(*route, routes, tables) {
            all.push(route.to);
        }
    }
    all
}

/// Whether the kernel takes this route, of all that there are to the address.
fn is_taken(route: HostRoute, routes: &BTreeSet<HostRoute>, tables: &Tables) -> bool {
    let reach = |table| tables.reach(route.to.is_ipv6(), table);
    let Some(own) = reach(route.table) else { return false };
    let first = HostRoute { table: 0, metric: 0, ifindex: 0, ..route };
    let before = |other: &HostRoute| {
        if other.table == route.table {
            return *other < route;
        }
        // Tables of VRFs are apart from each other and from all others.
        own != Reach::Vrf && reach(other.table).is_some_and(|other| other != Reach::Vrf && other < own)
    };
    !routes.range(first..).take_while(|other| other.to == route.to).any(before)
        && !tables.delivers_before(route.to, own)
}

/// The address in "10.0.0.5/24".
fn host(address: &str) -> Option<IpAddr> {
    address.split('/').next()?.parse().ok()
}

/// Whether nothing but the counters is different.
fn same(a: &Link, b: &Link) -> bool {
    Link { counters: b.counters, ..a.clone() } == *b
}

/// What happened between two readings, as far as it can be known.
fn differences(old: &BTreeMap<u32, Link>, new: &BTreeMap<u32, Link>) -> Vec<LinkEvent> {
    let gone = |link: &Link| LinkEvent::Gone { ifindex: link.ifindex, last: None, at_least: link.counters };
    let mut events: Vec<_> = old.values().filter(|link| !new.contains_key(&link.ifindex)).map(gone).collect();
    for (&ifindex, link) in new {
        match old.get(&ifindex) {
            None => events.push(LinkEvent::Appeared(link.clone())),
            // Counters never go backwards: this is another device with the index of one that is gone.
            Some(before) if less(link.counters, before.counters) => {
                events.extend([gone(before), LinkEvent::Appeared(link.clone())]);
            }
            Some(before) if !same(before, link) => events.push(LinkEvent::Changed(link.clone())),
            Some(_) => {}
        }
    }
    events
}

fn less(a: KernelCounters, b: KernelCounters) -> bool {
    a.rx_bytes < b.rx_bytes || a.tx_bytes < b.tx_bytes || a.rx_packets < b.rx_packets || a.tx_packets < b.tx_packets
}

fn highest(a: KernelCounters, b: KernelCounters) -> KernelCounters {
    KernelCounters {
        rx_bytes: a.rx_bytes.max(b.rx_bytes),
        rx_packets: a.rx_packets.max(b.rx_packets),
        tx_bytes: a.tx_bytes.max(b.tx_bytes),
        tx_packets: a.tx_packets.max(b.tx_packets),
    }
}

#[cfg(test)]
mod tests;
