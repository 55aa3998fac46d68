//! IPv4 and IPv6 headers: addresses, protocol, fragments.
//!
//! In: a packet and what precedes its IP header. Out: the packet's key and fragment state. It must not look behind
//! the IP headers; `transport` does.

use super::{
    Family, Fragment, FragmentHeader, Header, Ipv4Header, Ipv6Addresses, Ipv6Header, Link, Packet, Parsed, Part,
    extensions::{self, Extensions},
    read,
    transport::{Transport, has_ports_v4},
};
use crate::{Hook, KeyV4, KeyV6, Reason};

/// Of `Ipv4Header::fragment_be`.
pub(super) const V4_MORE: u16 = 0x2000;
pub(super) const V4_OFFSET: u16 = 0x1fff;

/// Finds the flow of the IPv4 `packet` behind `link`, seen at `hook`.
///
/// # Errors
///
/// Why there is none.
#[inline(always)]
pub fn ipv4<P: Packet + ?Sized>(packet: &P, link: Link, hook: Hook) -> Result<Parsed<KeyV4>, Reason> {
    let header: Ipv4Header = read(packet, link.end)?;
    let header_len = u32::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || header_len < Ipv4Header::LEN {
        return Err(Reason::Unparsed);
    }
    let bits = u16::from_be(header.fragment_be);
    let fragment = if !has_ports_v4(header.protocol) {
        Fragment::Whole
    } else if bits & V4_OFFSET != 0 {
        Fragment::Later
    } else if bits & V4_MORE != 0 {
        Fragment::First
    } else {
        Fragment::Whole
    };
    let part = if fragment == Fragment::Whole {
        Part::NONE
    } else {
        let len_bytes = u32::from(u16::from_be(header.total_length_be)).saturating_sub(header_len);
        Part::new(header.id_be.into(), len_bytes, u32::from(bits & V4_OFFSET) * 8, bits & V4_MORE != 0)
    };
    let end = link.end + header_len;
    let Transport { ports, is_icmp_error, end } = match fragment {
        Fragment::Later => Transport::unknown(end),
        Fragment::First | Fragment::Whole => {
            Transport::of_word(packet.transport(Family::V4, header.protocol, end)).ok_or(Reason::Unparsed)?
        }
    };
    let tag = link.tag.with_protocol(header.protocol);
    let key = KeyV4 { hook, tag, src_be: header.src_be, dst_be: header.dst_be, ports };
    Ok(Parsed { key, fragment, part, is_icmp_error, headers_len_bytes: end })
}

/// Finds the flow of the IPv6 `packet` behind `link`, seen at `hook`.
///
/// # Errors
///
/// Why there is none.
#[inline(always)]
pub fn ipv6<P: Packet + ?Sized>(packet: &P, link: Link, hook: Hook) -> Result<Parsed<KeyV6>, Reason> {
    let header: Ipv6Header = read(packet, link.end)?;
    if header.version_class >> 4 != 6 {
        return Err(Reason::Unparsed);
    }
    let headers_end = link.end + Ipv6Header::LEN + Ipv6Addresses::LEN;
    let Extensions { protocol, end, fragment, fragment_at } =
        Extensions::of_word(packet.extensions(header.next_header, headers_end)).ok_or(Reason::Unparsed)?;
    let part = if fragment == Fragment::Whole {
        Part::NONE
    } else {
        let FragmentHeader { id_be, fragment_be, .. } = read(packet, fragment_at)?;
        let bits = u16::from_be(fragment_be);
        let before = fragment_at + FragmentHeader::LEN - headers_end;
        let len_bytes = u32::from(u16::from_be(header.payload_length_be)).saturating_sub(before);
        Part::new(id_be, len_bytes, u32::from(bits & extensions::OFFSET), bits & extensions::MORE != 0)
    };
    let Transport { ports, is_icmp_error, end } = match fragment {
        Fragment::Later => Transport::unknown(end),
        Fragment::First | Fragment::Whole => {
            Transport::of_word(packet.transport(Family::V6, protocol, end)).ok_or(Reason::Unparsed)?
        }
    };
    let tag = link.tag.with_protocol(protocol);
    // Last, so that they need not wait in the 512 bytes of stack that BPF has.
    let addresses: Ipv6Addresses = read(packet, link.end + Ipv6Header::LEN)?;
    // Word by word: of the array as a whole the compiler makes a copy byte by byte.
    let [s0, s1, s2, s3] = addresses.src_be;
    let [d0, d1, d2, d3] = addresses.dst_be;
    let key = KeyV6 { hook, tag, src_be: [s0, s1, s2, s3], dst_be: [d0, d1, d2, d3], ports };
    Ok(Parsed { key, fragment, part, is_icmp_error, headers_len_bytes: end })
}
