//! The plain packet in as few instructions as it takes: untagged Ethernet, IPv4 without options and not a fragment or IPv6
//! without extension headers, TCP or UDP. Nearly all packets of a node are like that.
//!
//! In: a packet. Out: what the rest of the parser would find, or `None` where the rest has to look. It must never disagree
//! with the rest: a property test compares the two. One bounds check for all headers is what makes it fast.

use super::ip::{V4_MORE, V4_OFFSET};
use super::transport::{TCP_MIN_LEN, UDP_LEN, protocol};
use super::{EtherType, EthernetHeader, Fragment, Header, Ipv4Header, Ipv6Addresses, Ipv6Header, Packet, Parsed};
use crate::{Hook, KeyV4, KeyV6, Ports, Tag};

/// Where [`Plain`] begins: the IP header, at byte 14 of the frame, is aligned in it.
const START: u32 = 2;
const FRAGMENT_BE: u16 = (V4_MORE | V4_OFFSET).to_be();
/// Version 4, five words.
const VERSION_IHL: u8 = 0x45;

/// A frame from its third byte on, with the part of a TCP header that tells its length. A UDP datagram must have eight
/// bytes of payload to be as long.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Plain<I> {
    addresses: [u16; 5],
    ethertype_be: u16,
    ip: I,
    ports: Ports,
    sequence: [u16; 4],
    data_offset: u8,
    flags: u8,
    window: u16,
}

/// An IPv6 header.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ipv6 {
    header: Ipv6Header,
    addresses: Ipv6Addresses,
}

/// The flow of a plain IPv4 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v4<P: Packet + ?Sized>(packet: &P, hook: Hook) -> Option<Parsed<KeyV4>> {
    let Plain { ethertype_be, ip, ports, data_offset, .. } = packet.read::<Plain<Ipv4Header>>(START)?;
    if ethertype_be != EtherType::IPV4_BE || ip.version_ihl != VERSION_IHL || ip.fragment_be & FRAGMENT_BE != 0 {
        return None;
    }
    let key = KeyV4 { hook, tag: Tag::new(0, 0, ip.protocol), src_be: ip.src_be, dst_be: ip.dst_be, ports };
    parsed(key, ip.protocol, data_offset, EthernetHeader::LEN + Ipv4Header::LEN)
}

/// The flow of a plain IPv6 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v6<P: Packet + ?Sized>(packet: &P, hook: Hook) -> Option<Parsed<KeyV6>> {
    let Plain { ethertype_be, ip: Ipv6 { header, addresses }, ports, data_offset, .. } =
        packet.read::<Plain<Ipv6>>(START)?;
    if ethertype_be != EtherType::IPV6_BE || header.version_class >> 4 != 6 {
        return None;
    }
    let tag = Tag::new(0, 0, header.next_header);
    let key = KeyV6 { hook, tag, src_be: addresses.src_be, dst_be: addresses.dst_be, ports };
    parsed(key, header.next_header, data_offset, EthernetHeader::LEN + Ipv6Header::LEN + Ipv6Addresses::LEN)
}

#[inline(always)]
fn parsed<K>(key: K, number: u8, data_offset: u8, start: u32) -> Option<Parsed<K>> {
    let len = match number {
        protocol::TCP => (u32::from(data_offset >> 4) * 4).max(TCP_MIN_LEN),
        protocol::UDP => UDP_LEN,
        _ => return None,
    };
    Some(Parsed { key, fragment: Fragment::Whole, fragment_id_be: 0, headers_len_bytes: start + len })
}
