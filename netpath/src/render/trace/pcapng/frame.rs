//! A hop's packet as the file has it: with an Ethernet header, and rebuilt if its bytes were not kept.

use std::borrow::Cow;
use std::net::IpAddr;

use netpath_ebpf::parse::{EtherType, Network, Start, network};

use crate::model::DeviceClass;
use crate::trace::Hop;

/// Two hardware addresses and an `EtherType`.
pub const ETHERNET_LEN: u32 = 14;
const ADDRESSES_LEN: usize = 12;
/// IPv6 extension headers that are looked behind, as many as the parser does.
const MAX_EXTENSIONS: usize = 8;
/// Of the offset of a fragment, in IPv4 and in IPv6.
const OFFSET_V4: u16 = 0x1fff;
const OFFSET_V6: u16 = 0xfff8;

/// A packet of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its first bytes, from the Ethernet header on.
    pub data: Cow<'a, [u8]>,
    /// Its whole length, at least that of `data`.
    pub len_bytes: u32,
    /// It has the bytes of another hop, and of this one the addresses, ports and time to live.
    pub is_rebuilt: bool,
}

/// The packet at one of its hops. `has_link`: whether the bytes of each begin with an Ethernet header. `None` if no hop has bytes that it
/// can be made of.
pub fn of<'a>(hops: &'a [Hop], has_link: &[bool], index: usize) -> Option<Frame<'a>> {
    let hop = &hops[index];
    let is_rebuilt = hop.bytes.is_empty();
    let data = if is_rebuilt {
        let mut others = (index + 1..hops.len()).chain((0..index).rev());
        let other = others.find(|other| !hops[*other].bytes.is_empty())?;
        Cow::Owned(rebuilt(hop, &hops[other], has_link[other])?)
    } else if has_link[index] {
        Cow::Borrowed(&hop.bytes[..])
    } else {
        Cow::Owned(with_header(&hop.bytes, hop.src))
    };
    let added = if has_link[index] { 0 } else { ETHERNET_LEN };
    let len_bytes = hop.len_bytes.saturating_add(added).max(u32::try_from(data.len()).ok()?);
    Some(Frame { data, len_bytes, is_rebuilt })
}

/// Whether a hop's bytes begin with a link header: they do not begin with its addresses' IP header.
pub fn has_link(hop: &Hop) -> bool {
    if hop.bytes.is_empty() {
        return hop.class != DeviceClass::Tunnel;
    }
    addresses(&hop.bytes) != Some((hop.src, hop.dst))
}

/// An Ethernet header of zeros, and the packet.
fn with_header(packet: &[u8], address: IpAddr) -> Vec<u8> {
    let ethertype_be = match (packet.first().map(|first| first >> 4), address) {
        (Some(4), _) => EtherType::IPV4_BE,
        (Some(6), _) | (_, IpAddr::V6(_)) => EtherType::IPV6_BE,
        (_, IpAddr::V4(_)) => EtherType::IPV4_BE,
    };
    [&[0; ADDRESSES_LEN], &ethertype_be.to_ne_bytes()[..], packet].concat()
}

/// What `hop` had, made of what `other` has.
fn rebuilt(hop: &Hop, other: &Hop, other_has_link: bool) -> Option<Vec<u8>> {
    let start = if other_has_link { Start::Ethernet { vlan_tci: None } } else { ip_start(&other.bytes)? };
    let (Network::V4(link) | Network::V6(link)) = network(&other.bytes[..], start).ok()?;
    let mut packet = other.bytes.get(usize::try_from(link.end()).ok()?..)?.to_vec();
    match (hop.src, hop.dst) {
        // A tunnel's device may have its outer header in front, which is not the packet's.
        _ if addresses(&packet) != Some((other.src, other.dst)) => return None,
        (IpAddr::V4(src), IpAddr::V4(dst)) if other.src.is_ipv4() => {
            put(&mut packet, 8, &[hop.ttl]);
            put(&mut packet, 12, &src.octets());
            put(&mut packet, 16, &dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) if other.src.is_ipv6() => {
            put(&mut packet, 7, &[hop.ttl]);
            put(&mut packet, 8, &src.octets());
            put(&mut packet, 24, &dst.octets());
        }
        _ => return None,
    }
    put_ports(&mut packet, hop);
    Some(with_header(&packet, hop.src))
}

fn ip_start(packet: &[u8]) -> Option<Start> {
    let ethertype_be = match packet.first()? >> 4 {
        4 => EtherType::IPV4_BE,
        6 => EtherType::IPV6_BE,
        _ => return None,
    };
    Some(Start::Ip { offset: 0, ethertype_be })
}

/// Source and destination of an IP packet.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if packet.first()? >> 4 == 4 {
        Some((array::<4>(packet, 12)?.into(), array::<4>(packet, 16)?.into()))
    } else {
        Some((array::<16>(packet, 8)?.into(), array::<16>(packet, 24)?.into()))
    }
}

/// Writes the ports of `hop`, or its identifier into an echo message, if they are among the bytes.
fn put_ports(packet: &mut [u8], hop: &Hop) {
    let Some((protocol, at)) = transport(packet) else { return };
    match (protocol, packet.get(at)) {
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        (6 | 17 | 33 | 132 | 136, _) => {
            put(packet, at, &hop.sport.to_be_bytes());
            put(packet, at + 2, &hop.dport.to_be_bytes());
        }
        (1, Some(0 | 8)) | (58, Some(128 | 129)) => put(packet, at + 4, &hop.sport.to_be_bytes()),
        _ => {}
    }
}

/// Protocol behind the IP headers, and where it begins. `None` for a later fragment.
fn transport(packet: &[u8]) -> Option<(u8, usize)> {
    let byte = |at: usize| packet.get(at).copied();
    if byte(0)? >> 4 == 4 {
        let is_later = u16::from_be_bytes(array(packet, 6)?) & OFFSET_V4 != 0;
        return (!is_later).then_some((byte(9)?, usize::from(byte(0)? & 0xf) * 4));
    }
    let (mut next, mut at) = (byte(6)?, 40);
    for _ in 0..MAX_EXTENSIONS {
        let words = usize::from(byte(at + 1)?);
        let len = match next {
            0 | 43 | 60 => (words + 1) * 8,
            51 => (words + 2) * 4,
            44 if u16::from_be_bytes(array(packet, at + 2)?) & OFFSET_V6 == 0 => 8,
            44 => return None,
            protocol => return Some((protocol, at)),
        };
        next = byte(at)?;
        at += len;
    }
    None
}

fn array<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}

/// Overwrites bytes that are there.
fn put(packet: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = packet.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
