//! Reads ctnetlink messages: from the bytes of a netlink datagram to connections.
//!
//! In: one datagram as the kernel sent it. Out: its [`Message`]s, without allocating. It must not trust a length, panic,
//! or do I/O: a fuzzer and the tests call it directly.
//!
//! `netlink-packet-netfilter` 0.4 knows neither zones nor ICMP identifiers, and builds several vectors a message, hundreds of
//! thousands of which come in one dump. The tests use it as a second opinion.
//!
//! The format is `include/uapi/linux/netfilter/nfnetlink_conntrack.h` (`CTA_*`). Numbers in attributes are in network
//! byte order.

use std::net::IpAddr;

use crate::netlink::{Attribute, Attributes, Malformed, message};
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
    /// A message of another kind.
    Other,
    /// Bytes that do not make sense. Nothing follows it if the length of the message was what was wrong.
    Malformed,
}

/// The messages of one datagram, in order.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message> {
    message::messages(datagram)
        .map(|message| message.map_or(Message::Malformed, |message| read(message.kind, message.body)))
}

/// Reads a message, by its type and body.
pub fn read(message_type: u16, body: &[u8]) -> Message {
    match message_type {
        CT_NEW => connection(body).map_or(Message::Malformed, Message::Connection),
        CT_DELETE => connection(body).map_or(Message::Malformed, Message::Ended),
        _ => Message::Other,
    }
}

fn connection(body: &[u8]) -> Result<Connection, Malformed> {
    let (mut zone, mut original, mut reply) = (None, None, None);
    for attribute in Attributes::after(NFGENMSG_BYTES, body)? {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_ORIG => original = Some(tuple(attribute)?),
            CTA_TUPLE_REPLY => reply = Some(tuple(attribute)?),
            CTA_ZONE => zone = Some(attribute.be16()?),
            _ => {}
        }
    }
    let ((original, original_zone), (reply, reply_zone)) = original.zip(reply).ok_or(Malformed)?;
    // A connection has one zone, in one of three places: for both directions, or for one of them.
    let zone = zone.or(original_zone).or(reply_zone).unwrap_or(0);
    Ok(Connection { zone, original, reply })
}

/// A tuple, and its zone if the zone is for this direction alone.
fn tuple(attribute: Attribute<'_>) -> Result<(Tuple, Option<u16>), Malformed> {
    let (mut addresses, mut protocol, mut zone) = (None, None, None);
    for attribute in attribute.nested() {
        let attribute = attribute?;
        match attribute.kind {
            CTA_TUPLE_IP => addresses = Some(ip(attribute)?),
            CTA_TUPLE_PROTO => protocol = Some(proto(attribute)?),
            CTA_TUPLE_ZONE => zone = Some(attribute.be16()?),
            _ => {}
        }
    }
    let ((src, dst), (proto, sport, dport)) = addresses.zip(protocol).ok_or(Malformed)?;
    Ok((Tuple { proto, src, sport, dst, dport }, zone))
}

fn ip(attribute: Attribute<'_>) -> Result<(IpAddr, IpAddr), Malformed> {
    let (mut src, mut dst) = (None, None);
    for attribute in attribute.nested() {
        let attribute = attribute?;
        match attribute.kind {
            CTA_IP_V4_SRC | CTA_IP_V6_SRC => src = Some(attribute.ip()?),
            CTA_IP_V4_DST | CTA_IP_V6_DST => dst = Some(attribute.ip()?),
            _ => {}
        }
    }
    src.zip(dst).ok_or(Malformed)
}

/// Protocol and ports by the rules of the packet parser, so that tuples from both can be compared: ports where the
/// protocol has them, an echo's identifier in both, otherwise zeros. (conntrack puts GRE's PPTP keys into the ports.)
fn proto(attribute: Attribute<'_>) -> Result<(u8, u16, u16), Malformed> {
    let (mut number, mut sport, mut dport, mut icmp_id, mut icmp_type) = (None, 0, 0, 0, None);
    for attribute in attribute.nested() {
        let attribute = attribute?;
        match attribute.kind {
            CTA_PROTO_NUM => number = Some(attribute.u8()?),
            CTA_PROTO_SRC_PORT => sport = attribute.be16()?,
            CTA_PROTO_DST_PORT => dport = attribute.be16()?,
            CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => icmp_id = attribute.be16()?,
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => icmp_type = Some(attribute.u8()?),
            _ => {}
        }
    }
    let number = number.ok_or(Malformed)?;
    Ok(match (number, icmp_type) {
        (IPPROTO_TCP | IPPROTO_UDP | IPPROTO_DCCP | IPPROTO_SCTP | IPPROTO_UDPLITE, _) => (number, sport, dport),
        (IPPROTO_ICMP, Some(ICMP_ECHO | ICMP_ECHO_REPLY)) | (IPPROTO_ICMPV6, Some(ICMPV6_ECHO | ICMPV6_ECHO_REPLY)) => {
            (number, icmp_id, icmp_id)
        }
        _ => (number, 0, 0),
    })
}

#[cfg(test)]
mod tests;
