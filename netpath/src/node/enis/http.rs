//! HTTP/1.1 to the services of the node itself: few, small, bounded questions.
//!
//! In: an address. Out: an answer's status and body, or why there is none. No names are resolved, no redirect is followed,
//! no proxy is asked. It must not wait without an end: the caller sets the time within which everything has to be done.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::HOST;
use hyper::http::request;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Failure;
use crate::model::SourceState;
use crate::snapshot::Tuple;

/// For the status line and the headers.
const HEAD_BYTES: usize = 32 << 10;
/// IANA protocol number.
const IPPROTO_TCP: u8 = 6;

/// A connection. Questions go over it one after the other; a server that closes it is connected to again.
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    own: OwnConnections,
}

/// The TCP connections that netpath made, as it sends, so that they can be kept apart from the node's.
#[derive(Clone, Debug, Default)]
pub struct OwnConnections(Arc<Mutex<Vec<Tuple>>>);

impl OwnConnections {
    fn add(&self, local: SocketAddr, remote: SocketAddr) {
        let (src, sport, dst, dport) = (local.ip(), local.port(), remote.ip(), remote.port());
        let tuple = Tuple { proto: IPPROTO_TCP, src, sport, dst, dport };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(tuple);
    }

    /// Those made so far.
    pub fn tuples(&self) -> Vec<Tuple> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a server answered.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unconnected {
    /// Refused, no route, or no answer in time.
    Unreachable(io::Error),
    /// Something on this node forbids it.
    Forbidden(io::Error),
}

impl Connection {
    /// Connects within `within`, and adds the connection to netpath's own.
    pub async fn open(address: SocketAddr, within: Duration, own: OwnConnections) -> Result<Self, Unconnected> {
        let stream = match timeout(within, connect(address, &own)).await {
            Err(_) => return Err(Unconnected::Unreachable(io::ErrorKind::TimedOut.into())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Unconnected::Forbidden(error));
            }
            Ok(Err(error)) => return Err(Unconnected::Unreachable(error)),
            Ok(Ok(stream)) => stream,
        };
        // Closed with a reset: the packets by which two sides part would fall into the window that is measured.
        let reset = stream.set_zero_linger();
        let shaken = Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = reset.and(shaken.map_err(io::Error::other)).map_err(Unconnected::Unreachable)?;
        // It ends with the sender, or with the runtime. The sender gets its errors.
        tokio::spawn(connection);
        Ok(Self { address, sender, own })
    }

    /// Asks for `path`, with `headers`. An answer of more than `limit` bytes is none.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        limit: usize,
    ) -> Result<Answer, Failure> {
        if self.sender.ready().await.is_err() {
            let again = Self::open(self.address, Duration::MAX, self.own.clone()).await;
            *self = again.map_err(|_| Failure::malformed("it closes connections without an answer"))?;
        }
        let host = (HOST.as_str(), &*self.address.to_string());
        let request = headers
            .iter()
            .chain([&host])
            .fold(Request::builder().method(method).uri(path), |request: request::Builder, (name, value)| {
                request.header(*name, *value)
            })
            .body(Empty::new())
            .map_err(|_| Failure::malformed("it sent a value that cannot be part of a request"))?;
        let answer = self.sender.send_request(request).await.map_err(|error| not_http(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::malformed(format!("its answer is longer than {limit} bytes"))
            } else {
                Failure::malformed("its answer broke off")
            }
        })?;
        Ok(Answer { status, body: body.to_bytes() })
    }
}

/// Connects, and adds the connection to netpath's own before it is known whether anybody answers.
async fn connect(address: SocketAddr, own: &OwnConnections) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = std::net::TcpStream::from(socket);
    own.add(stream.local_addr()?, address);
    let stream = TcpStream::from_std(stream)?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

impl Answer {
    /// The body, if all is well.
    pub fn ok(self) -> Result<Bytes, Failure> {
        match self.status {
            StatusCode::OK => Ok(self.body),
            status => Err(Failure::status(status)),
        }
    }
}

fn not_http(error: &hyper::Error) -> Failure {
    Failure::malformed(if error.is_parse() {
        "its answer is not HTTP, or begins with too much of it"
    } else {
        "it closed the connection without an answer"
    })
}

impl Failure {
    /// The server is there, and answers with an error.
    pub(super) fn status(status: StatusCode) -> Self {
        // The number alone: the words behind it are the server's.
        Self { state: SourceState::Refused, reason: format!("it answers with status {}", status.as_u16()) }
    }
}

impl Unconnected {
    /// `unreachable`: what it means if there is no server.
    pub fn failure(&self, unreachable: &str) -> Failure {
        match self {
            Self::Unreachable(error) => Failure::absent(format!("{unreachable} ({})", error.kind())),
            Self::Forbidden(error) => Failure {
                state: SourceState::Refused,
                reason: format!("this node forbids connecting to it ({}); look at its firewall", error.kind()),
            },
        }
    }
}
