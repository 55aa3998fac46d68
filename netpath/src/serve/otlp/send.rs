//! Sends what waits, one request of a signal at a time.
//!
//! In: outboxes. Out: requests over HTTP/1.1. A connection is open while there is something to send. A request that fails goes back
//! into its outbox, and is taken out again later. Metrics and logs do not wait for each other.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answer::{self, Verdict};
use super::endpoint::Endpoint;
use super::{Loss, Outbox, queue};

/// Within which a request must have been answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For what is left when netpath ends.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// For the status line and the headers of an answer, and for what is behind them.
const HEAD_BYTES: usize = 16 << 10;
const BODY_BYTES: usize = 64 << 10;
/// Of what a collector says.
const MOST_LETTERS: usize = 200;

/// One for each signal.
#[derive(Debug)]
pub struct Senders([SignalSender; 2]);

/// Senders on their way.
#[derive(Debug)]
pub struct Sending {
    tasks: JoinSet<()>,
    ending: watch::Sender<bool>,
    outboxes: [Arc<Outbox>; 2],
}

impl Senders {
    pub(super) fn new(endpoint: &Endpoint, outboxes: [&Arc<Outbox>; 2]) -> Self {
        Self(outboxes.map(|outbox| SignalSender {
            endpoint: endpoint.clone(),
            outbox: Arc::clone(outbox),
            failures: 0,
            refused: None,
            has_rejected: false,
        }))
    }

    /// Begins to send what there is, and what comes. Must be called in a tokio runtime.
    #[must_use]
    pub fn start(self) -> Sending {
        let (ending, is_ending) = watch::channel(false);
        let outboxes = [&self.0[0], &self.0[1]].map(|sender| Arc::clone(&sender.outbox));
        let tasks = self.0.into_iter().map(|sender| sender.run(is_ending.clone())).collect();
        Sending { tasks, ending, outboxes }
    }
}

impl Sending {
    /// Sends what is left, for some seconds at most.
    pub async fn finish(mut self) {
        let _ = self.ending.send(true);
        let _ = timeout(END_TIMEOUT, async { while self.tasks.join_next().await.is_some() {} }).await;
        self.tasks.shutdown().await;
        for outbox in self.outboxes {
            let left = outbox.queue().left();
            if left > 0 {
                log::warn!("OTLP: {left} {} have no taker at the end; look after the collector", outbox.signal.items());
            }
        }
    }
}

/// Sends what is in an outbox.
#[derive(Debug)]
struct SignalSender {
    endpoint: Endpoint,
    outbox: Arc<Outbox>,
    /// How often it has failed since a request was answered.
    failures: u32,
    /// The status by which the collector refused a request.
    refused: Option<StatusCode>,
    /// The collector has taken a request, but not all of it.
    has_rejected: bool,
}

impl SignalSender {
    /// Ends once netpath ends and nothing is left.
    async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut connection = None;
        loop {
            if let Some(request) = self.outbox.take() {
                match self.deliver(&mut connection, &request.body).await {
                    Ok((_, Verdict::Taken { rejected, message })) => self.taken(request.items, rejected, &message),
                    Ok((status, Verdict::Never)) => self.refused(request.items, status),
                    Ok((status, Verdict::Later(asked))) => {
                        let why = format!("it answers with status {}", status.as_u16());
                        self.later(request, asked, &why, &mut ending).await;
                    }
                    Err(why) => self.later(request, None, &why, &mut ending).await,
                }
                continue;
            }
            connection = None;
            if *ending.borrow() {
                return;
            }
            tokio::select! {
                () = self.outbox.added.notified() => {}
                _ = ending.changed() => {}
            }
        }
    }

    /// Sends a request, and reads the answer. `Err` says why there is none.
    async fn deliver(
        &self,
        connection: &mut Option<Connection>,
        body: &Bytes,
    ) -> Result<(StatusCode, Verdict), String> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let request = self.request(body.clone())?;
        let open = connection.take();
        let exchange = async {
            let reused = match open {
                Some(mut open) => open.sender.ready().await.is_ok().then_some(open),
                None => None,
            };
            let mut connection = match reused {
                Some(open) => open,
                None => Connection::open(self.endpoint.address()).await?,
            };
            let answer = connection.sender.send_request(request).await.map_err(|error| why(&error))?;
            Ok::<_, String>((connection, answer))
        };
        let late = |_| format!("it does not answer within {ANSWER_TIMEOUT:?}");
        let (open, answer) = timeout_at(deadline, exchange).await.map_err(late)??;
        let (head, body) = answer.into_parts();
        // What becomes of the request is known by now. Without the rest of the answer the connection is of no use.
        let body = timeout_at(deadline, Limited::new(body, BODY_BYTES).collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| {
            *connection = Some(open);
            body.to_bytes()
        });
        let verdict = answer::judge(head.status, &head.headers, &body.unwrap_or_default(), Timestamp::now());
        Ok((head.status, verdict))
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.path(self.outbox.signal))
            .header(HOST, self.endpoint.address().to_string())
            .header(USER_AGENT, concat!("netpath/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "gzip")
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }

    fn taken(&mut self, items: u64, rejected: u64, message: &str) {
        self.outbox.queue().settle();
        let rejected = rejected.min(items);
        self.outbox.count_sent(items - rejected);
        self.outbox.count_lost(Loss::Rejected, rejected);
        self.answered();
        if rejected > 0 && !self.has_rejected {
            self.has_rejected = true;
            let message: String = message.chars().take(MOST_LETTERS).collect();
            log::warn!(
                "OTLP: {} does not take {rejected} of {items} {} ({message}); further ones are counted only; \
                 look at how the collector is set up",
                self.endpoint,
                self.outbox.signal.items()
            );
        }
    }

    fn refused(&mut self, items: u64, status: StatusCode) {
        self.outbox.queue().settle();
        self.outbox.count_lost(Loss::Refused, items);
        self.answered();
        if self.refused.replace(status) != Some(status) {
            log::warn!(
                "OTLP: {} refuses {items} {} with status {}; further ones are counted only; \
                 look whether the collector takes {} at {}",
                self.endpoint,
                self.outbox.signal.items(),
                status.as_u16(),
                self.outbox.signal.name(),
                self.endpoint.path(self.outbox.signal)
            );
        }
    }

    fn answered(&mut self) {
        if self.failures > 0 {
            log::warn!("OTLP: {} answers again; {} go on", self.endpoint, self.outbox.signal.name());
        }
        self.failures = 0;
    }

    /// Puts a request back, and waits; not if netpath ends meanwhile.
    async fn later(
        &mut self,
        request: queue::Request,
        asked: Option<Duration>,
        why: &str,
        ending: &mut watch::Receiver<bool>,
    ) {
        let signal = self.outbox.signal.name();
        if self.failures == 0 {
            log::warn!(
                "OTLP: cannot send {signal} to {}: {why}; they wait and are sent again; look after the collector",
                self.endpoint
            );
        }
        self.failures = self.failures.saturating_add(1);
        self.outbox.put_back(request);
        let pause = asked.unwrap_or_else(|| answer::pause(self.failures, random()));
        log::debug!("OTLP: {signal} wait for {pause:?}: {why}");
        tokio::select! {
            () = sleep(pause) => {}
            _ = ending.changed() => {}
        }
    }
}

/// A connection, and the task that serves it, which ends with it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _task: JoinSet<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, String> {
        let failed = |error: io::Error| error.kind().to_string();
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut builder = Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| why(&error))?;
        let mut task = JoinSet::new();
        task.spawn(async {
            // The sender has the error, too.
            let _ = connection.await;
        });
        Ok(Self { sender, _task: task })
    }
}

fn random() -> u8 {
    RandomState::new().build_hasher().finish().to_le_bytes()[0]
}

fn why(error: &hyper::Error) -> String {
    if error.is_parse() {
        "its answer is not HTTP/1.1; OTLP's port for HTTP is 4318".to_owned()
    } else {
        "it closes the connection without an answer".to_owned()
    }
}
