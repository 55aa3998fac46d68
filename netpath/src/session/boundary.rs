//! One end of a window: the moment at which an epoch ends, and the devices' counters around it.
//!
//! In: readings of the devices' counters, taken by [`cross`]. Out: what a device had counted at that moment, and how far that
//! may be from the truth. What closes a window opens the next one.

use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;

use crate::kernel::drain::Drain;
use crate::model::KernelCounters;
use crate::netlink::counters::{Counted, CounterReader, Reading};
use crate::netlink::qdiscs::{self, Qdiscs};

/// One end of a window.
///
/// What a device counted of the packets that the old epoch has lies between `early` and `after`. An egress hook comes before
/// the device's counter, and the flip waits until the packet is through both. An ingress hook comes after it, with a queue
/// in between: what was counted by `early` has arrived by the time of the flip.
#[derive(Debug)]
pub struct Boundary {
    /// A grace period before the flip.
    pub early: Reading,
    /// `None` if the kernel does not tell.
    pub qdiscs: Option<Qdiscs>,
    /// Read right before the flip, so that it is next to the truth.
    pub before: Reading,
    /// When the epoch was flipped.
    pub at: Instant,
    /// The same by the time of day.
    pub time: Timestamp,
    /// Read after the flip.
    pub after: Reading,
}

impl Boundary {
    /// From the first to the last reading, in nanoseconds.
    pub fn skew_ns(&self) -> u64 {
        u64::try_from((self.after.ended - self.early.began).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the device was there when the epoch was flipped. Dumps can miss devices while others come and go.
    pub fn has(&self, ifindex: u32) -> bool {
        let is_in = |reading: &Reading| reading.devices.contains_key(&ifindex);
        is_in(&self.before) || is_in(&self.early) && is_in(&self.after)
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
        let went = self.before.devices.contains_key(&ifindex) && !self.after.devices.contains_key(&ifindex);
        // What one that went meanwhile counted at last nobody knows.
        let too_little =
            if went { KernelCounters::UNBOUNDED } else { moved(&self.before, &self.after).unwrap_or_default() };
        (moved(&self.early, &self.before).unwrap_or_default(), too_little)
    }
}

/// Ends an epoch, between readings of the devices' counters. Blocks for two grace periods.
pub fn cross(drain: &mut Drain, counters: &mut CounterReader) -> anyhow::Result<Boundary> {
    let unreadable = "cannot read the devices' counters (rtnetlink); run netpath again";
    let early = counters.read().context(unreadable)?;
    drain.wait_grace_period().context(FLIP)?;
    // Without them, what they drop is unexplained. Not next to the flip: they change by less than the devices' counters do.
    let qdiscs = qdiscs::read().ok();
    let before = counters.read().context(unreadable)?;
    let (at, time) = (Instant::now(), Timestamp::now());
    drain.flip().context(FLIP)?;
    let after = counters.read().context(unreadable)?;
    Ok(Boundary { early, qdiscs, before, at, time, after })
}

/// What failed if the epoch did not change.
pub const FLIP: &str = "cannot flip the flow maps' epoch";

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn reading(devices: &[(u32, u64)]) -> Reading {
        let counted = |rx_bytes| Counted {
            kernel: KernelCounters { rx_bytes, ..KernelCounters::default() },
            ..Counted::default()
        };
        let devices: HashMap<_, _> = devices.iter().map(|(ifindex, bytes)| (*ifindex, counted(*bytes))).collect();
        Reading { began: Instant::now(), ended: Instant::now(), devices: devices.into_iter().collect() }
    }

    #[test]
    fn what_went_between_two_readings_may_have_counted_anything() {
        let (early, before, after) =
            (reading(&[(1, 10), (2, 10)]), reading(&[(1, 15), (2, 10)]), reading(&[(1, 22), (3, 5)]));
        let boundary = Boundary { early, qdiscs: None, before, at: Instant::now(), time: Timestamp::now(), after };
        let rx = |ifindex| {
            let (too_much, too_little) = boundary.slack(ifindex);
            (too_much.rx_bytes, too_little.rx_bytes)
        };
        assert_eq!([1, 2, 3].map(rx), [(5, 7), (0, u64::MAX), (0, 0)]);
    }
}
