//! Why a device's own counters and netpath's hooks differ, as far as the numbers prove it.
//!
//! In: a device's counters, what they moved by while the window was opened and closed, what its hooks saw. Out: the
//! difference, split into causes and what has none. A cause is named only where the arithmetic leaves no other reading;
//! it must not guess. Which of the causes there are:
//!
//! | cause | holds if |
//! |---|---|
//! | `not_attached` | netpath had no hook on the device |
//! | `shown_again` | of what the hook saw, decrypted packets and own ones to many are a second showing, and the device counted the rest |
//! | `gro_gso_headers` | the device counts the frames of super-packets: the hook's *wire* bytes, or a header's for each packet that it counted more |
//! | `ethernet_headers` | it counts 14 bytes less for each packet, or each frame |
//! | `encryption` | it is WireGuard's, and counts messages: 32 to 47 bytes more a frame, and handshakes, of up to 148 bytes |
//! | `vlan_tags` | it counts the tags and the hook does not, or the reverse: 4 bytes for each packet, or each frame |
//! | `dropped_before_hook` | as many packets are missing at the ingress hook as the device says it dropped |
//! | `dropped_after_hook` | as many packets left the egress hook, and were not counted, as the device says it dropped |
//! | `dropped_by_filter` | as many packets left the egress hook, and were not counted, as legacy filters behind it dropped |
//! | `dropped_by_qdisc` | the device's root qdisc says it dropped packets, and passed on as many bytes less than it was given |
//! | `queued` | it says that more of them wait in it at the end of the window than at its start, or fewer |
//! | `xdp_program` | an XDP program is on the device, and where it may drop or send past the hooks there is a difference: a possible cause, in unknown bytes |
//! | `other_program` | another program is on the hook, before or behind netpath's, where it may take what is missing: likewise |
//! | `hardware_offload` | the device counted more, and a filter of it is offloaded to the network card: likewise |
//! | `attach_window` | of a new device: no more than it counted until netpath was attached |
//! | `sampling` | no more than the counters moved while they and the hooks' counts were being read |

mod cause;
mod counting;
mod dropped;
mod others;
mod queue;
mod seen;

use self::cause::cause_of;
pub use self::cause::{TERMS, explanation};
use self::others::Others;
use self::queue::Queue;
pub use self::seen::{Headers, Seen, by_hook};
use crate::model::{Attach, DeviceClass, Direction, Drops, KernelCounters, KernelSlack};
use crate::report::{Cause, CauseKind, Residual, Residuals};
use crate::snapshot::{Counts, Device};

/// Bytes of an Ethernet header, and of a VLAN tag.
const ETHERNET_BYTES: i128 = 14;
const TAG_BYTES: i128 = 4;

/// Both directions' differences; `None` if the device's counters are unknown.
pub fn residuals(device: &Device, rx: &Seen, tx: &Seen) -> Option<Residuals> {
    let kernel = device.facts.kernel?;
    let KernelSlack { below, above } = device.facts.kernel_slack.unwrap_or_default();
    let Drops { rx_packets: rx_dropped, tx_packets: tx_dropped } = device.facts.drops.unwrap_or_default();
    let of = |counters: fn(&KernelCounters) -> Count, seen: &Seen, dropped, direction| {
        Difference {
            kernel: counters(&kernel),
            hook: Count::new(seen.hook.bytes, seen.hook.packets),
            wire_bytes: seen.hook.wire_bytes.into(),
            tagged: seen.tagged_packets.map(i128::from),
            merged: seen.merged.map(|headers| if has_ethernet(device) { headers.with_ethernet() } else { headers }),
            below: counters(&below),
            above: counters(&above),
            dropped,
            direction,
            queue: device.facts.qdisc.as_ref().and_then(Queue::new).filter(|_| direction == Direction::Tx),
            others: Others::of(device, direction),
            encrypts: device.facts.kind.as_deref() == Some("wireguard"),
            attached: device.facts.attach != Attach::None,
            blind: !device.blind.is_empty(),
            appeared: device.facts.appeared,
        }
        .explain(seen.shown_again)
    };
    let received = |counters: &KernelCounters| Count::new(counters.rx_bytes, counters.rx_packets);
    let sent = |counters: &KernelCounters| Count::new(counters.tx_bytes, counters.tx_packets);
    Some(Residuals { rx: of(received, rx, rx_dropped, Direction::Rx), tx: of(sent, tx, tx_dropped, Direction::Tx) })
}

/// Whether its packets begin with an Ethernet header for certain; of tunnels some do, which have a MAC.
fn has_ethernet(device: &Device) -> bool {
    match device.facts.class {
        DeviceClass::Eni | DeviceClass::Veth | DeviceClass::Vlan | DeviceClass::Bridge => true,
        _ => device.facts.mac.as_ref().is_some_and(|mac| mac.len() == "00:00:00:00:00:00".len()),
    }
}

/// Wide enough that no sum or difference of counters overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    bytes: i128,
    packets: i128,
}

impl Count {
    fn new(bytes: u64, packets: u64) -> Self {
        Self { bytes: bytes.into(), packets: packets.into() }
    }
}

/// One direction of a device.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Difference {
    kernel: Count,
    hook: Count,
    wire_bytes: i128,
    /// Packets with a VLAN tag, and those with a second one.
    tagged: [i128; 2],
    /// Super-packets were among them.
    merged: Option<Headers>,
    /// What the kernel's count may have too much, and what it may lack, for being read at another moment.
    below: Count,
    above: Count,
    /// Packets that the device says it dropped.
    dropped: u64,
    /// The hook comes after the device's counter (ingress, rx), or before it (egress, tx).
    direction: Direction,
    /// What is between the egress hook and the device, if it kept packets.
    queue: Option<Queue>,
    others: Others,
    /// The device is WireGuard's.
    encrypts: bool,
    attached: bool,
    /// The hook may not have seen all.
    blind: bool,
    appeared: bool,
}

impl Difference {
    /// What the kernel counted more than the hook saw.
    fn bytes(&self) -> i128 {
        self.kernel.bytes - self.hook.bytes
    }

    fn packets(&self) -> i128 {
        self.kernel.packets - self.hook.packets
    }

    fn explain(mut self, shown_again: Counts) -> Residual {
        let (bytes, packets) = (self.bytes(), self.packets());
        let mut causes: Vec<Cause> = self.set_aside(shown_again).into_iter().collect();
        causes.extend(self.causes());
        let mut rest = bytes - causes.iter().filter_map(|cause| cause.bytes).map(i128::from).sum::<i128>();
        let in_time = rest.clamp(-self.above.bytes, self.below.bytes);
        if in_time != 0 {
            rest -= in_time;
            let why = if self.appeared && in_time > 0 { CauseKind::AttachWindow } else { CauseKind::Sampling };
            causes.push(cause_of(why, Some(in_time), None));
        }
        Residual { bytes: clamped(bytes), packets: clamped(packets), causes, unexplained_bytes: clamped(rest) }
    }

    /// Leaves what passed the hook a second time out of what it saw, if the device's count is made of the rest.
    fn set_aside(&mut self, shown_again: Counts) -> Option<Cause> {
        let packets = Some(shown_again.packets).filter(|packets| *packets != 0)?;
        let all = (self.hook, self.wire_bytes);
        self.hook.bytes -= i128::from(shown_again.bytes);
        self.hook.packets -= i128::from(packets);
        self.wire_bytes -= i128::from(shown_again.wire_bytes);
        if self.attached && (self.in_time_packets(-self.packets()) || self.headers().is_some()) {
            return Some(cause_of(CauseKind::ShownAgain, Some(-i128::from(shown_again.bytes)), Some(packets)));
        }
        (self.hook, self.wire_bytes) = all;
        Some(cause_of(CauseKind::ShownAgain, None, Some(packets)))
    }

    /// All causes but those that are in time, without those that nothing speaks for.
    fn causes(&self) -> Vec<Cause> {
        let bytes = self.bytes();
        if !self.attached {
            let Count { bytes, packets } = self.kernel;
            let cause = || cause_of(CauseKind::NotAttached, Some(bytes), u64::try_from(packets).ok());
            return (bytes != 0).then(cause).into_iter().collect();
        }
        if let Some(causes) = self.queue.as_ref().and_then(|queue| self.queue_causes(queue)) {
            return causes;
        }
        if let Some(headers) = self.headers().filter(|headers| !headers.is_empty()) {
            return headers.into_iter().map(|(why, bytes)| cause_of(why, Some(bytes), None)).collect();
        }
        if let Some(cause) = self.filtered() {
            return vec![cause];
        }
        let mut causes = self.queue.as_ref().map_or_else(Vec::new, |queue| queue.suspects(-bytes));
        if self.others.filter_drops != 0 && bytes < 0 {
            // How many of them at egress is not known.
            causes.push(cause_of(CauseKind::DroppedByFilter, None, None));
        }
        if let Some(dropped) = self.drops() {
            if causes.is_empty()
                && let Some(proven) = self.proven_drops(dropped)
            {
                return proven;
            }
            causes.push(cause_of(dropped, None, Some(self.dropped)));
        }
        if !self.in_time(bytes) {
            causes.extend(self.others.suspects(bytes));
        }
        causes
    }

    /// Whether the hook saw every packet that the device counted, as far as can be known.
    fn nothing_hidden(&self) -> bool {
        !self.blind && self.dropped == 0 && !self.others.may_hide()
    }

    /// Whether no more is left than passed while counters were read.
    fn in_time(&self, rest: i128) -> bool {
        (-self.above.bytes..=self.below.bytes).contains(&rest)
    }

    /// The same for packets that the device may have counted besides.
    fn in_time_packets(&self, more: i128) -> bool {
        (-self.below.packets..=self.above.packets).contains(&more)
    }

    /// Nothing passed while the counters were being read, so that they are exact.
    fn at_rest(&self) -> bool {
        let none = Count { bytes: 0, packets: 0 };
        self.below == none && self.above == none
    }
}

/// The nearest number that a report can hold.
pub fn clamped(count: i128) -> i64 {
    i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
