//! The plain packet in as few instructions as it takes: Ethernet with one VLAN tag at most, IPv4 without options and not a
//! fragment or IPv6 without extension headers, TCP or UDP. Nearly all packets of a node are like that.
//!
//! In: a packet. Out: what the rest of the parser would find, or `None` where the rest has to look. It must never disagree
//! with the rest: a property test compares the two. One bounds check for all headers is what makes it fast.

use super::ip::{V4_MORE, V4_OFFSET};
use super::transport::{TCP_MIN_LEN, UDP_LEN, protocol};
use super::{
    EtherType, EthernetHeader, Fragment, Header, Ipv4Header, Ipv6Addresses, Ipv6Header, Packet, Parsed, Part,
    VlanHeader,
};
use crate::wire::TAG_BYTES;
use crate::{Hook, KeyV4, KeyV6, Ports, Tag};

/// Where [`PlainV4`] begins: both IP addresses as one word, at byte 26 of the frame, are aligned in it.
const START_V4: u32 = 2;
const FRAGMENT_BE: u16 = (V4_MORE | V4_OFFSET).to_be();
/// Version 4, five words.
const VERSION_IHL: u8 = 0x45;

/// A frame from its third byte on, with the part of a TCP header that tells its length. A UDP datagram must have eight
/// bytes of payload to be as long.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PlainV4 {
    mac: [u16; 5],
    ethertype_be: u16,
    version_ihl: u8,
    tos_len_id: [u8; 5],
    fragment_be: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    addresses: u64,
    ports: u32,
    sequence: [u16; 4],
    data_offset: u8,
    flags: u8,
    window: u16,
}

/// Where [`PlainV6`] begins: the addresses are aligned in it.
const START_V6: u32 = 6;

/// The same for IPv6.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PlainV6 {
    mac: [u16; 3],
    ethertype_be: u16,
    header: Ipv6Header,
    src: [u64; 2],
    dst: [u64; 2],
    ports: u32,
    sequence: [u16; 4],
    data_offset: u8,
    flags: u8,
    window: u16,
}

/// A word of memory as its halves; the machines netpath runs on are little-endian.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it takes the halves apart")]
const fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The same for both ports.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it takes the halves apart")]
const fn split(ports: u32) -> Ports {
    Ports { src_be: ports as u16, dst_be: (ports >> 16) as u16 }
}

/// The same for an IPv6 address.
#[inline(always)]
const fn quarters([first, second]: [u64; 2]) -> [u32; 4] {
    let ([a, b], [c, d]) = (halves(first), halves(second));
    [a, b, c, d]
}

/// The VLAN tag of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainTag {
    /// Bytes of it that are in the frame: 0 or 4.
    len: u32,
    /// 0 where there is none.
    vlan: u16,
    /// Whether it is beside the frame.
    beside: bool,
}

impl PlainTag {
    /// No tag.
    pub const NONE: Self = Self { len: 0, vlan: 0, beside: false };

    /// A tag beside the frame (hardware acceleration), with this tag control information.
    #[inline(always)]
    #[must_use]
    pub const fn beside(tci: u16) -> Self {
        Self { len: 0, vlan: tci & 0xfff, beside: true }
    }

    /// The tag in the frame, if there is one.
    #[inline(always)]
    pub fn in_frame<P: Packet + ?Sized>(packet: &P) -> Option<Self> {
        let VlanHeader { tci_be: ethertype_be, ethertype_be: tci_be } = packet.read(EthernetHeader::LEN - 2)?;
        let vlan = u16::from_be(tci_be) & 0xfff;
        EtherType::is_vlan(ethertype_be).then_some(Self { len: VlanHeader::LEN, vlan, beside: false })
    }

    /// What the tag adds to `skb->len` on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn offloaded_tag_bytes(self) -> u64 {
        if self.beside { TAG_BYTES } else { 0 }
    }
}

/// The flow of a plain IPv4 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v4<P: Packet + ?Sized>(packet: &P, tag: PlainTag, hook: Hook) -> Option<Parsed<KeyV4>> {
    let PlainV4 { ethertype_be, version_ihl, fragment_be, protocol, addresses, ports, data_offset, .. } =
        packet.read::<PlainV4>(START_V4 + tag.len)?;
    if ethertype_be != EtherType::IPV4_BE || version_ihl != VERSION_IHL || fragment_be & FRAGMENT_BE != 0 {
        return None;
    }
    let start = EthernetHeader::LEN + tag.len + Ipv4Header::LEN;
    let [src_be, dst_be] = halves(addresses);
    let key = KeyV4 { hook, tag: Tag::new(tag.vlan, 0, protocol), src_be, dst_be, ports: split(ports) };
    parsed(key, protocol, data_offset, start)
}

/// The flow of a plain IPv6 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v6<P: Packet + ?Sized>(packet: &P, tag: PlainTag, hook: Hook) -> Option<Parsed<KeyV6>> {
    let PlainV6 { ethertype_be, header, src, dst, ports, data_offset, .. } =
        packet.read::<PlainV6>(START_V6 + tag.len)?;
    if ethertype_be != EtherType::IPV6_BE || header.version_class >> 4 != 6 {
        return None;
    }
    let start = EthernetHeader::LEN + tag.len + Ipv6Header::LEN + Ipv6Addresses::LEN;
    let tag = Tag::new(tag.vlan, 0, header.next_header);
    let key = KeyV6 { hook, tag, src_be: quarters(src), dst_be: quarters(dst), ports: split(ports) };
    parsed(key, header.next_header, data_offset, start)
}

#[inline(always)]
fn parsed<K>(key: K, number: u8, data_offset: u8, start: u32) -> Option<Parsed<K>> {
    let len = match number {
        protocol::TCP => (u32::from(data_offset >> 4) * 4).max(TCP_MIN_LEN),
        protocol::UDP => UDP_LEN,
        _ => return None,
    };
    let fragment = Fragment::Whole;
    Some(Parsed { key, fragment, part: Part::NONE, is_icmp_error: false, headers_len_bytes: start + len })
}
