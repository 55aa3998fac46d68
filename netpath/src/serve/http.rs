//! HTTP/1.1 for those who scrape and look: `/metrics`, `/report`, `/healthz`, `/readyz`, and a page that lists them.
//!
//! In: connections from anybody. Out: what there is. Bounded in all that a client can do: bytes of a request, time, connections.
//! Nothing a client does makes measuring wait.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, spawn};
use tokio::time::{sleep, timeout};

use super::page;
use super::prometheus::{Exposition, Format};
use super::state::State;
use crate::report::Report;

/// For the request line and all headers.
const HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// Within which a client must have sent its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Within which it must have read the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);
/// Of further ones, the oldest has to go.
const MAX_CONNECTIONS: usize = 64;
/// Reports that are written at once: of 65,536 flows it takes a second.
const MAX_REPORTS: usize = 2;
/// Parts that a report is sent in, and how many wait to be sent.
const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS: usize = 4;

type Answer = Response<Either<Full<Bytes>, Chunks>>;

/// What is served.
#[derive(Debug)]
pub struct Site {
    state: Arc<State>,
    exposition: Exposition,
    reports: Arc<Semaphore>,
    node: String,
}

impl Site {
    /// Of this state, on the node of this name.
    #[must_use]
    pub fn new(state: Arc<State>, node: String) -> Self {
        let exposition = Exposition::new(Arc::clone(&state));
        Self { state, exposition, reports: Arc::new(Semaphore::new(MAX_REPORTS)), node }
    }

    /// Answers until the future is dropped. Must be called in a tokio runtime.
    pub async fn serve(self, listener: std::net::TcpListener) -> io::Result<Infallible> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let site = Arc::new(self);
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    if open.len() >= MAX_CONNECTIONS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    open.push_back(spawn(connection(Arc::clone(&site), stream)).abort_handle());
                }
                Err(error) => {
                    // No descriptor is left, or the client has gone already.
                    log::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/" => with_type("text/html; charset=utf-8", page::page(&self.state)),
            "/metrics" => {
                let accepted = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                let format = Format::accepted(accepted);
                match self.exposition.text(format) {
                    Ok(metrics) => with_type(format.content_type(), metrics),
                    Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
                }
            }
            "/report" if names_this_node(request.headers().get(HOST), &self.node) => self.report().await,
            "/report" => {
                text(StatusCode::MISDIRECTED_REQUEST, "ask for it by an IP address, localhost or the node's name\n")
            }
            "/healthz" if self.state.is_well() => text(StatusCode::OK, "ok\n"),
            "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "the last window is overdue\n"),
            "/readyz" if self.state.is_open() => text(StatusCode::OK, "ok\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "attaching to the devices\n"),
            _ => text(StatusCode::NOT_FOUND, "there is /, /metrics, /report, /healthz and /readyz\n"),
        }
    }

    async fn report(&self) -> Answer {
        let Some(report) = self.state.report().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the first window has not ended yet; try again later\n");
        };
        let Ok(permit) = Arc::clone(&self.reports).try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "others read the report; try again later\n");
        };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        // It waits for the client. When the connection ends, so does it.
        let writing = std::thread::Builder::new().name("report".into()).spawn(move || {
            let _ = write(&report, Sender(sender));
            drop(permit);
        });
        match writing {
            Ok(_) => answer(StatusCode::OK, "application/json", Either::Right(Chunks(chunks))),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "no thread can be started\n"),
        }
    }
}

async fn connection(site: Arc<Site>, stream: TcpStream) {
    let answer = service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(site.answer(&request).await));
    // One request each: nobody holds a connection for later.
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.max_buf_size(HEAD_BYTES).max_headers(MAX_HEADERS);
    if let Ok(Err(error)) = timeout(CONNECTION_TIMEOUT, builder.serve_connection(TokioIo::new(stream), answer)).await {
        log::debug!("a connection ended: {error}");
    }
}

/// Whether a request's `Host` is the node's, or none. Of another name a page in somebody's browser may have made it, by a name of the
/// page's own that leads here (DNS rebinding), to read what addresses this node talks to.
fn names_this_node(host: Option<&HeaderValue>, node: &str) -> bool {
    let Some(host) = host else { return true };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok() || ["localhost", node].iter().any(|name| host.eq_ignore_ascii_case(name))
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Either::Left(Full::new(Bytes::from_static(text.as_bytes()))))
}

fn with_type(content_type: &'static str, text: String) -> Answer {
    answer(StatusCode::OK, content_type, Either::Left(Full::new(text.into())))
}

fn answer(status: StatusCode, content_type: &'static str, body: Either<Full<Bytes>, Chunks>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn write(report: &Report, to: Sender) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(CHUNK_BYTES, to);
    serde_json::to_writer(&mut to, report)?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Sends what is written to a connection. Blocks while enough waits.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Bytes::copy_from_slice(part)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer that is written meanwhile.
#[derive(Debug)]
struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_names_get_no_report() {
        let allows = |host| names_this_node(Some(&HeaderValue::from_static(host)), "ip-10-0-0-5.ec2.internal");
        for host in ["10.0.0.5:9456", "10.0.0.5", "[::1]:9456", "localhost:8080", "IP-10-0-0-5.ec2.internal:9456"] {
            assert!(allows(host), "{host}");
        }
        for host in ["rebound.example:9456", "localhost.example", "10.0.0.5.example", "", "a b"] {
            assert!(!allows(host), "{host}");
        }
        assert!(names_this_node(None, "node"));
    }
}
