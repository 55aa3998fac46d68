//! Reads rtnetlink's messages about links, addresses, routes, rules and bridges' VLANs.
//!
//! In: one datagram. Out: [`Message`]s with the few facts netpath needs. Pure. A message that is not as the kernel's
//! headers describe it becomes [`Message::Malformed`]: it is never skipped, because the caller has to know that it missed
//! something. Numbers are in the machine's byte order, addresses in network byte order.

mod info;
mod route;

use std::net::IpAddr;

pub use info::LinkInfo;
pub use route::{DeliveringRoute, HostRoute, Rule, RuleTable};

use netlink_packet_core::NLMSG_OVERRUN;

use crate::model::{KernelCounters, Xdp, XdpMode};
use crate::netlink::attributes::{c_string, field, u32_at, u64_at};
use crate::netlink::{Attribute, Attributes, Malformed, message};
use crate::snapshot::PortVlans;

// linux/if_link.h, linux/if_addr.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_STATS64: u16 = 23;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PARENT_DEV_NAME: u16 = 56;
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// `XDP_ATTACHED_*`: 4 is several of them.
const XDP_MODES: [(u8, XdpMode); 4] =
    [(1, XdpMode::Driver), (2, XdpMode::Generic), (3, XdpMode::Hardware), (4, XdpMode::Several)];
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawLink {
    /// Its index.
    pub ifindex: u32,
    /// Bytes: the kernel does not ask for UTF-8.
    pub name: Vec<u8>,
    /// `IFLA_ALT_IFNAME`: further names of the same device (kernel 5.5 and newer).
    pub altnames: Vec<String>,
    /// `ARPHRD_*`.
    pub hardware_type: u16,
    /// `IFF_*`.
    pub flags: u32,
    /// `IFLA_LINKINFO`.
    pub info: LinkInfo,
    /// `IFLA_MASTER`.
    pub master: Option<u32>,
    /// `IFLA_ADDRESS`, if it is of 6 bytes.
    pub mac: Option<[u8; 6]>,
    /// `IFLA_LINK`, if it is in this namespace.
    pub lower: Option<u32>,
    /// `IFLA_LINK_NETNSID`: the kernel's number for the other namespace that `IFLA_LINK` is in.
    pub elsewhere: Option<i32>,
    /// `IFLA_PARENT_DEV_NAME` (kernel 5.14 and newer): where on a bus it is.
    pub parent: Option<String>,
    /// What XDP programs it has.
    pub xdp: Option<Xdp>,
    /// `IFLA_STATS64`.
    pub counters: KernelCounters,
    /// `IFLA_NEW_NETNSID`: it was moved to another namespace (only in `RTM_DELLINK`).
    pub moved: bool,
}

/// A message.
#[expect(missing_docs, reason = "the names of the fields explain them")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A link is there, or changed.
    NewLink(RawLink),
    /// A link is gone from this namespace. `complete`: the counters are its last ones; otherwise rx is missing from them.
    DelLink { ifindex: u32, counters: KernelCounters, complete: bool },
    /// An address was added to a device, as "10.0.0.5/24".
    NewAddress { ifindex: u32, address: String },
    /// An address was taken from a device.
    DelAddress { ifindex: u32, address: String },
    /// A route was added. `replaces`: any other with the same destination and metric is gone.
    NewRoute { route: HostRoute, replaces: bool },
    /// A route was removed.
    DelRoute(HostRoute),
    /// A route that delivers to this node was added.
    NewDelivery(DeliveringRoute),
    /// A route that delivers to this node was removed.
    DelDelivery(DeliveringRoute),
    /// A rule was added.
    NewRule(Rule),
    /// A rule was removed.
    DelRule(Rule),
    /// The VLANs of a bridge's port, or of a bridge itself.
    PortVlans { ifindex: u32, vlans: PortVlans },
    /// Nothing of interest.
    Other,
    /// Not as expected: something was missed.
    Malformed,
}

/// Reads the messages of one datagram.
#[must_use]
pub fn messages(datagram: &[u8]) -> Vec<Message> {
    let read = |message::Message { kind, flags, body, .. }| read(kind, flags, body);
    message::messages(datagram).map(|message| message.and_then(read).unwrap_or(Message::Malformed)).collect()
}

/// Reads a message, by its type, flags and body.
pub(super) fn read(message_type: u16, flags: u16, payload: &[u8]) -> Result<Message, Malformed> {
    Ok(match message_type {
        libc::RTM_NEWLINK if payload.first().is_some_and(|&family| i32::from(family) == libc::AF_BRIDGE) => {
            port_vlans(payload)?.map_or(Message::Other, |(ifindex, vlans)| Message::PortVlans { ifindex, vlans })
        }
        libc::RTM_NEWLINK => link(payload)?.map_or(Message::Other, Message::NewLink),
        libc::RTM_DELLINK => link(payload)?.map_or(Message::Other, |link| Message::DelLink {
            ifindex: link.ifindex,
            counters: link.counters,
            // A veth's rx is its peer's tx, and a deleted veth has lost its peer by now.
            complete: link.moved || link.info.kind.as_deref() != Some("veth"),
        }),
        libc::RTM_NEWADDR => {
            address(payload)?.map_or(Message::Other, |(ifindex, address)| Message::NewAddress { ifindex, address })
        }
        libc::RTM_DELADDR => {
            address(payload)?.map_or(Message::Other, |(ifindex, address)| Message::DelAddress { ifindex, address })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => route::route(message_type, flags, payload)?,
        libc::RTM_NEWRULE => route::rule(payload)?.map_or(Message::Other, Message::NewRule),
        libc::RTM_DELRULE => route::rule(payload)?.map_or(Message::Other, Message::DelRule),
        NLMSG_OVERRUN => return Err(Malformed),
        _ => Message::Other,
    })
}

/// `struct ifinfomsg` and attributes. `None` for a message of another family.
///
/// A bridge reports its ports (joined, left) in the same group and with the same types, as family `AF_BRIDGE`. A port that
/// leaves its bridge is not a device that is gone.
fn link(payload: &[u8]) -> Result<Option<RawLink>, Malformed> {
    let [family, _] = field(payload, 0)?;
    if i32::from(family) != libc::AF_UNSPEC {
        return Ok(None);
    }
    let hardware_type = u16::from_ne_bytes(field(payload, 2)?);
    let ifindex = u32_at(payload, 4)?;
    let flags = u32_at(payload, 8)?;
    let (mut name, mut altnames, mut counters) = (None, Vec::new(), None);
    let (mut info, mut master, mut mac, mut lower, mut parent) = (LinkInfo::default(), None, None, None, None);
    let (mut elsewhere, mut moved, mut attached_xdp) = (None, false, None);
    for attribute in Attributes::after(16, payload)? {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => name = Some(c_string(attribute.value).to_vec()),
            IFLA_ADDRESS => mac = attribute.array().ok(),
            IFLA_LINK => lower = Some(attribute.u32()?),
            IFLA_LINK_NETNSID => elsewhere = Some(attribute.i32()?),
            IFLA_NEW_NETNSID => moved = true,
            IFLA_XDP => attached_xdp = xdp(attribute.nested())?,
            IFLA_LINKINFO => info = LinkInfo::read(attribute.nested())?,
            IFLA_MASTER => master = Some(attribute.u32()?),
            IFLA_PROP_LIST => altnames = alternative_names(attribute.nested())?,
            IFLA_STATS64 => counters = Some(stats64(attribute.value)?),
            IFLA_PARENT_DEV_NAME => parent = Some(attribute.string()),
            _ => {}
        }
    }
    Ok(Some(RawLink {
        ifindex,
        name: name.ok_or(Malformed)?,
        altnames,
        hardware_type,
        flags,
        info,
        master,
        mac,
        // 0: a tunnel that is bound to no device.
        lower: lower.filter(|&lower| elsewhere.is_none() && lower != 0 && lower != ifindex),
        elsewhere,
        parent,
        xdp: attached_xdp,
        counters: counters.ok_or(Malformed)?,
        moved,
    }))
}

/// The XDP program; the mode is 0 if there is none.
fn xdp(info: Attributes<'_>) -> Result<Option<Xdp>, Malformed> {
    let (mut mode, mut program_id) = (None, None);
    for attribute in info {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_XDP_ATTACHED => {
                let number = attribute.u8()?;
                mode = XDP_MODES.iter().find(|(known, _)| *known == number).map(|(_, mode)| *mode);
            }
            IFLA_XDP_PROG_ID => program_id = Some(attribute.u32()?),
            _ => {}
        }
    }
    Ok(mode.map(|mode| Xdp { mode, program_id }))
}

/// The device's further names.
fn alternative_names(properties: Attributes<'_>) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    for attribute in properties {
        let attribute = attribute?;
        if attribute.kind == IFLA_ALT_IFNAME {
            names.push(attribute.string());
        }
    }
    Ok(names)
}

/// The VLANs of a bridge's port, of a message of family `AF_BRIDGE`; `None` if there are none in it.
fn port_vlans(payload: &[u8]) -> Result<Option<(u32, PortVlans)>, Malformed> {
    // BRIDGE_VLAN_INFO_*
    const PVID: u16 = 2;
    const UNTAGGED: u16 = 4;
    const RANGE_BEGIN: u16 = 8;
    const RANGE_END: u16 = 16;
    let ifindex = u32_at(payload, 4)?;
    let mut vlans = None;
    for attribute in Attributes::after(16, payload)? {
        let attribute = attribute?;
        if attribute.kind != IFLA_AF_SPEC {
            continue;
        }
        let (all, mut begin) = (vlans.get_or_insert_with(PortVlans::default), None);
        for attribute in attribute.nested() {
            let attribute = attribute?;
            if attribute.kind != IFLA_BRIDGE_VLAN_INFO {
                continue;
            }
            let [flags, vid] = [0, 2].map(|at| field(attribute.value, at).map(u16::from_ne_bytes));
            let (flags, vid) = (flags?, vid?);
            if flags & PVID != 0 {
                all.pvid = Some(vid);
            }
            if flags & RANGE_BEGIN != 0 {
                begin = Some(vid);
                continue;
            }
            let first = begin.take().filter(|_| flags & RANGE_END != 0).unwrap_or(vid);
            if flags & UNTAGGED != 0 && vid < 4096 {
                all.untagged.extend(first..=vid);
            }
        }
    }
    Ok(vlans.map(|vlans| (ifindex, vlans)))
}

/// The first four fields of `struct rtnl_link_stats64`; newer kernels append fields.
fn stats64(value: &[u8]) -> Result<KernelCounters, Malformed> {
    let at = |index: usize| u64_at(value, index * 8);
    Ok(KernelCounters { rx_packets: at(0)?, tx_packets: at(1)?, rx_bytes: at(2)?, tx_bytes: at(3)? })
}

/// `struct ifaddrmsg` and attributes. `None` for a message of another family.
fn address(payload: &[u8]) -> Result<Option<(u32, String)>, Malformed> {
    let [family, prefix_length] = field(payload, 0)?;
    let ifindex = u32_at(payload, 4)?;
    if !is_ip(family) {
        return Ok(None);
    }
    let (mut local, mut address) = (None, None);
    for attribute in Attributes::after(8, payload)? {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => local = Some(ip(family, attribute)?),
            IFA_ADDRESS => address = Some(ip(family, attribute)?),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other side's; IFA_LOCAL is always the device's own.
    let own = local.or(address).ok_or(Malformed)?;
    Ok(Some((ifindex, format!("{own}/{prefix_length}"))))
}

fn is_ip(family: u8) -> bool {
    matches!(i32::from(family), libc::AF_INET | libc::AF_INET6)
}

fn ip(family: u8, attribute: Attribute<'_>) -> Result<IpAddr, Malformed> {
    let address = attribute.ip()?;
    if address.is_ipv4() == (i32::from(family) == libc::AF_INET) { Ok(address) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests;
