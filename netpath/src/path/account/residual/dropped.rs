//! What a device dropped between its counter and netpath's hook.
//!
//! In: a difference, and how many packets the device says it dropped. Out: causes, in bytes where they are proven. The kernel
//! does not tell the bytes of what was dropped. They are what is left of the difference if as many packets are missing, and if
//! packets of that size can be: otherwise the device leaves Ethernet headers out of its count besides.

use std::ops::RangeInclusive;

use super::cause::cause_of;
use super::{Cause, Difference, ETHERNET_BYTES};
use crate::model::Direction;
use crate::report::CauseKind;

/// Bytes of one packet: from an IPv4 header to the largest super-packet that the kernel makes unless it is told otherwise
/// (include/linux/netdevice.h, `GSO_LEGACY_MAX_SIZE`), with its Ethernet header.
const PACKET_BYTES: RangeInclusive<i128> = 20..=65_536 + ETHERNET_BYTES;

impl Difference {
    /// Which drops these were, if packets are missing on the side of the hook where the device may have dropped some.
    pub(super) fn drops(&self) -> Option<CauseKind> {
        let (bytes, packets) = (self.bytes(), self.packets());
        match (self.dropped, self.direction) {
            (0, _) => None,
            // Without Ethernet headers, more packets may have fewer bytes.
            (_, Direction::Rx) => {
                (packets > 0 && bytes > -self.ethernet_bytes()).then_some(CauseKind::DroppedBeforeHook)
            }
            (_, Direction::Tx) => (bytes < 0 && packets < 0).then_some(CauseKind::DroppedAfterHook),
        }
    }

    /// The causes if as many packets are missing as the device dropped, as nearly as the counters could be read.
    pub(super) fn proven_drops(&self, why: CauseKind) -> Option<Vec<Cause>> {
        let missing = self.packets().abs() - i128::from(self.dropped);
        let more = if self.direction == Direction::Rx { -missing } else { missing };
        let proven =
            if self.at_rest() { missing == 0 } else { self.in_time_packets(more) && !self.in_time(self.bytes()) };
        let as_long_as_packets = |no_ethernet: &i128| {
            let dropped = self.bytes() + no_ethernet;
            let dropped = if self.direction == Direction::Rx { dropped } else { -dropped };
            let (least, most) = PACKET_BYTES.into_inner();
            (least * i128::from(self.dropped)..=most * i128::from(self.dropped)).contains(&dropped)
        };
        let no_ethernet = [0, self.ethernet_bytes()].into_iter().find(as_long_as_packets).filter(|_| proven)?;
        let dropped = cause_of(why, Some(self.bytes() + no_ethernet), Some(self.dropped));
        let headers = (no_ethernet != 0).then(|| cause_of(CauseKind::EthernetHeaders, Some(-no_ethernet), None));
        Some(headers.into_iter().chain([dropped]).collect())
    }

    /// The Ethernet headers of all that the device counted.
    pub(super) fn ethernet_bytes(&self) -> i128 {
        ETHERNET_BYTES * self.kernel.packets
    }
}
