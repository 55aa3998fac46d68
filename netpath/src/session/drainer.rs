//! Opens and closes windows, and drains the flow maps while they are open.
//!
//! In: the maps. Out: what was counted in each window, and the boundaries between them. It works on a thread of its own, since
//! each drain waits for the kernel, and devices must be attached meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use super::boundary::{Boundary, FLIP, cross};
use crate::kernel::drain::{Drain, MapFill};
use crate::kernel::flow_counts::FlowCounts;
use crate::netlink::counters::CounterReader;

/// How often the kernel's maps are drained into memory, so that they need to hold only the flows of so long.
const DRAIN_EVERY: Duration = Duration::from_secs(1);
/// The same while a map fills in less time than that.
const DRAIN_SOON: Duration = Duration::from_millis(100);

/// What the thread is asked for; it stops when nobody can ask any more.
enum Order {
    /// See [`Drainer::reindex`]. What is sent back tells that it is done.
    Reindex { from: u32, to: u32, done: mpsc::Sender<()> },
    /// See [`Drainer::cut`].
    Cut(mpsc::Sender<(FlowCounts, Boundary)>),
}

/// The thread that drains.
pub struct Drainer {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    orders: mpsc::Sender<Order>,
    flows: Arc<AtomicUsize>,
}

impl Drainer {
    /// Opens the first window. What was counted before belongs to none. Blocks for some milliseconds.
    pub fn start(mut drain: Drain) -> anyhow::Result<(Self, Boundary)> {
        let mut counters = CounterReader::open().context("cannot open a netlink socket")?;
        let opened = cross(&mut drain, &mut counters)?;
        let MapFill(_) = collect(&mut drain, &mut FlowCounts::default())?;
        let (orders, ordered) = mpsc::channel();
        let flows = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&flows);
        let work = move || {
            let mut flow_counts = drain.bounded_counts();
            let mut wait = DRAIN_EVERY;
            loop {
                let order = ordered.recv_timeout(wait);
                let closed = match &order {
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Ok(Order::Cut(_)) => Some(cross(&mut drain, &mut counters)?),
                    Ok(Order::Reindex { .. }) | Err(RecvTimeoutError::Timeout) => {
                        drain.flip().context(FLIP)?;
                        None
                    }
                };
                let MapFill(crowded) = collect(&mut drain, &mut flow_counts)?;
                wait = if crowded { DRAIN_SOON } else { DRAIN_EVERY };
                // Nobody waits for an answer if the session is being given up.
                match (order, closed) {
                    (Ok(Order::Cut(reply)), Some(closed)) => {
                        let _ = reply.send((drain.take(&mut flow_counts), closed));
                    }
                    (Ok(Order::Reindex { from, to, done }), _) => {
                        flow_counts.reindex(from, to);
                        let _ = done.send(());
                    }
                    _ => {}
                }
                seen.store(flow_counts.len(), Ordering::Relaxed);
            }
        };
        let thread = std::thread::Builder::new().name("drain".into()).spawn(work).context("cannot start a thread")?;
        Ok((Self { thread: Some(thread), orders, flows }, opened))
    }

    /// How many flows were seen so far in this window, at all hooks together.
    pub fn flows(&self) -> usize {
        self.flows.load(Ordering::Relaxed)
    }

    /// Puts what was counted at a device so far in this window under another index, so that the device that has its index now
    /// begins anew. Blocks for a drain.
    pub fn reindex(&self, from: u32, to: u32) {
        let (done, is_done) = mpsc::channel();
        // If the thread has failed, its error comes when the window is closed.
        if self.orders.send(Order::Reindex { from, to, done }).is_ok() {
            let _ = is_done.recv();
        }
    }

    /// Closes a window and opens the next. Blocks for a drain that is under way, and that of the boundary.
    pub fn cut(&mut self) -> anyhow::Result<(FlowCounts, Boundary)> {
        let (reply, window) = mpsc::channel();
        let _ = self.orders.send(Order::Cut(reply));
        if let Ok(window) = window.recv() {
            return Ok(window);
        }
        let failed = "the thread that reads the flow maps failed";
        let thread = self.thread.take().context(failed)?;
        thread.join().map_err(|_| anyhow::anyhow!(failed))??;
        anyhow::bail!(failed)
    }
}

fn collect(drain: &mut Drain, flow_counts: &mut FlowCounts) -> anyhow::Result<MapFill> {
    drain.collect(flow_counts).context("cannot read the flow maps")
}
