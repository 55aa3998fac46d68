//! Puts events of one packet together.
//!
//! In: events as the programs send them, and the time. Out: packets with all their hops in order, each when nothing more is to
//! be expected of it. Pure: the caller has the clock.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use netpath_ebpf::NO_REASON;
use netpath_ebpf::trace::{Event, EventKind, Sighting};

/// How long a packet is waited for after its last event, in ns. Between the hooks of a node there are microseconds.
const QUIET_NS: u64 = 100_000_000;
/// The same when it was only seen to come in: it may wait for a neighbour's address, or in a process's queue.
const QUIET_WITHOUT_END_NS: u64 = 500_000_000;

/// One packet, as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    /// The programs' number for its trip.
    pub trip: u64,
    /// Where it was seen, in order of time.
    pub hops: Vec<Sighted>,
    /// The kernel freed it.
    pub freed: Option<Freed>,
    /// Whether no event of it was lost.
    pub complete: bool,
    /// An earlier trip, if a packet of it had the same address and another fingerprint; else 0.
    pub address_of: u64,
}

impl Packet {
    /// Whether it was seen to leave, or the kernel freed it.
    #[must_use]
    pub fn has_end(&self) -> bool {
        self.freed.is_some() || self.hops.last().is_some_and(|hop| hop.seen.hook & 1 == 1)
    }
}

/// A packet at a hook, with its first bytes.
#[derive(Clone, Debug)]
pub struct Sighted {
    /// What was noted.
    pub seen: Sighting,
    /// The filter had not accepted it yet, so that its bytes were not kept.
    pub before_match: bool,
    /// From the link header on.
    pub bytes: Bytes,
}

/// The end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// `CLOCK_MONOTONIC`, ns.
    pub at_ns: u64,
    /// The kernel's number for the reason; `None` on kernels without reasons.
    pub reason: Option<u32>,
    /// An address in the kernel.
    pub location: u64,
    /// The network namespace of its device, by its inode; `None` if that is not known.
    pub netns: Option<u32>,
}

/// A packet of which more may come.
#[derive(Debug, Default)]
struct Open {
    packet: Packet,
    /// `CLOCK_MONOTONIC` of its last event, ns.
    last_ns: u64,
    /// When it is to be given out.
    due_ns: u64,
}

/// Packets of which more may come.
#[derive(Debug, Default)]
pub struct Stitcher {
    open: HashMap<u64, Open>,
    /// Those that are due, by time.
    queue: BTreeSet<(u64, u64)>,
    /// The number of the last event of each source.
    numbers: HashMap<u32, u64>,
}

impl Stitcher {
    /// Takes an event.
    pub fn take(&mut self, event: &Event, bytes: Bytes) {
        let last = self.numbers.insert(event.source, event.number).unwrap_or_default();
        if event.number != last.wrapping_add(1) {
            // Whose events are missing is not known: it may be any of these.
            for open in self.open.values_mut() {
                open.packet.complete = false;
            }
        }
        let open = self.open.entry(event.trip).or_insert_with(|| Open {
            packet: Packet { trip: event.trip, complete: true, ..Packet::default() },
            ..Open::default()
        });
        let packet = &mut open.packet;
        packet.complete &= event.lost == 0 && event.number == last.wrapping_add(1);
        if event.kind == EventKind::Freed as u32 {
            let reason = Some(event.reason).filter(|reason| *reason != NO_REASON);
            let netns = Some(event.netns).filter(|netns| *netns != 0);
            packet.freed = Some(Freed { at_ns: event.seen.at_ns, reason, location: event.location, netns });
        } else {
            packet.address_of = packet.address_of.max(event.address_of);
            let before_match = event.kind == EventKind::HopBefore as u32;
            let at = packet.hops.partition_point(|hop| hop.seen.at_ns <= event.seen.at_ns);
            packet.hops.insert(at, Sighted { seen: event.seen, before_match, bytes });
        }
        open.last_ns = open.last_ns.max(event.seen.at_ns);
        let quiet_ns = if packet.has_end() { QUIET_NS } else { QUIET_WITHOUT_END_NS };
        self.queue.remove(&(open.due_ns, event.trip));
        open.due_ns = open.last_ns.saturating_add(quiet_ns);
        self.queue.insert((open.due_ns, event.trip));
    }

    /// Events were lost, nobody knows whose: any packet that waits may lack one.
    pub fn lost(&mut self) {
        for open in self.open.values_mut().filter(|open| !open.packet.has_end()) {
            open.packet.complete = false;
        }
    }

    /// The next packet of which nothing more is to be expected at this time (`CLOCK_MONOTONIC`, ns). One whose hops were all lost
    /// is left out.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<Packet> {
        loop {
            let key = *self.queue.first().filter(|(due_ns, _)| *due_ns <= now_ns)?;
            self.queue.remove(&key);
            let packet = self.open.remove(&key.1).map(|open| open.packet);
            if let Some(packet) = packet.filter(|packet| !packet.hops.is_empty()) {
                return Some(packet);
            }
        }
    }

    /// When the next one is due, `CLOCK_MONOTONIC` in ns.
    #[must_use]
    pub fn due_ns(&self) -> Option<u64> {
        self.queue.first().map(|(due_ns, _)| *due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, number: u64, trip: u64, hook: u32, at_ns: u64) -> Event {
        let seen = Sighting { hook, at_ns, ..Sighting::default() };
        Event { kind: kind as u32, number, trip, seen, reason: NO_REASON, ..Event::default() }
    }

    #[test]
    fn hops_of_several_cpus_are_put_in_order_of_time() {
        let mut stitcher = Stitcher::default();
        stitcher.take(&Event { source: 1, ..event(EventKind::Hop, 1, 7, 5, 2_000) }, Bytes::new());
        stitcher.take(&event(EventKind::HopBefore, 1, 7, 2, 1_000), Bytes::new());
        assert!(stitcher.pop_due(QUIET_NS).is_none(), "more may come");
        let packet = stitcher.pop_due(QUIET_NS + 2_000).expect("it is due");
        let hooks: Vec<_> = packet.hops.iter().map(|hop| (hop.seen.hook, hop.before_match)).collect();
        assert_eq!((hooks, packet.complete, packet.freed), (vec![(2, true), (5, false)], true, None));
        assert!(stitcher.pop_due(u64::MAX).is_none() && stitcher.due_ns().is_none());
    }

    #[test]
    fn one_that_only_came_in_is_waited_for_longer_and_one_that_ended_is_not() {
        let mut stitcher = Stitcher::default();
        stitcher.take(&event(EventKind::Hop, 1, 1, 2, 0), Bytes::new());
        stitcher.take(&event(EventKind::Hop, 2, 2, 2, 0), Bytes::new());
        let freed = Event { source: 1 << 31, reason: 8, location: 99, ..event(EventKind::Freed, 1, 2, 0, 500) };
        stitcher.take(&freed, Bytes::new());
        let packet = stitcher.pop_due(QUIET_NS + 500).expect("it ended");
        assert_eq!(packet.freed, Some(Freed { at_ns: 500, reason: Some(8), location: 99, netns: None }));
        assert!(stitcher.pop_due(QUIET_WITHOUT_END_NS - 1).is_none());
        assert_eq!(stitcher.pop_due(QUIET_WITHOUT_END_NS).map(|packet| packet.trip), Some(1));
    }

    #[test]
    fn a_gap_is_noted_on_all_that_it_may_concern() {
        let mut stitcher = Stitcher::default();
        stitcher.take(&event(EventKind::Hop, 1, 1, 3, 0), Bytes::new());
        stitcher.take(&event(EventKind::Hop, 4, 2, 3, 1), Bytes::new());
        stitcher.take(&event(EventKind::Hop, 5, 3, 3, 2), Bytes::new());
        let complete: Vec<_> =
            std::iter::from_fn(|| stitcher.pop_due(u64::MAX)).map(|packet| packet.complete).collect();
        assert_eq!(complete, [false, false, true]);
        // Only the program knows this one.
        stitcher.take(&Event { lost: 1, ..event(EventKind::Hop, 6, 4, 3, 3) }, Bytes::new());
        assert!(!stitcher.pop_due(u64::MAX).expect("due").complete);
    }
}
