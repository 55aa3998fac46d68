//! What a device's root qdisc did to the packets between netpath's egress hook and the device's counter.
//!
//! In: the difference of a device's sent packets, and the qdisc's counters. Out: the parts of the difference, in bytes where
//! they are proven. Every packet that leaves the hook is dropped by the qdisc, still waits in it, or was passed on, and the
//! qdisc measures as netpath's wire bytes do (net/core/dev.c, `qdisc_pkt_len_init`), but for tags beside packets. So
//!
//! > dropped bytes = wire bytes − passed bytes − newly queued bytes
//!
//! without a look at the device. From passed bytes to the device's counter, the kernel cuts super-packets if the device does
//! not: what it counts more than the hook for that is headers. Only if the device says that it dropped packets too, one
//! cannot tell headers from those, unless nothing was merged.

use super::cause::cause_of;
use super::{Cause, Difference, TAG_BYTES};
use crate::model::Qdisc;
use crate::report::CauseKind;

/// A qdisc's counters, wide enough for any difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    passed_bytes: i128,
    dropped_packets: u64,
    queued_packets: i128,
    queued_bytes: i128,
}

impl Queue {
    /// `None` if it kept nothing from the device, and nothing for it.
    pub fn new(qdisc: &Qdisc) -> Option<Self> {
        (qdisc.dropped_packets != 0 || qdisc.queued_packets != 0).then(|| Self {
            passed_bytes: qdisc.passed_bytes.into(),
            dropped_packets: qdisc.dropped_packets,
            queued_packets: qdisc.queued_packets.into(),
            queued_bytes: qdisc.queued_bytes.into(),
        })
    }

    fn dropped(&self, bytes: Option<i128>) -> Cause {
        cause_of(CauseKind::DroppedByQdisc, bytes.map(|bytes| -bytes), Some(self.dropped_packets))
    }

    fn queued(&self, bytes: Option<i128>) -> Cause {
        // Fewer than before: the device sent what had left the hook before the window.
        cause_of(CauseKind::Queued, bytes.map(|bytes| -bytes), u64::try_from(self.queued_packets).ok())
    }

    /// The causes that there are, of these bytes.
    fn causes(&self, dropped_bytes: Option<i128>, queued_bytes: Option<i128>) -> Vec<Cause> {
        let mut causes = Vec::new();
        if self.dropped_packets != 0 {
            causes.push(self.dropped(dropped_bytes));
        }
        if self.queued_packets != 0 {
            causes.push(self.queued(queued_bytes));
        }
        causes
    }

    /// The causes without their bytes, as far as they are on the side of the difference.
    pub fn suspects(&self, missing_bytes: i128) -> Vec<Cause> {
        let mut causes = self.causes(None, None);
        causes.retain(|cause| match cause.packets {
            Some(_) => missing_bytes > 0,
            None => missing_bytes < 0,
        });
        causes
    }
}

impl Difference {
    /// The parts of the difference if they are proven, as nearly as the counters could be read.
    pub(super) fn queue_causes(&self, queue: &Queue) -> Option<Vec<Cause>> {
        let waiting = queue.queued_packets;
        let expected = self.hook.packets - i128::from(queue.dropped_packets) - waiting - i128::from(self.dropped);
        let as_seen = self.at_rest() && self.kernel.packets == expected;
        let headers = self.wire_bytes - self.hook.bytes;
        // Nothing is merged if there are no headers to add, or none but the tags.
        let merged = headers != 0 && headers != TAG_BYTES * self.hook.packets;
        let handed_bytes = if merged { self.wire_bytes } else { self.hook.bytes };
        let dropped_bytes = handed_bytes - queue.passed_bytes - queue.queued_bytes;
        let of_device = queue.passed_bytes - self.kernel.bytes;
        let missing_bytes = self.hook.bytes - self.kernel.bytes;

        if as_seen && merged && self.dropped == 0 && (queue.dropped_packets == 0) != (waiting == 0) {
            // The device counts super-packets as the hook does, and there is one reason only: it explains all. Unless that is
            // more than was kept, with all headers: then the device leaves Ethernet headers out besides.
            if queue.dropped_packets == 0 && waiting < 0 {
                return (missing_bytes < 0).then(|| queue.causes(None, Some(missing_bytes)));
            }
            let kept = if waiting == 0 { dropped_bytes } else { queue.queued_bytes };
            let fits = |no_ethernet: &i128| missing_bytes - no_ethernet <= kept;
            let no_ethernet = [0, self.ethernet_bytes()].into_iter().find(fits).unwrap_or(0);
            let bytes = missing_bytes - no_ethernet;
            return (bytes > 0).then(|| with_headers(queue.causes(Some(bytes), Some(bytes)), 0, no_ethernet));
        }
        if !self.counts(queue, dropped_bytes) {
            return None;
        }
        // Other programs come before the qdisc. They took nothing if every packet is accounted for.
        if self.others.may_take() && !self.in_time_packets(expected - self.kernel.packets) {
            return None;
        }
        let mut causes = queue.causes(Some(dropped_bytes), Some(queue.queued_bytes));
        if self.dropped != 0 {
            let exact = as_seen && of_device > 0;
            causes.push(cause_of(CauseKind::DroppedAfterHook, exact.then_some(-of_device), Some(self.dropped)));
            return (!merged).then_some(causes);
        }
        // The headers that the device counts and the hook does not see: all but those of super-packets that were passed whole.
        let most = handed_bytes - self.hook.bytes;
        let fits = |no_ethernet: &i128| {
            let of_device = of_device - no_ethernet;
            let cut = (most - of_device).clamp(0, most.max(0));
            self.in_time(most - of_device - cut).then_some((cut, *no_ethernet))
        };
        let no_ethernet = if as_seen { self.ethernet_bytes() } else { 0 };
        let (cut, no_ethernet) = [0, no_ethernet].iter().find_map(fits).filter(|_| !merged || self.tagged[0] == 0)?;
        Some(with_headers(causes, cut, no_ethernet))
    }

    /// Whether the qdisc dropped bytes if it says that it dropped packets, and no others; more than the counters moved while
    /// they were being read, as it was read at another moment than the hook's counts.
    fn counts(&self, queue: &Queue, dropped_bytes: i128) -> bool {
        let (fewest, most) = (-self.above.bytes, self.below.bytes);
        if queue.dropped_packets == 0 {
            (fewest..=most).contains(&dropped_bytes)
        } else {
            dropped_bytes > most - fewest
        }
    }
}

/// The causes, with the headers that the device counts and the hook does not see before them, and those of which it is the
/// reverse.
fn with_headers(causes: Vec<Cause>, merged_bytes: i128, no_ethernet_bytes: i128) -> Vec<Cause> {
    let headers = [(CauseKind::GroGsoHeaders, merged_bytes), (CauseKind::EthernetHeaders, -no_ethernet_bytes)];
    let headers =
        headers.into_iter().filter(|(_, bytes)| *bytes != 0).map(|(why, bytes)| cause_of(why, Some(bytes), None));
    headers.chain(causes).collect()
}
