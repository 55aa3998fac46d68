//! The messages of a datagram.

use netlink_packet_core::{Emitable as _, NetlinkBuffer, NetlinkHeader};

use super::Malformed;

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of one datagram, in order. Nothing follows one whose length is wrong.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Err(Malformed));
        };
        let length = message.length() as usize;
        let body = rest.get(HEADER_BYTES..length).unwrap_or_default();
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags, sequence) = (message.message_type(), message.flags(), message.sequence_number());
        Some(Ok(Message { kind, flags, sequence, body }))
    })
}

/// A message as it is sent.
#[must_use]
pub fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    (header.message_type, header.flags, header.sequence_number) = (kind, flags, sequence);
    let mut bytes = vec![0; HEADER_BYTES];
    header.emit(&mut bytes);
    bytes.extend(body);
    bytes
}
