use std::net::{IpAddr, Ipv4Addr};

use super::domains::stays_on_link;
use super::{Entry, join};
use crate::model::Direction;
use crate::path::topology::Topology;
use crate::snapshot::{Connection, Counts, Observation, Tuple};

fn tuple(src: &str, dst: &str) -> Tuple {
    let address = |text: &str| text.parse().expect("an address");
    Tuple { proto: 17, src: address(src), sport: 0, dst: address(dst), dport: 0 }
}

/// RFC 919, RFC 5771, RFC 4291 (2.5.2, 2.5.6 and 2.7).
#[test]
fn what_no_router_forwards() {
    for (stays, src, dst) in [
        (true, "10.0.0.9", "255.255.255.255"),
        (true, "0.0.0.0", "10.0.0.1"),
        (true, "10.0.0.9", "224.0.0.251"),
        (false, "10.0.0.9", "224.0.1.1"),
        (false, "10.0.0.9", "169.254.169.254"),
        (false, "169.254.0.9", "10.0.0.1"),
        (true, "fe80::1", "fd00::1"),
        (true, "fd00::1", "fe80::1"),
        (true, "::", "fd00::1"),
        (true, "fd00::1", "ff01::1"),
        (true, "fd00::1", "ff02::1"),
        (true, "fd00::1", "ff12::1"),
        (false, "fd00::1", "ff05::1"),
        (false, "fd00::1", "ff0e::1"),
        (false, "fd00::1", "fd00::2"),
    ] {
        assert_eq!(stays_on_link(&tuple(src, dst)), stays, "{src} > {dst}");
    }
}

fn backend(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + u32::try_from(number).expect("few backends")))
}

/// What a client sent to a service of which conntrack has so many backends, and what reached the first of them. Returns the
/// number of flows, whether one is ambiguous, and the connections that the first may belong to.
fn joined(backends: usize, reversed: bool) -> (usize, bool, Vec<Connection>) {
    let asked = tuple("10.0.0.21", "172.20.0.10");
    let to = |backend| Tuple { dst: backend, ..asked };
    let mut connections: Vec<_> = (0..backends)
        .map(|number| Connection { zone: 0, original: asked, reply: to(backend(number)).reversed() })
        .collect();
    if reversed {
        connections.reverse();
    }
    let seen = |ifindex, direction, tuple| {
        let counts = Counts { packets: 1, bytes: 100, wire_bytes: 100 };
        Observation { ifindex, direction, vlans: [0; 2], tuple, about: None, counts }
    };
    let observations = [seen(2, Direction::Rx, asked), seen(3, Direction::Tx, to(backend(0)))];
    let joined = join(&observations, &connections, &Topology::new(&[], &[], false));
    let asking = joined.flows.iter().find(|flow| joined.hops(flow)[0].tuple == asked).expect("a flow");
    let of_entry = |entry: &Entry| connections[entry.connection as usize];
    let mut of_asking: Vec<_> = joined.entries(asking).iter().map(of_entry).collect();
    of_asking.sort_unstable();
    (joined.flows.len(), asking.ambiguous, of_asking)
}

/// Observations decide between any number of translations of a tuple, whatever the order of conntrack's entries.
#[test]
fn many_translations() {
    for many in [1, 2, 3, 16, 17, 2_000] {
        for reversed in [false, true] {
            let (flows, ambiguous, entries) = joined(many, reversed);
            assert_eq!((flows, ambiguous, entries.len()), (1, false, 1), "{many}");
            assert_eq!(entries[0].reply.src, backend(0));
        }
    }
}
