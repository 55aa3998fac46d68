//! Each file is read back by a walker of the format that has nothing in common with what wrote it.

mod frames;
mod walker;
mod words;

use std::net::IpAddr;

use bytes::Bytes;

use self::walker::{Block, EPB, IDB, ISB, NRB, SHB, blocks};
use super::*;
use crate::trace::{End, SCHEMA};

/// A TCP segment of 60 bytes behind an Ethernet header, in a packet that is longer.
fn frame(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let ethernet = [&[0x02, 1, 2, 3, 4, 5, 0x02, 6, 7, 8, 9, 10][..], &[8, 0]].concat();
    [ethernet, packet(src, dst, sport, dport)].concat()
}

/// The same without the Ethernet header.
fn packet(src: [u8; 4], dst: [u8; 4], sport: u16, dport: u16) -> Vec<u8> {
    let ip = [&[0x45, 0, 5, 0xdc, 0x12, 0x34, 0x40, 0, 63, 6, 0xab, 0xcd][..], &src, &dst].concat();
    let tcp = [&sport.to_be_bytes()[..], &dport.to_be_bytes(), &[0, 1, 0x26, 0x21, 0, 0, 0, 1, 0x50, 0x18], &[7; 26]];
    [ip, tcp.concat()].concat()
}

fn hop(device: &str, ifindex: u32, direction: Direction, ends: [&str; 2], bytes: Vec<u8>) -> Hop {
    let end = |text: &str| text.parse::<std::net::SocketAddr>().expect("an address and a port");
    let [src, dst] = ends.map(end);
    Hop {
        device: device.to_owned(),
        ifindex,
        class: crate::model::DeviceClass::Veth,
        pod: None,
        direction,
        src: src.ip(),
        sport: src.port(),
        dst: dst.ip(),
        dport: dst.port(),
        ttl: 61,
        since_ns: 0,
        nat: None,
        before_match: bytes.is_empty(),
        at_ns: 1_764_230_000_123_456_789,
        bytes: Bytes::from(bytes),
        len_bytes: 1514,
    }
}

/// A download's segment: at eth0 with the node's address, at the veth with the pod's.
fn trip() -> Trip {
    let (server, node, pod) = ([198, 51, 100, 7], [10, 0, 0, 5], [10, 0, 0, 21]);
    let first =
        hop("eth0", 2, Direction::Rx, ["198.51.100.7:8080", "10.0.0.5:59703"], frame(server, node, 8080, 59703));
    let second =
        hop("eni1", 7, Direction::Tx, ["198.51.100.7:8080", "10.0.0.21:47620"], frame(server, pod, 8080, 47620));
    let second = Hop {
        since_ns: 21_300,
        at_ns: first.at_ns + 21_300,
        nat: Some(crate::trace::Translation::Dnat),
        pod: Some("default/client".to_owned()),
        ..second
    };
    Trip {
        schema: SCHEMA.to_owned(),
        trip: 17,
        at: String::new(),
        proto: "tcp".to_owned(),
        protocol: 6,
        length: 1514,
        payload: 1448,
        seq: Some(75297),
        ack: None,
        flags: None,
        icmp: None,
        ip_id: None,
        fragment: None,
        hops: vec![first, second],
        end: End::Pod,
        reason: None,
        location: None,
        freed_after_ns: None,
        note: None,
        retransmission_of: None,
        retransmitted_after_ns: None,
        joined: true,
        complete: true,
        src_pod: None,
        dst_pod: Some("default/client".to_owned()),
        service: None,
    }
}

fn interfaces() -> Vec<Interface> {
    let interface = |ifindex, name: &str, pod: Option<&str>| Interface {
        ifindex,
        name: name.to_owned(),
        description: pod.map(str::to_owned),
        ethernet: true,
    };
    vec![interface(2, "eth0", None), interface(7, "eni1", Some("default/client"))]
}

/// What `write` makes of a file.
fn written(choice: HopChoice, summary: &Summary, write: impl FnOnce(&mut PcapngWriter<&mut Vec<u8>>)) -> Vec<Block> {
    let mut file = Vec::new();
    let mut writer = PcapngWriter::new(&mut file, "tcp port 8080", 128, interfaces(), choice).expect("written");
    write(&mut writer);
    writer.finish(summary).expect("written");
    blocks(&file)
}

/// The packets of trips, with the two interfaces.
fn packets(choice: HopChoice, trips: &[Trip]) -> Vec<Block> {
    let blocks = written(choice, &Summary::default(), |writer| {
        for trip in trips {
            writer.trip(trip).expect("written");
        }
    });
    blocks.into_iter().filter(|block| block.kind == EPB).collect()
}

#[test]
fn a_file_without_trips_has_its_interfaces_and_their_statistics() {
    let blocks = written(HopChoice::All, &Summary::default(), |_| {});
    assert_eq!(blocks.iter().map(|block| block.kind).collect::<Vec<_>>(), [SHB, IDB, IDB, ISB, ISB]);
    let [section, eth0, eni1, ..] = &blocks[..] else { panic!() };
    assert_eq!(section.text(2), std::env::consts::ARCH);
    assert!(section.text(3).starts_with("Linux "), "{section:?}");
    assert_eq!(section.text(4), format!("netpath {}", env!("CARGO_PKG_VERSION")));
    for (interface, name) in [(eth0, "eth0"), (eni1, "eni1")] {
        // Ethernet; 14 more than the hops have.
        assert_eq!((interface.u16(0), interface.u32(4)), (1, 142));
        assert_eq!(interface.text(2), name);
        assert_eq!(interface.option(9), [9], "nanoseconds");
        assert_eq!(interface.option(11), [&[0], &b"tcp port 8080"[..]].concat());
        assert!(interface.text(12).starts_with("Linux "));
    }
    assert_eq!(eth0.options_of(3), 0);
    assert_eq!(eni1.text(3), "default/client");
}

#[test]
fn both_hops_of_a_trip_are_packets_with_its_number() {
    let trip = trip();
    let packets = packets(HopChoice::All, std::slice::from_ref(&trip));
    assert_eq!(packets.len(), 2);
    for ((packet, hop), (interface, direction)) in packets.iter().zip(&trip.hops).zip([(0, 1), (1, 2)]) {
        assert_eq!(packet.u32(0), interface);
        assert_eq!(u64::from(packet.u32(4)) << 32 | u64::from(packet.u32(8)), hop.at_ns);
        assert_eq!((packet.u32(12), packet.u32(16)), (74, 1514));
        assert_eq!(packet.body[20..94], hop.bytes[..]);
        assert_eq!(packet.option(2), u32::to_le_bytes(direction));
        assert_eq!(packet.option(5), 17u64.to_le_bytes());
    }
    assert_eq!(packets[0].text(1), "#17 hop 1 of 2");
    assert_eq!(
        packets[1].text(1),
        "#17 hop 2 of 2, +21.3 µs, dst was 10.0.0.5:59703, default/client, delivered to the pod"
    );
}

#[test]
fn one_hop_of_a_trip_can_be_chosen_and_has_its_end() {
    for (choice, comment) in [
        (HopChoice::First, "#17 hop 1 of 2, delivered to the pod"),
        (HopChoice::Last, "#17 hop 2 of 2, +21.3 µs, dst was 10.0.0.5:59703, default/client, delivered to the pod"),
    ] {
        let packets = packets(choice, &[trip()]);
        assert_eq!(packets.iter().map(|packet| packet.text(1)).collect::<Vec<_>>(), [comment]);
    }
    let none = Trip { hops: Vec::new(), ..trip() };
    for choice in [HopChoice::First, HopChoice::Last, HopChoice::All] {
        assert!(packets(choice, std::slice::from_ref(&none)).is_empty());
    }
}

#[test]
fn a_device_that_comes_later_gets_its_interface_before_its_first_packet() {
    let mut late = trip();
    late.hops[1].device = "eni2\u{1b}[2J".to_owned();
    late.hops[1].ifindex = 9;
    let blocks = written(HopChoice::All, &Summary::default(), |writer| {
        writer.trip(&trip()).expect("written");
        writer.trip(&late).expect("written");
        writer.trip(&late).expect("written");
    });
    let kinds: Vec<u32> = blocks.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [SHB, IDB, IDB, EPB, EPB, IDB, EPB, EPB, EPB, EPB, ISB, ISB, ISB]);
    assert_eq!(blocks[5].text(2), "eni2\\u{1b}[2J");
    assert_eq!(blocks[5].text(3), "default/client");
    assert_eq!((blocks[5].u16(0), blocks[5].u32(4)), (1, 142), "as all others, or libpcap refuses the file");
    assert_eq!((blocks[7].u32(0), blocks[9].u32(0)), (2, 2));
    let counts: Vec<_> = blocks[10..].iter().map(|block| (block.u32(0), block.option(8).to_vec())).collect();
    assert_eq!(counts, [(0, 3), (1, 1), (2, 2)].map(|(id, packets)| (id, u64::to_le_bytes(packets).to_vec())));
}

#[test]
fn an_index_that_is_used_again_is_another_interface() {
    let mut renamed = trip();
    renamed.hops[1].device = "eni3".to_owned();
    let blocks = written(HopChoice::Last, &Summary::default(), |writer| {
        let known = Interface { ifindex: 2, name: "eth0".to_owned(), description: None, ethernet: false };
        writer.interface(&known).expect("nothing is written");
        writer.trip(&trip()).expect("written");
        writer.trip(&renamed).expect("written");
    });
    let kinds: Vec<u32> = blocks.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [SHB, IDB, IDB, EPB, IDB, EPB, ISB, ISB, ISB]);
    assert_eq!((blocks[3].u32(0), blocks[5].u32(0)), (1, 2));
}

#[test]
fn addresses_have_names() {
    let names: Vec<(IpAddr, String)> = (0..2_001u16)
        .map(|n| {
            let [high, low] = n.to_be_bytes();
            (IpAddr::from([10, 1, high, low]), format!("default/pod-{n}"))
        })
        .chain([("fd00::1".parse().expect("an address"), "default/web\u{202e}".to_owned())])
        .chain([(IpAddr::from([10, 0, 0, 9]), String::new())])
        .collect();
    let blocks = written(HopChoice::All, &Summary::default(), |writer| writer.names(&names).expect("written"));
    let blocks: Vec<&Block> = blocks.iter().filter(|block| block.kind == NRB).collect();
    assert_eq!(blocks.len(), 3);
    let records: Vec<(u16, Vec<u8>)> = blocks.iter().flat_map(|block| block.records()).collect();
    assert_eq!(records.len(), 2_002);
    assert_eq!(records[258], (1, b"\x0a\x01\x01\x02default/pod-258\0".to_vec()));
    let v6 = [&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &b"default/web\\u{202e}\0"[..]].concat();
    assert_eq!(records[2_001], (2, v6));
    let none = written(HopChoice::All, &Summary::default(), |writer| writer.names(&[]).expect("written"));
    assert!(none.iter().all(|block| block.kind != NRB));
}

#[test]
fn statistics_have_the_account_and_no_number_that_is_not_known() {
    let summary = Summary {
        trips: 1_987,
        hops: 4_211,
        matched: 4_300,
        received: 4_211,
        no_room: 89,
        unwatched: vec!["gre0: not Ethernet".to_owned()],
        drops_unseen: Some("no BTF".to_owned()),
        ..Summary::default()
    };
    let blocks = written(HopChoice::All, &summary, |_| {});
    let [.., statistics] = &blocks[..] else { panic!() };
    assert_eq!(
        statistics.text(1),
        "on all devices: 1987 trips, 4211 hops; 4300 events matched: 4211 received, 89 had no room, 0 over the rate, \
         0 not in the sample; 0 trips not shown; not watched: gre0: not Ethernet; drops were not seen: no BTF"
    );
    assert_eq!((statistics.options_of(5), statistics.options_of(7)), (0, 0), "on which device is not known");
    let blocks = written(HopChoice::All, &Summary { matched: 9, received: 9, ..Summary::default() }, |_| {});
    for statistics in &blocks[3..] {
        assert_eq!((statistics.option(5), statistics.option(7)), (&[0; 8][..], &[0; 8][..]));
    }
}

#[test]
fn a_text_that_is_too_long_for_an_option_is_cut() {
    let long = "ü".repeat(40_000);
    let mut file = Vec::new();
    let mut writer = PcapngWriter::new(&mut file, &long, 128, interfaces(), HopChoice::All).expect("written");
    writer.trip(&Trip { note: Some(long), ..trip() }).expect("written");
    writer.finish(&Summary::default()).expect("written");
    let blocks = blocks(&file);
    assert_eq!(blocks[1].option(11).len(), 60_001);
    assert!(blocks[4].text(1).ends_with('ü'));
}

/// Who reads a pipe sees what was flushed, and an error is the pipe's.
#[test]
fn what_is_flushed_is_there() {
    let mut file = Vec::new();
    let mut writer = PcapngWriter::new(&mut file, "", 128, interfaces(), HopChoice::All).expect("written");
    writer.trip(&trip()).expect("written");
    writer.flush().expect("written");
    assert_eq!(writer.blocks.get_ref().buffer().len(), 0);
    drop(writer);
    assert_eq!(blocks(&file).len(), 5);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let mut writer = PcapngWriter::new(full, "", 128, interfaces(), HopChoice::All).expect("buffered");
    assert_eq!(writer.flush().expect_err("no room").kind(), io::ErrorKind::StorageFull);
}
