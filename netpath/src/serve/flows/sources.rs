//! Addresses of ENIs that no source has yet: those that flows of this node and its pods left from. ENIs get addresses all the
//! time, and IMDS is asked once an hour.
//!
//! In: reports. Out: addresses by ENI. Pure, and bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::layout::HOUR;
use super::record::{EniFacts, delegated};
use crate::model::Direction;
use crate::report::{Flow, PathClass, PeerKind, Report};

/// An instance has no more than 15 ENIs with 50 addresses each.
const MOST: usize = 1_024;

/// Where flows left from, and when they last did.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<(u32, IpAddr), i64>);

impl Sources {
    /// Adds a window's. Those of which there was nothing for an hour are forgotten, the oldest ones if there are too many.
    pub fn add(&mut self, report: &Report, now: i64) {
        let enis: Vec<u32> = report.enis.iter().filter_map(|eni| eni.ifindex).collect();
        for hop in report.flows.iter().filter(|flow| is_from_here(flow)).flat_map(|flow| &flow.hops) {
            if hop.direction == Direction::Tx && enis.contains(&hop.ifindex) {
                self.0.insert((hop.ifindex, hop.src), now);
            }
        }
        self.0.retain(|_, last| *last >= now - HOUR);
        while self.0.len() > MOST
            && let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, last)| **last)
        {
            self.0.remove(&oldest);
        }
    }

    /// Adds to an ENI's addresses those that no source has.
    pub fn complete(&self, eni: &mut EniFacts<'_>, ifindex: Option<u32>) {
        let Some(ifindex) = ifindex else { return };
        for (_, address) in self.0.keys().filter(|(eni, _)| *eni == ifindex) {
            if !eni.addresses.contains(address) && !eni.prefixes.contains(&delegated(*address)) {
                eni.addresses.push(*address);
            }
        }
    }
}

/// Whether it left this node with an address of this node or of a pod of it.
fn is_from_here(flow: &Flow) -> bool {
    flow.eni_tx_bytes > 0
        && flow.path == PathClass::Eni
        && matches!(flow.src_peer_kind, Some(PeerKind::PodHere | PeerKind::ThisNode))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{DeviceClass, DeviceFacts, Eni, Fact, NodeInfo, Origin, Window};
    use crate::path;
    use crate::snapshot::{Counts, Device, Observation, Snapshot, Tuple};

    const VETH: u32 = 7;
    const ETH0: u32 = 2;

    /// A pod with this address sends to another node.
    fn report(pod: IpAddr) -> Report {
        let mut snapshot = Snapshot::new(NodeInfo::default(), Window::default());
        let device = |ifindex, name, class| Device::new(DeviceFacts::new(ifindex, name, class));
        snapshot.devices = vec![device(ETH0, "eth0", DeviceClass::Eni), device(VETH, "eniaa", DeviceClass::Veth)];
        snapshot.devices[1].routed.push(pod);
        let dst = Ipv4Addr::new(10, 0, 9, 9).into();
        let hop = |ifindex, direction| Observation {
            ifindex,
            direction,
            vlans: [0; 2],
            tuple: Tuple { proto: 6, src: pod, sport: 1, dst, dport: 2 },
            about: None,
            counts: Counts { packets: 1, bytes: 100, wire_bytes: 100 },
        };
        snapshot.observations = vec![hop(VETH, Direction::Rx), hop(ETH0, Direction::Tx)];
        let addresses = Fact { value: vec![Ipv4Addr::new(10, 0, 0, 5).into()], origin: Origin::Imds };
        let prefixes = Fact { value: vec!["10.0.7.16/28".into()], origin: Origin::Imds };
        let eni = Eni { ifindex: Some(ETH0), addresses: Some(addresses), prefixes: Some(prefixes), ..Eni::default() };
        snapshot.enis = vec![eni];
        path::report(&snapshot)
    }

    fn addresses(sources: &Sources, report: &Report) -> Vec<String> {
        let mut facts = EniFacts::new(&report.enis[0]);
        sources.complete(&mut facts, report.enis[0].ifindex);
        facts.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_that_nobody_told_of() {
        let mut sources = Sources::default();
        let address = |last| Ipv4Addr::new(10, 0, 0, last).into();
        let told = report(address(5));
        sources.add(&told, 0);
        sources.add(&report(Ipv4Addr::new(10, 0, 7, 17).into()), 0);
        assert_eq!(addresses(&sources, &told), ["10.0.0.5"], "these are known");
        sources.add(&report(address(21)), 10);
        assert_eq!(addresses(&sources, &told), ["10.0.0.5", "10.0.0.21"]);
        sources.add(&report(address(22)), 10 + HOUR);
        assert_eq!(addresses(&sources, &told), ["10.0.0.5", "10.0.0.21", "10.0.0.22"]);
        sources.add(&told, 11 + HOUR);
        assert_eq!(addresses(&sources, &told), ["10.0.0.5", "10.0.0.22"], "an hour has passed");
    }

    #[test]
    fn there_are_no_more_than_there_can_be() {
        let mut sources = Sources::default();
        let mut report = report(Ipv4Addr::new(10, 0, 0, 21).into());
        for number in 0..2_000 {
            let src = Ipv4Addr::from_bits(0x0B00_0000 + number).into();
            report.flows.iter_mut().flat_map(|flow| &mut flow.hops).for_each(|hop| hop.src = src);
            sources.add(&report, number.into());
        }
        let left = addresses(&sources, &report);
        assert_eq!((left.len(), left.last().map(String::as_str)), (1 + MOST, Some("11.0.7.207")));
    }
}
