//! The reader against messages of a real kernel, against another implementation's, and against bytes that make no sense.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{DefaultNla, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple as Part,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use proptest::prelude::*;

use super::*;
use crate::netlink::{Answer, answers};

// Captured on Linux 6.18, little-endian, with `conntrack -L -o extended` run at the same time.
const DUMP: &[u8] = include_bytes!("../../../../fuzz/seeds/ctnetlink/dump");
const EVENTS: &[u8] = include_bytes!("../../../../fuzz/seeds/ctnetlink/events");
const ENDED: &[u8] = include_bytes!("../../../../fuzz/seeds/ctnetlink/ended");
const ERROR: &[u8] = include_bytes!("../../../../fuzz/seeds/ctnetlink/error");

fn tuple(proto: u8, src: &str, dst: &str) -> Tuple {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    Tuple { proto, src: src.ip(), sport: src.port(), dst: dst.ip(), dport: dst.port() }
}

/// What `conntrack -L -o extended` showed when the dump was captured, ports by this module's rules.
fn listing() -> Vec<Connection> {
    let same = |zone, proto, src, dst| {
        let original = tuple(proto, src, dst);
        Connection { zone, original, reply: original.reversed() }
    };
    let mut listing = vec![
        same(8, 17, "127.0.0.1:37131", "127.0.0.1:8"),
        Connection {
            zone: 0,
            original: tuple(17, "[fd09::1]:45253", "[fd09::9]:53"),
            reply: tuple(17, "[fd09::1]:5353", "[fd09::1]:45253"),
        },
        same(7, 17, "127.0.0.1:44749", "127.0.0.1:7"),
        // conntrack shows the key 0x1234.
        same(0, 47, "127.0.0.1:0", "127.0.0.1:0"),
        same(9, 17, "127.0.0.1:50307", "127.0.0.1:9"),
        same(0, 132, "127.0.0.1:4386", "127.0.0.1:13124"),
        same(0, 1, "127.0.0.1:43", "127.0.0.1:43"),
        same(0, 58, "[::1]:4660", "[::1]:4660"),
        same(0, 253, "127.0.0.1:0", "127.0.0.1:0"),
        Connection {
            zone: 0,
            original: tuple(6, "10.9.0.1:39238", "10.9.9.9:80"),
            reply: tuple(6, "10.9.0.1:8080", "10.9.0.1:56645"),
        },
    ];
    listing.sort_unstable();
    listing
}

/// The connections of a capture, and everything else.
fn connections(datagram: &[u8]) -> (Vec<Connection>, Vec<Message>) {
    let (mut connections, mut others) = (Vec::new(), Vec::new());
    for message in messages(datagram) {
        match message {
            Message::Connection(connection) | Message::Ended(connection) => connections.push(connection),
            other => others.push(other),
        }
    }
    connections.sort_unstable();
    (connections, others)
}

/// How the request ended whose answer was captured.
fn answered(datagram: &[u8]) -> io::Result<Answer> {
    let first = message::messages(datagram).next().unwrap().unwrap();
    answers(datagram, first.sequence, &mut false, |_, _| {})
}

#[test]
fn a_dump_is_what_the_conntrack_tool_lists() {
    assert_eq!(connections(DUMP), (listing(), vec![Message::Other]));
    assert_eq!(answered(DUMP).unwrap(), Answer::Done);
}

#[test]
fn events_tell_the_same_connections() {
    // NEW of all and UPDATE of some, which have the same type.
    let (mut events, others) = connections(EVENTS);
    events.dedup();
    assert_eq!((events, others), (listing(), vec![]));
    assert_eq!(connections(ENDED), (listing(), vec![]));
}

#[test]
fn a_refused_request_is_an_error() {
    assert_eq!(answered(ERROR).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_connection_without_one_of_its_tuples_is_malformed() {
    let all = attributes(&listing()[0], None);
    for missing in 0..all.len() {
        let mut some = all.clone();
        some.remove(missing);
        assert_eq!(messages(&datagram(some)).collect::<Vec<_>>(), [Message::Malformed]);
    }
}

fn part(tuple: Tuple, zone: Option<u16>) -> Vec<Part> {
    let icmp_type = if tuple.proto == 1 { 8 } else { 128 };
    let mut proto = vec![ProtoTuple::Protocol(Protocol::from(tuple.proto))];
    match tuple.proto {
        1 | 58 => {
            let first = if tuple.proto == 1 { 4 } else { 7 };
            proto.push(ProtoTuple::Other(DefaultNla::new(first, tuple.sport.to_be_bytes().into())));
            proto.push(ProtoTuple::Other(DefaultNla::new(first + 1, vec![icmp_type])));
            proto.push(ProtoTuple::Other(DefaultNla::new(first + 2, vec![0])));
        }
        6 | 17 | 33 | 132 | 136 => {
            proto.push(ProtoTuple::SourcePort(tuple.sport));
            proto.push(ProtoTuple::DestinationPort(tuple.dport));
        }
        _ => {}
    }
    let mut parts = vec![
        Part::Ip(vec![IPTuple::SourceAddress(tuple.src), IPTuple::DestinationAddress(tuple.dst)]),
        Part::Proto(proto),
    ];
    parts.extend(zone.map(|zone| Part::Other(DefaultNla::new(3, zone.to_be_bytes().into()))));
    parts
}

/// `zone_in` is 0 for the connection, 1 for the original direction, 2 for the reply direction.
fn attributes(connection: &Connection, zone_in: Option<u8>) -> Vec<ConntrackAttribute> {
    let zone = |place| (zone_in == Some(place)).then_some(connection.zone);
    let mut attributes = vec![
        ConntrackAttribute::CtaTupleOrig(part(connection.original, zone(1))),
        ConntrackAttribute::CtaTupleReply(part(connection.reply, zone(2))),
    ];
    attributes
        .extend(zone(0).map(|zone| ConntrackAttribute::Other(DefaultNla::new(CTA_ZONE, zone.to_be_bytes().into()))));
    attributes
}

/// A message as `netlink-packet-netfilter` writes it.
fn datagram(attributes: Vec<ConntrackAttribute>) -> Vec<u8> {
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    let message = NetfilterMessage::new(header, ConntrackMessage::New(attributes));
    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    bytes
}

fn any_tuple(proto: u8, v6: bool) -> impl Strategy<Value = Tuple> {
    (any::<[u16; 2]>(), any::<[[u8; 16]; 2]>()).prop_map(move |([sport, dport], [src, dst])| {
        let ip = |bytes: [u8; 16]| match bytes {
            _ if v6 => IpAddr::from(bytes),
            [a, b, c, d, ..] => IpAddr::from([a, b, c, d]),
        };
        let (sport, dport) = match proto {
            6 | 17 | 33 | 132 | 136 => (sport, dport),
            1 | 58 => (sport, sport),
            _ => (0, 0),
        };
        Tuple { proto, src: ip(src), sport, dst: ip(dst), dport }
    })
}

fn any_connection() -> impl Strategy<Value = (Connection, Option<u8>)> {
    let proto = prop_oneof![Just(1), Just(6), Just(17), Just(33), Just(58), Just(132), Just(136), any::<u8>()];
    (proto, any::<bool>(), any::<u16>(), proptest::option::of(0..3_u8)).prop_flat_map(|(proto, v6, zone, zone_in)| {
        (any_tuple(proto, v6), any_tuple(proto, v6)).prop_map(move |(original, reply)| {
            (Connection { zone: if zone_in.is_some() { zone } else { 0 }, original, reply }, zone_in)
        })
    })
}

proptest! {
    #[test]
    fn what_another_implementation_writes_is_read(all in prop::collection::vec(any_connection(), 0..4)) {
        let bytes: Vec<u8> = all.iter().flat_map(|(connection, zone_in)| datagram(attributes(connection, *zone_in))).collect();
        let expected: Vec<_> = all.iter().map(|(connection, _)| Message::Connection(*connection)).collect();
        prop_assert_eq!(messages(&bytes).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_datagram_that_is_cut_off_tells_nothing_wrong(end in 0..DUMP.len()) {
        let whole: Vec<_> = messages(DUMP).collect();
        let mut cut: Vec<_> = messages(&DUMP[..end]).collect();
        cut.pop_if(|last| *last == Message::Malformed);
        prop_assert!(whole.starts_with(&cut));
    }

    #[test]
    fn any_bytes_end_in_few_messages(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(messages(&bytes).count() <= bytes.len() / 16 + 1);
    }

    #[test]
    fn a_damaged_dump_ends_in_few_messages(damage in prop::collection::vec((0..DUMP.len(), any::<u8>()), 1..8)) {
        let mut bytes = DUMP.to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        prop_assert!(messages(&bytes).count() <= bytes.len() / 16 + 1);
    }
}
