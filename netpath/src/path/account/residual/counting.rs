//! How a device counts the packets that netpath's hook saw.
//!
//! In: the difference of one direction. Out: the headers that make it, if there is a way of counting that does. A device
//! counts all of its packets in one way, which is made of
//!
//! - what it counts: super-packets as the hook saw them, the frames that they are made of, or something in between, where
//!   packets that are merged already are merged again between its counter and the hook (`gro_cells` of tunnels, NAPI);
//! - whether an Ethernet header is part of it: `eth_type_trans` takes it off before a tunnel, a bridge, a VLAN device or a veth
//!   with NAPI counts what it received, and `iptunnel_xmit` leaves it out of what a tunnel sent;
//! - whether VLAN tags are part of it, in the frame or beside it;
//! - whether it is the encrypted message that the device counts.
//!
//! The number of packets says which it is, and the bytes must fit, both as nearly as the counters could be read. Of several
//! ways that do, it is the one that needs the fewest of these assumptions, unless another is nearer by far.

use std::ops::RangeInclusive;

use super::{Difference, ETHERNET_BYTES, TAG_BYTES};
use crate::report::CauseKind;

/// Headers, and how many bytes more the device counts for them than the hook.
pub(super) type Headers = Vec<(CauseKind, i128)>;

/// A way of counting.
struct Way {
    /// What it makes of all packets together.
    sum: Headers,
    /// What it makes of each unit: a packet, a frame or a byte.
    each: Headers,
    /// How many units there may be, and which number is next to what was read.
    units: RangeInclusive<i128>,
    likely: i128,
    /// What passed while counters were read, by the number of packets.
    passed: i128,
}

/// Headers, and how far what they leave is from what passed while counters were read.
type Fit = (Headers, i128);

impl Way {
    fn of(sum: Headers) -> Self {
        Self { sum, each: Vec::new(), units: 0..=0, likely: 0, passed: 0 }
    }

    /// With this many units: packets or frames.
    fn with(self, each: Headers, units: &RangeInclusive<i128>, likely: i128) -> Self {
        Self { each, units: units.clone(), likely, ..self }
    }

    /// The headers, if they leave no more of the difference than passed while counters were read.
    fn fit(self, difference: &Difference) -> Option<Fit> {
        let rest = difference.bytes() - total(&self.sum);
        let step = total(&self.each);
        let (fewest, most) = (-difference.above.bytes, difference.below.bytes);
        let (first, last) = match step {
            0 => difference.in_time(rest).then_some((*self.units.start(), *self.units.end()))?,
            // rest − units × step must be from `fewest` to `most`.
            1.. => (ceiling(rest - most, step), (rest - fewest).div_euclid(step)),
            ..0 => (ceiling(fewest - rest, -step), (most - rest).div_euclid(-step)),
        };
        let (first, last) = (first.max(*self.units.start()), last.min(*self.units.end()));
        let units = (first <= last).then(|| self.likely.clamp(first, last))?;
        let mut headers = self.sum;
        headers.extend(self.each.into_iter().map(|(why, bytes)| (why, bytes * units)));
        headers.retain(|(_, bytes)| *bytes != 0);
        headers.sort_by_key(|(why, _)| *why as u8);
        Some((headers, (rest - units * step - self.passed).abs()))
    }
}

fn total(headers: &Headers) -> i128 {
    headers.iter().map(|(_, bytes)| bytes).sum()
}

fn ceiling(number: i128, divisor: i128) -> i128 {
    -(-number).div_euclid(divisor)
}

/// What WireGuard puts around a packet.
const MESSAGE_BYTES: RangeInclusive<i128> = 32..=47;
/// Its longest message without a packet, `message_handshake_initiation`.
const HANDSHAKE_BYTES: i128 = 148;

const NO_ETHERNET: (CauseKind, i128) = (CauseKind::EthernetHeaders, -ETHERNET_BYTES);
const NO_TAG: (CauseKind, i128) = (CauseKind::VlanTags, -TAG_BYTES);

impl Difference {
    /// Which headers the device counts and the hook does not see, or the reverse, where that is what makes the difference;
    /// `None` if it is not.
    pub(super) fn headers(&self) -> Option<Headers> {
        let mut best: Option<Fit> = None;
        for way in self.packets_alone().chain(self.frames_alone()) {
            let fit = way.fit(self);
            // One that needs more assumptions must be nearer by far.
            best = match (best, fit) {
                (Some((_, off)), Some(fit)) if fit.1 * 4 < off => Some(fit),
                (best, fit) => best.or(fit),
            };
        }
        best.or_else(|| self.in_part().find_map(|way| way.fit(self)))
            .or_else(|| self.messages()?.fit(self))
            .map(|(headers, _)| headers)
    }

    /// The numbers of packets that the device may have counted of those that the hook saw.
    fn counted_packets(&self) -> RangeInclusive<i128> {
        self.kernel.packets - self.below.packets..=self.kernel.packets + self.above.packets
    }

    /// The device counts packets as the hook sees them.
    fn packets_alone(&self) -> impl Iterator<Item = Way> {
        let packets = self.hook.packets;
        let same = self.counted_packets().contains(&packets);
        let [tagged, twice] = self.tagged;
        let no_ethernet = (CauseKind::EthernetHeaders, -ETHERNET_BYTES * packets);
        let mut ways = vec![vec![], vec![no_ethernet]];
        for tags in [tagged, twice, tagged + twice].into_iter().filter(|tags| *tags != 0) {
            // In the frame where one of the two is, and beside the packet or taken off where the other is.
            for bytes in [-TAG_BYTES, TAG_BYTES] {
                let of_tags = (CauseKind::VlanTags, bytes * tags);
                ways.extend([vec![of_tags], vec![no_ethernet, of_tags]]);
            }
        }
        // A tag that the hook has nothing of: to the byte only, as no packet shows that there are any.
        let all_tagged = vec![(CauseKind::VlanTags, TAG_BYTES * packets)];
        if self.bytes() == total(&all_tagged) {
            ways.push(all_tagged);
        }
        let mean = self.hook.bytes.checked_div(packets).unwrap_or(0);
        let passed = self.packets() * mean;
        ways.into_iter().filter(move |_| same).map(move |sum| Way { passed, ..Way::of(sum) })
    }

    /// The device counts the frames that the packets are made of.
    fn frames_alone(&self) -> impl Iterator<Item = Way> {
        let of_frames = self.wire_bytes - self.hook.bytes;
        let as_frames = (if self.merged.is_some() { CauseKind::GroGsoHeaders } else { CauseKind::VlanTags }, of_frames);
        let mut ways = Vec::new();
        // Nearer than what the hook saw: then no number of packets is needed to prove it.
        if of_frames != 0 && (self.bytes() - of_frames).abs() < self.bytes().abs() {
            ways.push(Way::of(vec![as_frames]));
        }
        if of_frames == 0 {
            return ways.into_iter();
        }
        let (frames, likely, [tagged, _]) = (self.frames(), self.kernel.packets, self.tagged);
        let mut add = |sum, each, units: &_, likely| ways.push(Way::of(sum).with(each, units, likely));
        add(vec![as_frames], vec![], &frames, likely);
        add(vec![as_frames], vec![NO_ETHERNET], &frames, likely);
        if tagged == self.hook.packets {
            add(vec![as_frames], vec![NO_TAG], &frames, likely);
            add(vec![as_frames], vec![NO_ETHERNET, NO_TAG], &frames, likely);
        } else if tagged != 0 && !frames.is_empty() {
            // Each packet is one frame at least, with a tag or without.
            let with_tag = tagged..=likely - (self.hook.packets - tagged);
            let no_ethernet = (CauseKind::EthernetHeaders, -ETHERNET_BYTES * likely);
            add(vec![as_frames], vec![NO_TAG], &with_tag, tagged);
            add(vec![as_frames, no_ethernet], vec![NO_TAG], &with_tag, tagged);
        }
        ways.into_iter()
    }

    /// How many frames there may be: more than packets if some are merged.
    fn frames(&self) -> RangeInclusive<i128> {
        let counted = self.counted_packets();
        if self.merged.is_some() {
            (*counted.start()).max(self.hook.packets + 1)..=*counted.end()
        } else if counted.contains(&self.hook.packets) {
            self.hook.packets..=self.hook.packets
        } else {
            RangeInclusive::new(1, 0)
        }
    }

    /// The device counts WireGuard's messages: one a frame, with a header, a tag and padding to a multiple of 16 bytes
    /// (drivers/net/wireguard/messages.h, `message_data_len`, `MESSAGE_PADDING_MULTIPLE`); and keepalives and handshakes, which hold
    /// no packet.
    fn messages(&self) -> Option<Way> {
        let counted = self.encrypts.then(|| self.counted_packets())?;
        let as_frames = (CauseKind::GroGsoHeaders, self.wire_bytes - self.hook.bytes);
        let likely = self.bytes() - as_frames.1;
        let without_packet = (*counted.end() - self.hook.packets).max(0);
        let most = MESSAGE_BYTES.end() * counted.end() + (HANDSHAKE_BYTES - MESSAGE_BYTES.end()) * without_packet;
        let bytes = MESSAGE_BYTES.start() * self.hook.packets..=most;
        Some(Way::of(vec![as_frames]).with(vec![(CauseKind::Encryption, 1)], &bytes, likely))
    }

    /// The device counts more than the packets and fewer than the frames, or the hook could not see all headers of the frames:
    /// those of what is in a tunnel that it does not know. Each packet that the device counts more makes the headers of one
    /// frame. Nothing else may be the reason.
    fn in_part(&self) -> impl Iterator<Item = Way> {
        let more = self.kernel.packets - self.hook.packets;
        let merged = self.merged.filter(|_| more > self.below.packets && self.nothing_hidden());
        let ways = merged.map(|headers| {
            let (fewest, most) = (more - self.below.packets, more + self.above.packets);
            let bytes = fewest * i128::from(headers.least)..=most * i128::from(headers.most);
            let no_ethernet = (CauseKind::EthernetHeaders, -self.ethernet_bytes());
            let tags = (CauseKind::VlanTags, TAG_BYTES * self.tagged[0]);
            let mut ways = [vec![], vec![no_ethernet], vec![tags], vec![no_ethernet, tags]].map(|sum| {
                let likely = self.bytes() - total(&sum);
                Way::of(sum).with(vec![(CauseKind::GroGsoHeaders, 1)], &bytes, likely)
            });
            // Headers that are all of one length say it plainly.
            ways.sort_by_key(|way| way.likely % more != 0);
            ways
        });
        ways.into_iter().flatten()
    }
}
