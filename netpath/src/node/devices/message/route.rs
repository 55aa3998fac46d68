//! Reads messages about routes and rules.
//!
//! In: a message's body. Out: the routes that lead to one address behind a device, those that deliver to this node, and
//! which tables packets are looked up in. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_REPLACE;

use super::{Message, ip, is_ip};
use crate::netlink::attributes::{field, u32_at};
use crate::netlink::{Attributes, Malformed};

// linux/fib_rules.h
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_L3MDEV: u16 = 19;
/// Attributes that every rule has and that select nothing: `FRA_FLOW`, `FRA_PAD`, `FRA_PROTOCOL`.
const SELECT_NOTHING: [u16; 3] = [11, 18, 21];

/// A `/32` or `/128` route straight to a device. Ordered so that of one table the one the kernel takes is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// The destination.
    pub to: IpAddr,
    /// The routing table (254 is `main`).
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// The device.
    pub ifindex: u32,
}

/// A route of type `local`, `broadcast` or `anycast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveringRoute {
    /// The destination.
    pub network: IpNet,
    /// The routing table (255 is `local`).
    pub table: u32,
}

/// A rule that has packets looked up in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// For IPv6, else for IPv4.
    pub ipv6: bool,
    /// Lower comes first.
    pub priority: u32,
    /// Where packets are looked up.
    pub table: RuleTable,
    /// It applies to every packet.
    pub unconditional: bool,
}

/// Where a rule has packets looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleTable {
    /// In one table.
    Table(u32),
    /// In that of the VRF which the packet's device is a port of.
    OfVrf,
}

/// `struct rtmsg` and attributes.
pub(super) fn route(message_type: u16, flags: u16, payload: &[u8]) -> Result<Message, Malformed> {
    let [family, destination_length] = field(payload, 0)?;
    let [mut table]: [u32; 1] = field::<1>(payload, 4)?.map(u32::from);
    let [kind] = field(payload, 7)?;
    let route_flags = u32_at(payload, 8)?;
    if !is_ip(family) || route_flags & libc::RTM_F_CLONED != 0 {
        return Ok(Message::Other);
    }
    let ipv4 = i32::from(family) == libc::AF_INET;
    let (mut to, mut ifindex, mut metric, mut gateway) = (None, None, 0, false);
    for attribute in Attributes::after(12, payload)? {
        let attribute = attribute?;
        match attribute.kind {
            libc::RTA_DST => to = Some(ip(family, attribute)?),
            libc::RTA_OIF => ifindex = Some(attribute.u32()?),
            libc::RTA_PRIORITY => metric = attribute.u32()?,
            libc::RTA_TABLE => table = attribute.u32()?,
            libc::RTA_GATEWAY | libc::RTA_VIA => gateway = true,
            _ => {}
        }
    }
    let added = message_type == libc::RTM_NEWROUTE;
    match kind {
        libc::RTN_LOCAL | libc::RTN_BROADCAST | libc::RTN_ANYCAST => {
            let any = if ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let network = IpNet::new(to.unwrap_or(any), destination_length).map_err(|_| Malformed)?;
            let route = DeliveringRoute { network, table };
            Ok(if added { Message::NewDelivery(route) } else { Message::DelDelivery(route) })
        }
        // Without RTA_OIF it has several next hops.
        libc::RTN_UNICAST if destination_length == if ipv4 { 32 } else { 128 } && !gateway => {
            let Some((to, ifindex)) = to.zip(ifindex) else { return Ok(Message::Other) };
            let route = HostRoute { to, table, metric, ifindex };
            let replaces = flags & NLM_F_REPLACE != 0;
            Ok(if added { Message::NewRoute { route, replaces } } else { Message::DelRoute(route) })
        }
        _ => Ok(Message::Other),
    }
}

/// `struct fib_rule_hdr` and attributes. `None` for a rule of another family, or one that leads to no table.
pub(super) fn rule(payload: &[u8]) -> Result<Option<Rule>, Malformed> {
    let [family, destination_length, source_length, tos, short_table] = field(payload, 0)?;
    let [action] = field(payload, 7)?;
    let flags = u32_at(payload, 8)?;
    if !is_ip(family) || action != FR_ACT_TO_TBL {
        return Ok(None);
    }
    let mut table = RuleTable::Table(short_table.into());
    let mut priority = 0;
    let mut unconditional = [destination_length, source_length, tos] == [0; 3] && flags & FIB_RULE_INVERT == 0;
    for attribute in Attributes::after(12, payload)? {
        let attribute = attribute?;
        match attribute.kind {
            FRA_PRIORITY => priority = attribute.u32()?,
            // For a VRF's rule the kernel adds a table of 0.
            FRA_TABLE if table != RuleTable::OfVrf => table = RuleTable::Table(attribute.u32()?),
            FRA_L3MDEV if attribute.u8()? != 0 => table = RuleTable::OfVrf,
            FRA_TABLE | FRA_L3MDEV => {}
            // It passes over some of the table's routes.
            FRA_SUPPRESS_PREFIXLEN => unconditional &= attribute.u32()? == u32::MAX,
            other => unconditional &= SELECT_NOTHING.contains(&other),
        }
    }
    Ok(Some(Rule { ipv6: i32::from(family) == libc::AF_INET6, priority, table, unconditional }))
}
