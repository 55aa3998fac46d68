//! Asks the kernel over netlink, one question at a time, and hands out what it answers; and what every netlink socket needs.
//!
//! In: a request's type and body. Out: the type and body of each message of the answer, errors as the kernel's errno. It
//! must not know what a message means.

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use netlink_packet_core::{Emitable as _, NetlinkBuffer, NetlinkHeader, NlasIterator};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Room for the largest datagram: the kernel fills at most 32 KiB in a dump.
pub(super) const DATAGRAM_BYTES: usize = 64 << 10;

/// A socket to ask through.
#[derive(Debug)]
pub struct Requester {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    deadline: Option<Instant>,
}

impl Requester {
    /// Opens a socket to rtnetlink in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Self::open_to(NETLINK_ROUTE)
    }

    /// Opens a socket to another part of the kernel (`NETLINK_*`).
    pub fn open_to(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM_BYTES], deadline: None })
    }

    /// Gives up an answer that is not complete by then, with [`io::ErrorKind::TimedOut`]. The requester is of no use afterwards:
    /// the rest of the answer still waits in its socket.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Asks for one thing. Blocks for the answer.
    pub fn get(&mut self, message_type: u16, body: &[u8], each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        // The acknowledgement tells that there is no more to come.
        self.ask(message_type, NLM_F_ACK, body, each).map(drop)
    }

    /// Makes something that is not there yet (else `EEXIST`). Blocks for the answer.
    pub fn create(&mut self, message_type: u16, body: &[u8]) -> io::Result<()> {
        self.ask(message_type, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body, |_, _| {}).map(drop)
    }

    /// Asks for all there is of something. Blocks for the answer. Returns whether things changed meanwhile, so that some may
    /// be missing.
    pub fn dump(&mut self, message_type: u16, body: &[u8], each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        self.ask(message_type, NLM_F_DUMP, body, each)
    }

    fn ask(
        &mut self,
        message_type: u16,
        flags: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = message(message_type, NLM_F_REQUEST | flags, self.sequence, body);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        let mut interrupted = false;
        loop {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let length = receive(&self.socket, &mut self.buffer)?;
            let length = length.ok_or_else(|| io::Error::other("an answer was cut off"))?;
            if answers(&self.buffer[..length], self.sequence, &mut interrupted, &mut each)? == Answer::Done {
                return Ok(interrupted);
            }
        }
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

/// Receives one datagram of the kernel; `None` if it was cut off.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<usize>> {
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

/// Sizes the receive buffer, regardless of `net.core.rmem_max` where that is permitted (`CAP_NET_ADMIN`, and not in a
/// container's user namespace).
pub(super) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "a c_int has 4 bytes")]
    let value_bytes = size_of::<libc::c_int>() as libc::socklen_t;
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

/// The value of the first attribute of this kind.
pub(crate) fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == kind)?;
    let length = usize::from(found.length());
    // The value begins behind length and kind.
    found.into_inner().get(4..length)
}

/// The text in an attribute, up to its NUL, with U+FFFD for bytes that are not UTF-8.
pub(crate) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(c_string(bytes)).into_owned()
}

/// The bytes in an attribute, up to its NUL.
pub(crate) fn c_string(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A message: `struct nlmsghdr` and its body.
pub(super) fn message(message_type: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    (header.message_type, header.flags, header.sequence_number) = (message_type, flags, sequence);
    let mut bytes = vec![0; HEADER_BYTES];
    header.emit(&mut bytes);
    bytes.extend(body);
    bytes
}

/// Whether the kernel is done.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// It is.
    Done,
    /// More will follow.
    More,
}

/// Reads the messages of one datagram that answer request `sequence`, and hands type and body of each to `each`.
pub fn answers(
    mut datagram: &[u8],
    sequence: u32,
    interrupted: &mut bool,
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<Answer> {
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        if message.sequence_number() == sequence {
            let body = message.payload();
            *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                // Both carry a negative errno, or 0 for an end as it should be.
                NLMSG_DONE | NLMSG_ERROR => {
                    return match body.first_chunk().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes)) {
                        0.. => Ok(Answer::Done),
                        errno => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
                    };
                }
                other => each(other, body),
            }
        }
        let length = message.length() as usize;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: u16 = 92;

    #[test]
    fn each_answer_once_and_no_other() {
        let mut datagram = message(OTHER, 0, 7, &[2; 5]);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
        datagram.extend(message(OTHER, 0, 6, &[3; 4]));
        datagram.extend(message(OTHER, NLM_F_DUMP_INTR, 7, &[4; 4]));
        let (mut seen, mut interrupted) = (Vec::new(), false);
        let answer = answers(&datagram, 7, &mut interrupted, |kind, body| seen.push((kind, body.to_vec())));
        assert_eq!(answer.expect("no error"), Answer::More);
        assert!(interrupted);
        assert_eq!(seen, [(OTHER, vec![2; 5]), (OTHER, vec![4; 4])]);
    }

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

    #[test]
    fn an_answer_that_comes_too_late_is_given_up() {
        let mut requester = Requester::open().expect("a socket").until(Instant::now());
        let error = requester.dump(libc::RTM_GETLINK, &[0; 16], |_, _| {}).expect_err("too late");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn ends_and_errors() {
        let read = |kind, errno: i32| answers(&message(kind, 0, 7, &errno.to_ne_bytes()), 7, &mut false, |_, _| {});
        assert_eq!(read(NLMSG_DONE, 0).expect("no error"), Answer::Done);
        assert_eq!(read(NLMSG_ERROR, 0).expect("an acknowledgement"), Answer::Done);
        for kind in [NLMSG_DONE, NLMSG_ERROR] {
            assert_eq!(read(kind, -libc::ENODEV).expect_err("an error").raw_os_error(), Some(libc::ENODEV));
        }
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        let whole = message(OTHER, 0, 7, &[1; 40]);
        for length in 0..whole.len() {
            let mut seen = 0;
            let answer = answers(&whole[..length], 7, &mut false, |_, _| seen += 1);
            assert_eq!((answer.expect("no error"), seen), (Answer::More, 0), "{length}");
        }
        assert!(answers(&message(NLMSG_ERROR, 0, 7, &[]), 7, &mut false, |_, _| {}).is_err());
    }
}
