//! What `netpath trace --format json` writes, by types of the lab's own.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::schema;

/// All lines of a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Each packet.
    pub trips: Vec<Trip>,
    /// The last line.
    pub summary: Summary,
}

/// One packet.
#[derive(Clone, Debug, Deserialize)]
pub struct Trip {
    /// Its number.
    pub trip: u64,
    /// RFC 3339.
    pub at: String,
    /// "tcp".
    pub proto: String,
    /// Bytes, Ethernet header included.
    pub length: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// TCP's sequence number.
    pub seq: Option<u32>,
    /// TCP's flags.
    pub flags: Option<String>,
    /// Where it was seen.
    pub hops: Vec<Hop>,
    /// "forwarded", "host", "pod", "dropped", "unknown".
    pub end: String,
    /// The kernel's reason.
    pub reason: Option<String>,
    /// The kernel's function.
    pub location: Option<String>,
    /// What is not known.
    pub note: Option<String>,
    /// The trip that it repeats.
    pub retransmission_of: Option<u64>,
    /// All that was seen of it was put together.
    pub joined: bool,
    /// Nothing of it was lost.
    pub complete: bool,
    /// `namespace/name`.
    pub src_pod: Option<String>,
    /// `namespace/name`.
    pub dst_pod: Option<String>,
    /// `namespace/name:port`.
    pub service: Option<String>,
}

/// A packet at a hook.
#[derive(Clone, Debug, Deserialize)]
pub struct Hop {
    /// The device.
    pub device: String,
    /// "rx", "tx".
    pub direction: String,
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
    /// Since the hop before.
    pub since_ns: u64,
    /// The filter had not accepted it yet.
    pub before_match: bool,
}

/// The accounts.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// Trips that were shown.
    pub trips: u64,
    /// Trips that were not.
    pub not_shown: u64,
    /// Hops of those that were shown.
    pub hops: u64,
    /// All events.
    pub matched: u64,
    /// Those that netpath read.
    pub received: u64,
    /// Those without room.
    pub no_room: u64,
    /// Those over the rate.
    pub over_rate: u64,
    /// Those not in the sample.
    pub sampled_out: u64,
}

impl Trace {
    /// Reads the lines: trips with numbers in order, then the summary, whose accounts add up.
    pub(crate) fn read(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Last {
            summary: Summary,
        }
        let text = std::str::from_utf8(text)?;
        let mut lines: Vec<&str> = text.lines().collect();
        let last: Last = schema::read(lines.pop().context("the trace is empty")?.as_bytes())?;
        let trips: Vec<Trip> = lines.into_iter().map(|line| schema::read(line.as_bytes())).collect::<Result<_>>()?;
        let Summary { matched, received, no_room, over_rate, sampled_out, .. } = last.summary;
        ensure!(
            matched == received + no_room + over_rate + sampled_out,
            "the accounts do not add up: {:?}",
            last.summary
        );
        ensure!(trips.len() as u64 == last.summary.trips, "{} trips, and {:?}", trips.len(), last.summary);
        let hops: usize = trips.iter().map(|trip| trip.hops.len()).sum();
        ensure!(hops as u64 == last.summary.hops, "{hops} hops, and {:?}", last.summary);
        Ok(Self { trips, summary: last.summary })
    }
}

impl Trip {
    /// "eth0 rx, enia7a3e029a7b tx".
    #[must_use]
    pub fn way(&self) -> String {
        self.hops.iter().map(|hop| format!("{} {}", hop.device, hop.direction)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "#{} {} {} {}: {:?} {:?}", self.trip, self.proto, self.way(), self.end, self.reason, self.note)
    }
}
