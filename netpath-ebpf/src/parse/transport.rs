//! What follows the IP headers, ports and where the headers end: the third step.
//!
//! In: a packet, its protocol, and where the IP headers end. Out: [`Transport`], as one number. It must not be asked about a later
//! fragment: what is behind its IP headers is payload.

use super::icmp::{self, Message};
use super::{IcmpHeader, Packet, TcpDataOffset};
use crate::Ports;

/// IANA protocol numbers.
pub(super) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const GRE: u8 = 47;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const UDP_LITE: u8 = 136;

    /// Whether it is an IPv6 extension header that can be skipped.
    #[inline(always)]
    pub const fn is_extension(number: u8) -> bool {
        matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
    }
}

pub(super) const UDP_LEN: u32 = 8;
const SCTP_LEN: u32 = 12;
pub(super) const TCP_MIN_LEN: u32 = 20;
const TCP_DATA_OFFSET: u32 = 12;

/// Of which IP a packet is: each has an ICMP of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// What a transport header tells.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    pub ports: Ports,
    pub is_icmp_error: bool,
    /// Bytes before what is behind the headers, from the packet's start.
    pub end: u32,
}

impl Transport {
    /// In every word; 0 is none.
    const FOUND: u64 = 1 << 63;
    const ICMP_ERROR: u64 = 1 << 62;
    /// Of the end, which is far below: extension headers have 2 KiB at most, and there are few.
    const MOST: u32 = 0x3fff_ffff;

    /// No ports, or none that this packet has; its IP headers end at `end`.
    #[inline(always)]
    pub const fn unknown(end: u32) -> Self {
        Self { ports: Ports { src_be: 0, dst_be: 0 }, is_icmp_error: false, end }
    }

    #[inline(always)]
    fn word(self) -> u64 {
        let Ports { src_be, dst_be } = self.ports;
        let error = if self.is_icmp_error { Self::ICMP_ERROR } else { 0 };
        Self::FOUND | error | u64::from(self.end & Self::MOST) << 32 | u64::from(dst_be) << 16 | u64::from(src_be)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it takes the number apart")]
    pub fn of_word(word: u64) -> Option<Self> {
        let ports = Ports { src_be: word as u16, dst_be: (word >> 16) as u16 };
        let is_icmp_error = word & Self::ICMP_ERROR != 0;
        let found = Self { ports, is_icmp_error, end: (word >> 32) as u32 & Self::MOST };
        (word & Self::FOUND != 0).then_some(found)
    }
}

/// Whether a protocol in IPv4 has what goes into the key as ports.
#[inline(always)]
pub(super) const fn has_ports_v4(number: u8) -> bool {
    use protocol::{DCCP, ICMP, SCTP, TCP, UDP, UDP_LITE};
    matches!(number, ICMP | TCP | UDP | DCCP | SCTP | UDP_LITE)
}

/// What the header at `offset` tells, of the protocol `number` in `family`: [`Transport`] as one number, or 0 if it is
/// unparsed.
#[inline(always)]
pub fn transport<P: Packet + ?Sized>(packet: &P, family: Family, number: u8, offset: u32) -> u64 {
    let found = match (family, number) {
        (Family::V4, protocol::ICMP) => message(packet, offset, icmp::v4),
        (Family::V6, protocol::ICMPV6) => message(packet, offset, icmp::v6),
        _ => ports(packet, number, offset),
    };
    found.map_or(0, Transport::word)
}

/// An echo message has its identifier in both ports.
#[inline(always)]
fn message<P: Packet + ?Sized>(packet: &P, offset: u32, of: impl Fn(u8) -> Message) -> Option<Transport> {
    let IcmpHeader { kind, id_be, .. } = packet.read(offset)?;
    let ports = Ports { src_be: id_be, dst_be: id_be };
    Some(match of(kind) {
        Message::Echo => Transport { ports, ..Transport::unknown(offset) },
        Message::Error => Transport { is_icmp_error: true, ..Transport::unknown(offset) },
        Message::Other => Transport::unknown(offset),
    })
}

#[inline(always)]
fn ports<P: Packet + ?Sized>(packet: &P, number: u8, offset: u32) -> Option<Transport> {
    let len = match number {
        protocol::TCP => match packet.read::<TcpDataOffset>(offset + TCP_DATA_OFFSET) {
            Some(header) => (u32::from(header.words >> 4) * 4).max(TCP_MIN_LEN),
            None => TCP_MIN_LEN,
        },
        protocol::UDP => UDP_LEN,
        protocol::SCTP => SCTP_LEN,
        protocol::UDP_LITE | protocol::DCCP => 0,
        _ => return Some(Transport::unknown(offset)),
    };
    Some(Transport { ports: packet.read(offset)?, ..Transport::unknown(offset + len) })
}
