//! IPv4 and IPv6 headers: addresses, protocol, fragments.
//!
//! In: a packet and what precedes its IP header. Out: the packet's key and fragment state. It must not look behind
//! the IP headers; `transport` does.

use super::{
    ExtensionHeader, Fragment, FragmentHeader, Header, Ipv4Header, Ipv6Addresses, Ipv6Header, Link, MOST_OFFSET,
    Packet, Parsed, Stop, read,
    transport::{self, Transport, protocol},
};
use crate::{Hook, KeyV4, KeyV6};

/// Extension headers that are followed, at most.
const MAX_EXTENSIONS: u32 = 8;

/// Of `Ipv4Header::fragment_be`.
pub(super) const V4_MORE: u16 = 0x2000;
pub(super) const V4_OFFSET: u16 = 0x1fff;
/// Of `FragmentHeader::fragment_be`.
const V6_MORE: u16 = 0x0001;
const V6_OFFSET: u16 = 0xfff8;

/// Finds the flow of the IPv4 `packet` behind `link`, seen at `hook`.
///
/// # Errors
///
/// [`Stop`]: why there is none.
#[inline(always)]
pub fn ipv4<P: Packet + ?Sized>(packet: &P, link: Link, hook: Hook) -> Result<Parsed<KeyV4>, Stop> {
    let header: Ipv4Header = read(packet, link.len)?;
    let header_len = u32::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || header_len < Ipv4Header::LEN {
        return Err(Stop::UNPARSED);
    }
    let bits = u16::from_be(header.fragment_be);
    let (fragment, fragment_id_be) = if !transport::has_ports_v4(header.protocol) {
        (Fragment::Whole, 0)
    } else if bits & V4_OFFSET != 0 {
        (Fragment::Later, u32::from(header.id_be))
    } else if bits & V4_MORE != 0 {
        (Fragment::First, u32::from(header.id_be))
    } else {
        (Fragment::Whole, 0)
    };
    let end = link.len + header_len;
    let Transport { ports, end } = match fragment {
        Fragment::Later => Transport::unknown(end),
        Fragment::First | Fragment::Whole => transport::v4(packet, header.protocol, end)?,
    };
    let tag = link.tag.with_protocol(header.protocol);
    let key = KeyV4 { hook, tag, src_be: header.src_be, dst_be: header.dst_be, ports };
    Ok(Parsed { key, fragment, fragment_id_be, headers_len_bytes: end })
}

/// Finds the flow of the IPv6 `packet` behind `link`, seen at `hook`.
///
/// # Errors
///
/// [`Stop`]: why there is none.
#[inline(always)]
pub fn ipv6<P: Packet + ?Sized>(packet: &P, link: Link, hook: Hook) -> Result<Parsed<KeyV6>, Stop> {
    let header: Ipv6Header = read(packet, link.len)?;
    if header.version_class >> 4 != 6 {
        return Err(Stop::UNPARSED);
    }
    let Extensions { protocol, end, fragment, fragment_id_be } =
        extensions(packet, header.next_header, link.len + Ipv6Header::LEN + Ipv6Addresses::LEN)?;
    let Transport { ports, end } = match fragment {
        Fragment::Later => Transport::unknown(end),
        Fragment::First | Fragment::Whole => transport::v6(packet, protocol, end)?,
    };
    let tag = link.tag.with_protocol(protocol);
    // Last, so that they need not wait in the 512 bytes of stack that BPF has.
    let addresses: Ipv6Addresses = read(packet, link.len + Ipv6Header::LEN)?;
    // Word by word: of the array as a whole the compiler makes a copy byte by byte.
    let [s0, s1, s2, s3] = addresses.src_be;
    let [d0, d1, d2, d3] = addresses.dst_be;
    let key = KeyV6 { hook, tag, src_be: [s0, s1, s2, s3], dst_be: [d0, d1, d2, d3], ports };
    Ok(Parsed { key, fragment, fragment_id_be, headers_len_bytes: end })
}

/// What a chain of extension headers tells.
struct Extensions {
    /// Protocol behind the chain; 0 for a later fragment.
    protocol: u8,
    /// Bytes before what is behind the chain.
    end: u32,
    fragment: Fragment,
    fragment_id_be: u32,
}

/// Walks the chain of extension headers at `offset`, as Linux does (`ipv6_skip_exthdr`).
#[inline(always)]
fn extensions<P: Packet + ?Sized>(packet: &P, next_header: u8, offset: u32) -> Result<Extensions, Stop> {
    let mut fragment = Fragment::Whole;
    let mut fragment_id_be = 0;
    let mut fragment_seen = false;
    let mut next = next_header;
    let mut offset = offset;
    if !protocol::is_extension(next) {
        return Ok(Extensions { protocol: next, end: offset, fragment, fragment_id_be });
    }
    for _ in 0..MAX_EXTENSIONS {
        if next == protocol::FRAGMENT {
            if fragment_seen {
                return Err(Stop::UNPARSED);
            }
            fragment_seen = true;
            let header: FragmentHeader = read(packet, offset)?;
            next = header.next_header;
            offset += FragmentHeader::LEN;
            let bits = u16::from_be(header.fragment_be);
            if bits & V6_OFFSET != 0 {
                let fragment_id_be = header.id_be;
                return Ok(Extensions { protocol: 0, end: offset, fragment: Fragment::Later, fragment_id_be });
            }
            if bits & V6_MORE != 0 {
                fragment = Fragment::First;
                fragment_id_be = header.id_be;
            }
        } else {
            let header: ExtensionHeader = read(packet, offset)?;
            let length = u32::from(header.length);
            offset += if next == protocol::AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
            next = header.next_header;
        }
        offset = P::settled(offset) & MOST_OFFSET;
        // At the end, so that the loop ends with a jump back: Linux 5.10 refuses a program that runs into a loop's head from
        // behind (`kernel/bpf/verifier.c`, `check_cfg`).
        if !protocol::is_extension(next) {
            return Ok(Extensions { protocol: next, end: offset, fragment, fragment_id_be });
        }
    }
    Err(Stop::UNPARSED)
}
