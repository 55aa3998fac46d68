//! Netlink sockets to conntrack: one that receives events, one that dumps.
//!
//! In: the calling thread's network namespace. Out: datagrams, and errors by kind. Two sockets, so that a dump does not
//! compete with events for room in the receive buffer. It must not interpret connections.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::ConntrackError;
use super::message::{self, CT_GET, Message, NFGENMSG_BYTES};
use crate::node::netlink::{self, set_receive_buffer};

/// `NFNLGRP_CONNTRACK_NEW`, `NFNLGRP_CONNTRACK_DESTROY`.
const EVENT_GROUPS: [u32; 2] = [1, 3];

/// What [`Events::receive`] found.
#[derive(Debug)]
pub enum Received<'a> {
    /// One datagram of the kernel.
    Datagram(&'a [u8]),
    /// A datagram that did not fit, or was not the kernel's: nothing to read.
    Unusable,
    /// Nothing waits.
    Empty,
    /// The receive buffer was full, and the kernel dropped events. It drops on until the buffer was read empty.
    Overrun,
}

/// A socket that is sent new and ended connections.
#[derive(Debug)]
pub struct Events(Socket);

impl Events {
    /// Subscribes. `buffer_bytes` is how much may wait; the kernel doubles it for its own overhead.
    pub fn subscribe(buffer_bytes: usize) -> Result<Self, ConntrackError> {
        let socket = open()?;
        set_receive_buffer(&socket, buffer_bytes).map_err(|e| ConntrackError::from_io("size the buffer", e))?;
        socket.set_non_blocking(true).map_err(|e| ConntrackError::from_io("configure the socket", e))?;
        for group in EVENT_GROUPS {
            socket.add_membership(group).map_err(|e| ConntrackError::from_io("subscribe to events", e))?;
        }
        Ok(Self(socket))
    }

    /// Reads one datagram without waiting.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        match receive(&self.0, buffer) {
            Ok(Some(length)) => Ok(Received::Datagram(&buffer[..length])),
            Ok(None) => Ok(Received::Unusable),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(Received::Empty),
                Some(libc::ENOBUFS) => Ok(Received::Overrun),
                _ => Err(error),
            },
        }
    }
}

/// A socket for dumps.
#[derive(Debug)]
pub struct Dumps {
    socket: Socket,
    sequence: u32,
}

impl Dumps {
    /// Opens the socket.
    pub fn open() -> Result<Self, ConntrackError> {
        Ok(Self { socket: open()?, sequence: 0 })
    }

    /// Dumps every connection, IPv4 and IPv6, of all zones, and calls `each` with its messages.
    pub fn dump(&mut self, buffer: &mut [u8], mut each: impl FnMut(Message)) -> Result<(), ConntrackError> {
        let failed = |error| ConntrackError::from_io("dump", error);
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&request(self.sequence), &SocketAddr::new(0, 0), 0).map_err(failed)?;
        loop {
            let Some(length) = receive(&self.socket, buffer).map_err(failed)? else {
                each(Message::Malformed);
                continue;
            };
            for message in message::messages(&buffer[..length]) {
                match message {
                    Message::Done => return Ok(()),
                    Message::Error(errno) if errno != 0 => return Err(failed(io::Error::from_raw_os_error(errno))),
                    other => each(other),
                }
            }
        }
    }
}

fn open() -> Result<Socket, ConntrackError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(|e| ConntrackError::from_io("open a socket", e))?;
    socket.bind_auto().map_err(|e| ConntrackError::from_io("bind the socket", e))?;
    Ok(socket)
}

/// A dump request. Its `struct nfgenmsg` is all zeros, which means `AF_UNSPEC` and `NFNETLINK_V0`.
fn request(sequence: u32) -> Vec<u8> {
    netlink::message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, &[0; NFGENMSG_BYTES])
}

/// Receives one datagram; `None` if it was cut off or came from a process instead of the kernel.
fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.recv_from(&mut &mut *buffer, libc::MSG_TRUNC) {
            Ok((length, sender)) => return Ok((length <= buffer.len() && sender.port_number() == 0).then_some(length)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
