//! Finds a device's clsact qdisc, or makes one when that drops no packet.
//!
//! For a new qdisc the kernel takes the device's queues out of service for about a millisecond (`net/sched/sch_api.c`,
//! `qdisc_graft`; `net/sched/sch_generic.c`, `dev_deactivate_many`). Queued packets are dropped and counted nowhere
//! (`qdisc_reset`): so this waits until the queues are empty, and makes no qdisc on a device whose queue does not empty. What
//! is sent in that moment is lost in any case (`noop_enqueue`): from Linux 6.11 on the device counts it as `tx_dropped`.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::util::KernelVersion;

use super::super::AttachError;
use crate::netlink::Requester;
use crate::netlink::counters::CounterReader;
use crate::netlink::qdiscs::{FilterQdisc, Qdiscs};
use crate::netlink::tc::new_clsact;
use crate::snapshot::NewQdiscs;

/// How long to wait for one device's queue.
const WAIT: Duration = Duration::from_millis(300);
/// How long for all of them together.
const TOTAL_WAIT: Duration = Duration::from_secs(1);
/// Time between two readings of a queue.
const POLL_INTERVAL: Duration = Duration::from_micros(500);
/// For how long a reading is used for devices without a queue: one for each of 1,000 devices would take seconds.
const MAX_AGE: Duration = Duration::from_millis(100);
/// The first kernel that counts what is sent while a device has no queue ("net: count drops due to missing qdisc as
/// dev->tx_drops").
const COUNTS_LOST: KernelVersion = KernelVersion::new(6, 11, 0);

/// Makes clsact qdiscs.
#[derive(Debug)]
pub struct QdiscMaker {
    netlink: Requester,
    counters: CounterReader,
    /// When qdiscs were read, and what they were.
    read: (Instant, Qdiscs),
    /// What is left of [`TOTAL_WAIT`].
    wait_left: Duration,
    may_make: bool,
    counts_lost: bool,
    made: NewQdiscs,
}

impl QdiscMaker {
    pub fn new(kernel: KernelVersion) -> io::Result<Self> {
        let mut netlink = Requester::open()?;
        Ok(Self {
            read: read(&mut netlink)?,
            netlink,
            counters: CounterReader::open()?,
            wait_left: TOTAL_WAIT,
            may_make: true,
            counts_lost: kernel >= COUNTS_LOST,
            made: NewQdiscs::default(),
        })
    }

    /// From now on, makes none.
    pub fn make_none(&mut self) {
        self.may_make = false;
    }

    /// How many were made, and what was lost.
    pub fn made(&self) -> NewQdiscs {
        self.made
    }

    /// Makes sure that the device has one.
    pub fn prepare(&mut self, ifindex: u32) -> Result<(), AttachError> {
        if self.read.0.elapsed() > MAX_AGE {
            self.read = read(&mut self.netlink)?;
        }
        if self.is_there(ifindex)? {
            return Ok(());
        }
        if !self.may_make {
            return Err(AttachError::NoNewQdisc);
        }
        let dropped = self.dropped(ifindex)?;
        self.wait_until_empty(ifindex)?;
        match self.netlink.create(libc::RTM_NEWQDISC, &new_clsact(ifindex)) {
            Ok(()) => {
                let lost = self.dropped(ifindex)?.zip(dropped).and_then(|(now, before)| now.checked_sub(before));
                self.made.add(lost);
                Ok(())
            }
            // Another process was faster.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                self.read = read(&mut self.netlink)?;
                self.is_there(ifindex).map(drop)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is_there(&self, ifindex: u32) -> Result<bool, AttachError> {
        match self.read.1.for_filters.get(&ifindex) {
            None => Ok(false),
            Some(FilterQdisc::Clsact) => Ok(true),
            // A filter for egress would be taken, and would see what comes in.
            Some(FilterQdisc::Ingress) => Err(AttachError::IngressQdisc),
        }
    }

    /// Egress packets that the device dropped; `None` if those lost to a new qdisc are not counted.
    fn dropped(&mut self, ifindex: u32) -> io::Result<Option<u64>> {
        let counted = if self.counts_lost { self.counters.read_one(ifindex)? } else { None };
        Ok(counted.map(|counted| counted.drops.tx_packets))
    }

    fn wait_until_empty(&mut self, ifindex: u32) -> Result<(), AttachError> {
        if self.read.1.roots.get(&ifindex).is_some_and(|root| root.kind == "noqueue") {
            return Ok(());
        }
        let (began, wait) = (Instant::now(), WAIT.min(self.wait_left));
        loop {
            self.read = read(&mut self.netlink)?;
            let packets = self.read.1.waiting.get(&ifindex).copied().unwrap_or(0);
            let waited = began.elapsed();
            if packets == 0 || waited >= wait {
                self.wait_left = self.wait_left.saturating_sub(waited);
                return if packets == 0 { Ok(()) } else { Err(AttachError::QueueInUse { packets }) };
            }
            sleep(POLL_INTERVAL);
        }
    }
}

fn read(netlink: &mut Requester) -> io::Result<(Instant, Qdiscs)> {
    let began = Instant::now();
    Ok((began, Qdiscs::read(netlink)?))
}
