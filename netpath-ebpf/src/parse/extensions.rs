//! IPv6 extension headers: the second step.
//!
//! In: a packet, the number of its first extension header, and where that is. Out: [`Extensions`], as one number. It must not
//! look behind the chain.

use super::{ExtensionHeader, Fragment, FragmentHeader, Header, Packet, transport::protocol};

/// Extension headers that are followed, at most.
const MAX_EXTENSIONS: u32 = 8;

/// Of `FragmentHeader::fragment_be`. The offset counts in 8 bytes, so that these bits are the offset in bytes.
pub(super) const MORE: u16 = 0x0001;
pub(super) const OFFSET: u16 = 0xfff8;

/// What a chain of extension headers tells.
#[derive(Clone, Copy)]
pub(super) struct Extensions {
    /// Protocol behind the chain; 0 for a later fragment.
    pub protocol: u8,
    /// Bytes before what is behind the chain, from the packet's start. Below 64 KiB: each header has 2 KiB at most.
    pub end: u32,
    pub fragment: Fragment,
    /// Bytes before the fragment header, from the packet's start; 0 for [`Fragment::Whole`].
    pub fragment_at: u32,
}

impl Extensions {
    const FIRST: u64 = 1 << 8;
    const LATER: u64 = 1 << 9;
    /// In every word; 0 is none.
    const FOUND: u64 = 1 << 10;

    #[inline(always)]
    fn word(self) -> u64 {
        let fragment = match self.fragment {
            Fragment::Whole => 0,
            Fragment::First => Self::FIRST,
            Fragment::Later => Self::LATER,
        };
        let low = fragment | Self::FOUND | u64::from(self.protocol);
        u64::from(self.fragment_at) << 32 | (u64::from(self.end) & 0xffff) << 16 | low
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it takes the number apart")]
    pub fn of_word(word: u64) -> Option<Self> {
        let fragment = if word & Self::LATER != 0 {
            Fragment::Later
        } else if word & Self::FIRST != 0 {
            Fragment::First
        } else {
            Fragment::Whole
        };
        let end = u32::from((word >> 16) as u16);
        let found = Self { protocol: word as u8, end, fragment, fragment_at: u32::from((word >> 32) as u16) };
        (word & Self::FOUND != 0).then_some(found)
    }
}

/// Walks the chain of extension headers at `offset`, as Linux does (`ipv6_skip_exthdr`): [`Extensions`] as one number, or 0 if
/// it is unparsed.
#[inline(always)]
pub fn extensions<P: Packet + ?Sized>(packet: &P, next_header: u8, offset: u32) -> u64 {
    walk(packet, next_header, offset).map_or(0, Extensions::word)
}

#[inline(always)]
fn walk<P: Packet + ?Sized>(packet: &P, next_header: u8, offset: u32) -> Option<Extensions> {
    let mut fragment = Fragment::Whole;
    let mut fragment_at = 0;
    let mut fragment_seen = false;
    let mut next = next_header;
    let mut end = offset;
    if !protocol::is_extension(next) {
        return Some(Extensions { protocol: next, end, fragment, fragment_at });
    }
    for _ in 0..MAX_EXTENSIONS {
        if next == protocol::FRAGMENT {
            if fragment_seen {
                return None;
            }
            fragment_seen = true;
            let header: FragmentHeader = packet.read(end)?;
            let bits = u16::from_be(header.fragment_be);
            if bits & OFFSET != 0 {
                let (fragment_at, end) = (end, end + FragmentHeader::LEN);
                return Some(Extensions { protocol: 0, end, fragment: Fragment::Later, fragment_at });
            }
            if bits & MORE != 0 {
                fragment = Fragment::First;
                fragment_at = end;
            }
            next = header.next_header;
            end += FragmentHeader::LEN;
        } else {
            let header: ExtensionHeader = packet.read(end)?;
            let length = u32::from(header.length);
            end += if next == protocol::AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
            next = header.next_header;
        }
        // At the end, so that the loop ends with a jump back: Linux 5.10 refuses a program that runs into a loop's head from
        // behind (`kernel/bpf/verifier.c`, `check_cfg`).
        if !protocol::is_extension(next) {
            return Some(Extensions { protocol: next, end, fragment, fragment_at });
        }
    }
    None
}
