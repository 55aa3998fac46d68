//! What other programs and filters may have done to the packets between a device's counter and netpath's hook.
//!
//! In: who is on the device, and what the kernel counts of them. Out: causes. The kernel counts the packets that legacy filters
//! dropped; of all else it tells only that it is there, so that a cause is no more than possible, and in unknown bytes.

use super::cause::cause_of;
use super::{Cause, Count, Difference};
use crate::model::Direction;
use crate::report::CauseKind;
use crate::snapshot::Device;

/// The others on a device that matter for one direction.
#[derive(Debug)]
pub(super) struct Others {
    /// Packets that legacy filters dropped: behind the egress hook, and at ingress where it makes no difference.
    pub filter_drops: u64,
    /// What may be the reason if the device counted more than the hook: it was received or sent past it.
    if_more: Vec<CauseKind>,
    /// What may be the reason if it counted less.
    if_less: Vec<CauseKind>,
}

impl Others {
    pub fn of(device: &Device, direction: Direction) -> Self {
        let tx = direction == Direction::Tx;
        let programs = || device.facts.other_programs.iter().flatten();
        let on_hook = |ahead| programs().any(|one| one.direction == direction && one.ahead == ahead);
        let xdp = device.facts.xdp.is_some();
        let those = |all: &[(bool, CauseKind)]| all.iter().filter(|(holds, _)| *holds).map(|(_, why)| *why).collect();
        Self {
            filter_drops: if tx { device.facts.filter_drops.unwrap_or(0) } else { 0 },
            if_more: those(&[
                (xdp, CauseKind::XdpProgram),
                (on_hook(true), CauseKind::OtherProgram),
                (programs().any(|one| one.offloaded), CauseKind::HardwareOffload),
            ]),
            // XDP comes before the ingress hook, and may make packets longer.
            if_less: those(&[(xdp && !tx, CauseKind::XdpProgram), (tx && on_hook(false), CauseKind::OtherProgram)]),
        }
    }

    /// Whether packets may have been taken between the egress hook and the qdisc.
    pub fn may_take(&self) -> bool {
        self.filter_drops != 0 || self.if_less.contains(&CauseKind::OtherProgram)
    }

    /// Whether packets may have been received or sent past the hook.
    pub fn may_hide(&self) -> bool {
        !self.if_more.is_empty()
    }

    /// All that may be the reason for a difference of this sign.
    pub fn suspects(&self, bytes: i128) -> impl Iterator<Item = Cause> {
        let all = if bytes > 0 { &self.if_more } else { &self.if_less };
        all.iter().map(|why| cause_of(*why, None, None))
    }
}

impl Difference {
    /// What filters dropped behind the egress hook, if that alone makes the difference, as nearly as the counters could be read.
    pub(super) fn filtered(&self) -> Option<Cause> {
        let missing =
            Count { bytes: self.hook.bytes - self.kernel.bytes, packets: self.hook.packets - self.kernel.packets };
        let dropped = self.others.filter_drops;
        let alone = self.queue.is_none() && self.dropped == 0;
        let as_many = self.in_time_packets(missing.packets - i128::from(dropped));
        let proven = dropped != 0 && alone && as_many && missing.bytes > self.above.bytes;
        proven.then(|| cause_of(CauseKind::DroppedByFilter, Some(-missing.bytes), Some(dropped)))
    }
}
