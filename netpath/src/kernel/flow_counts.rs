//! What drains add up to: packets and bytes per flow and hook.
//!
//! In: keys and counts as the programs write them. Out: [`Observation`]s and [`Unattributed`] counts in host byte order. Plain
//! bookkeeping, of bounded size.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use netpath_ebpf::{Counts as RawCounts, DropKey, Hook, IcmpErrorKey, KeyV4, KeyV6, Ports, Tag, UnattributedKey};

use crate::model::Direction;
use crate::snapshot::{Counts, Observation, Reason, Tuple, Unattributed};

/// Kinds of dropped packets kept in memory.
const DROPS_IN_MEMORY: usize = 65_536;

/// A sum of drains.
#[derive(Debug)]
pub struct FlowCounts {
    v4: HashMap<KeyV4, Counts>,
    v6: HashMap<KeyV6, Counts>,
    icmp_errors: HashMap<IcmpErrorKey, Counts>,
    unattributed: HashMap<UnattributedKey, Counts>,
    drops: HashMap<DropKey, u64>,
    /// Dropped packets that there was no room for.
    pub drops_lost: u64,
    /// Packets that found no room even in the unattributed counters; their device is unknown.
    pub lost: Counts,
    /// Flows that may still be added.
    room_left: usize,
}

impl Default for FlowCounts {
    /// With room for any number of flows.
    fn default() -> Self {
        let (v4, v6, icmp_errors, unattributed, drops) = Default::default();
        Self { v4, v6, icmp_errors, unattributed, drops, drops_lost: 0, lost: Counts::default(), room_left: usize::MAX }
    }
}

impl FlowCounts {
    /// An empty sum with room for so many flows, IPv4 and IPv6 together. Further flows are counted as unattributed.
    pub(super) fn bounded(flows: usize) -> Self {
        Self { room_left: flows, ..Self::default() }
    }

    /// Takes all that was counted. What stays has memory for as much again, and room for so many flows.
    pub(super) fn take(&mut self, flows: usize) -> Self {
        let (v4, v6) = (HashMap::with_capacity(self.v4.len()), HashMap::with_capacity(self.v6.len()));
        std::mem::replace(self, Self { v4, v6, ..Self::bounded(flows) })
    }

    pub(super) fn add_v4(&mut self, key: KeyV4, counts: RawCounts) {
        add(&mut self.v4, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    pub(super) fn add_v6(&mut self, key: KeyV6, counts: RawCounts) {
        add(&mut self.v6, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    pub(super) fn add_icmp_error(&mut self, key: IcmpErrorKey, counts: RawCounts) {
        add(&mut self.icmp_errors, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    pub(super) fn add_unattributed(&mut self, key: UnattributedKey, counts: RawCounts) {
        *self.unattributed.entry(key).or_default() += counts.into();
    }

    pub(super) fn add_drops(&mut self, key: DropKey, packets: u64) {
        if let Some(sum) = self.drops.get_mut(&key) {
            *sum += packets;
        } else if self.drops.len() < DROPS_IN_MEMORY {
            self.drops.insert(key, packets);
        } else {
            self.drops_lost += packets;
        }
    }

    /// The number of flows, each once for each hook.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.icmp_errors.len()
    }

    /// Whether no flow was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves the counts of one device to another index, since the kernel may reuse the index for the next device.
    pub fn reindex(&mut self, from: u32, to: u32) {
        fn moved<K: Eq + Hash + Copy>(
            all: &mut HashMap<K, Counts>,
            hook: impl Fn(&mut K) -> &mut Hook,
            from: u32,
            to: u32,
        ) {
            let own: Vec<_> = all.extract_if(|key, _| hook(&mut key.clone()).ifindex() == from).collect();
            for (mut key, counts) in own {
                let hook = hook(&mut key);
                *hook = Hook::new(to, hook.direction());
                *all.entry(key).or_default() += counts;
            }
        }
        moved(&mut self.v4, |key| &mut key.hook, from, to);
        moved(&mut self.v6, |key| &mut key.hook, from, to);
        moved(&mut self.icmp_errors, |key| &mut key.hook, from, to);
        moved(&mut self.unattributed, |key| &mut key.hook, from, to);
    }

    /// Every flow at every hook, in no particular order.
    pub fn observations(&self) -> impl Iterator<Item = Observation> {
        let v4 = self.v4.iter().map(|(key, counts)| {
            let tuple = tuple(key.tag, address_v4(key.src_be), address_v4(key.dst_be), key.ports);
            observation(key.hook, key.tag, tuple, None, *counts)
        });
        let v6 = self.v6.iter().map(|(key, counts)| {
            let tuple = tuple(key.tag, address_v6(key.src_be), address_v6(key.dst_be), key.ports);
            observation(key.hook, key.tag, tuple, None, *counts)
        });
        let icmp_errors = self.icmp_errors.iter().map(|(key, counts)| {
            let address = |words_be: [u32; 4]| match key.tag.protocol() {
                ICMP => address_v4(words_be[0]),
                _ => address_v6(words_be),
            };
            let error = tuple(key.tag, address(key.src_be), address(key.dst_be), Ports::default());
            let (src, dst) = (address(key.quoted_src_be), address(key.quoted_dst_be));
            let about = tuple(key.quoted_tag, src, dst, key.quoted_ports);
            observation(key.hook, key.tag, error, Some(about), *counts)
        });
        v4.chain(v6).chain(icmp_errors)
    }

    /// What the kernel dropped, in no particular order.
    pub fn dropped(&self) -> impl Iterator<Item = Dropped> {
        self.drops.iter().map(|(key, packets)| {
            let address =
                |words_be: [u32; 4]| if key.family == 4 { address_v4(words_be[0]) } else { address_v6(words_be) };
            Dropped {
                tuple: tuple(key.tag, address(key.src_be), address(key.dst_be), key.ports),
                reason: key.reason,
                location: key.location,
                netns: key.netns,
                packets: *packets,
            }
        })
    }

    /// What was counted but belongs to no flow, in no particular order.
    pub fn unattributed(&self) -> impl Iterator<Item = Unattributed> {
        self.unattributed.iter().map(|(key, counts)| Unattributed {
            ifindex: key.hook.ifindex(),
            direction: direction(key.hook),
            reason: reason(key.reason),
            counts: *counts,
        })
    }
}

/// Packets that the kernel dropped, as the programs know them.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// As they were then.
    pub tuple: Tuple,
    /// `enum skb_drop_reason`, or [`netpath_ebpf::NO_REASON`].
    pub reason: u32,
    /// Where: an address in the kernel.
    pub location: u64,
    /// The network namespace, by its inode; 0 if it is not known.
    pub netns: u32,
    /// How many.
    pub packets: u64,
}

/// Adds to a flow; if it is new and there is no room for it, to the unattributed counts.
fn add<K: Eq + Hash>(
    flows: &mut HashMap<K, Counts>,
    room_left: &mut usize,
    unattributed: &mut HashMap<UnattributedKey, Counts>,
    (hook, key): (Hook, K),
    counts: Counts,
) {
    if let Some(flow) = flows.get_mut(&key) {
        *flow += counts;
    } else if *room_left > 0 {
        *room_left -= 1;
        flows.insert(key, counts);
    } else {
        let reason = netpath_ebpf::Reason::MapFull as u32;
        *unattributed.entry(UnattributedKey { hook, reason }).or_default() += counts;
    }
}

/// IANA protocol number of ICMP, which IPv4 alone has.
const ICMP: u8 = 1;

fn observation(hook: Hook, tag: Tag, tuple: Tuple, about: Option<Tuple>, counts: Counts) -> Observation {
    Observation {
        ifindex: hook.ifindex(),
        direction: direction(hook),
        vlans: [tag.outer_vlan(), tag.inner_vlan()],
        tuple,
        about,
        counts,
    }
}

fn tuple(tag: Tag, src: IpAddr, dst: IpAddr, ports: Ports) -> Tuple {
    Tuple { proto: tag.protocol(), src, sport: u16::from_be(ports.src_be), dst, dport: u16::from_be(ports.dst_be) }
}

fn address_v4(be: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(u32::from_be(be)))
}

fn address_v6(words_be: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (octets, word) in octets.chunks_exact_mut(4).zip(words_be) {
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::V6(Ipv6Addr::from(octets))
}

fn direction(hook: Hook) -> Direction {
    match hook.direction() {
        netpath_ebpf::Direction::Rx => Direction::Rx,
        netpath_ebpf::Direction::Tx => Direction::Tx,
    }
}

fn reason(number: u32) -> Reason {
    use netpath_ebpf::Reason as Raw;
    match number {
        n if n == Raw::NonIp as u32 => Reason::NonIp,
        n if n == Raw::OrphanFragment as u32 => Reason::OrphanFragment,
        n if n == Raw::MapFull as u32 => Reason::MapFull,
        _ => Reason::Unparsed,
    }
}

impl From<RawCounts> for Counts {
    fn from(raw: RawCounts) -> Self {
        Self { packets: raw.packets, bytes: raw.bytes, wire_bytes: raw.wire_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_without_room_are_counted_in_none() {
        let hook = |index| Hook::new(index, netpath_ebpf::Direction::Rx);
        let key = |index, port: u16| KeyV4 {
            hook: hook(index),
            tag: Tag::new(0, 0, 17),
            src_be: 0,
            dst_be: 0,
            ports: Ports { src_be: port, dst_be: 0 },
        };
        let counts = RawCounts { packets: 1, bytes: 100, wire_overhead_bytes: 4 };
        let mut flow_counts = FlowCounts { room_left: 2, ..FlowCounts::default() };
        for (index, port) in [(7, 1), (7, 2), (7, 3), (8, 1), (7, 1), (7, 4)] {
            flow_counts.add_v4(key(index, port), counts);
        }
        assert_eq!(flow_counts.len(), 2);
        let flows: u64 = flow_counts.observations().map(|flow| flow.counts.packets).sum();
        assert_eq!(flows, 3, "one that has room goes on");
        let mut rest: Vec<_> = flow_counts.unattributed().map(|one| (one.ifindex, one.reason, one.counts)).collect();
        rest.sort_by_key(|(ifindex, ..)| *ifindex);
        let counts = |packets| Counts { packets, bytes: 100 * packets, wire_bytes: 104 * packets };
        assert_eq!(rest, [(7, Reason::MapFull, counts(2)), (8, Reason::MapFull, counts(1))]);
    }

    #[test]
    fn addresses_and_ports_come_out_in_host_order() {
        let mut flow_counts = FlowCounts::default();
        let hook = Hook::new(7, netpath_ebpf::Direction::Tx);
        let words = "2001:db8::1".parse::<Ipv6Addr>().expect("valid").octets();
        let words_be = std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| words[4 * i + j])));
        let key = KeyV6 {
            hook,
            tag: Tag::new(5, 6, 17),
            src_be: words_be,
            dst_be: [0; 4],
            ports: Ports { src_be: 53u16.to_be(), dst_be: 4096u16.to_be() },
        };
        flow_counts.v6.insert(key, Counts { packets: 1, bytes: 2, wire_bytes: 3 });
        let seen: Vec<_> = flow_counts.observations().collect();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].ifindex, seen[0].direction, seen[0].vlans), (7, Direction::Tx, [5, 6]));
        assert_eq!(seen[0].tuple.src.to_string(), "2001:db8::1");
        assert_eq!((seen[0].tuple.sport, seen[0].tuple.dport, seen[0].tuple.proto), (53, 4096, 17));
    }

    #[test]
    fn an_icmp_error_is_about_what_it_quotes() {
        let hook = Hook::new(7, netpath_ebpf::Direction::Rx);
        let word = |address: [u8; 4]| u32::from_ne_bytes(address);
        let v4 = |src, dst, ports| KeyV4 { hook, tag: Tag::new(5, 0, 1), src_be: word(src), dst_be: word(dst), ports };
        let error = v4([10, 0, 0, 9], [10, 0, 0, 1], Ports::default());
        let ports = Ports { src_be: 4096_u16.to_be(), dst_be: 53_u16.to_be() };
        let quoted = KeyV4 { tag: Tag::new(0, 0, 17), ..v4([10, 0, 0, 1], [10, 0, 0, 2], ports) };
        let mut flow_counts = FlowCounts::default();
        flow_counts
            .icmp_errors
            .insert(IcmpErrorKey::v4(&error, &quoted), Counts { packets: 1, bytes: 2, wire_bytes: 3 });
        assert_eq!(flow_counts.len(), 1);
        flow_counts.reindex(7, 8);
        let seen: Vec<_> = flow_counts.observations().collect();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].ifindex, seen[0].vlans, seen[0].counts.bytes), (8, [5, 0], 2));
        let tuple = |proto, src: [u8; 4], sport, dst: [u8; 4], dport| Tuple {
            proto,
            src: src.into(),
            sport,
            dst: dst.into(),
            dport,
        };
        assert_eq!(seen[0].tuple, tuple(1, [10, 0, 0, 9], 0, [10, 0, 0, 1], 0));
        assert_eq!(seen[0].about, Some(tuple(17, [10, 0, 0, 1], 4096, [10, 0, 0, 2], 53)));
    }
}
