//! The parser's rules, one by one, on frames written by hand.
//!
//! In: frames as bytes. Out: test results. Each expectation is written out, none is computed by the parser.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use netpath_ebpf::{
    Direction, FragmentKey, FragmentValue, Hook, IcmpErrorKey, KeyV4, KeyV6, Ports, Reason, Tag,
    parse::{
        Fragment, Key, Network, Packet, Parsed, Part, PlainTag, Start, inner_len, ipv4, ipv6, is_udp_tunnel, network,
        quoted_v4, quoted_v6,
    },
};

const HOOK: Hook = Hook::new(3, Direction::Rx);
const ETHERNET: Start = Start::Ethernet { vlan_tci: None };
const UNPARSED: Reason = Reason::Unparsed;
const NON_IP: Reason = Reason::NonIp;
/// 1000 → 80.
const PORTS: Ports = Ports { src_be: 1000_u16.to_be(), dst_be: 80_u16.to_be() };
const NO_PORTS: Ports = Ports { src_be: 0, dst_be: 0 };
const PORT_BYTES: [u8; 4] = [0x03, 0xe8, 0, 80];
const ID: u16 = 0xabcd;

fn parse_v4<P: Packet + ?Sized>(packet: &P, start: Start) -> Result<Parsed<KeyV4>, Reason> {
    match network(packet, start)? {
        Network::V4(link) => ipv4(packet, link, HOOK),
        Network::V6(_) => panic!("IPv6"),
    }
}

fn parse_v6<P: Packet + ?Sized>(packet: &P, start: Start) -> Result<Parsed<KeyV6>, Reason> {
    match network(packet, start)? {
        Network::V6(link) => ipv6(packet, link, HOOK),
        Network::V4(_) => panic!("IPv4"),
    }
}

fn ethernet(ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ethertype.to_be_bytes()[..], rest].concat()
}

/// A tag as it follows the `EtherType` 0x8100 or 0x88a8.
fn tag(id: u16, ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&(0xe000 | id).to_be_bytes(), &ethertype.to_be_bytes()[..], rest].concat()
}

/// 10.0.0.1 → 10.0.0.2. `fragment`: flags and offset.
fn v4_fragment(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let [f0, f1] = fragment.to_be_bytes();
    let [l0, l1] = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    [&[0x45, 0, l0, l1, 0xab, 0xcd, f0, f1, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], payload].concat()
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    // Don't fragment.
    v4_fragment(protocol, 0x4000, payload)
}

/// `2001:db8::1` → `2001:db8::2`.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0], &length[..], &[next, 64], &address(1), &address(2), payload].concat()
}

/// TCP header with `words` 4-byte words.
fn tcp(words: u8) -> Vec<u8> {
    let mut bytes = PORT_BYTES.to_vec();
    bytes.resize(usize::from(words.max(5)) * 4, 0);
    bytes[12] = words << 4;
    bytes
}

fn udp() -> Vec<u8> {
    [&PORT_BYTES[..], &[0, 8, 0, 0]].concat()
}

fn key_v4(protocol: u8, ports: Ports) -> KeyV4 {
    let (src_be, dst_be) = (u32::from_ne_bytes([10, 0, 0, 1]), u32::from_ne_bytes([10, 0, 0, 2]));
    KeyV4 { hook: HOOK, tag: Tag::new(0, 0, protocol), src_be, dst_be, ports }
}

fn key_v6(protocol: u8, ports: Ports) -> KeyV6 {
    let address = |last: u32| [0x2001_0db8_u32.to_be(), 0, 0, last.to_be()];
    KeyV6 { hook: HOOK, tag: Tag::new(0, 0, protocol), src_be: address(1), dst_be: address(2), ports }
}

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is a `Result`")]
fn whole<K>(key: K, headers_len_bytes: u32) -> Result<Parsed<K>, Reason> {
    Ok(Parsed { key, fragment: Fragment::Whole, part: Part::NONE, is_icmp_error: false, headers_len_bytes })
}

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with is a `Result`")]
fn icmp_error<K>(key: K, headers_len_bytes: u32) -> Result<Parsed<K>, Reason> {
    Ok(Parsed { key, fragment: Fragment::Whole, part: Part::NONE, is_icmp_error: true, headers_len_bytes })
}

#[test]
fn ipv4_transports() {
    let cases: [(u8, Vec<u8>, Ports, u32); 15] = [
        (6, tcp(5), PORTS, 54),
        (6, tcp(15), PORTS, 94),
        (17, udp(), PORTS, 42),
        (132, [&PORT_BYTES[..], &[0; 8]].concat(), PORTS, 46),
        (136, udp(), PORTS, 34),
        (33, PORT_BYTES.to_vec(), PORTS, 34),
        // Echo request and reply, then timestamp.
        (1, vec![8, 0, 9, 9, 0x03, 0xe8, 0, 1], Ports { dst_be: PORTS.src_be, ..PORTS }, 34),
        (1, vec![0, 0, 9, 9, 0x03, 0xe8, 0, 1], Ports { dst_be: PORTS.src_be, ..PORTS }, 34),
        (1, vec![13, 0, 9, 9, 0x03, 0xe8, 0, 1], NO_PORTS, 34),
        // ICMPv6 in IPv4, IP in IP, GRE, ESP, AH, no payload at all.
        (58, vec![128, 0, 9, 9, 0x03, 0xe8, 0, 1], NO_PORTS, 34),
        (4, v4(6, &tcp(5)), NO_PORTS, 34),
        (47, PORT_BYTES.to_vec(), NO_PORTS, 34),
        (50, PORT_BYTES.to_vec(), NO_PORTS, 34),
        (51, [&[6, 4], &PORT_BYTES[..]].concat(), NO_PORTS, 34),
        (89, vec![], NO_PORTS, 34),
    ];
    for (protocol, payload, ports, headers_len_bytes) in cases {
        let frame = ethernet(0x0800, &v4(protocol, &payload));
        let expected = whole(key_v4(protocol, ports), headers_len_bytes);
        assert_eq!(parse_v4(&frame[..], ETHERNET), expected, "{protocol} {payload:?}");
    }
}

#[test]
fn ipv6_transports() {
    let cases: [(u8, Vec<u8>, Ports, u32); 9] = [
        (6, tcp(8), PORTS, 86),
        (17, udp(), PORTS, 62),
        (132, [&PORT_BYTES[..], &[0; 8]].concat(), PORTS, 66),
        (58, vec![128, 0, 9, 9, 0x03, 0xe8, 0, 1], Ports { dst_be: PORTS.src_be, ..PORTS }, 54),
        (58, vec![129, 0, 9, 9, 0x03, 0xe8, 0, 1], Ports { dst_be: PORTS.src_be, ..PORTS }, 54),
        // Neighbour solicitation, ICMP in IPv6, no next header, mobility.
        (58, vec![135, 0, 9, 9, 0x03, 0xe8, 0, 1], NO_PORTS, 54),
        (1, vec![8, 0, 9, 9, 0x03, 0xe8, 0, 1], NO_PORTS, 54),
        (59, PORT_BYTES.to_vec(), NO_PORTS, 54),
        (135, [&[6, 0], &PORT_BYTES[..]].concat(), NO_PORTS, 54),
    ];
    for (protocol, payload, ports, headers_len_bytes) in cases {
        let frame = ethernet(0x86dd, &v6(protocol, &payload));
        let expected = whole(key_v6(protocol, ports), headers_len_bytes);
        assert_eq!(parse_v6(&frame[..], ETHERNET), expected, "{protocol} {payload:?}");
    }
}

#[test]
fn vlan_tags() {
    let ip = v4(17, &udp());
    let single = ethernet(0x8100, &tag(100, 0x0800, &ip));
    let service = ethernet(0x88a8, &tag(4095, 0x0800, &ip));
    let double = ethernet(0x88a8, &tag(200, 0x8100, &tag(100, 0x0800, &ip)));
    let triple = ethernet(0x88a8, &tag(300, 0x8100, &tag(200, 0x8100, &tag(100, 0x0800, &ip))));
    let priority = ethernet(0x8100, &tag(0, 0x0800, &ip));
    let inner_priority = ethernet(0x8100, &tag(100, 0x8100, &tag(0, 0x0800, &ip)));
    let outer_priority = ethernet(0x8100, &tag(0, 0x8100, &tag(100, 0x0800, &ip)));
    let plain = ethernet(0x0800, &ip);
    // Frame, tag beside it, VLANs, headers.
    let cases = [
        (&plain, None, (0, 0), 42),
        (&single, None, (100, 0), 46),
        (&service, None, (4095, 0), 46),
        (&double, None, (200, 100), 50),
        (&priority, None, (0, 0), 46),
        (&inner_priority, None, (100, 0), 50),
        (&outer_priority, None, (100, 0), 50),
        (&plain, Some(0xe000 | 7), (7, 0), 42),
        (&plain, Some(0xe000), (0, 0), 42),
        (&single, Some(7), (7, 100), 46),
        (&single, Some(0), (100, 0), 46),
    ];
    for (frame, vlan_tci, (outer, inner), headers_len_bytes) in cases {
        let key = KeyV4 { tag: Tag::new(outer, inner, 17), ..key_v4(17, PORTS) };
        let parsed = parse_v4(&frame[..], Start::Ethernet { vlan_tci });
        assert_eq!(parsed, whole(key, headers_len_bytes), "{vlan_tci:?} {frame:?}");
    }
    assert_eq!(parse_v4(&triple[..], ETHERNET), Err(UNPARSED));
    assert_eq!(parse_v4(&double[..], Start::Ethernet { vlan_tci: Some(7) }), Err(UNPARSED));
    assert_eq!(parse_v4(&outer_priority[..], Start::Ethernet { vlan_tci: Some(7) }), Err(UNPARSED));
}

#[test]
fn neither_ipv4_nor_ipv6() {
    // A length, ARP, VLAN of old Cisco devices, MPLS, PPPoE, MACsec, LLDP.
    for ethertype in [0x0026, 0x05ff, 0x0806, 0x9100, 0x8847, 0x8864, 0x88e5, 0x88cc] {
        let frame = ethernet(ethertype, &v4(6, &tcp(5)));
        assert_eq!(parse_v4(&frame[..], ETHERNET), Err(NON_IP), "{ethertype:x}");
        let tagged = ethernet(0x8100, &tag(100, ethertype, &v4(6, &tcp(5))));
        assert_eq!(parse_v4(&tagged[..], ETHERNET), Err(NON_IP), "{ethertype:x}");
        let start = Start::Ip { offset: 0, ethertype_be: ethertype.to_be() };
        assert_eq!(parse_v4(&v4(6, &tcp(5))[..], start), Err(NON_IP), "{ethertype:x}");
    }
}

#[test]
fn without_link_layer() {
    let start = Start::Ip { offset: 0, ethertype_be: 0x0800_u16.to_be() };
    assert_eq!(parse_v4(&v4(6, &tcp(5))[..], start), whole(key_v4(6, PORTS), 40));
    let start = Start::Ip { offset: 0, ethertype_be: 0x86dd_u16.to_be() };
    assert_eq!(parse_v6(&v6(6, &tcp(5))[..], start), whole(key_v6(6, PORTS), 60));
    // Ethernet's VLAN tags have no meaning there.
    let start = Start::Ip { offset: 0, ethertype_be: 0x8100_u16.to_be() };
    assert_eq!(parse_v4(&tag(100, 0x0800, &v4(6, &tcp(5)))[..], start), Err(NON_IP));
}

#[test]
fn ipv4_options() {
    let mut ip = v4(6, &[&[1; 40][..], &tcp(5)].concat());
    ip[0] = 0x4f;
    assert_eq!(parse_v4(&ethernet(0x0800, &ip)[..], ETHERNET), whole(key_v4(6, PORTS), 94));
    for version_ihl in [0x44, 0x40, 0x55, 0x65, 0x05] {
        ip[0] = version_ihl;
        assert_eq!(parse_v4(&ethernet(0x0800, &ip)[..], ETHERNET), Err(UNPARSED), "{version_ihl:x}");
    }
    let mut ip = v6(6, &tcp(5));
    ip[0] = 0x45;
    assert_eq!(parse_v6(&ethernet(0x86dd, &ip)[..], ETHERNET), Err(UNPARSED));
}

#[test]
fn lengths_are_not_consulted() {
    // Super-packets (BIG TCP) have zeros there.
    let mut ip = v4(6, &tcp(5));
    ip[2..4].fill(0);
    assert_eq!(parse_v4(&ethernet(0x0800, &ip)[..], ETHERNET), whole(key_v4(6, PORTS), 54));
    let mut ip = v6(6, &tcp(5));
    ip[4..6].fill(0);
    assert_eq!(parse_v6(&ethernet(0x86dd, &ip)[..], ETHERNET), whole(key_v6(6, PORTS), 74));
}

#[test]
fn ipv6_extension_headers() {
    let (hop, routing, auth, destination) = (0, 43, 51, 60);
    // Lengths of 8, 24, 16 (AH counts in 4 bytes, less 2) and 8 bytes.
    let chain = [
        &[routing, 0, 1, 4, 0, 0, 0, 0][..],
        &[&[auth, 2], &[0; 22][..]].concat(),
        &[&[destination, 2], &[0; 14][..]].concat(),
        &[6, 0, 1, 4, 0, 0, 0, 0],
        &tcp(5),
    ]
    .concat();
    let frame = ethernet(0x86dd, &v6(hop, &chain));
    assert_eq!(parse_v6(&frame[..], ETHERNET), whole(key_v6(6, PORTS), 54 + 56 + 20));

    // Hop-by-hop options behind another header: Linux follows them.
    let chain = [&[hop, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 1, 4, 0, 0, 0, 0], &udp()].concat();
    let frame = ethernet(0x86dd, &v6(destination, &chain));
    assert_eq!(parse_v6(&frame[..], ETHERNET), whole(key_v6(17, PORTS), 54 + 16 + 8));

    // The longest header that there is.
    let chain = [&[17, 255][..], &[0; 2046], &udp()].concat();
    let frame = ethernet(0x86dd, &v6(destination, &chain));
    assert_eq!(parse_v6(&frame[..], ETHERNET), whole(key_v6(17, PORTS), 54 + 2048 + 8));
}

#[test]
fn at_most_eight_extension_headers() {
    let options = [60, 0, 1, 4, 0, 0, 0, 0];
    let udp_follows = [17, 0, 1, 4, 0, 0, 0, 0];
    let eight = [&options.repeat(7)[..], &udp_follows, &udp()].concat();
    assert_eq!(parse_v6(&ethernet(0x86dd, &v6(60, &eight))[..], ETHERNET), whole(key_v6(17, PORTS), 54 + 64 + 8));
    let nine = [&options.repeat(8)[..], &udp_follows, &udp()].concat();
    assert_eq!(parse_v6(&ethernet(0x86dd, &v6(60, &nine))[..], ETHERNET), Err(UNPARSED));
    // The ninth is the fragment header of a later fragment.
    let fragment_follows = [44, 0, 1, 4, 0, 0, 0, 0];
    let later = [&options.repeat(7)[..], &fragment_follows, &v6_fragment(17, 8, &udp())].concat();
    assert_eq!(parse_v6(&ethernet(0x86dd, &v6(60, &later))[..], ETHERNET), Err(UNPARSED));
}

#[test]
fn ipv4_fragments() {
    let more = 0x2000;
    let parse = |protocol, fragment, payload: &[u8]| {
        parse_v4(&ethernet(0x0800, &v4_fragment(protocol, fragment, payload))[..], ETHERNET)
    };
    let id_be = u32::from(ID.to_be());
    let parsed = |fragment, protocol, ports, (len_bytes, total_bytes), headers_len_bytes| {
        let part = Part { id_be, len_bytes, total_bytes };
        Ok(Parsed { key: key_v4(protocol, ports), fragment, part, is_icmp_error: false, headers_len_bytes })
    };
    assert_eq!(parse(17, more, &udp()), parsed(Fragment::First, 17, PORTS, (8, 0), 42));
    assert_eq!(parse(17, more | 1, &udp()), parsed(Fragment::Later, 17, NO_PORTS, (8, 0), 34));
    assert_eq!(parse(17, 1, &udp()), parsed(Fragment::Later, 17, NO_PORTS, (8, 16), 34));
    assert_eq!(parse(17, 0x1000, &[]), parsed(Fragment::Later, 17, NO_PORTS, (0, 32_768), 34));
    assert_eq!(parse(17, 0x1fff, &[]), parsed(Fragment::Later, 17, NO_PORTS, (0, 65_528), 34));
    // The reserved bit is no fragment.
    assert_eq!(parse(17, 0x8000, &udp()), whole(key_v4(17, PORTS), 42));
    // ICMP has an identifier to remember, ESP has nothing.
    let id = Ports { dst_be: PORTS.src_be, ..PORTS };
    assert_eq!(parse(1, more, &[8, 0, 9, 9, 0x03, 0xe8, 0, 1]), parsed(Fragment::First, 1, id, (8, 0), 34));
    assert_eq!(parse(50, more, &udp()), whole(key_v4(50, NO_PORTS), 34));
    assert_eq!(parse(50, 1, &udp()), whole(key_v4(50, NO_PORTS), 34));
    // A tiny fragment (RFC 1858).
    assert_eq!(parse(17, more, &udp()[..3]), Err(UNPARSED));
    // A first fragment may end within the TCP header (RFC 3128): the ports are there.
    assert_eq!(parse(6, more, &tcp(5)[..8]), parsed(Fragment::First, 6, PORTS, (8, 0), 54));
    // Padding, options, and a length that is too short for the header.
    let mut ip = v4_fragment(17, 1, &[&[1; 4], &udp()[..], &[0; 9]].concat());
    (ip[0], ip[3]) = (0x46, 20 + 4 + 8);
    assert_eq!(parse_v4(&ethernet(0x0800, &ip)[..], ETHERNET), parsed(Fragment::Later, 17, NO_PORTS, (8, 16), 38));
    ip[3] = 23;
    assert_eq!(parse_v4(&ethernet(0x0800, &ip)[..], ETHERNET), parsed(Fragment::Later, 17, NO_PORTS, (0, 8), 38));
}

/// A fragment header of identification 0x01020304. `fragment`: offset and flags.
fn v6_fragment(next: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    [&[next, 0], &fragment.to_be_bytes()[..], &[1, 2, 3, 4], payload].concat()
}

#[test]
fn ipv6_fragments() {
    let parse = |next, payload: &[u8]| parse_v6(&ethernet(0x86dd, &v6(next, payload))[..], ETHERNET);
    let id_be = 0x0102_0304_u32.to_be();
    let parsed = |fragment, protocol, ports, (len_bytes, total_bytes), headers_len_bytes| {
        let part = Part { id_be, len_bytes, total_bytes };
        Ok(Parsed { key: key_v6(protocol, ports), fragment, part, is_icmp_error: false, headers_len_bytes })
    };
    assert_eq!(parse(44, &v6_fragment(17, 1, &udp())), parsed(Fragment::First, 17, PORTS, (8, 0), 70));
    assert_eq!(parse(44, &v6_fragment(17, 8, &udp())), parsed(Fragment::Later, 0, NO_PORTS, (8, 16), 62));
    assert_eq!(parse(44, &v6_fragment(17, 0xfff9, &[])), parsed(Fragment::Later, 0, NO_PORTS, (0, 0), 62));
    // An atomic fragment (RFC 6946), with reserved bits.
    assert_eq!(parse(44, &v6_fragment(17, 6, &udp())), whole(key_v6(17, PORTS), 70));
    // Extension headers on both sides; in a later fragment what follows is payload.
    let options = |next, rest: &[u8]| [&[next, 0, 1, 4, 0, 0, 0, 0], rest].concat();
    let first = options(44, &v6_fragment(60, 1, &options(17, &udp())));
    assert_eq!(parse(60, &first), parsed(Fragment::First, 17, PORTS, (16, 0), 86));
    let later = options(44, &v6_fragment(60, 9, &options(17, &udp())));
    assert_eq!(parse(60, &later), parsed(Fragment::Later, 0, NO_PORTS, (16, 0), 70));
    // A first fragment without the whole header chain (RFC 7112).
    assert_eq!(parse(44, &v6_fragment(17, 1, &udp()[..3])), Err(UNPARSED));
    assert_eq!(parse(44, &v6_fragment(60, 1, &[])), Err(UNPARSED));
    // Two fragment headers.
    assert_eq!(parse(44, &v6_fragment(44, 1, &v6_fragment(17, 0, &udp()))), Err(UNPARSED));
}

/// Of a datagram with [`PORTS`].
fn remembered(seen_bytes: u32, total_bytes: u32, has_first: u8, since_ns: u64) -> FragmentValue {
    let (protocol, ports) = if has_first == 0 { (0, NO_PORTS) } else { (17, PORTS) };
    FragmentValue { since_ns, seen_bytes, total_bytes, ports, protocol, has_first, padding: [0; 2] }
}

#[test]
fn a_datagram_is_remembered_until_all_of_it_passed() {
    const SECOND: u64 = 1_000_000_000;
    const THIRTY: u64 = 30 * SECOND;
    let part = |len_bytes, total_bytes| Part { id_be: 7, len_bytes, total_bytes };
    let first = |before, now| FragmentValue::first(part(8, 0), (17, PORTS), before, now);
    let later = FragmentValue::later;

    // In order; the last but one takes it to its end.
    let value = first(None, SECOND);
    assert_eq!(value, remembered(8, 0, 1, SECOND));
    let value = later(part(16, 0), Some(value), 2 * SECOND);
    assert_eq!(value, remembered(24, 0, 1, SECOND));
    assert!(!value.is_complete());
    let last_but_one_lacks = later(part(8, 40), Some(value), 3 * SECOND);
    assert_eq!(last_but_one_lacks, remembered(32, 40, 1, SECOND));
    assert!(!last_but_one_lacks.is_complete());
    assert!(later(part(8, 0), Some(last_but_one_lacks), 4 * SECOND).is_complete());
    assert!(later(part(8, 32), Some(value), 3 * SECOND).is_complete());
    assert!(later(part(9, 32), Some(value), 3 * SECOND).is_complete(), "more than all of it");

    // The last one first: without ports, until the first comes.
    let value = later(part(8, 16), None, SECOND);
    assert_eq!(value, remembered(8, 16, 0, SECOND));
    assert!(!value.is_complete());
    let complete = first(Some(value), 2 * SECOND);
    assert_eq!(complete, remembered(16, 16, 1, SECOND));
    assert!(complete.is_complete());

    // Thirty seconds after the first of them to arrive it is forgotten.
    let old = first(None, SECOND);
    assert_eq!(later(part(8, 0), Some(old), THIRTY + SECOND - 1), remembered(16, 0, 1, SECOND));
    assert_eq!(later(part(8, 0), Some(old), THIRTY + SECOND), remembered(8, 0, 0, THIRTY + SECOND));
    let old = later(part(8, 0), None, SECOND);
    assert_eq!(first(Some(old), THIRTY + SECOND - 1), remembered(16, 0, 1, SECOND));
    assert_eq!(first(Some(old), THIRTY + SECOND), remembered(8, 0, 1, THIRTY + SECOND));

    // A second first one, or a second last one, is another datagram's.
    let value = later(part(8, 0), Some(first(None, 1)), 2);
    assert_eq!(first(Some(value), 3), remembered(8, 0, 1, 3));
    let value = later(part(8, 40), Some(first(None, 1)), 2);
    assert_eq!(value, remembered(16, 40, 1, 1));
    assert_eq!(later(part(8, 40), Some(value), 3), remembered(8, 40, 0, 3));
    assert_eq!(later(part(u32::MAX, 0), Some(value), 3).seen_bytes, u32::MAX);
}

/// An ICMP header of a type, and what it quotes.
fn icmp(kind: u8, quote: &[u8]) -> Vec<u8> {
    [&[kind, 1, 9, 9, 0xaa, 0xbb, 0xcc, 0xdd], quote].concat()
}

#[test]
fn icmp_errors() {
    // As it was sent, and cut behind eight bytes.
    let quote = v4(17, &[&udp()[..], &[7; 40]].concat());
    for kind in 0..=255 {
        let is_error = [3, 4, 5, 11, 12].contains(&kind);
        for len in [28, quote.len()] {
            let frame = ethernet(0x0800, &v4(1, &icmp(kind, &quote[..len])));
            let parsed = parse_v4(&frame[..], ETHERNET);
            assert_eq!(parsed.unwrap().is_icmp_error, is_error, "{kind}");
            if is_error {
                assert_eq!(parsed, icmp_error(key_v4(1, NO_PORTS), 34));
                let quoted = quoted_v4(&frame[..], 34).unwrap();
                assert_eq!(quoted, KeyV4 { hook: Hook::new(0, Direction::Rx), ..key_v4(17, PORTS) });
                let key = IcmpErrorKey::v4(&parsed.unwrap().key, &quoted);
                let (one, two) = (key_v4(1, NO_PORTS).src_be, key_v4(1, NO_PORTS).dst_be);
                assert_eq!((key.hook, key.tag, key.quoted_tag), (HOOK, Tag::new(0, 0, 1), Tag::new(0, 0, 17)));
                assert_eq!((key.src_be, key.dst_be, key.quoted_ports), ([one, 0, 0, 0], [two, 0, 0, 0], PORTS));
                assert_eq!((key.quoted_src_be, key.quoted_dst_be), ([one, 0, 0, 0], [two, 0, 0, 0]));
            }
        }
    }
    let quote = v6(6, &tcp(5));
    for kind in 0..=255 {
        let frame = ethernet(0x86dd, &v6(58, &icmp(kind, &quote[..48])));
        let parsed = parse_v6(&frame[..], ETHERNET);
        assert_eq!(parsed.unwrap().is_icmp_error, kind < 128, "{kind}");
        if kind < 128 {
            assert_eq!(parsed, icmp_error(key_v6(58, NO_PORTS), 54));
            let quoted = quoted_v6(&frame[..], 54).unwrap();
            assert_eq!(quoted, KeyV6 { hook: Hook::new(0, Direction::Rx), ..key_v6(6, PORTS) });
            let key = IcmpErrorKey::v6(&parsed.unwrap().key, &quoted);
            let KeyV6 { src_be, dst_be, .. } = quoted;
            assert_eq!((key.hook, key.tag, key.quoted_tag), (HOOK, Tag::new(0, 0, 58), Tag::new(0, 0, 6)));
            assert_eq!((key.src_be, key.dst_be, key.quoted_ports), (src_be, dst_be, PORTS));
            assert_eq!((key.quoted_src_be, key.quoted_dst_be), (src_be, dst_be));
        }
    }
}

#[test]
fn what_icmp_errors_quote() {
    let no_hook = Hook::new(0, Direction::Rx);
    let v4_quote = |quote: &[u8]| quoted_v4(&ethernet(0x0800, &v4(1, &icmp(3, quote)))[..], 34);
    let v6_quote = |quote: &[u8]| quoted_v6(&ethernet(0x86dd, &v6(58, &icmp(1, quote)))[..], 54);
    let found_v4 = |protocol, ports| Some(KeyV4 { hook: no_hook, ..key_v4(protocol, ports) });
    let found_v6 = |protocol, ports| Some(KeyV6 { hook: no_hook, ..key_v6(protocol, ports) });
    let id = Ports { dst_be: PORTS.src_be, ..PORTS };
    // IPv4 options; echo; an error about an error; GRE; a first and a later fragment.
    let mut options = v4(17, &[&[1; 8][..], &udp()].concat());
    options[0] = 0x47;
    assert_eq!(v4_quote(&options), found_v4(17, PORTS));
    assert_eq!(v4_quote(&v4(1, &[8, 0, 9, 9, 0x03, 0xe8, 0, 1])), found_v4(1, id));
    assert_eq!(v4_quote(&v4(1, &icmp(3, &[]))), found_v4(1, NO_PORTS));
    assert_eq!(v4_quote(&v4(47, &[0; 8])), found_v4(47, NO_PORTS));
    assert_eq!(v4_quote(&v4_fragment(17, 0x2000, &udp())), found_v4(17, PORTS));
    assert_eq!(v4_quote(&v4_fragment(17, 1, &udp())), found_v4(17, NO_PORTS));
    // Extension headers; echo; a first and a later fragment, whose protocol its header has.
    assert_eq!(v6_quote(&v6(60, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp()].concat())), found_v6(17, PORTS));
    assert_eq!(v6_quote(&v6(58, &[128, 0, 9, 9, 0x03, 0xe8, 0, 1])), found_v6(58, id));
    assert_eq!(v6_quote(&v6(44, &v6_fragment(17, 1, &udp()))), found_v6(17, PORTS));
    assert_eq!(v6_quote(&v6(44, &v6_fragment(17, 8, &udp()))), found_v6(17, NO_PORTS));
    // Nothing, half a header, no ports, the other family, no IP.
    for quote in [&[][..], &v4(17, &udp())[..10], &v4(17, &udp())[..22], &v6(17, &udp()), &[0; 28]] {
        assert_eq!(v4_quote(quote), None, "{quote:?}");
    }
    for quote in [&[][..], &v6(17, &udp())[..20], &v6(17, &udp())[..42], &v4(17, &udp()), &[0; 48]] {
        assert_eq!(v6_quote(quote), None, "{quote:?}");
    }
}

#[test]
fn later_fragments_take_what_the_first_tells() {
    let vlan = Start::Ethernet { vlan_tci: Some(5) };
    let v4 = |fragment| parse_v4(&ethernet(0x0800, &v4_fragment(17, fragment, &udp()))[..], vlan).unwrap();
    let (first, mut later) = (v4(0x2000), v4(1));
    let expected = FragmentKey {
        hook: HOOK,
        tag: Tag::new(5, 0, 17),
        src_be: [u32::from_ne_bytes([10, 0, 0, 1]), 0, 0, 0],
        dst_be: [u32::from_ne_bytes([10, 0, 0, 2]), 0, 0, 0],
        id_be: u32::from(ID.to_be()),
    };
    assert_eq!(first.key.fragment_key(first.part.id_be), expected);
    assert_eq!(later.key.fragment_key(later.part.id_be), expected);
    let value = FragmentValue::first(first.part, first.key.transport(), None, 5);
    assert_eq!(value, remembered(8, 0, 1, 5));
    later.key.complete(&value);
    assert_eq!(later.key, first.key);

    let v6 = |fragment| parse_v6(&ethernet(0x86dd, &v6(44, &v6_fragment(17, fragment, &udp())))[..], vlan).unwrap();
    let (first, mut later) = (v6(1), v6(8));
    let key = key_v6(0, NO_PORTS);
    let (src_be, dst_be) = (key.src_be, key.dst_be);
    let expected = FragmentKey { hook: HOOK, tag: Tag::new(5, 0, 0), src_be, dst_be, id_be: 0x0102_0304_u32.to_be() };
    assert_eq!(first.key.fragment_key(first.part.id_be), expected);
    assert_eq!(later.key.fragment_key(later.part.id_be), expected);
    let value = FragmentValue::first(first.part, first.key.transport(), None, 5);
    assert_eq!(value, remembered(8, 0, 1, 5));
    later.key.complete(&value);
    assert_eq!(later.key, first.key);
}

#[test]
fn cut_headers() {
    let frame = ethernet(0x8100, &tag(100, 0x0800, &v4(6, &tcp(8))));
    let key = KeyV4 { tag: Tag::new(100, 0, 6), ..key_v4(6, PORTS) };
    let ports_end = 18 + 20 + 4;
    for len in 0..frame.len() {
        // Up to the ports; up to the data offset and the flags beside it; all that is needed.
        let expected = match len {
            _ if len < ports_end => Err(UNPARSED),
            _ if len < ports_end + 10 => whole(key, 18 + 20 + 20),
            _ => whole(key, 18 + 20 + 32),
        };
        assert_eq!(parse_v4(&frame[..len], ETHERNET), expected, "{len}");
    }
    // A data offset below the minimum.
    for words in 0..5 {
        let frame = ethernet(0x0800, &v4(6, &tcp(words)));
        assert_eq!(parse_v4(&frame[..], ETHERNET), whole(key_v4(6, PORTS), 54), "{words}");
    }
    let frame = ethernet(0x0800, &v4(1, &[8, 0, 9, 9, 0x03, 0xe8, 0, 1]));
    assert_eq!(parse_v4(&frame[..frame.len() - 1], ETHERNET), Err(UNPARSED));
}

/// VXLAN flags and VNI 7, then an Ethernet frame.
fn vxlan(flags: u8, frame: &[u8]) -> Vec<u8> {
    [&[flags, 0, 0, 0, 0, 0, 7, 0], frame].concat()
}

/// Geneve with so many words of options, then what the `EtherType` says.
fn geneve(version: u8, words: u8, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    let [e0, e1] = ethertype.to_be_bytes();
    let options = vec![0xaa; usize::from(words) * 4];
    [&[version << 6 | words, 0, e0, e1, 0, 0, 7, 0], &options[..], inner].concat()
}

/// GRE with so many words behind its header, then what the `EtherType` says.
fn gre(flags: u16, words: usize, ethertype: u16, inner: &[u8]) -> Vec<u8> {
    [&flags.to_be_bytes()[..], &ethertype.to_be_bytes(), &vec![0xaa; words * 4], inner].concat()
}

/// UDP from port 1000 to `port`.
fn udp_to(port: u16, payload: &[u8]) -> Vec<u8> {
    [&[0x03, 0xe8], &port.to_be_bytes()[..], &[0, 0, 0, 0], payload].concat()
}

/// TCP header with 12 bytes of options.
const TCP_32: [u8; 32] = {
    let mut header = [0; 32];
    header[12] = 0x80;
    header
};

/// `EtherType` of an Ethernet frame in a tunnel.
const FRAME: u16 = 0x6558;

#[test]
fn headers_of_a_tunnel_are_the_outer_and_the_inner_ones() {
    let (packet_v4, packet_v6) = (v4(6, &TCP_32), v6(6, &TCP_32));
    let (frame_v4, frame_v6) = (ethernet(0x0800, &packet_v4), ethernet(0x86dd, &packet_v6));
    let tagged = ethernet(0x8100, &tag(42, 0x0800, &v4(17, &udp_to(53, &[]))));
    // Lengths of the inner headers.
    let (in_v4, in_v6, in_frame_v4, in_frame_v6, in_tagged) =
        (20 + 32, 40 + 32, 14 + 20 + 32, 14 + 40 + 32, 14 + 4 + 20 + 8);
    // Protocol, payload, length of the tunnel's header, of the inner ones.
    let cases = [
        (17, udp_to(4789, &vxlan(0x08, &frame_v4)), 8, in_frame_v4),
        (17, udp_to(8472, &vxlan(0x08, &frame_v6)), 8, in_frame_v6),
        (17, udp_to(4789, &vxlan(0x08, &tagged)), 8, in_tagged),
        (17, udp_to(6081, &geneve(0, 0, FRAME, &frame_v4)), 8, in_frame_v4),
        (17, udp_to(6081, &geneve(0, 3, FRAME, &frame_v6)), 8 + 12, in_frame_v6),
        (17, udp_to(6081, &geneve(0, 63, FRAME, &tagged)), 8 + 252, in_tagged),
        (17, udp_to(6081, &geneve(0, 1, 0x0800, &packet_v4)), 8 + 4, in_v4),
        (17, udp_to(6081, &geneve(0, 0, 0x86dd, &packet_v6)), 8, in_v6),
        (47, gre(0, 0, 0x0800, &packet_v4), 4, in_v4),
        (47, gre(0, 0, 0x86dd, &packet_v6), 4, in_v6),
        (47, gre(0, 0, FRAME, &frame_v4), 4, in_frame_v4),
        // Checksum, key, sequence number, all of them.
        (47, gre(0x8000, 1, FRAME, &frame_v6), 8, in_frame_v6),
        (47, gre(0x2000, 1, FRAME, &tagged), 8, in_tagged),
        (47, gre(0x1000, 1, 0x0800, &packet_v4), 8, in_v4),
        (47, gre(0xb000, 3, 0x86dd, &packet_v6), 16, in_v6),
        (4, packet_v4.clone(), 0, in_v4),
        (41, packet_v6.clone(), 0, in_v6),
    ];
    for (protocol, payload, tunnel, inner) in cases {
        for outer in [ethernet(0x0800, &v4(protocol, &payload)), ethernet(0x86dd, &v6(protocol, &payload))] {
            assert_eq!(inner_len(&outer[..], ETHERNET), Some(tunnel + inner), "{protocol} {payload:x?}");
        }
        // On a device without link layer; and behind the option that Linux's IPv6 tunnels put in front (RFC 2473).
        let start = Start::Ip { offset: 0, ethertype_be: 0x0800_u16.to_be() };
        assert_eq!(inner_len(&v4(protocol, &payload)[..], start), Some(tunnel + inner));
        let limited = ethernet(0x86dd, &v6(60, &[&[protocol, 0, 4, 1, 4, 1, 1, 0], &payload[..]].concat()));
        assert_eq!(inner_len(&limited[..], ETHERNET), Some(tunnel + inner));
    }
}

#[test]
fn what_is_no_tunnel_has_no_inner_headers() {
    let (packet, arp) = (v4(6, &TCP_32), ethernet(0x0806, &[0; 28]));
    let frame = ethernet(0x0800, &packet);
    let cases = [
        (6, TCP_32.to_vec()),
        (17, udp_to(53, &vxlan(0x08, &frame))),
        (17, udp_to(53, &geneve(0, 0, FRAME, &frame))),
        (17, udp_to(4789, &[])),
        (17, udp_to(4789, &vxlan(0, &frame))),
        (17, udp_to(4789, &vxlan(0x08, &frame[..36]))),
        (17, udp_to(4789, &vxlan(0x08, &arp))),
        (17, udp_to(4789, &vxlan(0x08, &ethernet(0x0800, &[0; 40])))),
        // Of another version; with more options than it has bytes; with something else in it.
        (17, udp_to(6081, &geneve(1, 0, FRAME, &frame))),
        (17, udp_to(6081, &geneve(0, 3, FRAME, &frame)[..16])),
        (17, udp_to(6081, &geneve(0, 0, 0x8847, &packet))),
        (17, udp_to(6081, &geneve(0, 0, FRAME, &arp))),
        // PPTP, source routing, cut off, MPLS, one family in the other's place.
        (47, gre(0x3001, 2, 0x880b, &packet)),
        (47, gre(0x4000, 0, 0x0800, &packet)),
        (47, gre(0x2000, 1, 0x0800, &packet)[..6].to_vec()),
        (47, gre(0, 0, 0x8847, &packet)),
        (47, gre(0, 0, 0x86dd, &packet)),
        (4, v6(6, &TCP_32)),
        (41, packet.clone()),
        (50, packet.clone()),
    ];
    for (protocol, payload) in cases {
        for outer in [ethernet(0x0800, &v4(protocol, &payload)), ethernet(0x86dd, &v6(protocol, &payload))] {
            assert_eq!(inner_len(&outer[..], ETHERNET), None, "{protocol} {payload:x?}");
        }
    }
}

#[test]
fn a_udp_tunnel_is_told_by_its_port() {
    let ports = |src: u16, dst: u16| Ports { src_be: src.to_be(), dst_be: dst.to_be() };
    for port in [4789, 8472, 6081] {
        assert!(is_udp_tunnel(17, ports(50_000, port)));
        assert!(!is_udp_tunnel(6, ports(50_000, port)));
        assert!(!is_udp_tunnel(17, ports(port, 53)));
    }
}

/// The kernel's `skb->len` has a tag that is in the frame, and not one that the network card took off.
#[test]
fn what_a_tag_adds_to_a_frame_on_the_wire() {
    let tagged = [&[0; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat();
    let in_frame = PlainTag::in_frame(&tagged[..]).unwrap();
    let bytes = [PlainTag::NONE, in_frame, PlainTag::beside(7)].map(PlainTag::offloaded_tag_bytes);
    assert_eq!(bytes, [0, 0, 4]);
}
