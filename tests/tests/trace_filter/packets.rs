//! Frames of many kinds: IPv4 with options and in fragments, IPv6, TCP, UDP, SCTP, ICMP and others, of several lengths.
//!
//! All are whole, since tcpdump and netpath agree on no more than that.

use std::fmt;

use crate::random::Random;

/// A frame, from its Ethernet header on.
pub struct Frame(pub Vec<u8>);

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// IGMP, IP in IP, GRE, ESP, OSPF, UDP-Lite: no ports for either of both.
const OTHERS: [u8; 6] = [2, 4, 47, 50, 89, 136];

pub const ADDRESSES_V4: [&str; 8] =
    ["10.0.0.21", "10.0.0.22", "10.0.1.1", "10.1.2.3", "192.0.2.1", "198.51.100.7", "32.1.13.184", "172.20.0.10"];
/// The last but one looks like 10.0.0.21 but for its family.
pub const ADDRESSES_V6: [&str; 6] =
    ["2001:db8::21", "2001:db8::22", "2001:db8:1::1", "fd00::10", "a00:15::", "fe80::1"];
pub const PORTS: [u16; 8] = [22, 53, 80, 443, 8080, 40_000, 47_620, 0];
pub const SEQUENCES: [u32; 4] = [75_297, 0, 1, u32::MAX];
pub const FLAGS: [u8; 9] = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14, 0xc2, 0x00];
const ICMP_TYPES: [u8; 5] = [0, 8, 3, 11, 13];
const ICMPV6_TYPES: [u8; 6] = [128, 129, 1, 2, 135, 136];

fn address_v4(random: &mut Random) -> [u8; 4] {
    random.of(&ADDRESSES_V4).parse::<std::net::Ipv4Addr>().unwrap().octets()
}

fn address_v6(random: &mut Random) -> [u8; 16] {
    random.of(&ADDRESSES_V6).parse::<std::net::Ipv6Addr>().unwrap().octets()
}

pub fn frame(random: &mut Random) -> Frame {
    let is_v4 = !random.once_in(3);
    let protocol = match random.below(10) {
        0..4 => TCP,
        4..6 => UDP,
        6 => SCTP,
        7..9 if is_v4 => ICMP,
        7..9 => ICMPV6,
        // Also each ICMP in the other's packets.
        _ if random.once_in(4) => {
            if is_v4 {
                ICMPV6
            } else {
                ICMP
            }
        }
        _ => random.of(&OTHERS),
    };
    let payload = transport(random, protocol);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if is_v4 {
        ipv4(random, &mut frame, protocol, &payload);
    } else {
        ipv6(random, &mut frame, protocol, &payload);
    }
    Frame(frame)
}

fn ipv4(random: &mut Random, frame: &mut Vec<u8>, protocol: u8, payload: &[u8]) {
    frame.extend([0x08, 0x00]);
    let options = if random.once_in(4) { 4 * (1 + random.below(10)) } else { 0 };
    // Don't fragment; the first of several; a later one; the last one.
    let fragment =
        if random.once_in(4) { random.of(&[0x2000_u16, 0x2001, 0x00b9, 0x1fff]) } else { random.of(&[0x4000, 0]) };
    let total = u16::try_from(20 + options + payload.len()).unwrap();
    frame.extend([0x40 | u8::try_from(5 + options / 4).unwrap(), 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0x12, 0x34]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0]);
    frame.extend(address_v4(random));
    frame.extend(address_v4(random));
    // No operation.
    frame.extend(vec![1; options]);
    frame.extend(payload);
}

fn ipv6(random: &mut Random, frame: &mut Vec<u8>, protocol: u8, payload: &[u8]) {
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([protocol, 64]);
    frame.extend(address_v6(random));
    frame.extend(address_v6(random));
    frame.extend(payload);
}

/// A transport header and some payload.
fn transport(random: &mut Random, protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !matches!(protocol, ICMP | ICMPV6) {
        for _ in 0..2 {
            bytes.extend(random.of(&PORTS).to_be_bytes());
        }
    }
    match protocol {
        TCP => {
            let options = 4 * random.below(4);
            bytes.extend(random.of(&SEQUENCES).to_be_bytes());
            bytes.extend([0, 0, 0, 9]);
            bytes.extend([u8::try_from(5 + options / 4).unwrap() << 4, random.of(&FLAGS), 0xff, 0xff, 0, 0, 0, 0]);
            bytes.extend(vec![1; options]);
        }
        ICMP => bytes.extend([random.of(&ICMP_TYPES), 0, 0, 0, 0, 7, 0, 1]),
        ICMPV6 => bytes.extend([random.of(&ICMPV6_TYPES), 0, 0, 0, 0, 7, 0, 1]),
        _ => bytes.extend([0, 8, 0, 0, 0, 0, 0, 0]),
    }
    let len = random.of(&[0, 1, 30, 46, 100, 1_000, 1_400]);
    bytes.extend(vec![0x45; len]);
    bytes
}
