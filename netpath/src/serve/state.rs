//! What `netpath serve` knows at the moment: written at the end of each window, read by those who ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::timeout;

use super::metric::Metric;
use super::series::Series;
use super::totals::{self, Carried, Choice};
use crate::model::Window;
use crate::report::Report;

/// When a window ended, by the time of day; `None` if its beginning is no time.
#[must_use]
pub fn window_end(window: &Window) -> Option<Timestamp> {
    let start: Timestamp = window.started_at.parse().ok()?;
    start.checked_add(Duration::from_nanos(window.duration_ns)).ok()
}

/// How many intervals may pass without a window before something must be wrong, and how much longer.
const OVERDUE_INTERVALS: u32 = 3;
const OVERDUE: Duration = Duration::from_secs(30);
/// Within which a window has been judged, or never will be.
const JUDGED: Duration = Duration::from_secs(10);

/// What there is at the moment.
#[derive(Debug)]
pub struct State {
    windows: Mutex<Windows>,
    /// Of the last window; none while one is judged.
    report: watch::Sender<Option<Arc<Report>>>,
    opened: AtomicBool,
    interval: Duration,
}

/// What the windows so far come to.
#[derive(Debug)]
pub struct Windows {
    /// Sums.
    pub series: Series,
    /// The last one.
    pub last: Option<Last>,
    /// When there was last something to show.
    changed: Instant,
    carried: Carried,
}

/// What is remembered of the last window.
#[derive(Clone, Debug)]
pub struct Last {
    /// Of the node.
    pub hostname: String,
    /// How many it had.
    pub flows: usize,
    /// When it ended, if that is a time.
    pub ended: Option<Timestamp>,
}

impl State {
    /// Before the first window.
    #[must_use]
    pub fn new(interval: Duration, max_series: usize) -> Self {
        let windows = Windows {
            series: Series::new(max_series),
            last: None,
            changed: Instant::now(),
            carried: Carried::default(),
        };
        let report = watch::Sender::new(None);
        Self { windows: Mutex::new(windows), report, opened: AtomicBool::new(false), interval }
    }

    /// Everything is attached, and counts.
    pub fn opened(&self) {
        self.windows().changed = Instant::now();
        self.opened.store(true, Ordering::Release);
    }

    /// Whether it is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// Whether windows come as they should.
    #[must_use]
    pub fn is_well(&self) -> bool {
        !self.is_open() || self.windows().changed.elapsed() < self.interval * OVERDUE_INTERVALS + OVERDUE
    }

    /// Forgets the last report, since the next one follows: both take much memory. Those who ask for it wait.
    pub fn make_room(&self) {
        self.report.send_replace(None);
    }

    /// The report of the last window, or of the next one if that is judged; `None` before there is any.
    pub async fn report(&self) -> Option<Arc<Report>> {
        self.windows().last.as_ref()?;
        let mut report = self.report.subscribe();
        timeout(JUDGED, report.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
    }

    /// Adds a window.
    pub fn add(&self, report: Arc<Report>, choice: &Choice) {
        let mut windows = self.windows();
        let Windows { series, carried, .. } = &mut *windows;
        totals::add(series, carried, &report, choice);
        windows.last = Some(Last {
            hostname: report.node.hostname.clone(),
            flows: report.flows.len(),
            ended: window_end(&report.window),
        });
        windows.changed = Instant::now();
        drop(windows);
        self.report.send_replace(Some(report));
    }

    /// Adds to a counter.
    pub fn count(&self, metric: Metric, labels: &[&str], value: u64) {
        self.windows().series.add(metric, labels, value);
    }

    /// Locks what the windows so far come to.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
