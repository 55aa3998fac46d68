//! What a packet is recognised by: fields that forwarding and NAT leave alone.
//!
//! In: a packet, and where its IP header is. Out: [`Prints`]. Not in them: addresses, ports, checksums, time to live, the class
//! of service, and the identifier of an ICMP message, all of which change on the way.

use crate::parse::{Header, IcmpHeader, Ipv4Header, Ipv6Addresses, Ipv6Header, Packet};

use super::{TcpFields, word};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const PORTS_LEN: u32 = 4;
const UDP_LEN: u32 = 8;

/// Of an IPv4 header: where the fragment begins, in its lower bits, and whether more follow.
const FRAGMENT: u16 = 0x3fff;
const FRAGMENT_OFFSET_BITS: u32 = 13;

/// Prints, and the fields that were read for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prints {
    /// Of the headers: what can be read wherever the packet is.
    pub headers: u64,
    /// Of headers and the first bytes of payload.
    pub whole: u64,
    /// Bytes behind the TCP or UDP header; behind the first IP header of other protocols.
    pub payload_bytes: u32,
    /// TCP's sequence number, or that of an ICMP echo message.
    pub seq: u32,
    /// TCP's acknowledgement number.
    pub ack: u32,
    /// Identification of an IPv4 packet.
    pub ip_id: u16,
    /// TCP's window.
    pub window: u16,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// TCP's flags.
    pub tcp_flags: u8,
    /// Type and code of an ICMP message.
    pub icmp: [u8; 2],
}

impl Prints {
    /// Whether it lacks payload that the packet has: what reads no further than the packet's linear part may miss it.
    #[inline(always)]
    #[must_use]
    pub const fn lacks_payload(&self, protocol: u8) -> bool {
        protocol == UDP && self.payload_bytes >= 16 && self.whole == self.headers
    }
}

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
const fn mix(print: u64, word: u64) -> u64 {
    let mixed = (print ^ word).wrapping_mul(GOLDEN);
    mixed ^ mixed >> 29
}

/// The prints of the IPv4 or IPv6 packet whose IP header is at `offset`, and that ends at `end` if its length field is zero (super-packets
/// of more than 64 KiB). `None` if its IP header cannot be read.
#[inline(always)]
pub fn prints<P: Packet + ?Sized>(packet: &P, offset: u32, is_v4: bool, end: u32) -> Option<Prints> {
    let mut found = Prints::default();
    let (protocol, len, transport, has_transport, bits) = if is_v4 {
        let header: Ipv4Header = packet.read(offset)?;
        found.ip_id = u16::from_be(header.id_be);
        found.ttl = header.ttl;
        let total = u32::from(u16::from_be(header.total_length_be));
        let header_len = u32::from(header.version_ihl & 0xf) * 4;
        let bits = u16::from_be(header.fragment_be);
        let is_later = bits.trailing_zeros() < FRAGMENT_OFFSET_BITS;
        (header.protocol, total, offset + header_len, !is_later, bits & FRAGMENT)
    } else {
        let header: Ipv6Header = packet.read(offset)?;
        found.ttl = header.hop_limit;
        let payload = u32::from(u16::from_be(header.payload_length_be));
        let header_len = Ipv6Header::LEN + Ipv6Addresses::LEN;
        let total = if payload == 0 { 0 } else { payload + header_len };
        (header.next_header, total, offset + header_len, true, 0)
    };
    let len = if len == 0 { end.saturating_sub(offset) } else { len };
    let behind = transport - offset;
    let first = u64::from(protocol) << 56 | u64::from(found.ip_id) << 40 | u64::from(bits) << 24;
    let print = mix(first, u64::from(len));
    found.payload_bytes = len.saturating_sub(behind);
    found.headers = print;
    found.whole = print;
    if !has_transport {
        found.whole = with_payload(packet, print, transport);
        return Some(found);
    }
    match protocol {
        TCP => {
            let tcp: TcpFields = packet.read(transport + PORTS_LEN)?;
            found.seq = u32::from_be(tcp.seq_be);
            found.ack = u32::from_be(tcp.ack_be);
            found.tcp_flags = tcp.flags;
            found.window = u16::from_be(tcp.window_be);
            found.payload_bytes = found.payload_bytes.saturating_sub(u32::from(tcp.words >> 4) * 4);
            let numbers = u64::from(tcp.seq_be) << 32 | u64::from(tcp.ack_be);
            found.headers = mix(mix(print, numbers), u64::from(tcp.flags) << 16 | u64::from(tcp.window_be));
            found.whole = found.headers;
        }
        UDP => {
            found.payload_bytes = found.payload_bytes.saturating_sub(UDP_LEN);
            found.whole = with_payload(packet, print, transport + UDP_LEN);
        }
        ICMP | ICMPV6 if is_v4 == (protocol == ICMP) => {
            let icmp: IcmpHeader = packet.read(transport)?;
            found.icmp = [icmp.kind, icmp.code];
            let is_echo = matches!((is_v4, icmp.kind), (true, 0 | 8) | (false, 128 | 129));
            let kind = u64::from(icmp.kind) << 8 | u64::from(icmp.code);
            found.headers = mix(print, kind);
            found.whole = found.headers;
            // What an error quotes is translated, too.
            if is_echo {
                found.seq = u32::from(u16::from_be(icmp.sequence_be));
                found.headers = mix(found.headers, u64::from(icmp.sequence_be));
                found.whole = with_payload(packet, found.headers, transport + IcmpHeader::LEN);
            }
        }
        // Behind the ports, which NAT changes, and a checksum of eight bytes at most.
        _ => found.whole = with_payload(packet, print, transport + 12),
    }
    Some(found)
}

/// With sixteen bytes of payload, or those that there are.
#[inline(always)]
fn with_payload<P: Packet + ?Sized>(packet: &P, print: u64, offset: u32) -> u64 {
    match word(packet, offset) {
        Some([first, second]) => mix(mix(print, first), second),
        None => print,
    }
}
