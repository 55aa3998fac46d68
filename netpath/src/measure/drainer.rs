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

use crate::kernel::drain::{Crowded, Drain, Tally};
use crate::node::devices::counters::{Counted, CounterReader, Reading};
use crate::node::devices::qdiscs::{self, Qdiscs};
use crate::snapshot::KernelCounters;

/// How often the kernel's maps are drained into memory, so that they need to hold only the flows of so long.
const DRAIN_EVERY: Duration = Duration::from_secs(1);
/// The same while a map fills in less time than that.
const DRAIN_SOON: Duration = Duration::from_millis(100);

/// One end of the window: the moment at which an epoch ends, and the devices' counters around it.
///
/// What a device counted of the packets that the old epoch has lies between `early` and `after`. An egress hook comes before
/// the device's counter, and the flip waits until the packet is through both. An ingress hook comes after it, with a queue
/// in between: what was counted by `early` has arrived by the time of the flip.
#[derive(Debug)]
pub struct Boundary {
    early: Reading,
    /// `None` if the kernel does not tell.
    pub qdiscs: Option<Qdiscs>,
    /// Read right before the flip, so that it is next to the truth.
    before: Reading,
    /// When the epoch was flipped.
    pub at: Instant,
    after: Reading,
}

impl Boundary {
    /// From the first to the last reading, in nanoseconds.
    pub fn skew_ns(&self) -> u64 {
        u64::try_from((self.after.ended - self.early.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the device was there to the last.
    pub fn has(&self, ifindex: u32) -> bool {
        self.after.devices.contains_key(&ifindex)
    }

    /// The device's counters next to the flip, if it was there.
    pub fn counted(&self, ifindex: u32) -> Option<Counted> {
        self.before.devices.get(&ifindex).or_else(|| self.after.devices.get(&ifindex)).copied()
    }

    /// How much more than the truth [`counted`](Self::counted) may be, and how much less.
    pub fn slack(&self, ifindex: u32) -> (KernelCounters, KernelCounters) {
        let moved = |from: &Reading, to: &Reading| {
            let (from, to) = (from.devices.get(&ifindex)?, to.devices.get(&ifindex)?);
            to.kernel.since(from.kernel)
        };
        // Nothing is known of one that came or went meanwhile.
        (moved(&self.early, &self.before).unwrap_or_default(), moved(&self.before, &self.after).unwrap_or_default())
    }
}

/// Ends an epoch, between readings of the devices' counters.
fn cross(drain: &mut Drain, counters: &mut CounterReader) -> anyhow::Result<Boundary> {
    let unreadable = "the kernel does not tell its devices' counters (rtnetlink)";
    let early = counters.read().context(unreadable)?;
    drain.settle().context(FLIP)?;
    // Without them, what they drop is unexplained. Not next to the flip: they change by less than the devices' counters do.
    let qdiscs = qdiscs::read().ok();
    let before = counters.read().context(unreadable)?;
    let at = Instant::now();
    drain.flip().context(FLIP)?;
    let after = counters.read().context(unreadable)?;
    Ok(Boundary { early, qdiscs, before, at, after })
}

const FLIP: &str = "cannot flip the flow maps' epoch";

/// What the thread is told; it stops when nobody can tell it anything.
enum Order {
    /// See [`Drainer::set_aside`]. What is sent back tells that it is done.
    SetAside { ifindex: u32, aside: u32, done: mpsc::Sender<()> },
}

/// The thread that drains.
pub struct Drainer {
    thread: Option<JoinHandle<anyhow::Result<(Tally, Boundary)>>>,
    /// Until the window is closed.
    orders: Option<mpsc::Sender<Order>>,
    flows: Arc<AtomicUsize>,
}

impl Drainer {
    /// Opens the window. What was counted before belongs to none. Blocks for some milliseconds.
    pub fn start(mut drain: Drain) -> anyhow::Result<(Self, Boundary)> {
        let mut counters = CounterReader::open().context("cannot open a netlink socket")?;
        let opened = cross(&mut drain, &mut counters)?;
        let Crowded(_) = collect(&mut drain, &mut Tally::default())?;
        let (orders, ordered) = mpsc::channel();
        let flows = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&flows);
        let work = move || {
            let mut tally = drain.bounded_tally();
            let mut wait = DRAIN_EVERY;
            loop {
                let order = ordered.recv_timeout(wait);
                if matches!(order, Err(RecvTimeoutError::Disconnected)) {
                    break;
                }
                drain.flip().context(FLIP)?;
                let Crowded(crowded) = collect(&mut drain, &mut tally)?;
                wait = if crowded { DRAIN_SOON } else { DRAIN_EVERY };
                if let Ok(Order::SetAside { ifindex, aside, done }) = order {
                    tally.set_aside(ifindex, aside);
                    // Nobody waits for it if the window is being given up.
                    let _ = done.send(());
                }
                seen.store(tally.len(), Ordering::Relaxed);
            }
            let closed = cross(&mut drain, &mut counters)?;
            let Crowded(_) = collect(&mut drain, &mut tally)?;
            Ok((tally, closed))
        };
        let thread = std::thread::Builder::new().name("drain".into()).spawn(work).context("cannot start a thread")?;
        Ok((Self { thread: Some(thread), orders: Some(orders), flows }, opened))
    }

    /// How many flows were seen so far, at all hooks together.
    pub fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }

    /// Puts what was counted at a device so far under another index, so that the device that has its index now begins
    /// anew. Blocks for a drain.
    pub fn set_aside(&self, ifindex: u32, aside: u32) {
        let (done, is_done) = mpsc::channel();
        // If the thread has failed, its error comes when the window is closed.
        if let Some(orders) = &self.orders
            && orders.send(Order::SetAside { ifindex, aside, done }).is_ok()
        {
            let _ = is_done.recv();
        }
    }

    /// Closes the window. Blocks for a drain that is going on, and the last one.
    pub fn finish(&mut self) -> anyhow::Result<(Tally, Boundary)> {
        drop(self.orders.take());
        let thread = self.thread.take().context("the window was closed before")?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread that reads the flow maps failed"))?
    }
}

fn collect(drain: &mut Drain, tally: &mut Tally) -> anyhow::Result<Crowded> {
    drain.collect(tally).context("cannot read the flow maps")
}
