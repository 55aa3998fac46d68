//! ICMP echo over IPv4 and IPv6 by raw sockets, with an identifier of the caller's choice.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::namespace::Namespace;

const REPLY_WITHIN: Duration = Duration::from_secs(1);
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// IPv4 raw sockets hand out the IP header too. It has no options here.
const IPV4_HEADER_BYTES: usize = 20;

/// Sends `count` echo requests with `payload_bytes` after the 8-byte ICMP header, each after the reply to the one before.
/// Returns how many replies came.
///
/// # Errors
/// When there is no route. A reply that does not come within one second is no error.
pub fn ping(sender: &Namespace, target: IpAddr, identifier: u16, count: u16, payload_bytes: usize) -> Result<u16> {
    let all = || {
        let socket = match target {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)),
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)),
        }?;
        let mut replies = 0;
        for sequence in 0..count {
            socket.send_to(
                &echo_request(target, identifier, sequence, payload_bytes),
                &SocketAddr::new(target, 0).into(),
            )?;
            replies += u16::from(reply_comes(&socket, target, identifier, sequence)?);
        }
        Ok::<_, io::Error>(replies)
    };
    sender.run(all)?.with_context(|| format!("cannot ping {target} from namespace {}", sender.name()))
}

fn echo_request(target: IpAddr, identifier: u16, sequence: u16, payload_bytes: usize) -> Vec<u8> {
    let kind = if target.is_ipv4() { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.resize(8 + payload_bytes, b'n');
    if target.is_ipv4() {
        // For ICMPv6 the kernel does it.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071: the complement of the one's complement sum of all 16-bit words.
fn checksum(message: &[u8]) -> u16 {
    !message.chunks(2).fold(0_u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

fn reply_comes(mut socket: &Socket, target: IpAddr, identifier: u16, sequence: u16) -> io::Result<bool> {
    let end = Instant::now() + REPLY_WITHIN;
    let (skip, kind) = if target.is_ipv4() { (IPV4_HEADER_BYTES, ECHO_REPLY_V4) } else { (0, ECHO_REPLY_V6) };
    let mut buffer = vec![0; 1 << 16];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let count = match socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        // The socket sees every ICMP message of the namespace.
        if let Some([found, 0, _, _, i0, i1, s0, s1, ..]) = buffer[..count].get(skip..)
            && *found == kind
            && u16::from_be_bytes([*i0, *i1]) == identifier
            && u16::from_be_bytes([*s0, *s1]) == sequence
        {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_message_with_its_checksum_is_zero() {
        for payload in [0, 1, 56, 9000] {
            let message = echo_request("10.0.0.1".parse().unwrap(), 0xffee, 3, payload);
            assert_eq!(checksum(&message), 0, "{payload} bytes");
        }
    }
}
