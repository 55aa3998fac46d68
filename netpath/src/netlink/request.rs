//! Requests to the kernel, one at a time, and what it answers.
//!
//! In: a request's type and body. Out: the type and body of each message of the answer, errors as the kernel's errno.

use std::io;
use std::time::Instant;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::attributes::{Malformed, field};
use super::message::{message, messages};
use super::socket::Socket;

/// A socket to ask through.
#[derive(Debug)]
pub struct Requester {
    socket: Socket,
    sequence: u32,
    deadline: Option<Instant>,
}

impl Requester {
    /// Opens a socket to rtnetlink in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Self::open_to(NETLINK_ROUTE)
    }

    /// Opens a socket to another part of the kernel (`NETLINK_*`).
    pub fn open_to(protocol: isize) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(protocol)?, sequence: 0, deadline: None })
    }

    /// Gives up an answer that is not complete by then, with [`io::ErrorKind::TimedOut`]. The requester is of no use afterwards:
    /// the rest of the answer still waits in its socket.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Asks for one thing. Blocks for the answer.
    pub fn get(&mut self, message_type: u16, body: &[u8], each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        // The acknowledgement ends the answer.
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

    /// As [`Self::dump`], for an answer that must be understood completely: `each` reads a message about `what`.
    pub fn dump_all(
        &mut self,
        message_type: u16,
        body: &[u8],
        what: &str,
        mut each: impl FnMut(u16, &[u8]) -> Result<(), Malformed>,
    ) -> io::Result<bool> {
        let mut read = Ok(());
        let interrupted = self.dump(message_type, body, |kind, body| read = read.and_then(|()| each(kind, body)))?;
        read.map_err(|Malformed| io::Error::other(format!("a message about {what} that netpath cannot read")))?;
        Ok(interrupted)
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
        self.socket.send(&request)?;
        let mut interrupted = false;
        loop {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let datagram = self.socket.receive()?.ok_or_else(|| io::Error::other("an answer was cut off"))?;
            if answers(datagram, self.sequence, &mut interrupted, &mut each)? == Answer::Done {
                return Ok(interrupted);
            }
        }
    }
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
    datagram: &[u8],
    sequence: u32,
    interrupted: &mut bool,
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<Answer> {
    for message in messages(datagram) {
        let message = message?;
        if message.sequence != sequence {
            continue;
        }
        *interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        match message.kind {
            // Both carry a negative errno, or 0 for success.
            NLMSG_DONE | NLMSG_ERROR => {
                return match field(message.body, 0).map(i32::from_ne_bytes)? {
                    0.. => Ok(Answer::Done),
                    errno => Err(io::Error::from_raw_os_error(errno.wrapping_neg())),
                };
            }
            other => each(other, message.body),
        }
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
        let mut interrupted = false;
        let done = message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &0_i32.to_ne_bytes());
        assert_eq!(answers(&done, 7, &mut interrupted, |_, _| {}).expect("no error"), Answer::Done);
        assert!(interrupted);
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        let whole = message(OTHER, 0, 7, &[1; 40]);
        for length in 0..whole.len() {
            let mut seen = 0;
            let answer = answers(&whole[..length], 7, &mut false, |_, _| seen += 1);
            assert_eq!((answer.is_ok(), seen), (length == 0, 0), "{length}");
        }
        assert!(answers(&message(NLMSG_ERROR, 0, 7, &[]), 7, &mut false, |_, _| {}).is_err());
    }
}
