//! What is remembered of a fragmented datagram, for how long, and in which order its fragments may come. Time is what the test
//! writes into the programs' map.

use std::collections::HashSet;

use aya::maps::{HashMap, Map};
use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header};
use lab::Lab;
use netpath::kernel::drain::Drain;
use netpath::kernel::flow_counts::FlowCounts;
use netpath_ebpf::{FragmentValue, map};

use super::frames::Beside;
use super::model::monotonic_ns;
use super::{LOOPBACK, Loaded, answer, loaded, map_data};

const SECOND: u64 = 1_000_000_000;

/// Eight bytes of a UDP datagram from this port to 53 (0 for none), at an offset of so many.
#[derive(Clone, Copy, Debug)]
struct Piece {
    port: u16,
    offset: u16,
    more: bool,
}

const fn first(port: u16) -> Piece {
    Piece { port, offset: 0, more: true }
}

const fn later(offset: u16, more: bool) -> Piece {
    Piece { port: 0, offset, more }
}

/// The piece as a frame; every datagram has the same identification.
fn frame(piece: Piece, is_v6: bool) -> Vec<u8> {
    let offset = IpFragOffset::try_new(piece.offset).unwrap();
    let [high, low] = piece.port.to_be_bytes();
    let payload = [high, low, 0, 53, 0, 24, 0, 0];
    let mut bytes = Vec::new();
    let ethernet = |ether_type| Ethernet2Header { ether_type, ..Default::default() }.to_bytes();
    if is_v6 {
        let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset, piece.more, 7);
        let (source, destination) = ([0xfd; 16], [0xfe; 16]);
        let next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
        let ip =
            Ipv6Header { payload_length: 16, next_header, source, destination, hop_limit: 9, ..Default::default() };
        bytes.extend(ethernet(EtherType::IPV6));
        bytes.extend(ip.to_bytes());
        bytes.extend(fragment.to_bytes());
    } else {
        let mut ip = Ipv4Header::new(8, 64, IpNumber::UDP, [10, 0, 0, 21], [10, 0, 0, 22]).unwrap();
        (ip.identification, ip.fragment_offset, ip.more_fragments) = (7, offset, piece.more);
        bytes.extend(ethernet(EtherType::IPV4));
        bytes.extend(ip.to_bytes());
    }
    bytes.extend(payload);
    // Ethernet's padding, which is no part of the datagram.
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// The ports that fragments were counted under, and how many under none, in this order.
fn counted(drain: &mut Drain) -> (Vec<(u16, u64)>, u64) {
    let mut flow_counts = FlowCounts::default();
    drain.drain(&mut flow_counts).unwrap();
    let mut ports: Vec<_> = flow_counts.observations().map(|flow| (flow.tuple.sport, flow.counts.packets)).collect();
    ports.sort_unstable();
    let reason = netpath::snapshot::Reason::OrphanFragment;
    let orphans =
        flow_counts.unattributed().inspect(|rest| assert_eq!(rest.reason, reason)).map(|rest| rest.counts.packets);
    (ports, orphans.sum())
}

/// What passes, then the ports and how many fragments have them, and how many fragments have none.
type Case<'a> = (&'a [Piece], &'a [(u16, u64)], u64);

#[test]
fn later_fragments_have_their_own_datagrams_ports_or_none() {
    const A: u16 = 1111;
    const B: u16 = 2222;
    let (middle, last) = (later(1, true), later(2, false));
    let cases: [Case<'_>; 9] = [
        (&[first(A), middle, last], &[(A, 3)], 0),
        (&[first(A), last, middle], &[(A, 3)], 0),
        // The next datagram with the identification, once the one before it has passed: in order, and not.
        (&[first(A), middle, last, first(B), middle, last], &[(A, 3), (B, 3)], 0),
        (&[first(A), middle, last, last, first(B), middle], &[(A, 3), (B, 2)], 1),
        (&[first(A), last, middle, middle, last, first(B)], &[(A, 3), (B, 1)], 2),
        // Each of them the wrong way round.
        (&[last, middle, first(A), last, middle, first(B)], &[(A, 1), (B, 1)], 4),
        (&[last, first(A), middle, last, first(B), middle], &[(A, 2), (B, 2)], 2),
        // Of the first one a fragment was lost: a second last one is the next datagram's.
        (&[first(A), last, last, first(B), middle], &[(A, 2), (B, 2)], 1),
        (&[first(A), first(B), middle, last], &[(A, 1), (B, 3)], 0),
    ];
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for is_v6 in [false, true] {
            for (pieces, ports, orphans) in cases {
                let Loaded { program, mut drain, .. } = loaded(map::RX);
                for piece in pieces {
                    assert_eq!(answer(&program, LOOPBACK, &frame(*piece, is_v6), Beside::default()), Some(-1));
                }
                assert_eq!(counted(&mut drain), (ports.to_vec(), orphans), "IPv6 {is_v6}: {pieces:?}");
            }
        }
    };
    lab.node.namespace.run(run).unwrap();
}

#[test]
fn a_first_fragment_is_forgotten_after_thirty_seconds() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for is_v6 in [false, true] {
            for (age, ports, orphans) in [(29, vec![(1111, 2)], 0), (31, vec![(1111, 1)], 1)] {
                let Loaded { program, mut drain, maps, .. } = loaded(map::RX);
                assert_eq!(answer(&program, LOOPBACK, &frame(first(1111), is_v6), Beside::default()), Some(-1));
                make_older(&maps, age * SECOND);
                assert_eq!(answer(&program, LOOPBACK, &frame(later(2, false), is_v6), Beside::default()), Some(-1));
                assert_eq!(counted(&mut drain), (ports, orphans), "IPv6 {is_v6}, {age} s");
            }
        }
    };
    lab.node.namespace.run(run).unwrap();
}

/// Makes all that is remembered of datagrams older.
fn make_older(maps: &HashSet<u32>, by_ns: u64) {
    const WORDS: usize = size_of::<FragmentValue>() / 8;
    let data = Map::LruHashMap(map_data(maps, map::FRAGMENTS));
    let mut map: HashMap<_, [u32; 11], [u64; WORDS]> = data.try_into().unwrap();
    let all: Vec<_> = map.iter().map(|entry| entry.unwrap()).collect();
    assert_eq!(all.len(), 1);
    for (key, mut value) in all {
        // `FragmentValue::since_ns` is the first word.
        let now = monotonic_ns();
        assert!(now - value[0] < 5 * SECOND, "{} {now}", value[0]);
        value[0] -= by_ns;
        map.insert(key, value, 0).unwrap();
    }
}
