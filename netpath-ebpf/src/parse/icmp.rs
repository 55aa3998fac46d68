//! ICMP (RFC 792) and `ICMPv6` (RFC 4443): which messages are errors, and the packet that an error quotes.
//!
//! In: a message's type; a packet, and where its ICMP header is. Out: [`Message`]; the flow of the quoted packet. It must not
//! decide whether the quoted packet was ever sent: whoever sends an error may write anything into it.
//!
//! An error has eight bytes of header, and then the first bytes of the packet that it is about: its IP header and eight bytes
//! (RFC 792), or as many as fit (RFC 1812, RFC 4443). The quote is read like any packet, and what its key needs must be there.
//! A quoted later fragment has no ports. A redirect of IPv6 (RFC 4861) is no error: it quotes behind options, and never leaves
//! the link.

use super::{EtherType, Fragment, FragmentHeader, Header, IcmpHeader, Link, Packet, ipv4, ipv6};
use crate::{Direction, Hook, KeyV4, KeyV6, Tag};

/// What a message type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Echo request or reply.
    Echo,
    /// It quotes a packet.
    Error,
    /// Anything else.
    Other,
}

/// What an ICMP type is. Errors: destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122,
/// 3.2.2).
#[inline(always)]
pub(super) const fn v4(kind: u8) -> Message {
    match kind {
        0 | 8 => Message::Echo,
        3 | 4 | 5 | 11 | 12 => Message::Error,
        _ => Message::Other,
    }
}

/// What an `ICMPv6` type is. Errors have the upper bit clear (RFC 4443, 2.1), and all of them quote (2.4).
#[inline(always)]
pub(super) const fn v6(kind: u8) -> Message {
    match kind {
        128 | 129 => Message::Echo,
        0..128 => Message::Error,
        _ => Message::Other,
    }
}

/// The hook is part of the key; a quoted packet was seen at none.
const NO_HOOK: Hook = Hook::new(0, Direction::Rx);

/// What precedes the quoted packet of the error whose ICMP header is at `offset`.
#[inline(always)]
const fn link(offset: u32, ethertype_be: u16) -> Link {
    Link { ethertype_be, end: offset + IcmpHeader::LEN, tag: Tag::new(0, 0, 0) }
}

/// The flow of the packet that an ICMP error quotes, without hook and VLANs; `None` if it cannot be read. `offset`: bytes before
/// the ICMP header.
#[inline(always)]
pub fn quoted_v4<P: Packet + ?Sized>(packet: &P, offset: u32) -> Option<KeyV4> {
    Some(ipv4(packet, link(offset, EtherType::IPV4_BE), NO_HOOK).ok()?.key)
}

/// The same of an `ICMPv6` error. A later fragment has the protocol that its fragment header names.
#[inline(always)]
pub fn quoted_v6<P: Packet + ?Sized>(packet: &P, offset: u32) -> Option<KeyV6> {
    let parsed = ipv6(packet, link(offset, EtherType::IPV6_BE), NO_HOOK).ok()?;
    let mut key = parsed.key;
    if parsed.fragment == Fragment::Later {
        let header: FragmentHeader = packet.read(parsed.headers_len_bytes - FragmentHeader::LEN)?;
        key.tag = key.tag.with_protocol(header.next_header);
    }
    Some(key)
}
