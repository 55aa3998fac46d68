//! Collects connections: empties the event socket from time to time, and dumps when events were lost.
//!
//! In: the sockets. Out: an [`Outcome`]. A loss is never silent, and memory is bounded.
//!
//! It polls instead of waiting for each event: a wakeup for every connection would cost more than reading it, and would be
//! paid in the softirq of the packet.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::message::{self, CT_GET, NFGENMSG_BYTES};
use super::table::ConnectionTable;
use super::{ConntrackError, Limits, Outcome};
use crate::model::Conntrack;
use crate::netlink::{Received, Requester, Subscription};

/// `NFNLGRP_CONNTRACK_NEW`, `NFNLGRP_CONNTRACK_DESTROY`.
const EVENT_GROUPS: [u32; 2] = [1, 3];

/// Time between two reads of the event socket.
const POLL: Duration = Duration::from_millis(20);

/// Least time between two dumps.
const DUMP_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two dumps, in durations of the last one: at most a tenth of one CPU goes into dumps.
const DUMP_PAUSE_FACTOR: u32 = 9;

/// Most datagrams read at a time, so that a flood cannot keep the worker from ending.
const MAX_READS: usize = 1 << 17;

/// An order to the worker. It ends when the [`Tracker`](super::Tracker) is dropped.
#[derive(Debug)]
pub enum Order {
    /// A boundary is near.
    NearBoundary,
    /// The window has ended.
    Cut {
        /// It was the last one: read everything again before.
        last: bool,
        /// Where the window's connections go.
        reply: Sender<Outcome>,
    },
}

/// The worker's state.
#[derive(Debug)]
pub struct Collector {
    events: Subscription,
    // A socket of its own, so that a dump does not compete with events for room in the receive buffer.
    dumps: Requester,
    table: ConnectionTable,
    events_are_off: bool,
    /// In this window, as are the two below.
    overruns: u64,
    /// Whether events were lost since the last dump began.
    stale: bool,
    dumped_at: Instant,
    dump_took: Duration,
    dump_count: u64,
    /// The first error of a read or a dump.
    failure: Option<String>,
}

impl Collector {
    /// Opens the sockets, subscribes, and takes the first dump.
    pub fn start(limits: Limits, events_are_off: bool) -> Result<Self, ConntrackError> {
        let mut collector = Self {
            events: Subscription::open(NETLINK_NETFILTER, &EVENT_GROUPS, limits.receive_buffer_bytes)
                .map_err(|error| ConntrackError::from_io("subscribe to events", error))?,
            dumps: Requester::open_to(NETLINK_NETFILTER)
                .map_err(|error| ConntrackError::from_io("open a socket", error))?,
            table: ConnectionTable::new(limits.connections),
            events_are_off,
            overruns: 0,
            stale: false,
            dumped_at: Instant::now(),
            dump_took: Duration::ZERO,
            dump_count: 0,
            failure: None,
        };
        collector.dump()?;
        Ok(collector)
    }

    /// Collects until the senders of orders are dropped.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(POLL) {
                Err(RecvTimeoutError::Timeout) => {
                    self.read_events();
                    if self.stale && self.dumped_at.elapsed() >= DUMP_PAUSE.max(self.dump_took * DUMP_PAUSE_FACTOR) {
                        self.try_dump();
                    }
                }
                Ok(Order::NearBoundary) => {
                    self.read_events();
                    self.table.near_boundary();
                }
                Ok(Order::Cut { last, reply }) => {
                    self.read_events();
                    if last || self.stale || self.events_are_off {
                        self.try_dump();
                        // A dump removes entries that are due, which is announced.
                        self.read_events();
                    }
                    // If the session was given up, there is no receiver.
                    let _ = reply.send(self.outcome());
                    self.roll();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Begins the next window.
    fn roll(&mut self) {
        // What had no room may have it now. What was lost after the dump is the next window's loss.
        self.stale |= self.table.full;
        self.overruns = u64::from(self.stale && self.overruns > 0);
        self.table.roll();
        (self.dump_count, self.failure) = (0, None);
    }

    fn read_events(&mut self) {
        for _ in 0..MAX_READS {
            match self.events.receive() {
                Ok(Received::Datagram(datagram)) => {
                    message::messages(datagram).for_each(|message| self.table.apply(message));
                }
                Ok(Received::Truncated) => self.table.malformed += 1,
                Ok(Received::Overrun) => {
                    self.overruns += 1;
                    self.stale = true;
                }
                Ok(Received::Empty) => return,
                Err(error) => {
                    self.stale = true;
                    self.failure.get_or_insert_with(|| format!("could not read events: {error}"));
                    return;
                }
            }
        }
    }

    fn dump(&mut self) -> Result<(), ConntrackError> {
        self.stale = false;
        self.dump_count += 1;
        let began = Instant::now();
        self.table.begin_dump();
        // A `struct nfgenmsg` of zeros asks for IPv4 and IPv6, of all zones.
        let result =
            self.dumps.dump(CT_GET, &[0; NFGENMSG_BYTES], |kind, body| self.table.apply(message::read(kind, body)));
        if result.is_ok() {
            self.table.end_dump();
        }
        self.dumped_at = Instant::now();
        self.dump_took = self.dumped_at - began;
        result.map(drop).map_err(|error| ConntrackError::from_io("dump", error))
    }

    fn try_dump(&mut self) {
        if let Err(error) = self.dump() {
            self.failure.get_or_insert_with(|| error.to_string());
        }
    }

    fn outcome(&self) -> Outcome {
        let reason = self.reason();
        Outcome {
            connections: self.table.connections(),
            state: if reason.is_none() { Conntrack::Ok } else { Conntrack::Overrun },
            reason,
            overruns: self.overruns,
            malformed: self.table.malformed,
            dumps: self.dump_count,
        }
    }

    /// The most severe loss, if there is one.
    fn reason(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(format!("conntrack failed during the window: {failure}; measure again"));
        }
        if self.table.full {
            return Some(format!(
                "conntrack had more than {} connections in the window; NAT of the others cannot be followed; measure a \
                 shorter window",
                self.table.limit()
            ));
        }
        if self.events_are_off {
            return Some(
                "conntrack sends no events here; NAT of connections that began and ended within the window cannot be \
                 followed; run `sysctl -w net.netfilter.nf_conntrack_events=1`"
                    .into(),
            );
        }
        if self.overruns > 0 {
            return Some(format!(
                "conntrack events were lost {} time(s), and the table was read again; NAT of the shortest connections may be \
                 missing; measure again when fewer connections begin",
                self.overruns
            ));
        }
        if self.table.malformed > 0 {
            return Some(format!(
                "{} conntrack message(s) could not be understood; NAT of their connections cannot be followed; please \
                 report this with the kernel's version",
                self.table.malformed
            ));
        }
        None
    }
}
