//! Opens and closes the window, and drains the flow maps while it is open.
//!
//! In: the maps. Out: what was counted, and the devices' counters before and after each end of the window. It works on a
//! thread of its own, since each drain waits for the kernel, and devices must be attached meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::kernel::drain::{Drain, Tally};
use crate::node::devices::counters::{CounterReader, Reading};

/// How often the kernel's maps are drained into memory, so that they need to hold only the flows of so long.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// One end of the window: the moment at which an epoch ends, and what the devices' counters were around it.
#[derive(Debug)]
pub struct Boundary {
    /// Read before the flip.
    pub before: Reading,
    /// When the epoch was flipped.
    pub at: Instant,
    /// Read when no program counted into the old epoch any more.
    pub after: Reading,
}

impl Boundary {
    /// How far apart the two readings of one device's counters are at most, in nanoseconds.
    pub fn skew_ns(&self) -> u64 {
        u64::try_from((self.after.ended - self.before.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Ends an epoch, between two readings of the devices' counters.
fn cross(drain: &mut Drain, counters: &mut CounterReader) -> anyhow::Result<Boundary> {
    let unreadable = "the kernel does not tell its devices' counters (rtnetlink)";
    let before = counters.read().context(unreadable)?;
    let at = Instant::now();
    drain.flip().context("cannot flip the flow maps' epoch")?;
    let after = counters.read().context(unreadable)?;
    Ok(Boundary { before, at, after })
}

/// The thread that drains.
pub struct Drainer {
    thread: Option<JoinHandle<anyhow::Result<(Tally, Boundary)>>>,
    stop: mpsc::Sender<()>,
    flows: Arc<AtomicUsize>,
}

impl Drainer {
    /// Opens the window. What was counted before belongs to none. Blocks for some milliseconds.
    pub fn start(mut drain: Drain) -> anyhow::Result<(Self, Boundary)> {
        let mut counters = CounterReader::open().context("cannot open a netlink socket")?;
        let opened = cross(&mut drain, &mut counters)?;
        collect(&mut drain, &mut Tally::default())?;
        let (stop, stopped) = mpsc::channel();
        let flows = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&flows);
        let work = move || {
            let mut tally = Tally::default();
            while stopped.recv_timeout(DRAIN_EVERY) == Err(RecvTimeoutError::Timeout) {
                drain.flip().context("cannot flip the flow maps' epoch")?;
                collect(&mut drain, &mut tally)?;
                seen.store(tally.len(), Ordering::Relaxed);
            }
            let closed = cross(&mut drain, &mut counters)?;
            collect(&mut drain, &mut tally)?;
            Ok((tally, closed))
        };
        let thread = std::thread::Builder::new().name("drain".into()).spawn(work).context("cannot start a thread")?;
        Ok((Self { thread: Some(thread), stop, flows }, opened))
    }

    /// How many flows were seen so far, at all hooks together.
    pub fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }

    /// Closes the window. Blocks for a drain that is going on, and the last one.
    pub fn finish(&mut self) -> anyhow::Result<(Tally, Boundary)> {
        // If the thread has failed already, nobody hears this, and its error comes next.
        let _ = self.stop.send(());
        let thread = self.thread.take().context("the window was closed before")?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread that reads the flow maps failed"))?
    }
}

fn collect(drain: &mut Drain, tally: &mut Tally) -> anyhow::Result<()> {
    drain.collect(tally).context("cannot read the flow maps")
}
