//! A plain HTTP/1.1 client, to ask servers in a namespace.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::Namespace;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Its body, put together if it came in chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// Its body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// Asks for a path by GET, with a header if there is one (`Accept: text/plain`).
///
/// # Errors
/// When nothing answers within a minute, or not by HTTP.
pub fn get(namespace: &Namespace, address: SocketAddr, path: &str, header: &str) -> Result<Answer> {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    request(namespace, address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n"))
}

/// Sends a request as it is, and reads what comes until the end.
///
/// # Errors
/// As [`get`].
pub fn request(namespace: &Namespace, address: SocketAddr, request: &str) -> Result<Answer> {
    let talk = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        stream.write_all(request.as_bytes())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        Ok(all)
    };
    parse(&namespace.run(talk)??)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no end of the headers")?;
    let head = std::str::from_utf8(&answer[..end])?.to_owned();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = &answer[end + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Answer { status, head, body: if is_chunked { joined(body)? } else { body.to_vec() } })
}

fn joined(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..end])?.trim(), 16)?;
        if length == 0 {
            return Ok(all);
        }
        all.extend(chunks.get(end + 2..end + 2 + length).context("a chunk that breaks off")?);
        chunks = &chunks[end + 2 + length + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        let answer =
            parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap();
        assert_eq!((answer.status, answer.text()), (200, "abcde"));
    }
}
