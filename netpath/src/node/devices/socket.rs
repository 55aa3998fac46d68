//! Netlink sockets to rtnetlink: one for dumps, one that is sent changes.
//!
//! In: the calling thread's network namespace. Out: [`Message`]s, and errors. It must not interpret them, and sends
//! nothing but dump requests.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{Context as _, bail};
use libc::c_int;
use netlink_packet_core::{Emitable as _, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::message::{self, Message};

/// Room for the largest datagram: the kernel fills at most 32 KiB in a dump.
const DATAGRAM_BYTES: usize = 64 << 10;
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

/// `struct nlmsghdr`, then the subject's own header: all zeros but for the family.
fn request(subject: Subject, sequence: u32) -> Vec<u8> {
    let (message_type, family, body_bytes) = match subject {
        Subject::Links => (libc::RTM_GETLINK, 0, 16),
        Subject::Addresses => (libc::RTM_GETADDR, 0, 8),
        Subject::Routes(family) => (libc::RTM_GETROUTE, family, 12),
    };
    let mut header = NetlinkHeader::default();
    header.length = 16 + body_bytes;
    header.message_type = message_type;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let mut bytes = vec![0; header.length as usize];
    header.emit(&mut bytes);
    bytes[16] = family;
    bytes
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

/// A socket that is sent every change of links, addresses and routes.
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
            | libc::RTMGRP_IPV6_ROUTE;
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

/// Receives one datagram of the kernel; `None` if it was cut off.
fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.recv_from(&mut &mut *buffer, libc::MSG_TRUNC) {
            // A process may send to a netlink socket, too.
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok((length, _)) => return Ok((length <= buffer.len()).then_some(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sizes the receive buffer, regardless of `net.core.rmem_max` where that is permitted (`CAP_NET_ADMIN`).
fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let value = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "a c_int has 4 bytes")]
    let value_bytes = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads one `c_int` from the pointer during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const value).cast(),
            value_bytes,
        )
    };
    if result == 0 { Ok(()) } else { socket.set_rx_buf_sz(value) }
}
