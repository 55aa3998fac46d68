//! Sends the series and the flows of each window to an OpenTelemetry collector: OTLP over HTTP, protobuf.
//!
//! In: reports, as they come. Out: requests to a collector, again and again until it takes them, or there is no more room for them;
//! what was sent and what was given up is counted. The thread that judges windows makes the requests and waits for nobody, the one
//! that has the network sends them.

mod answer;
mod endpoint;
mod logs;
mod metrics;
mod proto;
mod queue;
mod resource;
mod send;

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use prost::Message;
use tokio::sync::Notify;

pub use self::endpoint::Endpoint;
use self::queue::{Queue, Request, Room};
pub use self::send::Senders;
use super::metric::Metric;
use super::names::Names;
use super::state::State;
use crate::report::Report;

/// Of log records that wait, compressed.
const ROOM_FOR_LOGS: usize = 16 << 20;
/// By how much a clock is inexact that nobody has set.
const SLIGHT: SignedDuration = SignedDuration::from_secs(1);

/// What OTLP sends apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Series.
    Metrics,
    /// Flows.
    Logs,
}

impl Signal {
    /// Its name in URLs, and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// What its requests are made of.
    const fn items(self) -> &'static str {
        match self {
            Self::Metrics => "data points",
            Self::Logs => "log records",
        }
    }

    /// Why something has no room any more.
    const fn without_room(self) -> Loss {
        match self {
            Self::Metrics => Loss::Superseded,
            Self::Logs => Loss::QueueFull,
        }
    }
}

/// Why something was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// A newer request has the same series.
    Superseded,
    /// Too much waited.
    QueueFull,
    /// The collector answered that it will not take the request.
    Refused,
    /// The collector took the request, but not all of it.
    Rejected,
}

impl Loss {
    const fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
        }
    }
}

/// What waits of a signal, and the count of what no longer does.
#[derive(Debug)]
struct Outbox {
    signal: Signal,
    queue: Mutex<Queue>,
    /// Something was added.
    added: Notify,
    /// Something was given up since the queue was last empty.
    is_losing: AtomicBool,
    state: Arc<State>,
}

impl Outbox {
    fn new(signal: Signal, state: Arc<State>) -> Arc<Self> {
        let (room, losses) = match signal {
            Signal::Metrics => (Room::Newest, [Loss::Superseded, Loss::Refused, Loss::Rejected]),
            Signal::Logs => (Room::Bytes(ROOM_FOR_LOGS), [Loss::QueueFull, Loss::Refused, Loss::Rejected]),
        };
        let (queue, added, is_losing) = (Mutex::new(Queue::new(room)), Notify::new(), AtomicBool::new(false));
        let outbox = Self { signal, queue, added, is_losing, state };
        outbox.count_sent(0);
        for loss in losses {
            outbox.count_lost(loss, 0);
        }
        Arc::new(outbox)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) {
        let given_up = self.queue().push(request);
        self.given_up(given_up);
        self.added.notify_one();
    }

    fn take(&self) -> Option<Request> {
        let request = self.queue().take();
        if request.is_none() {
            self.is_losing.store(false, Ordering::Relaxed);
        }
        request
    }

    fn put_back(&self, request: Request) {
        let given_up = self.queue().put_back(request);
        self.given_up(given_up);
    }

    /// There was no room for so many items.
    fn given_up(&self, items: u64) {
        if items == 0 {
            return;
        }
        self.count_lost(self.signal.without_room(), items);
        if self.signal == Signal::Logs && !self.is_losing.swap(true, Ordering::Relaxed) {
            log::warn!(
                "OTLP: {} MiB of flow logs wait for the collector, and the oldest are given up from now on; \
                 look after the collector",
                ROOM_FOR_LOGS >> 20
            );
        }
    }

    fn count_sent(&self, items: u64) {
        self.state.count(Metric::OtlpSent, &[self.signal.name()], items);
    }

    fn count_lost(&self, loss: Loss, items: u64) {
        self.state.count(Metric::OtlpDropped, &[self.signal.name(), loss.name()], items);
    }
}

/// Makes requests of windows. It neither waits nor sends.
#[derive(Debug)]
pub struct Exporter {
    names: Names,
    /// When the first window began.
    start: Option<Timestamp>,
    /// When the last one ended.
    end: Option<Timestamp>,
    metrics: Arc<Outbox>,
    logs: Arc<Outbox>,
    state: Arc<State>,
}

/// What makes requests for this collector, and what sends them.
#[must_use]
pub fn open(endpoint: &Endpoint, names: Names, state: &Arc<State>) -> (Exporter, Senders) {
    let [metrics, logs] = [Signal::Metrics, Signal::Logs].map(|signal| Outbox::new(signal, Arc::clone(state)));
    let senders = Senders::new(endpoint, [&metrics, &logs]);
    (Exporter { names, start: None, end: None, metrics, logs, state: Arc::clone(state) }, senders)
}

impl Exporter {
    /// Hands on a window that is in the state already.
    pub fn add(&mut self, report: &Report) {
        let resource = resource::resource(&self.names, &report.node);
        let windows = self.state.windows();
        let began = report.window.started_at.parse().ok();
        let start = *self.start.get_or_insert_with(|| began.unwrap_or_else(Timestamp::now));
        let end = later(self.end, windows.last.as_ref().and_then(|last| last.ended).unwrap_or_else(Timestamp::now));
        self.end = Some(end);
        let (request, points) = metrics::request(&windows.series, start, end, resource.clone());
        drop(windows);
        post(&self.metrics, &request, points);
        for (request, records) in logs::requests(report, end, &resource) {
            post(&self.logs, &request, records);
        }
    }
}

/// The end of a window, after that of the one before. Clocks are not so exact as to promise that, and a point that is not later
/// than the last one is refused. Where the clock was set back it is as it is.
fn later(last: Option<Timestamp>, end: Timestamp) -> Timestamp {
    match last {
        Some(last) if last >= end && last.duration_since(end) < SLIGHT => last + SignedDuration::from_nanos(1),
        _ => end,
    }
}

fn post(outbox: &Outbox, request: &impl Message, items: u64) {
    match compressed(&request.encode_to_vec()) {
        Ok(body) => outbox.push(Request { body: body.into(), items }),
        Err(error) => log::error!("OTLP: cannot compress {}: {error}", outbox.signal.name()),
    }
}

/// As gzip.
fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut to = GzEncoder::new(Vec::new(), Compression::fast());
    to.write_all(bytes)?;
    to.finish()
}

/// As OTLP has times.
fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use flate2::read::GzDecoder;

    use super::proto::MetricsRequest;
    use super::*;
    use crate::model::{NodeInfo, Window};
    use crate::path;
    use crate::serve::totals::Choice;
    use crate::snapshot::Snapshot;

    #[test]
    fn times_go_on() {
        let at = |second: i64, nanosecond: i32| Timestamp::new(second, nanosecond).expect("a time");
        assert_eq!(later(None, at(5, 0)), at(5, 0));
        assert_eq!(later(Some(at(5, 0)), at(6, 0)), at(6, 0));
        assert_eq!(later(Some(at(5, 0)), at(5, 0)), at(5, 1));
        assert_eq!(later(Some(at(5, 0)), at(4, 1)), at(5, 1));
        assert_eq!(later(Some(at(5, 0)), at(4, 0)), at(4, 0), "set back");
    }

    /// Labels and values of what was counted.
    fn counted(state: &State, of: Metric) -> Vec<(String, u64)> {
        let named = |(labels, value): (&[Box<str>], u64)| (labels.join(" "), value);
        state.windows().series.iter().filter(|(metric, _)| *metric == of).flat_map(|(_, all)| all.map(named)).collect()
    }

    #[test]
    fn nothing_is_lost_uncounted() {
        let state = Arc::new(State::new(Duration::from_secs(1), 100));
        let endpoint = "http://127.0.0.1:4318".parse().expect("an endpoint");
        assert_eq!([Metric::OtlpSent, Metric::OtlpDropped].map(|metric| counted(&state, metric).len()), [0, 0]);
        let (mut exporter, _senders) = open(&endpoint, Names::default(), &state);
        let begin = [Metric::OtlpSent, Metric::OtlpDropped].map(|metric| counted(&state, metric));
        assert_eq!(begin.each_ref().map(Vec::len), [2, 6]);
        assert!(begin.iter().flatten().all(|(_, value)| *value == 0), "{begin:?}");

        let window = Window { started_at: "2026-03-24T13:42:29Z".into(), duration_ns: 1, ..Window::default() };
        let report = Arc::new(path::report(&Snapshot::new(NodeInfo::default(), window)));
        let mut waiting = Vec::new();
        for _ in 0..3 {
            state.add(Arc::clone(&report), &Choice::default());
            exporter.add(&report);
            waiting.push(exporter.metrics.queue().left());
        }
        let superseded =
            counted(&state, Metric::OtlpDropped).into_iter().find(|(labels, _)| labels == "metrics superseded");
        assert_eq!(superseded.map(|(_, points)| points), Some(waiting[0] + waiting[1]));

        let request = exporter.metrics.take().expect("the newest");
        let mut bytes = Vec::new();
        GzDecoder::new(&*request.body).read_to_end(&mut bytes).expect("gzip");
        let decoded = MetricsRequest::decode(&*bytes).expect("a request");
        let metrics = &decoded.resource_metrics[0].scope_metrics[0].metrics;
        assert!(metrics.iter().any(|metric| metric.name == "netpath.otlp_dropped"));
        assert_eq!(exporter.logs.take(), None, "there was no flow");
    }
}
