//! Sockets: one to send and receive with, and one that is notified of changes.
//!
//! In: the calling thread's network namespace. Out: the kernel's datagrams; those of processes are dropped.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::SocketAddr;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

/// Room for the largest datagram: the kernel fills at most 32 KiB in a dump.
const DATAGRAM_BYTES: usize = 64 << 10;

/// A bound socket, and room for a datagram.
#[derive(Debug)]
pub(super) struct Socket {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket to a part of the kernel (`NETLINK_*`).
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        Ok(Self { socket, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Sends to the kernel.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to(message, &SocketAddr::new(0, 0), 0).map(drop)
    }

    /// Receives one datagram of the kernel; `None` if it was truncated.
    pub fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            match self.socket.recv_from(&mut &mut *self.buffer, libc::MSG_TRUNC) {
                // A process may send to a netlink socket, too.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => return Ok(self.buffer.get(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What [`Subscription::receive`] finds.
#[derive(Debug)]
pub enum Received<'a> {
    /// One datagram.
    Datagram(&'a [u8]),
    /// A datagram that did not fit: what was in it is lost.
    Truncated,
    /// None is waiting.
    Empty,
    /// The receive buffer was full, and the kernel dropped datagrams. It drops on until the buffer has been read empty.
    Overrun,
}

/// A socket that receives notifications.
#[derive(Debug)]
pub struct Subscription(Socket);

impl Subscription {
    /// Subscribes to multicast groups, by their numbers. `buffer_bytes` is how much may wait; the kernel doubles it for its own
    /// overhead.
    pub fn open(protocol: isize, groups: &[u32], buffer_bytes: usize) -> io::Result<Self> {
        let socket = Socket::open(protocol)?;
        set_receive_buffer(&socket.socket, buffer_bytes)?;
        socket.socket.set_non_blocking(true)?;
        for group in groups {
            socket.socket.add_membership(*group)?;
        }
        Ok(Self(socket))
    }

    /// Reads one datagram without waiting.
    pub fn receive(&mut self) -> io::Result<Received<'_>> {
        match self.0.receive() {
            Ok(Some(datagram)) => Ok(Received::Datagram(datagram)),
            Ok(None) => Ok(Received::Truncated),
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
        self.0.socket.as_raw_fd()
    }
}

/// Whether the kernel has a part that answers on this protocol (`NETLINK_*`) in the network namespace of the calling thread.
/// Opening a socket to one that is missing would load its module.
pub fn is_served(protocol: isize) -> io::Result<bool> {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink")?;
    Ok(has_kernel_socket(&sockets, protocol))
}

/// The kernel's own sockets have port 0 (`netlink_seq_show` in `net/netlink/af_netlink.c`: address, protocol, port, …).
fn has_kernel_socket(sockets: &str, protocol: isize) -> bool {
    sockets.lines().any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        columns.next().is_some_and(|column| column.parse() == Ok(protocol)) && columns.next() == Some("0")
    })
}

/// Sizes the receive buffer, regardless of `net.core.rmem_max` where that is permitted (`CAP_NET_ADMIN`, and not in a
/// container's user namespace).
fn set_receive_buffer(socket: &netlink_sys::Socket, bytes: usize) -> io::Result<()> {
    set_socket_recv_buffer_size_force(socket, bytes).or_else(|_| set_socket_recv_buffer_size(socket, bytes))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_sockets_serve() {
        let sockets = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            00000000a528bb01 12  0          00000000 0        0        0     2        0        50703\n\
            00000000dad8b3cc 6   4711       00000000 0        0        0     2        0        50702\n";
        assert!(has_kernel_socket(sockets, 12));
        assert!(!has_kernel_socket(sockets, 6), "a process's");
        assert!(!has_kernel_socket(sockets, 0));
        assert!(!has_kernel_socket("", 12));
    }
}
