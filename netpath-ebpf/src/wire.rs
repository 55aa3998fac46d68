//! What a packet counts for: from its size, as the kernel tells it, to [`Counts`].
//!
//! In: fields of `__sk_buff`, and how long the packet's headers are. Out: [`Counts`] of one packet. It must not read the
//! packet; `parse` does.

use crate::Counts;

/// A packet's size, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// `skb->len`: Ethernet header included, a tag beside the frame not.
    pub len_bytes: u32,
    /// How many frames it was, or will be; 0 if it is one, or if whoever made the super-packet did not say: a virtual
    /// machine, a virtio device that merges in hardware, a socket with `PACKET_VNET_HDR`.
    pub gso_segs: u32,
    /// Payload of each frame of a super-packet but the last, in bytes; 0 if it is no super-packet.
    pub gso_size_bytes: u32,
    /// Whether it has a VLAN tag beside the frame (hardware acceleration), which is no part of `len_bytes`.
    pub tag_offloaded: bool,
}

/// Bytes of a VLAN tag.
pub const TAG_BYTES: u64 = 4;

impl Size {
    /// Whether the packet stands for several frames, or may.
    #[inline(always)]
    #[must_use]
    pub const fn is_super_packet(&self) -> bool {
        self.gso_segs > 1 || self.gso_size_bytes != 0
    }

    /// The counts of this one packet. As frames on the wire, each has the headers of `headers_len_bytes`, and the tag.
    #[inline(always)]
    #[must_use]
    pub fn counts(&self, headers_len_bytes: u32) -> Counts {
        let bytes = u64::from(self.len_bytes);
        let frames = u64::from(self.frames(headers_len_bytes));
        let headers = (frames - 1) * u64::from(headers_len_bytes);
        let tags = if self.tag_offloaded { frames * TAG_BYTES } else { 0 };
        Counts { packets: 1, bytes, wire_overhead_bytes: headers + tags }
    }

    /// At least 1.
    #[inline(always)]
    const fn frames(&self, headers_len_bytes: u32) -> u32 {
        if self.gso_segs == 0 && self.gso_size_bytes != 0 {
            let payload = self.len_bytes.saturating_sub(headers_len_bytes);
            // Rounded up; written so that neither the sum nor the division can fail.
            return if payload == 0 { 1 } else { (payload - 1) / self.gso_size_bytes + 1 };
        }
        if self.gso_segs == 0 { 1 } else { self.gso_segs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Size = Size { len_bytes: 1514, gso_segs: 0, gso_size_bytes: 0, tag_offloaded: false };

    #[test]
    fn a_frame_is_as_long_as_it_is() {
        for gso_segs in [0, 1] {
            let size = Size { gso_segs, ..FRAME };
            assert!(!size.is_super_packet());
            assert_eq!(size.counts(66), Counts { packets: 1, bytes: 1514, wire_overhead_bytes: 0 });
            assert_eq!(Size { len_bytes: 0, ..size }.counts(66).wire_bytes(), 0);
        }
    }

    #[test]
    fn every_frame_of_a_super_packet_has_the_headers() {
        // 66 bytes of headers, twice 1448 of payload and once 100.
        let len_bytes = 66 + 2 * 1448 + 100;
        let wire_overhead_bytes = 2 * 66;
        for gso_segs in [0, 3] {
            let size = Size { len_bytes, gso_segs, gso_size_bytes: 1448, ..FRAME };
            assert!(size.is_super_packet());
            assert_eq!(size.counts(66), Counts { packets: 1, bytes: u64::from(len_bytes), wire_overhead_bytes });
        }
    }

    #[test]
    fn the_frames_of_a_super_packet_that_does_not_say_how_many_it_has_are_rounded_up() {
        for (payload, frames) in [(0, 1), (1, 1), (1447, 1), (1448, 1), (1449, 2), (2896, 2), (2897, 3)] {
            let size = Size { len_bytes: 66 + payload, gso_size_bytes: 1448, ..FRAME };
            assert_eq!(size.counts(66).wire_bytes(), u64::from(payload + 66 * frames), "{payload}");
        }
        // Headers longer than the packet, as only nonsense has them.
        assert_eq!(Size { len_bytes: 10, gso_size_bytes: 1, ..FRAME }.counts(66).wire_bytes(), 10);
    }

    #[test]
    fn every_frame_has_the_tag_that_is_beside_the_packet() {
        let tagged = Size { tag_offloaded: true, ..FRAME };
        assert_eq!(tagged.counts(54).wire_bytes(), 1518);
        let merged = Size { len_bytes: 66 + 3 * 1448, gso_segs: 3, gso_size_bytes: 1448, ..tagged };
        assert_eq!(merged.counts(66).wire_bytes(), 3 * (4 + 66 + 1448));
    }
}
