//! Uplinks of this network namespace: the devices of its default routes, and those below them.
//!
//! In: rtnetlink (routes of every table, the ports of bridges and bonds). Out: indices of devices. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Link;
use crate::model::DeviceClass;
use crate::netlink::attributes::u32_at;
use crate::netlink::{Attributes, Requester};

/// `struct rtmsg`, `struct ifinfomsg` and `struct rtnexthop`.
const ROUTE_HEADER_BYTES: usize = 12;
const LINK_HEADER_BYTES: usize = 16;
const NEXT_HOP_BYTES: usize = 8;
// linux/if_link.h
const IFLA_MASTER: u16 = 10;

/// The devices of default routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplinks {
    /// Of the main table, in the order in which the kernel prefers them, IPv4 first; each once.
    pub main: Vec<u32>,
    /// Of other tables alone: policy routing, VRFs.
    pub other: Vec<u32>,
    /// For each port of a bridge, bond or VRF its master.
    pub masters: BTreeMap<u32, u32>,
}

/// A route to everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The routing table.
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// The devices of its next hops.
    pub ifindexes: Vec<u32>,
}

impl Uplinks {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If netlink refuses.
    pub fn read() -> io::Result<Self> {
        let mut requester = Requester::open()?;
        let mut routes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut of_family = Vec::new();
            let mut request = [0; ROUTE_HEADER_BYTES];
            request[0] = family.to_le_bytes()[0];
            requester.dump(libc::RTM_GETROUTE, &request, |message_type, body| {
                of_family.extend(default_route(body).filter(|_| message_type == libc::RTM_NEWROUTE));
            })?;
            of_family.sort_by_key(|route: &DefaultRoute| route.metric);
            routes.extend(of_family);
        }
        let mut masters = BTreeMap::new();
        requester.dump(libc::RTM_GETLINK, &[0; LINK_HEADER_BYTES], |message_type, body| {
            masters.extend(port(body).filter(|_| message_type == libc::RTM_NEWLINK));
        })?;
        Ok(Self { masters, ..Self::new(&routes) })
    }

    /// In: routes in order of preference.
    fn new(routes: &[DefaultRoute]) -> Self {
        let mut uplinks = Self::default();
        for of_main in [true, false] {
            let is_of_it = |route: &&DefaultRoute| (route.table == u32::from(libc::RT_TABLE_MAIN)) == of_main;
            for &ifindex in routes.iter().filter(is_of_it).flat_map(|route| &route.ifindexes) {
                if !uplinks.main.contains(&ifindex) && !uplinks.other.contains(&ifindex) {
                    if of_main { &mut uplinks.main } else { &mut uplinks.other }.push(ifindex);
                }
            }
        }
        uplinks
    }

    /// The devices of the default routes, those of the main table first.
    #[must_use]
    pub fn devices(&self) -> Vec<u32> {
        self.main.iter().chain(&self.other).copied().collect()
    }

    /// These devices, and their lower devices: the ports of a bridge or bond, the device below a VLAN.
    #[must_use]
    pub fn with_lower(&self, links: &[Link]) -> BTreeSet<u32> {
        let mut all: BTreeSet<u32> = self.devices().into_iter().collect();
        loop {
            let ports = self.masters.iter().filter(|(_, master)| all.contains(master)).map(|(port, _)| *port);
            let below = links.iter().filter(|link| all.contains(&link.ifindex)).filter_map(lower);
            let more: Vec<u32> = ports.chain(below).filter(|ifindex| !all.contains(ifindex)).collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }
}

/// The lower device. A veth's peer is none.
#[must_use]
pub fn lower(link: &Link) -> Option<u32> {
    link.lower.filter(|_| link.class != DeviceClass::Veth && !matches!(link.kind.as_deref(), Some("veth" | "netkit")))
}

/// A default route that leads somewhere; `None` for any other route, and for what is no route.
#[must_use]
pub fn default_route(body: &[u8]) -> Option<DefaultRoute> {
    let [_family, destination_length, _, _, table, _, _, kind] = *body.first_chunk()?;
    let flags = u32_at(body, 8).ok()?;
    if destination_length != 0 || kind != libc::RTN_UNICAST || flags & libc::RTM_F_CLONED != 0 {
        return None;
    }
    let mut route = DefaultRoute { table: u32::from(table), metric: 0, ifindexes: Vec::new() };
    for attribute in Attributes::after(ROUTE_HEADER_BYTES, body).ok()? {
        let attribute = attribute.ok()?;
        match attribute.kind {
            libc::RTA_OIF => route.ifindexes.push(attribute.u32().ok()?),
            libc::RTA_MULTIPATH => route.ifindexes.extend(next_hops(attribute.value)),
            libc::RTA_PRIORITY => route.metric = attribute.u32().ok()?,
            libc::RTA_TABLE => route.table = attribute.u32().ok()?,
            _ => {}
        }
    }
    (!route.ifindexes.is_empty()).then_some(route)
}

/// The devices of several next hops.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let Some(hop) = bytes.first_chunk::<NEXT_HOP_BYTES>() {
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
        devices.push(u32::from_ne_bytes([hop[4], hop[5], hop[6], hop[7]]));
        bytes = bytes.get(length.max(NEXT_HOP_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    devices
}

/// A link that is another's port, and that other.
#[must_use]
pub fn port(body: &[u8]) -> Option<(u32, u32)> {
    let ifindex = u32_at(body, 4).ok()?;
    let master = Attributes::after(LINK_HEADER_BYTES, body).ok()?.find(IFLA_MASTER)?;
    Some((ifindex, master.u32().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attributes::attribute;

    fn route(destination_length: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [2, destination_length, 0, 0, libc::RT_TABLE_MAIN, 3, 0, kind, 0, 0, 0, 0];
        [&header[..], &attributes.concat()].concat()
    }

    fn device(ifindex: u32) -> Vec<u8> {
        attribute(libc::RTA_OIF, &ifindex.to_ne_bytes())
    }

    #[test]
    fn default_routes() {
        let unicast = libc::RTN_UNICAST;
        let metric = attribute(libc::RTA_PRIORITY, &100u32.to_ne_bytes());
        let table = attribute(libc::RTA_TABLE, &1000u32.to_ne_bytes());
        let whole = route(0, unicast, &[device(7), metric, table]);
        assert_eq!(default_route(&whole), Some(DefaultRoute { table: 1000, metric: 100, ifindexes: vec![7] }));
        for end in 0..whole.len() {
            let cut = default_route(&whole[..end]);
            assert!(cut.is_none_or(|cut| cut.ifindexes == [7]), "cut at {end}");
        }
        for other in
            [route(8, unicast, &[device(7)]), route(0, libc::RTN_UNREACHABLE, &[device(1)]), route(0, unicast, &[])]
        {
            assert_eq!(default_route(&other), None);
        }
        let hop = |ifindex: u32| [&8u16.to_ne_bytes()[..], &[0, 0], &ifindex.to_ne_bytes()].concat();
        let several = attribute(libc::RTA_MULTIPATH, &[hop(3), hop(4)].concat());
        assert_eq!(default_route(&route(0, unicast, &[several])).map(|route| route.ifindexes), Some(vec![3, 4]));
        assert_eq!(next_hops(&[0; 20]), [0, 0], "a length of 0 does not go on for ever");
    }

    #[test]
    fn ports() {
        let whole = [&[0; 4][..], &5u32.to_ne_bytes(), &[0; 8], &attribute(IFLA_MASTER, &9u32.to_ne_bytes())].concat();
        assert_eq!(port(&whole), Some((5, 9)));
        for end in 0..whole.len() {
            assert_eq!(port(&whole[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn the_main_table_comes_first() {
        let route = |table, ifindexes: &[u32]| DefaultRoute { table, metric: 0, ifindexes: ifindexes.to_vec() };
        let uplinks = Uplinks::new(&[route(2, &[6, 4]), route(254, &[4, 5]), route(254, &[4])]);
        assert_eq!((&uplinks.main, &uplinks.other, uplinks.devices()), (&vec![4, 5], &vec![6], vec![4, 5, 6]));
    }

    #[test]
    fn what_a_default_route_stands_on() {
        let link = |ifindex, lower| Link { lower, ..Link::new(ifindex, "x", DeviceClass::Other) };
        let veth = Link { lower: Some(9), ..Link::new(5, "y", DeviceClass::Veth) };
        let links = [link(2, Some(3)), link(3, None), link(4, Some(3)), veth];
        // VLAN 2 on bond 3, whose port is 5, a veth.
        let uplinks = Uplinks { main: vec![2], other: vec![], masters: BTreeMap::from([(5, 3), (6, 7)]) };
        assert_eq!(uplinks.with_lower(&links), BTreeSet::from([2, 3, 5]));
    }
}
