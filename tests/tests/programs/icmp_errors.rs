//! ICMP errors, once each, with the packet that they quote; and as much as there is room for.

use std::net::IpAddr;

use etherparse::{IpNumber, PacketBuilder};
use lab::Lab;
use netpath::kernel::flow_counts::FlowCounts;
use netpath::snapshot::{Observation, Reason, Tuple};
use netpath_ebpf::map;

use super::frames::Beside;
use super::{LOOPBACK, Loaded, answer, loaded_with};

/// Destination unreachable from a router, about a UDP datagram of 10 to 11 (the last bytes of the addresses).
fn unreachable(is_v6: bool, sport: u16) -> Vec<u8> {
    let (mut quote, mut frame) = (Vec::new(), Vec::new());
    let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
    if is_v6 {
        PacketBuilder::ipv6([10; 16], [11; 16], 9).udp(sport, 53).write(&mut quote, &[7; 9]).unwrap();
        let message = [&[1, 4, 0, 0, 0, 0, 0, 0], &quote[..]].concat();
        ethernet.ipv6([9; 16], [10; 16], 9).write(&mut frame, IpNumber::IPV6_ICMP, &message).unwrap();
    } else {
        PacketBuilder::ipv4([10; 4], [11; 4], 9).udp(sport, 53).write(&mut quote, &[7; 9]).unwrap();
        let message = [&[3, 3, 0, 0, 0, 0, 0, 0], &quote[..28]].concat();
        ethernet.ipv4([9; 4], [10; 4], 9).write(&mut frame, IpNumber::ICMP, &message).unwrap();
    }
    frame
}

fn addresses(is_v6: bool) -> [IpAddr; 3] {
    [9, 10, 11].map(|byte| if is_v6 { IpAddr::from([byte; 16]) } else { IpAddr::from([byte; 4]) })
}

#[test]
fn an_error_is_counted_with_the_packet_that_it_is_about() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for (name, is_v6) in [(map::RX, false), (map::TX, true), (map::RX_IP, false), (map::TX_IP, true)] {
            let Loaded { program, mut drain, .. } = loaded_with(name, 1);
            // The second one's packet has another port, for which there is no room.
            for sport in [1000, 1000, 2000] {
                assert_eq!(answer(&program, LOOPBACK, &unreachable(is_v6, sport), Beside::default()), Some(-1));
            }
            let mut flow_counts = FlowCounts::default();
            drain.drain(&mut flow_counts).unwrap();
            assert_eq!(flow_counts.len(), 1);
            let seen: Vec<Observation> = flow_counts.observations().collect();
            let [router, src, dst] = addresses(is_v6);
            let proto = if is_v6 { 58 } else { 1 };
            assert_eq!(seen[0].tuple, Tuple { proto, src: router, sport: 0, dst: src, dport: 0 });
            assert_eq!(seen[0].about, Some(Tuple { proto: 17, src, sport: 1000, dst, dport: 53 }));
            let ethernet = if [map::RX, map::TX].contains(&name) { 0 } else { 14 };
            let bytes = unreachable(is_v6, 1000).len() as u64 - ethernet;
            assert_eq!((seen[0].counts.packets, seen[0].counts.bytes), (2, 2 * bytes), "{name}");
            let rest: Vec<_> = flow_counts.unattributed().map(|rest| (rest.reason, rest.counts.packets)).collect();
            assert_eq!(rest, [(Reason::MapFull, 1)], "{name}");

            // The same errors in the next window, and the device's index given to another.
            assert_eq!(answer(&program, LOOPBACK, &unreachable(is_v6, 2000), Beside::default()), Some(-1));
            let mut flow_counts = FlowCounts::default();
            drain.drain(&mut flow_counts).unwrap();
            flow_counts.reindex(LOOPBACK, 99);
            let seen: Vec<Observation> = flow_counts.observations().collect();
            assert_eq!((seen.len(), seen[0].ifindex, seen[0].counts.packets), (1, 99, 1));
            assert_eq!(seen[0].about.unwrap().sport, 2000);
        }
    };
    lab.node.namespace.run(run).unwrap();
}
