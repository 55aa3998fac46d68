//! Reads ctnetlink messages: from the bytes of a netlink datagram to connections.
//!
//! In: one datagram as the kernel sent it. Out: its [`Message`]s, without allocating. It must not trust a length, panic,
//! or do I/O: a fuzzer and the tests call it directly.
//!
//! Framing and attributes are walked by `netlink-packet-core`, which borrows from the datagram. What the attributes mean
//! is read here, since `netlink-packet-netfilter` 0.4 knows neither zones nor ICMP identifiers and builds several
//! vectors a message, hundreds of thousands of which come in one dump. The tests use it as a second opinion.
//!
//! The format is `include/uapi/linux/netfilter/nfnetlink_conntrack.h` (`CTA_*`). Numbers in attributes are in network
//! byte order, those of the netlink header and of attribute headers in the host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};

use crate::snapshot::{Connection, Tuple};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`: a connection in a dump, or one that was just confirmed.
const CT_NEW: u16 = 0x0100;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`: the request for a dump.
pub const CT_GET: u16 = 0x0101;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`: a connection that just ended.
const CT_DELETE: u16 = 0x0102;

/// Size of `struct nfgenmsg`, which precedes the attributes.
pub(super) const NFGENMSG_BYTES: usize = 4;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ZONE: u16 = 18;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;

const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;

const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_DCCP: u8 = 33;
const IPPROTO_ICMPV6: u8 = 58;
const IPPROTO_SCTP: u8 = 132;
const IPPROTO_UDPLITE: u8 = 136;

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_ECHO: u8 = 8;
const ICMPV6_ECHO: u8 = 128;
const ICMPV6_ECHO_REPLY: u8 = 129;

/// One netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A connection: part of a dump, or one that has begun.
    Connection(Connection),
    /// A connection that has ended.
    Ended(Connection),
    /// The end of a dump.
    Done,
    /// The kernel's answer to a request: 0 for an acknowledgement, otherwise an `errno` as a positive number.
    Error(i32),
    /// A message of another kind.
    Other,
    /// Bytes that do not make sense. Nothing follows it if the length of the message was what was wrong.
    Malformed,
}

/// The messages of one datagram, in order.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Message::Malformed);
        };
        let aligned_bytes = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(aligned_bytes..).unwrap_or_default();
        Some(read(message.message_type(), message.payload()))
    })
}

fn read(message_type: u16, payload: &[u8]) -> Message {
    match message_type {
        CT_NEW => connection(payload).map_or(Message::Malformed, Message::Connection),
        CT_DELETE => connection(payload).map_or(Message::Malformed, Message::Ended),
        NLMSG_DONE => match status(payload) {
            // A dump that failed on the way ends like this too.
            None | Some(0) => Message::Done,
            Some(errno) => Message::Error(errno),
        },
        NLMSG_ERROR => status(payload).map_or(Message::Malformed, Message::Error),
        _ => Message::Other,
    }
}

/// The status of an acknowledgement: the kernel sends `-errno`.
fn status(payload: &[u8]) -> Option<i32> {
    payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes).saturating_neg())
}

fn connection(payload: &[u8]) -> Option<Connection> {
    let (mut zone, mut original, mut reply) = (None, None, None);
    for attribute in NlasIterator::new(payload.get(NFGENMSG_BYTES..)?) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            CTA_TUPLE_ORIG => original = Some(tuple(attribute.value())?),
            CTA_TUPLE_REPLY => reply = Some(tuple(attribute.value())?),
            CTA_ZONE => zone = Some(be16(attribute.value())?),
            _ => {}
        }
    }
    let ((original, original_zone), (reply, reply_zone)) = (original?, reply?);
    // A connection has one zone, in one of three places: for both directions, or for one of them.
    let zone = zone.or(original_zone).or(reply_zone).unwrap_or(0);
    Some(Connection { zone, original, reply })
}

/// A tuple, and its zone if the zone is for this direction alone.
fn tuple(attributes: &[u8]) -> Option<(Tuple, Option<u16>)> {
    let (mut addresses, mut protocol, mut zone) = (None, None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            CTA_TUPLE_IP => addresses = Some(ip(attribute.value())?),
            CTA_TUPLE_PROTO => protocol = Some(proto(attribute.value())?),
            CTA_TUPLE_ZONE => zone = Some(be16(attribute.value())?),
            _ => {}
        }
    }
    let ((src, dst), (proto, sport, dport)) = (addresses?, protocol?);
    Some((Tuple { proto, src, sport, dst, dport }, zone))
}

fn ip(attributes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (mut src, mut dst) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let bytes = attribute.value();
        match attribute.kind() {
            CTA_IP_V4_SRC => src = Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            CTA_IP_V4_DST => dst = Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            CTA_IP_V6_SRC => src = Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
            CTA_IP_V6_DST => dst = Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
            _ => {}
        }
    }
    Some((src?, dst?))
}

/// Protocol and ports by the rules of the packet parser, so that tuples from both can be compared: ports where the
/// protocol has them, an echo's identifier in both, otherwise zeros. (conntrack puts GRE's PPTP keys into the ports.)
fn proto(attributes: &[u8]) -> Option<(u8, u16, u16)> {
    let (mut number, mut sport, mut dport, mut icmp_id, mut icmp_type) = (None, 0, 0, 0, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let bytes = attribute.value();
        match attribute.kind() {
            CTA_PROTO_NUM => number = Some(*bytes.first()?),
            CTA_PROTO_SRC_PORT => sport = be16(bytes)?,
            CTA_PROTO_DST_PORT => dport = be16(bytes)?,
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => icmp_id = be16(bytes)?,
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => icmp_type = Some(*bytes.first()?),
            _ => {}
        }
    }
    let number = number?;
    Some(match (number, icmp_type) {
        (IPPROTO_TCP | IPPROTO_UDP | IPPROTO_DCCP | IPPROTO_SCTP | IPPROTO_UDPLITE, _) => (number, sport, dport),
        (IPPROTO_ICMP, Some(ICMP_ECHO | ICMP_ECHO_REPLY)) | (IPPROTO_ICMPV6, Some(ICMPV6_ECHO | ICMPV6_ECHO_REPLY)) => {
            (number, icmp_id, icmp_id)
        }
        _ => (number, 0, 0),
    })
}

fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
