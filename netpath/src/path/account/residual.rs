//! Why a device's own counters and netpath's hooks differ, as far as the numbers prove it.
//!
//! In: a device's counters, what they moved by while the window was opened and closed, what its hooks saw. Out: the
//! difference, split into causes and what has none. A cause is named only where the arithmetic leaves no other reading;
//! it must not guess. Which of the causes there are:
//!
//! | cause | holds if |
//! |---|---|
//! | `not_attached` | netpath had no hook on the device |
//! | `gro_gso_headers` | the kernel's bytes are the hook's *wire* bytes, and not its bytes |
//! | `ethernet_headers` | they are less than that by 14 for each frame: a veth that merges counts frames without them |
//! | `vlan_tags` | packets are equal and only tags differ, or each frame's 4 bytes do: a tag beside the packet |
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

mod others;
mod queue;

use self::others::Others;
use self::queue::Queue;
use crate::report::{Attach, Cause, Direction, HookCounts, KernelCounters, KernelSlack, Residual, Residuals};
use crate::snapshot::{Device, Drops};

/// A reason, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NotAttached,
    GroGsoHeaders,
    EthernetHeaders,
    VlanTags,
    DroppedBeforeHook,
    DroppedAfterHook,
    DroppedByFilter,
    DroppedByQdisc,
    Queued,
    XdpProgram,
    OtherProgram,
    HardwareOffload,
    AttachWindow,
    Sampling,
}

/// Bytes of an Ethernet header, and of a VLAN tag.
const ETHERNET_BYTES: i128 = 14;
const TAG_BYTES: i128 = 4;

impl Why {
    /// Those that become terms of their own.
    pub const TERMS: [Self; 10] = [
        Self::GroGsoHeaders,
        Self::EthernetHeaders,
        Self::VlanTags,
        Self::DroppedBeforeHook,
        Self::DroppedAfterHook,
        Self::DroppedByFilter,
        Self::DroppedByQdisc,
        Self::Queued,
        Self::AttachWindow,
        Self::Sampling,
    ];

    /// Its name and explanation.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotAttached => ("not_attached", "counted by the kernel on devices that netpath did not watch"),
            Self::GroGsoHeaders => (
                "gro_gso_headers",
                "headers of frames that the kernel handles merged (GRO, GSO): the device counts each frame's, netpath's hook \
                 sees one for many",
            ),
            Self::EthernetHeaders => (
                "ethernet_headers",
                "Ethernet headers that the device leaves out of its count, as a veth does that merges frames (GRO)",
            ),
            Self::VlanTags => (
                "vlan_tags",
                "VLAN tags, which the kernel keeps beside the packet, so that one of the two counts has them and the other \
                 does not",
            ),
            Self::DroppedBeforeHook => {
                ("dropped_before_hook", "counted by the device as received, then dropped before netpath's hook")
            }
            Self::DroppedAfterHook => (
                "dropped_after_hook",
                "seen by netpath's hook on the way out, then dropped before the device counted it",
            ),
            Self::DroppedByFilter => (
                "dropped_by_filter",
                "seen by netpath's hook on the way out, then dropped by a tc filter behind it, as those of a network policy do",
            ),
            Self::XdpProgram => (
                "xdp_program",
                "possibly dropped, redirected or sent by an XDP program on the device, which netpath's hooks cannot see",
            ),
            Self::OtherProgram => (
                "other_program",
                "possibly dropped or redirected by another program on the same hook, before netpath's saw it or behind it",
            ),
            Self::HardwareOffload => (
                "hardware_offload",
                "possibly passed by the network card alone, to which a filter is offloaded, so that netpath's hook did not see it",
            ),
            Self::DroppedByQdisc => (
                "dropped_by_qdisc",
                "seen by netpath's hook on the way out, then dropped by the device's queue (qdisc), which comes before its counter",
            ),
            Self::Queued => (
                "queued",
                "waiting in the device's queue (qdisc) at the end of the window, less what waited there at its start: seen by \
                 netpath's hook and not yet counted by the device, or the reverse",
            ),
            Self::AttachWindow => ("attach_window", "counted on a new device before netpath was attached to it"),
            Self::Sampling => (
                "sampling",
                "passed while the window was being opened or closed: the devices' counters and netpath's own cannot be read \
                 at the same moment",
            ),
        }
    }

    fn cause(self, bytes: Option<i128>, packets: Option<u64>) -> Cause {
        let (name, explanation) = self.words();
        Cause { name: name.to_owned(), bytes: bytes.map(clamped), packets, explanation: explanation.to_owned() }
    }
}

/// Both directions' differences; `None` if the device's counters are unknown.
///
/// `tagged`: packets with VLAN tags were among those sent.
pub fn residuals(device: &Device, rx: Option<HookCounts>, tx: Option<HookCounts>, tagged: bool) -> Option<Residuals> {
    let kernel = device.kernel?;
    let KernelSlack { below, above } = device.kernel_slack.unwrap_or_default();
    let Drops { rx_packets: rx_dropped, tx_packets: tx_dropped } = device.drops.unwrap_or_default();
    let of = |counters: fn(&KernelCounters) -> Count, hook: Option<HookCounts>, dropped, direction| {
        let hook = hook.unwrap_or_default();
        Difference {
            kernel: counters(&kernel),
            hook: Count { bytes: hook.bytes.into(), packets: hook.packets.into() },
            wire_bytes: hook.wire_bytes.into(),
            below: counters(&below),
            above: counters(&above),
            dropped,
            direction,
            queue: device.qdisc.as_ref().and_then(Queue::new).filter(|_| direction == Direction::Tx),
            tagged,
            others: Others::of(device, direction),
            attached: device.attach != Attach::None,
            appeared: device.appeared,
        }
        .explain()
    };
    let received = |counters: &KernelCounters| Count::new(counters.rx_bytes, counters.rx_packets);
    let sent = |counters: &KernelCounters| Count::new(counters.tx_bytes, counters.tx_packets);
    Some(Residuals { rx: of(received, rx, rx_dropped, Direction::Rx), tx: of(sent, tx, tx_dropped, Direction::Tx) })
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
struct Difference {
    kernel: Count,
    hook: Count,
    wire_bytes: i128,
    /// What the kernel's count may have too much, and what it may lack, for being read at another moment.
    below: Count,
    above: Count,
    /// Packets that the device says it dropped.
    dropped: u64,
    /// The hook comes after the device's counter (ingress, rx), or before it (egress, tx).
    direction: Direction,
    /// What is between the egress hook and the device, if it kept packets.
    queue: Option<Queue>,
    /// Packets with VLAN tags were among those sent.
    tagged: bool,
    others: Others,
    attached: bool,
    appeared: bool,
}

impl Difference {
    fn explain(&self) -> Residual {
        let bytes = self.kernel.bytes - self.hook.bytes;
        let packets = self.kernel.packets - self.hook.packets;
        let mut causes = self.causes(bytes, packets);
        let mut rest = bytes - causes.iter().filter_map(|cause| cause.bytes).map(i128::from).sum::<i128>();
        let in_time = rest.clamp(-self.above.bytes, self.below.bytes);
        if in_time != 0 {
            rest -= in_time;
            let why = if self.appeared && in_time > 0 { Why::AttachWindow } else { Why::Sampling };
            causes.push(why.cause(Some(in_time), None));
        }
        Residual { bytes: clamped(bytes), packets: clamped(packets), causes, unexplained_bytes: clamped(rest) }
    }

    /// All causes but those that are in time, without those that nothing speaks for.
    fn causes(&self, bytes: i128, packets: i128) -> Vec<Cause> {
        if !self.attached {
            let Count { bytes, packets } = self.kernel;
            let cause = || Why::NotAttached.cause(Some(bytes), u64::try_from(packets).ok());
            return (bytes != 0).then(cause).into_iter().collect();
        }
        if let Some(causes) = self.queue.as_ref().and_then(|queue| self.queue_causes(queue)) {
            return causes;
        }
        if let Some(headers) = self.headers() {
            return headers.into_iter().map(|(why, bytes)| why.cause(Some(bytes), None)).collect();
        }
        if let Some(cause) = self.filtered() {
            return vec![cause];
        }
        let mut causes = self.queue.as_ref().map_or_else(Vec::new, |queue| queue.suspects(-bytes));
        if self.others.filter_drops != 0 && bytes < 0 {
            // How many of them at egress is not known.
            causes.push(Why::DroppedByFilter.cause(None, None));
        }
        if let Some(why) = self.drops(bytes, packets) {
            let exact = causes.is_empty() && self.at_rest() && packets.unsigned_abs() == self.dropped.into();
            causes.push(why.cause(exact.then_some(bytes), Some(self.dropped)));
            if exact {
                return causes;
            }
        }
        if !self.in_time(bytes) {
            causes.extend(self.others.suspects(bytes));
        }
        causes
    }

    /// Which headers the device counts and the hook does not see, or the reverse, where that is what makes the difference;
    /// `None` if it is not.
    fn headers(&self) -> Option<Vec<(Why, i128)>> {
        let frames = self.kernel.packets;
        let same_packets = frames == self.hook.packets;
        let of_frames = self.wire_bytes - self.hook.bytes;
        // Headers of merged frames are many to one packet; tags are also there if nothing was merged.
        let as_frames = (if same_packets { Why::VlanTags } else { Why::GroGsoHeaders }, of_frames);
        let no_ethernet = (Why::EthernetHeaders, -ETHERNET_BYTES * frames);
        let no_tags = (Why::VlanTags, -TAG_BYTES * frames);

        // A device that counts frames as on the wire: as nearly as the counters could be read, and nearer than what the hook saw.
        let differs = self.kernel.bytes - self.hook.bytes;
        let nearer = (differs - of_frames).abs() < differs.abs();
        if of_frames != 0 && nearer && self.in_time(differs - of_frames) {
            return Some(vec![as_frames]);
        }
        // Multiples of the frames come near to anything: exact ones only, and not where a packet may be missing.
        let mut others =
            vec![vec![as_frames, no_ethernet], vec![as_frames, no_tags], vec![as_frames, no_ethernet, no_tags]];
        if same_packets {
            others.push(vec![(Why::VlanTags, TAG_BYTES * frames)]);
        }
        let possible = differs != 0 && (frames > self.hook.packets || same_packets);
        let exact = |headers: &Vec<(Why, i128)>| differs == headers.iter().map(|(_, bytes)| bytes).sum();
        let mut headers = others.into_iter().filter(|_| possible).find(exact)?;
        headers.retain(|(_, bytes)| *bytes != 0);
        Some(headers)
    }

    /// Whether no more is left than passed while counters were read.
    fn in_time(&self, rest: i128) -> bool {
        (-self.above.bytes..=self.below.bytes).contains(&rest)
    }

    /// The same for packets that the device may have counted besides.
    fn in_time_packets(&self, more: i128) -> bool {
        (-self.below.packets..=self.above.packets).contains(&more)
    }

    /// Whether packets are missing on the side of the hook where the device may have dropped some.
    fn drops(&self, bytes: i128, packets: i128) -> Option<Why> {
        match (self.dropped, self.direction) {
            (0, _) => None,
            (_, Direction::Rx) => (bytes > 0 && packets > 0).then_some(Why::DroppedBeforeHook),
            (_, Direction::Tx) => (bytes < 0 && packets < 0).then_some(Why::DroppedAfterHook),
        }
    }

    /// Nothing passed while the counters were being read, so that they are exact.
    fn at_rest(&self) -> bool {
        let none = Count { bytes: 0, packets: 0 };
        self.below == none && self.above == none
    }
}

fn clamped(count: i128) -> i64 {
    i64::try_from(count).unwrap_or(if count < 0 { i64::MIN } else { i64::MAX })
}
