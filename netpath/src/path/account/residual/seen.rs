//! What a device's hooks saw, as far as it matters for how the device counts it.
//!
//! In: a snapshot's observations. Out: facts of each hook. It must not look at the device's counters.

use hashbrown::HashMap;

use super::{ETHERNET_BYTES, TAG_BYTES};
use crate::model::Direction;
use crate::path::diversions::Diverted;
use crate::report::HookCounts;
use crate::snapshot::{Counts, Snapshot, Tuple};

/// What one hook saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Everything that passed it.
    pub hook: HookCounts,
    /// Packets with a VLAN tag, and those with a second one.
    pub tagged_packets: [u64; 2],
    /// Super-packets were among them.
    pub merged: Option<Headers>,
    /// Of `hook`, what passed it before in another form, as decrypted packets did. Ingress only.
    pub shown_again: Counts,
}

/// How long the headers of one frame of a super-packet may be, in bytes, both inclusive: the least without an Ethernet header,
/// the most with one; without a VLAN tag beside the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub least: u64,
    pub most: u64,
}

impl Headers {
    /// From IPv4 and UDP on a device without link headers, to VXLAN over IPv6 with an Ethernet frame, IPv6 and TCP in it.
    const ANY: Self = Self { least: 20 + 8, most: ETHERNET + 40 + TUNNEL_BYTES };

    /// Those of a flow. What is in a tunnel is merged with the tunnel's headers.
    fn of(tuple: Tuple) -> Self {
        let network = if tuple.src.is_ipv4() { 20 } else { 40 };
        let (least, most) = if tuple.proto == TCP { (20, 60) } else { (4, TUNNEL_BYTES) };
        Self { least: network + least, most: ETHERNET + network + most }
    }

    /// On a device whose packets begin with an Ethernet header.
    pub fn with_ethernet(self) -> Self {
        Self { least: self.least + ETHERNET, ..self }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

const TCP: u8 = 6;
const ETHERNET: u64 = 14;
const _: () = assert!(ETHERNET as i128 == ETHERNET_BYTES);
/// UDP, VXLAN, Ethernet, IPv6, and TCP with all of its options.
const TUNNEL_BYTES: u64 = 8 + 8 + ETHERNET + 40 + 60;

/// What each hook saw of flows and of the rest.
pub fn by_hook(snapshot: &Snapshot, diverted: &Diverted) -> HashMap<(u32, Direction), Seen> {
    let mut hooks: HashMap<(u32, Direction), Seen> = HashMap::new();
    for one in &snapshot.observations {
        let seen = hooks.entry((one.ifindex, one.direction)).or_default();
        add(&mut seen.hook, one.counts);
        if diverted.was_shown_before(one) {
            seen.shown_again += one.counts;
        }
        for (sum, vlan) in seen.tagged_packets.iter_mut().zip(one.vlans) {
            *sum = sum.saturating_add(if vlan == 0 { 0 } else { one.counts.packets });
        }
        // One tag can be beside the packet.
        seen.merge(one.counts, one.vlans != [0; 2], Headers::of(one.tuple));
    }
    for lost in &snapshot.unattributed {
        let seen = hooks.entry((lost.ifindex, lost.direction)).or_default();
        add(&mut seen.hook, lost.counts);
        seen.hook.unattributed_bytes = seen.hook.unattributed_bytes.saturating_add(lost.counts.bytes);
        seen.hook.unattributed_packets = seen.hook.unattributed_packets.saturating_add(lost.counts.packets);
        seen.merge(lost.counts, true, Headers::ANY);
    }
    hooks
}

impl Seen {
    /// Takes note of super-packets: of single frames, the wire has no more than their tags besides.
    fn merge(&mut self, counts: Counts, tagged: bool, headers: Headers) {
        let besides = i128::from(counts.wire_bytes) - i128::from(counts.bytes);
        let tags = if tagged { TAG_BYTES * i128::from(counts.packets) } else { 0 };
        if besides > tags {
            self.merged = Some(self.merged.map_or(headers, |merged| merged.or(headers)));
        }
    }
}

fn add(hook: &mut HookCounts, counts: Counts) {
    hook.bytes = hook.bytes.saturating_add(counts.bytes);
    hook.packets = hook.packets.saturating_add(counts.packets);
    hook.wire_bytes = hook.wire_bytes.saturating_add(counts.wire_bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_headers_are() {
        let of = |proto, address: &str| {
            let address = address.parse().expect("an address");
            let Headers { least, most } = Headers::of(Tuple { proto, src: address, sport: 1, dst: address, dport: 2 });
            (least, most)
        };
        // IPv4 has 20 without options, IPv6 40, TCP 20 to 60, Ethernet 14.
        assert_eq!(of(6, "10.0.0.1"), (40, 94));
        assert_eq!(of(6, "fd00::1"), (60, 114));
        // GRE has 4 at least. At most: VXLAN (16 with UDP), then an Ethernet frame of IPv6 and TCP (114).
        assert_eq!(of(47, "10.0.0.1"), (24, 164));
        assert_eq!(of(17, "fd00::1"), (44, 184));
        // Without a flow: from UDP over IPv4 to that over IPv6.
        assert_eq!((Headers::ANY.least, Headers::ANY.most), (28, 184));
    }
}
