//! What rtnetlink lists: links, addresses, routes, rules, VLANs of ports; and what it notifies of.
//!
//! In: the calling thread's network namespace. Out: [`Message`]s, and errors. It must not interpret them.

use std::fmt;
use std::io;

use anyhow::Context as _;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{self, Message};
use crate::netlink::attributes::attribute;
use crate::netlink::{Requester, Subscription};

// linux/if_link.h, linux/rtnetlink.h; AF_BRIDGE as the byte that it is in a header.
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 1 << 2;
const AF_BRIDGE: u8 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`, `_IPV6_RULE`.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// How often a dump is tried if changes interrupt it.
const ATTEMPTS: u32 = 5;

/// What to dump.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// Links with their counters.
    Links,
    /// Addresses, IPv4 and IPv6.
    Addresses,
    /// Routes of one family (`AF_INET`, `AF_INET6`).
    Routes(u8),
    /// Routing rules of one family.
    Rules(u8),
    /// VLANs of bridges and their ports.
    PortVlans,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family: u8| if i32::from(family) == libc::AF_INET6 { "IPv6" } else { "IPv4" };
        match self {
            Self::Links => f.write_str("links"),
            Self::Addresses => f.write_str("addresses"),
            Self::Routes(family) => write!(f, "{} routes", ip(*family)),
            Self::Rules(family) => write!(f, "{} routing rules", ip(*family)),
            Self::PortVlans => f.write_str("VLANs of bridges"),
        }
    }
}

/// Dumps `subject`.
///
/// A dump during which things changed is repeated. If they never stop changing, the last one is taken as it is: notifications
/// complete it.
pub fn dump(subject: Subject) -> anyhow::Result<Vec<Message>> {
    let (message_type, body) = request(subject);
    let what = subject.to_string();
    let mut requester = Requester::open().context("netlink socket")?;
    let mut attempt = 1;
    loop {
        let mut all = Vec::new();
        let interrupted = requester.dump_all(message_type, &body, &what, |kind, body| {
            all.push(message::read(kind, 0, body)?);
            Ok(())
        });
        if !interrupted.with_context(|| format!("netlink dump of {what}"))? || attempt == ATTEMPTS {
            return Ok(all);
        }
        attempt += 1;
    }
}

/// Type and body of a dump request: the subject's own header is all zeros but for the family.
fn request(subject: Subject) -> (u16, Vec<u8>) {
    let (message_type, family, header_bytes) = match subject {
        Subject::PortVlans => (libc::RTM_GETLINK, AF_BRIDGE, 16),
        Subject::Rules(family) => (libc::RTM_GETRULE, family, 12),
        Subject::Links => (libc::RTM_GETLINK, 0, 16),
        Subject::Addresses => (libc::RTM_GETADDR, 0, 8),
        Subject::Routes(family) => (libc::RTM_GETROUTE, family, 12),
    };
    let mut body = vec![0; header_bytes];
    body[0] = family;
    if let Subject::PortVlans = subject {
        body.extend(attribute(IFLA_EXT_MASK, &RTEXT_FILTER_BRVLAN_COMPRESSED.to_ne_bytes()));
    }
    (message_type, body)
}

/// Subscribes to every change of links, addresses, routes and rules. `buffer_bytes`: see [`Subscription::open`].
pub fn subscribe(buffer_bytes: usize) -> io::Result<Subscription> {
    Subscription::open(NETLINK_ROUTE, &GROUPS, buffer_bytes)
}
