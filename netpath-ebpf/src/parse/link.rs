//! Ethernet headers and VLAN tags: the first step.
//!
//! In: a packet, and what it starts with. Out: [`Link`], as one number. It must not look behind the tags.

use super::{EtherType, EthernetHeader, Header, Packet, Start, VlanHeader};
use crate::Tag;

/// What precedes the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What follows, network byte order.
    pub(super) ethertype_be: u16,
    /// Bytes before the IP header, from the packet's start. Below 32 KiB: in a tunnel the outer headers have 17 KiB at most.
    pub(super) end: u32,
    /// VLANs; protocol 0.
    pub(super) tag: Tag,
}

impl Link {
    /// In every word; 0 is none.
    const FOUND: u64 = 1 << 31;
    const MOST: u64 = 0x7fff;

    /// Bytes before the IP header, from the packet's start.
    #[inline(always)]
    #[must_use]
    pub const fn end(self) -> u32 {
        self.end
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.tag.0) << 32
            | Self::FOUND
            | (u64::from(self.end) & Self::MOST) << 16
            | u64::from(self.ethertype_be)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it takes the number apart")]
    pub(super) fn of_word(word: u64) -> Option<Self> {
        let link =
            Self { ethertype_be: word as u16, end: (word >> 16 & Self::MOST) as u32, tag: Tag((word >> 32) as u32) };
        (word & Self::FOUND != 0).then_some(link)
    }
}

/// What precedes the IP header of the packet that starts, as `start` says ([`Start::word`]), at `offset` of `packet`: a
/// [`Link`] as one number, or 0 if it is unparsed.
#[inline(always)]
pub fn link<P: Packet + ?Sized>(packet: &P, start: u32, offset: u32) -> u64 {
    let link = match Start::of_word(start) {
        Start::Ip { offset: before, ethertype_be } => {
            Some(Link { ethertype_be, end: offset + u32::from(before), tag: Tag::new(0, 0, 0) })
        }
        Start::Ethernet { vlan_tci } => ethernet(packet, vlan_tci, offset),
    };
    link.map_or(0, Link::word)
}

/// Reads the Ethernet header at `end`, and the VLAN tags behind it.
#[inline(always)]
fn ethernet<P: Packet + ?Sized>(packet: &P, vlan_tci: Option<u16>, mut end: u32) -> Option<Link> {
    let mut ethertype_be = packet.read::<EthernetHeader>(end)?.ethertype_be;
    end += EthernetHeader::LEN;
    let mut vlans = Vlans::default();
    if let Some(tci) = vlan_tci {
        vlans.push(tci);
    }
    // No loop: compilers make one of it that all frames pay for, and most have no tag.
    if EtherType::is_vlan(ethertype_be) {
        in_frame_tag(packet, &mut ethertype_be, &mut end, &mut vlans)?;
        if EtherType::is_vlan(ethertype_be) {
            in_frame_tag(packet, &mut ethertype_be, &mut end, &mut vlans)?;
            if EtherType::is_vlan(ethertype_be) {
                return None;
            }
        }
    }
    Some(Link { ethertype_be, end, tag: Tag::new(vlans.outer, vlans.inner, 0) })
}

/// Reads one tag at `end`, and moves on behind it.
#[inline(always)]
fn in_frame_tag<P: Packet + ?Sized>(
    packet: &P,
    ethertype_be: &mut u16,
    end: &mut u32,
    vlans: &mut Vlans,
) -> Option<()> {
    if vlans.tags == Vlans::MAX_TAGS {
        return None;
    }
    let tag: VlanHeader = packet.read(*end)?;
    vlans.push(u16::from_be(tag.tci_be));
    *ethertype_be = tag.ethertype_be;
    *end += VlanHeader::LEN;
    Some(())
}

/// The VLANs of a frame, collected from the outermost tag inwards.
#[derive(Default)]
struct Vlans {
    /// Tags so far, priority tags included.
    tags: u32,
    outer: u16,
    inner: u16,
}

impl Vlans {
    const MAX_TAGS: u32 = 2;

    /// Adds the next tag inwards.
    #[inline(always)]
    fn push(&mut self, tci: u16) {
        let id = tci & 0xfff;
        self.tags += 1;
        if self.outer == 0 {
            self.outer = id;
        } else {
            self.inner = id;
        }
    }
}
