//! Reads the sources of names at the boundaries of windows and when pods come or go, and gathers the records of each window.
//!
//! In: a [`HostRoot`]; notice of veths that appear or disappear. Out: [`Names`]. It works on a thread of its own.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::SourceError;
use super::gather::{Gathered, Moment, report};
use super::root::HostRoot;
use super::sources::{SOURCES, Sources, TIMEOUT};
use crate::model::NameSourceState;
use crate::node::pace::Pace;
use crate::node::source::Pending;
use crate::snapshot::Names;

/// When to read after a veth appeared: a pod's address and name are recorded a little later. Veths that appear meanwhile
/// share the reading.
const READ_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Follows names, over one window or several.
#[derive(Debug)]
pub struct PodWatcher {
    orders: Sender<Order>,
}

#[derive(Debug)]
enum Order {
    /// A veth appeared or disappeared.
    VethsChanged,
    /// A window has ended.
    Cut {
        /// It was the last one: read everything again before.
        last: bool,
        /// Where the window's names go.
        reply: Sender<Names>,
    },
}

impl PodWatcher {
    /// Begins with the first reading, in the network namespace of the calling thread, and does not wait for it.
    #[must_use]
    pub fn start(root: HostRoot) -> Self {
        let (orders, receiver) = mpsc::channel();
        // Without a thread the replies of `cut` are dropped.
        let _ = std::thread::Builder::new().name("names".into()).spawn(move || follow(Sources::new(root), &receiver));
        Self { orders }
    }

    /// Notes that a veth appeared or disappeared. Does not wait.
    pub fn veths_changed(&self) {
        let _ = self.orders.send(Order::VethsChanged);
    }

    /// Ends a window and begins the next, with the reading that closes this one, and does not wait for it. Sources are not
    /// read again if no veth came or went and the last reading is recent in proportion to what it cost; `last` forbids that.
    #[must_use]
    pub fn cut(&self, last: bool) -> Pending<Names> {
        let reason = "netpath could not read it (no thread, or none that answers)";
        let error = SourceError::new(NameSourceState::Slow, reason);
        let sources = SOURCES.into_iter().map(|source| report(source, 0, Some(&error))).collect();
        // A reading may be under way, and this one follows.
        let within = TIMEOUT * 2 + Duration::from_secs(1);
        let (reply, names) = Pending::new(within, Names { sources, ..Names::default() });
        let _ = self.orders.send(Order::Cut { last, reply });
        names
    }
}

fn follow(mut sources: Sources, orders: &Receiver<Order>) {
    let mut pace = Pace::default();
    let mut gathered = Gathered::default();
    let mut latest = pace.read(|| sources.read());
    gathered.add(latest.clone(), Moment::Start);
    let mut due: Vec<Instant> = Vec::new();
    loop {
        let next = due.first().copied();
        let wait = next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()));
        match orders.recv_timeout(wait) {
            Ok(Order::VethsChanged) => {
                pace.make_due();
                // A reading that is due later covers it as well.
                if due.len() < READ_DELAYS.len() {
                    let now = Instant::now();
                    due = READ_DELAYS.map(|after| now + after).to_vec();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                due.retain(|due| Some(*due) != next);
                latest = pace.read(|| sources.read());
                gathered.add(latest.clone(), Moment::Between);
            }
            Ok(Order::Cut { last, reply }) => {
                if last || pace.is_due(Instant::now()) {
                    latest = pace.read(|| sources.read());
                }
                gathered.add(latest.clone(), Moment::End);
                // If the session was given up, there is no receiver.
                let _ = reply.send(std::mem::take(&mut gathered).into_names());
                gathered.add(latest.clone(), Moment::Start);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
