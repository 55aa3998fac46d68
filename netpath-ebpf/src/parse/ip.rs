//! IPv4 and IPv6 headers: addresses, protocol, fragments.
//!
//! In: a packet and what precedes its IP header. Out: the packet's key and fragment state. It must not look behind
//! the IP headers; `transport` does.

use super::{
    ExtensionHeader, Fragment, FragmentHeader, Header, Ipv4Header, Ipv6Header, Key, Link, Packet, Parsed, Stop, read,
    transport::{self, Transport, protocol},
};
use crate::{Hook, KeyV4, KeyV6};

/// Extension headers that are followed, at most.
const MAX_EXTENSIONS: u32 = 8;

/// Of `Ipv4Header::fragment_be`.
const V4_MORE: u16 = 0x2000;
const V4_OFFSET: u16 = 0x1fff;
/// Of `FragmentHeader::fragment_be`.
const V6_MORE: u16 = 0x0001;
const V6_OFFSET: u16 = 0xfff8;

#[inline(always)]
pub(super) fn v4<P: Packet + ?Sized>(packet: &P, link: &Link, hook: Hook) -> Result<Parsed, Stop> {
    let header: Ipv4Header = read(packet, link.len)?;
    let header_len = u32::from(header.version_ihl & 0xf) * 4;
    if header.version_ihl >> 4 != 4 || header_len < Ipv4Header::LEN {
        return Err(Stop::UNPARSED);
    }
    let end = link.len + header_len;
    let id_be = u32::from(header.id_be);
    let bits = u16::from_be(header.fragment_be);
    let fragment = if bits & (V4_OFFSET | V4_MORE) == 0 || !transport::has_ports_v4(header.protocol) {
        Fragment::Whole
    } else if bits & V4_OFFSET == 0 {
        Fragment::First { id_be }
    } else {
        Fragment::Later { id_be }
    };
    let Transport { ports, end } = match fragment {
        Fragment::Later { .. } => Transport::unknown(end),
        _ => transport::v4(packet, header.protocol, end)?,
    };
    let tag = link.tag.with_protocol(header.protocol);
    let key = Key::V4(KeyV4 { hook, tag, src_be: header.src_be, dst_be: header.dst_be, ports });
    Ok(Parsed { key, fragment, headers_len_bytes: end })
}

#[inline(always)]
pub(super) fn v6<P: Packet + ?Sized>(packet: &P, link: &Link, hook: Hook) -> Result<Parsed, Stop> {
    let header: Ipv6Header = read(packet, link.len)?;
    if header.version_class >> 4 != 6 {
        return Err(Stop::UNPARSED);
    }
    let extensions = extensions(packet, header.next_header, link.len + Ipv6Header::LEN)?;
    let Transport { ports, end } = match extensions.fragment {
        Fragment::Later { .. } => Transport::unknown(extensions.end),
        _ => transport::v6(packet, extensions.protocol, extensions.end)?,
    };
    let tag = link.tag.with_protocol(extensions.protocol);
    let key = Key::V6(KeyV6 { hook, tag, src_be: header.src_be, dst_be: header.dst_be, ports });
    Ok(Parsed { key, fragment: extensions.fragment, headers_len_bytes: end })
}

/// What a chain of extension headers tells.
struct Extensions {
    /// Protocol behind the chain; 0 for a later fragment.
    protocol: u8,
    /// Bytes before what is behind the chain.
    end: u32,
    fragment: Fragment,
}

/// Walks the chain of extension headers at `offset`, as Linux does (`ipv6_skip_exthdr`).
#[inline(always)]
fn extensions<P: Packet + ?Sized>(packet: &P, next_header: u8, offset: u32) -> Result<Extensions, Stop> {
    let mut fragment = Fragment::Whole;
    let mut fragment_seen = false;
    let mut next = next_header;
    let mut offset = offset;
    // One iteration more than headers are allowed, for what is behind the last.
    for _ in 0..=MAX_EXTENSIONS {
        if !protocol::is_extension(next) {
            return Ok(Extensions { protocol: next, end: offset, fragment });
        }
        if next == protocol::FRAGMENT {
            let header: FragmentHeader = read(packet, offset)?;
            if fragment_seen {
                return Err(Stop::UNPARSED);
            }
            fragment_seen = true;
            next = header.next_header;
            offset += FragmentHeader::LEN;
            let bits = u16::from_be(header.fragment_be);
            let id_be = header.id_be;
            if bits & V6_OFFSET != 0 {
                return Ok(Extensions { protocol: 0, end: offset, fragment: Fragment::Later { id_be } });
            }
            if bits & V6_MORE != 0 {
                fragment = Fragment::First { id_be };
            }
        } else {
            let header: ExtensionHeader = read(packet, offset)?;
            let length = u32::from(header.length);
            offset += if next == protocol::AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
            next = header.next_header;
        }
    }
    Err(Stop::UNPARSED)
}
