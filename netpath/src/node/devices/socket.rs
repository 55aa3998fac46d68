//! Netlink sockets to rtnetlink: one for dumps, one that is sent changes.
//!
//! In: the calling thread's network namespace. Out: [`Message`]s, and errors. It must not interpret them, and sends
//! nothing but dump requests.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context as _, bail};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::message::{self, Message};
use crate::node::netlink::{self, DATAGRAM_BYTES, receive, set_receive_buffer};

// linux/if_link.h, linux/rtnetlink.h; AF_BRIDGE as the byte that it is in a header.
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 1 << 2;
const AF_BRIDGE: u8 = 7;
/// `RTNLGRP_IPV4_RULE` and `RTNLGRP_IPV6_RULE` as bits of a group mask.
const RULE_GROUPS: i32 = 1 << (8 - 1) | 1 << (19 - 1);

/// How often a dump is asked for again that was interrupted by changes.
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

/// Dumps `subject`.
///
/// A dump during which things changed is repeated. If they never stop changing, the last one is taken as it is: what a
/// [`Subscription`] tells meanwhile completes it.
pub fn dump(subject: Subject) -> anyhow::Result<Vec<Message>> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("netlink socket")?;
    socket.bind_auto().context("netlink socket")?;
    let mut attempt = 1;
    loop {
        let (messages, interrupted) = dump_once(&socket, attempt, subject)?;
        if !interrupted || attempt == ATTEMPTS {
            return Ok(messages);
        }
        attempt += 1;
    }
}

fn dump_once(socket: &Socket, sequence: u32, subject: Subject) -> anyhow::Result<(Vec<Message>, bool)> {
    socket.send_to(&request(subject, sequence), &SocketAddr::new(0, 0), 0).context("netlink request")?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let (mut all, mut interrupted) = (Vec::new(), false);
    loop {
        let Some(length) = receive(socket, &mut buffer).context("netlink answer")? else {
            bail!("netlink answer: cut off");
        };
        for message in message::messages(&buffer[..length]) {
            match message {
                Message::Done => return Ok((all, interrupted)),
                Message::Interrupted => interrupted = true,
                Message::Refused(errno) => {
                    return Err(io::Error::from_raw_os_error(errno)).context("netlink refuses the request");
                }
                Message::Malformed => {
                    bail!("netlink answered with a {subject:?} message that netpath cannot read; please report this")
                }
                other => all.push(other),
            }
        }
    }
}

/// A dump request: the subject's own header is all zeros but for the family.
fn request(subject: Subject, sequence: u32) -> Vec<u8> {
    let (message_type, family, body_bytes) = match subject {
        Subject::PortVlans => (libc::RTM_GETLINK, AF_BRIDGE, 24),
        Subject::Rules(family) => (libc::RTM_GETRULE, family, 12),
        Subject::Links => (libc::RTM_GETLINK, 0, 16),
        Subject::Addresses => (libc::RTM_GETADDR, 0, 8),
        Subject::Routes(family) => (libc::RTM_GETROUTE, family, 12),
    };
    let mut body = vec![0; body_bytes];
    body[0] = family;
    if let Subject::PortVlans = subject {
        // `struct ifinfomsg` is followed by one attribute.
        body[16..18].copy_from_slice(&8u16.to_ne_bytes());
        body[18..20].copy_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
        body[20..].copy_from_slice(&RTEXT_FILTER_BRVLAN_COMPRESSED.to_ne_bytes());
    }
    netlink::message(message_type, NLM_F_REQUEST | NLM_F_DUMP, sequence, &body)
}

/// What waits at a [`Subscription`].
#[derive(Debug)]
pub enum Received {
    /// Changes, in order.
    Messages(Vec<Message>),
    /// Nothing.
    Empty,
    /// The receive buffer was full, and the kernel dropped changes. It drops on until the buffer was read empty.
    Overrun,
}

/// A socket that is sent every change of links, addresses, routes and rules.
#[derive(Debug)]
pub struct Subscription {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Subscription {
    /// Subscribes. `buffer_bytes` is how much may wait; the kernel doubles it for its own overhead.
    pub fn open(buffer_bytes: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        set_receive_buffer(&socket, buffer_bytes)?;
        socket.set_non_blocking(true)?;
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV6_ROUTE
            | RULE_GROUPS;
        socket.bind(&SocketAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Reads one datagram without waiting.
    pub fn receive(&mut self) -> io::Result<Received> {
        match receive(&self.socket, &mut self.buffer) {
            Ok(Some(length)) => Ok(Received::Messages(message::messages(&self.buffer[..length]))),
            Ok(None) => Ok(Received::Messages(vec![Message::Malformed])),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Received::Empty),
                Some(libc::ENOBUFS) => Ok(Received::Overrun),
                _ => Err(error),
            },
        }
    }
}

impl AsRawFd for Subscription {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
