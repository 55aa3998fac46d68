//! The plain packet in as few instructions as it takes: Ethernet with one VLAN tag at most, IPv4 without options and not a
//! fragment or IPv6 without extension headers, TCP or UDP. Nearly all packets of a node are like that.
//!
//! In: a packet. Out: what the rest of the parser would find, or `None` where the rest has to look. It must never disagree
//! with the rest: a property test compares the two. One bounds check for all headers is what makes it fast.

use super::ip::{V4_MORE, V4_OFFSET};
use super::transport::{TCP_MIN_LEN, UDP_LEN, protocol};
use super::{
    EtherType, EthernetHeader, Fragment, Header, Ipv4Header, Ipv6Addresses, Ipv6Header, Packet, Parsed, VlanHeader,
};
use crate::{Hook, KeyV4, KeyV6, Ports, Tag};

/// Where [`PlainV4`] begins: the IP header, at byte 14 of the frame, is aligned in it.
const START_V4: u32 = 2;
const FRAGMENT_BE: u16 = (V4_MORE | V4_OFFSET).to_be();
/// Version 4, five words.
const VERSION_IHL: u8 = 0x45;

/// A frame from its third byte on, with the part of a TCP header that tells its length. A UDP datagram must have eight
/// bytes of payload to be as long.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PlainV4 {
    addresses: [u16; 5],
    ethertype_be: u16,
    ip: Ipv4Header,
    ports: Ports,
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
    addresses: [u16; 3],
    ethertype_be: u16,
    ip: Ipv6,
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
    src: Halves,
    dst: Halves,
}

/// An address as two words as they are in memory, at any alignment.
#[derive(Clone, Copy)]
#[repr(C)]
struct Halves([u64; 2]);

impl Halves {
    /// In the order of memory; the machines netpath runs on are little-endian.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it takes the halves apart")]
    fn words(self) -> [u32; 4] {
        let [a, b] = self.0;
        [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]
    }
}

/// The VLAN tag of a plain packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainTag {
    /// Bytes of it that are in the frame: 0 or 4.
    len: u32,
    /// 0 where there is none.
    vlan: u16,
}

impl PlainTag {
    /// No tag.
    pub const NONE: Self = Self { len: 0, vlan: 0 };

    /// A tag beside the frame (hardware acceleration), with this tag control information.
    #[inline(always)]
    #[must_use]
    pub const fn beside(tci: u16) -> Self {
        Self { len: 0, vlan: tci & 0xfff }
    }

    /// The tag in the frame, if there is one.
    #[inline(always)]
    pub fn in_frame<P: Packet + ?Sized>(packet: &P) -> Option<Self> {
        let VlanHeader { tci_be: ethertype_be, ethertype_be: tci_be } = packet.read(EthernetHeader::LEN - 2)?;
        EtherType::is_vlan(ethertype_be).then(|| Self { len: VlanHeader::LEN, vlan: u16::from_be(tci_be) & 0xfff })
    }
}

/// The flow of a plain IPv4 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v4<P: Packet + ?Sized>(packet: &P, tag: PlainTag, hook: Hook) -> Option<Parsed<KeyV4>> {
    let PlainV4 { ethertype_be, ip, ports, data_offset, .. } = packet.read::<PlainV4>(START_V4 + tag.len)?;
    if ethertype_be != EtherType::IPV4_BE || ip.version_ihl != VERSION_IHL || ip.fragment_be & FRAGMENT_BE != 0 {
        return None;
    }
    let start = EthernetHeader::LEN + tag.len + Ipv4Header::LEN;
    let tag = Tag::new(tag.vlan, 0, ip.protocol);
    let key = KeyV4 { hook, tag, src_be: ip.src_be, dst_be: ip.dst_be, ports };
    parsed(key, ip.protocol, data_offset, start)
}

/// The flow of a plain IPv6 packet that was seen at `hook`.
#[inline(always)]
pub fn plain_v6<P: Packet + ?Sized>(packet: &P, tag: PlainTag, hook: Hook) -> Option<Parsed<KeyV6>> {
    let PlainV6 { ethertype_be, ip: Ipv6 { header, src, dst }, ports, data_offset, .. } =
        packet.read::<PlainV6>(START_V6 + tag.len)?;
    if ethertype_be != EtherType::IPV6_BE || header.version_class >> 4 != 6 {
        return None;
    }
    let start = EthernetHeader::LEN + tag.len + Ipv6Header::LEN + Ipv6Addresses::LEN;
    let tag = Tag::new(tag.vlan, 0, header.next_header);
    let key = KeyV6 { hook, tag, src_be: src.words(), dst_be: dst.words(), ports };
    parsed(key, header.next_header, data_offset, start)
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
