//! Unary gRPC calls over a Unix socket: what is needed to ask a container runtime, and no more.
//!
//! In: a socket, a method, a message. Out: the answer's message. One HTTP/2 connection (the h2 crate) without TLS, proxies,
//! retries or compression; a whole gRPC client would double netpath's dependencies. Deadlines are the caller's.

use std::path::Path;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use prost::Message;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// An answer may have this many bytes, as with containerd.
const ANSWER_BYTES: usize = 16 << 20;
/// What the server may send before it is read.
const WINDOW_BYTES: u32 = 1 << 20;
/// A flag for compression, and the message's length.
const PREFIX_BYTES: usize = 5;

/// A call failed.
#[derive(Debug, Error)]
pub enum GrpcError {
    /// Nothing listens at the socket, or netpath may not connect.
    #[error("{0}")]
    Connect(std::io::Error),
    /// What answers does not speak gRPC.
    #[error("{0}")]
    Protocol(String),
    /// The server refuses: its status code (google.rpc.Code) and message.
    #[error("it answers with an error: {message} (gRPC status {code})")]
    Status {
        /// `google.rpc.Code`.
        code: String,
        /// The server's message.
        message: String,
    },
}

impl From<h2::Error> for GrpcError {
    fn from(error: h2::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A connection to a server. Calls may be made at the same time.
#[derive(Debug)]
pub struct Channel {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Channel {
    /// Connects to the socket at `path`, in a tokio runtime.
    pub async fn connect(path: &Path) -> Result<Self, GrpcError> {
        let stream = UnixStream::connect(path).await.map_err(GrpcError::Connect)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(64 << 10)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // The calls have the error.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { requests, connection })
    }

    /// Calls `method`: `/package.Service/Method`.
    pub async fn call<A: Message + Default>(&self, method: &str, question: &impl Message) -> Result<A, GrpcError> {
        let protocol = |error: http::Error| GrpcError::Protocol(error.to_string());
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(protocol)?;
        let (response, mut body) = self.requests.clone().ready().await?.send_request(request, false)?;
        body.send_data(framed(question)?, true)?;

        let (head, mut body) = response.await?.into_parts();
        if !head.status.is_success() {
            return Err(GrpcError::Protocol(format!("it answers with HTTP status {}", head.status.as_u16())));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            if bytes.len() + chunk.len() > ANSWER_BYTES + PREFIX_BYTES {
                return Err(GrpcError::Protocol(format!("its answer is larger than {} MiB", ANSWER_BYTES >> 20)));
            }
            // Opens the flow-control window.
            body.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        // An error without a body has its status among the headers.
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        check(&trailers)?;
        parse(&bytes)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn framed(message: &impl Message) -> Result<Bytes, GrpcError> {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).map_err(|error| GrpcError::Protocol(error.to_string()))?);
    message.encode(&mut bytes).map_err(|error| GrpcError::Protocol(error.to_string()))?;
    Ok(bytes.freeze())
}

fn check(trailers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |name: &str| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    match text("grpc-status") {
        Some(code) if code == "0" => Ok(()),
        Some(code) => Err(GrpcError::Status { code, message: text("grpc-message").unwrap_or_default() }),
        None => Err(GrpcError::Protocol("its answer has no gRPC status".to_owned())),
    }
}

/// The message in an answer's body, behind its prefix.
pub(super) fn parse<A: Message + Default>(bytes: &[u8]) -> Result<A, GrpcError> {
    let wrong = |why: &str| GrpcError::Protocol(format!("its answer is no gRPC message: {why}"));
    let (prefix, message) = bytes.split_at_checked(PREFIX_BYTES).ok_or_else(|| wrong("it is too short"))?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(wrong("it is compressed, or not as long as its header says"));
    }
    A::decode(message).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Note {
        #[prost(string, tag = "1")]
        text: String,
    }

    #[test]
    fn frames() {
        let note = Note { text: "héllo".to_owned() };
        let bytes = framed(&note).expect("short");
        assert_eq!(parse::<Note>(&bytes).expect("whole"), note);
        for end in 0..bytes.len() {
            assert!(parse::<Note>(&bytes[..end]).is_err(), "cut at {end}");
        }
        for (at, byte) in [(0, 1), (4, 200), (1, 255), (5, 0xff), (7, 0xff)] {
            let mut bytes = bytes.to_vec();
            bytes[at] = byte;
            assert!(parse::<Note>(&bytes).is_err(), "byte {at} is {byte}");
        }
    }
}
