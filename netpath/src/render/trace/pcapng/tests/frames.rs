//! Packets without link layer, and packets that were rebuilt.

use proptest::prelude::*;

use super::super::frame::{self, Frame};
use super::*;
use crate::model::DeviceClass;

const OF_HOP: [&str; 2] = ["198.51.100.7:8080", "10.0.0.5:59703"];

/// The first hop of a trip whose second hop has these bytes and ends.
fn rebuilt(first: [&str; 2], second: [&str; 2], bytes: Vec<u8>, second_has_link: bool) -> Option<Vec<u8>> {
    let hops = [hop("eth0", 2, Direction::Rx, first, Vec::new()), hop("eni1", 7, Direction::Tx, second, bytes)];
    let Frame { data, is_rebuilt, .. } = frame::of(&hops, &[true, second_has_link], 0)?;
    assert!(is_rebuilt);
    Some(data.into_owned())
}

#[test]
fn a_hop_before_the_match_has_its_own_addresses_ports_and_time_to_live() {
    let mut trip = trip();
    trip.hops[0].bytes = Bytes::new();
    trip.hops[0].before_match = true;
    let packets = packets(HopChoice::All, &[trip]);
    let mut expected = packet([198, 51, 100, 7], [10, 0, 0, 5], 8080, 59703);
    expected[8] = 61;
    let expected = [&[0; 12], &[8, 0][..], &expected].concat();
    assert_eq!((packets[0].u32(12), packets[0].u32(16)), (74, 1514));
    assert_eq!(packets[0].body[20..94], expected);
    assert_eq!(packets[0].text(1), "#17 hop 1 of 2, rebuilt: its bytes were not kept");
}

#[test]
fn a_hop_behind_the_last_that_has_bytes_is_made_of_that() {
    let mut trip = trip();
    trip.hops[1].bytes = Bytes::new();
    let packets = packets(HopChoice::Last, &[trip]);
    assert_eq!(packets[0].body[20 + 14 + 16..][..4], [10, 0, 0, 21]);
}

#[test]
fn a_trip_without_bytes_is_left_out_and_counted() {
    let mut trip = trip();
    for hop in &mut trip.hops {
        hop.bytes = Bytes::new();
    }
    let blocks = written(HopChoice::All, &Summary::default(), |writer| writer.trip(&trip).expect("written"));
    assert!(blocks.iter().all(|block| block.kind != EPB));
    let [.., statistics] = &blocks[..] else { panic!() };
    assert!(statistics.text(1).contains("; 2 hops are missing, their bytes were not kept"), "{statistics:?}");
}

#[test]
fn a_device_without_link_layer_gets_an_ethernet_header_of_zeros() {
    let v4 = packet([198, 51, 100, 7], [10, 0, 0, 5], 8080, 59703);
    let v6 = udp_v6(&[]);
    for (bytes, ends, ethertype) in [(v4, OF_HOP, [8, 0]), (v6, ["[fd00::1]:5353", "[fd00::2]:53"], [0x86, 0xdd])] {
        let hops = [hop("tun0", 3, Direction::Rx, ends, bytes.clone())];
        assert!(!frame::has_link(&hops[0]), "as its bytes show");
        let frame = frame::of(&hops, &[false], 0).expect("it has bytes");
        assert_eq!(&frame.data[..], [&[0; 12], &ethertype[..], &bytes].concat());
        assert_eq!((frame.len_bytes, frame.is_rebuilt), (1528, false));
        let rebuilt = rebuilt(ends, ends, bytes, false).expect("it has bytes");
        assert_eq!(rebuilt[12..14], ethertype);
    }
}

#[test]
fn whether_a_device_has_a_link_layer_is_seen() {
    let frame = frame([198, 51, 100, 7], [10, 0, 0, 5], 8080, 59703);
    assert!(frame::has_link(&hop("eth0", 2, Direction::Rx, OF_HOP, frame)));
    let unseen = hop("eth0", 2, Direction::Rx, OF_HOP, Vec::new());
    assert!(frame::has_link(&unseen));
    assert!(!frame::has_link(&Hop { class: DeviceClass::Tunnel, ..unseen }));
}

/// UDP from `fd00::1` to `fd00::2` behind extension headers, the first of which is named by its number.
fn udp_v6(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let numbers: Vec<u8> = extensions.iter().map(|(number, _)| *number).chain([17]).collect();
    let address = |last| [[0xfd, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, last]].concat();
    let mut bytes = [&[0x60, 0, 0, 0, 0, 40, numbers[0], 60], &address(1)[..], &address(2)].concat();
    for ((_, header), next) in extensions.iter().zip(&numbers[1..]) {
        bytes.push(*next);
        bytes.extend(header);
    }
    [bytes, vec![0x14, 0xe9, 0, 53, 0, 12, 0xab, 0xcd, 1, 2, 3, 4]].concat()
}

#[test]
fn ports_behind_extension_headers() {
    let here = ["[2001:db8::9]:1000", "[2001:db8::a]:2000"];
    let other = ["[fd00::1]:5353", "[fd00::2]:53"];
    // Hop-by-hop of 8 bytes, destination options of 16, authentication of 24, an atomic fragment.
    let options: [&[(u8, Vec<u8>)]; 3] = [
        &[],
        &[(0, vec![0; 7]), (60, [vec![1], vec![0; 14]].concat())],
        &[(51, [vec![4], vec![0; 22]].concat()), (44, vec![0; 7])],
    ];
    for extensions in options {
        let bytes = udp_v6(extensions);
        let made = rebuilt(here, other, bytes.clone(), false).expect("it has bytes");
        let made = &made[14..];
        assert_eq!(made[7], 61);
        assert_eq!(made[8..24], "2001:db8::9".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        assert_eq!(made[24..40], "2001:db8::a".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        assert_eq!(made[40..bytes.len() - 12], bytes[40..bytes.len() - 12]);
        assert_eq!(made[bytes.len() - 12..], [3, 232, 7, 208, 0, 12, 0xab, 0xcd, 1, 2, 3, 4]);
    }
    // A later fragment has no ports.
    let later = udp_v6(&[(44, vec![0, 0, 8, 0, 0, 0, 1])]);
    let made = rebuilt(here, other, later.clone(), false).expect("it has bytes");
    assert_eq!(made[14 + 40..], later[40..]);
}

#[test]
fn a_later_fragment_keeps_its_payload_and_an_echo_gets_its_identifier() {
    let other = ["198.51.100.7:0", "10.0.0.21:0"];
    let mut later = frame([198, 51, 100, 7], [10, 0, 0, 21], 8080, 47620);
    later[14 + 7] = 8;
    let made = rebuilt(["198.51.100.7:0", "10.0.0.5:0"], other, later.clone(), true).expect("it has bytes");
    assert_eq!(made[34..], later[34..]);
    for (kind, identifier) in [(8, [0x12, 0x34]), (0, [0x12, 0x34]), (3, [7, 7])] {
        let mut icmp = frame([198, 51, 100, 7], [10, 0, 0, 21], 0, 0);
        icmp[14 + 9] = 1;
        icmp[34..42].copy_from_slice(&[kind, 0, 0xab, 0xcd, 7, 7, 0, 1]);
        let made = rebuilt(["198.51.100.7:4660", "10.0.0.5:4660"], other, icmp, true).expect("it has bytes");
        assert_eq!(made[38..40], identifier, "type {kind}");
    }
}

#[test]
fn tags_are_not_of_the_other_hop() {
    let tagged = frame([198, 51, 100, 7], [10, 0, 0, 21], 8080, 47620);
    let tagged = [&tagged[..12], &[0x81, 0, 0, 5], &tagged[12..]].concat();
    let made = rebuilt(OF_HOP, ["198.51.100.7:8080", "10.0.0.21:47620"], tagged, true).expect("it has bytes");
    assert_eq!(made[12..16], [8, 0, 0x45, 0]);
    assert_eq!(made.len(), 74);
}

/// A GRE device sends packets that begin with the outer header: that one must not get this packet's addresses.
#[test]
fn nothing_is_made_of_other_addresses() {
    let outer = packet([192, 0, 2, 1], [192, 0, 2, 2], 8080, 47620);
    assert_eq!(rebuilt(OF_HOP, ["198.51.100.7:8080", "10.0.0.21:47620"], outer, false), None);
    let v4 = packet([198, 51, 100, 7], [10, 0, 0, 21], 8080, 47620);
    let v6 = ["[fd00::1]:5353", "[fd00::2]:53"];
    assert_eq!(rebuilt(v6, ["198.51.100.7:8080", "10.0.0.21:47620"], v4, false), None);
}

#[test]
fn bytes_that_end_anywhere() {
    let whole = frame([198, 51, 100, 7], [10, 0, 0, 21], 8080, 47620);
    let ends = ["198.51.100.7:8080", "10.0.0.21:47620"];
    for len in 0..whole.len() {
        let made = rebuilt(OF_HOP, ends, whole[..len].to_vec(), true);
        assert_eq!(made.map(|made| made.len()), (len >= 14 + 20).then_some(len), "{len}");
    }
    let whole = udp_v6(&[(0, vec![0; 7]), (44, vec![0; 7])]);
    let ends = ["[fd00::1]:5353", "[fd00::2]:53"];
    for len in 0..whole.len() {
        let made = rebuilt(ends, ends, whole[..len].to_vec(), false);
        assert_eq!(made.map(|made| made.len()), (len >= 40).then_some(14 + len), "{len}");
    }
}

proptest! {
    #[test]
    fn any_bytes(headers in prop::collection::vec(any::<u8>(), 0..80), has_link: bool) {
        let v4 = ["198.51.100.7:8080", "10.0.0.21:47620"];
        let mut bytes = frame([198, 51, 100, 7], [10, 0, 0, 21], 8080, 47620);
        bytes.truncate(if has_link { 34 } else { 0 });
        bytes.extend(&headers);
        rebuilt(OF_HOP, v4, bytes, has_link);
        let v6 = ["[fd00::1]:5353", "[fd00::2]:53"];
        let mut bytes = udp_v6(&[]);
        bytes.truncate(40);
        bytes[6] = headers.first().copied().unwrap_or(44);
        bytes.extend(headers);
        rebuilt(v6, v6, bytes, false);
    }
}
