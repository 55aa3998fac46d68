//! Reads the maps exactly: each packet is in one drain and in one only.
//!
//! In: the maps of the loaded object. Out: [`FlowCounts`]. There are two of each map, and programs count into those of the
//! current epoch. A drain moves on to the next epoch, waits until no program can still hold the old one, then reads and
//! empties the old maps, which nobody writes any more. No count is torn, lost or seen twice.

use std::hash::Hash;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use aya::util::nr_cpus;
use hashbrown::HashMap;
use netpath_ebpf::{
    BLOCKS, Block, Counts as RawCounts, FlowKey, Hook, IcmpErrorKey, KeyV4, KeyV6, Ports, Tag, UnattributedKey,
    first_block, map,
};

use super::bpf::{Barrier, see_per_cpu, take_all};
use super::load::LoadError;
use crate::model::Direction;
use crate::snapshot::{Counts, Observation, Reason, Tuple, Unattributed};

/// The maps, and the epoch that programs count into.
pub struct Drain {
    epoch: Array<MapData, u32>,
    /// `Counts` as words, of even and of odd epochs.
    lost: Array<MapData, [u64; 3]>,
    slots_v4: MapData,
    slots_v6: MapData,
    /// Of even and of odd epochs.
    flows: [Flows; 2],
    /// The number of the current epoch, from 1.
    current: u32,
    cpus: usize,
    /// Room in each flow map.
    max_flows: u32,
    barrier: Barrier,
}

/// The hash maps of one epoch.
#[derive(Debug)]
struct Flows {
    v4: MapData,
    v6: MapData,
    icmp_errors: MapData,
    unattributed: MapData,
}

/// Whether a flow map was filled to more than a quarter, so that the next drain should not wait long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct MapFill(pub bool);

/// How many times as many flows as a flow map has room for are told apart in memory.
const FLOWS_IN_MEMORY: usize = 8;

/// A sum of drains.
#[derive(Debug)]
pub struct FlowCounts {
    v4: HashMap<KeyV4, Counts>,
    v6: HashMap<KeyV6, Counts>,
    icmp_errors: HashMap<IcmpErrorKey, Counts>,
    unattributed: HashMap<UnattributedKey, Counts>,
    /// Packets that found no room even in the unattributed counters; their device is unknown.
    pub lost: Counts,
    /// For how many more flows there is room.
    room_left: usize,
}

impl Default for FlowCounts {
    /// With room for any number of flows.
    fn default() -> Self {
        let (v4, v6, icmp_errors, unattributed) = Default::default();
        Self { v4, v6, icmp_errors, unattributed, lost: Counts::default(), room_left: usize::MAX }
    }
}

impl Drain {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let mut flows = |parity: usize| -> Result<Flows, LoadError> {
            Ok(Flows {
                v4: take_sized::<KeyV4, RawCounts>(ebpf, map::V4[parity])?,
                v6: take_sized::<KeyV6, RawCounts>(ebpf, map::V6[parity])?,
                icmp_errors: take_sized::<IcmpErrorKey, RawCounts>(ebpf, map::ICMP_ERRORS[parity])?,
                unattributed: take_sized::<UnattributedKey, RawCounts>(ebpf, map::UNATTRIBUTED[parity])?,
            })
        };
        let flows = [flows(0)?, flows(1)?];
        let mut epoch: Array<MapData, u32> = Array::try_from(take(ebpf, map::EPOCH)?)?;
        let current = 1;
        epoch.set(0, current, 0)?;
        Ok(Self {
            epoch,
            lost: Array::try_from(take(ebpf, map::LOST)?)?,
            slots_v4: take_sized::<u32, Block<KeyV4>>(ebpf, map::SLOTS_V4)?,
            slots_v6: take_sized::<u32, Block<KeyV6>>(ebpf, map::SLOTS_V6)?,
            max_flows: flows[0].v4.info()?.max_entries(),
            flows,
            current,
            cpus: nr_cpus().map_err(|(_, error)| LoadError::Cpus(error))?,
            barrier: Barrier::new().map_err(LoadError::Map)?,
        })
    }

    /// An empty sum with room for eight times as many flows as a flow map holds, IPv4 and IPv6 together. More flows are counted
    /// as in no flow.
    #[must_use]
    pub fn bounded_counts(&self) -> FlowCounts {
        FlowCounts { room_left: FLOWS_IN_MEMORY.saturating_mul(self.max_flows as usize), ..FlowCounts::default() }
    }

    /// Adds to `flow_counts` all that was counted since the last drain: [`flip`](Self::flip), then [`collect`](Self::collect).
    pub fn drain(&mut self, flow_counts: &mut FlowCounts) -> io::Result<()> {
        self.flip()?;
        self.collect(flow_counts).map(drop)
    }

    /// Ends the epoch: what passes a hook from now on belongs to the next one. Blocks until no program counts into the
    /// old one any more: an RCU grace period, some milliseconds. Every flip must be followed by a collection, since the
    /// flip after the next counts into the same maps.
    pub fn flip(&mut self) -> io::Result<()> {
        self.current += 1;
        self.epoch.set(0, self.current, 0).map_err(io::Error::other)?;
        self.barrier.wait()
    }

    /// Waits for an RCU grace period: a packet that was on its way from a device's counter to the hook has arrived, unless
    /// the CPU is so far behind that it leaves received packets for later.
    pub fn wait_grace_period(&self) -> io::Result<()> {
        self.barrier.wait()
    }

    /// Adds to `flow_counts` all that was counted in the epoch that the last flip ended, and returns how full the maps were. Blocks
    /// for the reading.
    pub fn collect(&mut self, flow_counts: &mut FlowCounts) -> io::Result<MapFill> {
        let old = self.current.wrapping_sub(1);
        let odd = old & 1;
        let maps = &self.flows[odd as usize];
        let (mut v4, mut v6, mut icmp_errors) = (0, 0, 0);
        // SAFETY: `take_sized` compared the sizes with the maps' own, and all types are integers and arrays of them.
        unsafe {
            collect_slots(&self.slots_v4, old, self.cpus, |key, counts| flow_counts.add_v4(key, counts))?;
            collect_slots(&self.slots_v6, old, self.cpus, |key, counts| flow_counts.add_v6(key, counts))?;
            take_all(fd(&maps.v4), |key: KeyV4, counts: RawCounts| {
                flow_counts.add_v4(key, counts);
                v4 += 1;
            })?;
            take_all(fd(&maps.v6), |key: KeyV6, counts: RawCounts| {
                flow_counts.add_v6(key, counts);
                v6 += 1;
            })?;
            take_all(fd(&maps.icmp_errors), |key: IcmpErrorKey, counts: RawCounts| {
                flow_counts.add_icmp_error(key, counts);
                icmp_errors += 1;
            })?;
            take_all(fd(&maps.unattributed), |key: UnattributedKey, counts: RawCounts| {
                *flow_counts.unattributed.entry(key).or_default() += counts.into();
            })?;
        }
        let [packets, bytes, wire_overhead_bytes] = self.lost.get(&odd, 0).map_err(io::Error::other)?;
        flow_counts.lost += RawCounts { packets, bytes, wire_overhead_bytes }.into();
        self.lost.set(odd, [0; 3], 0).map_err(io::Error::other)?;
        Ok(MapFill(v4.max(v6).max(icmp_errors) > self.max_flows / 4))
    }
}

/// Gives what the slots of an epoch hold to `add`.
///
/// # Safety
/// The map's values must be `Block<K>`.
unsafe fn collect_slots<K: FlowKey>(
    slots: &MapData,
    epoch: u32,
    cpus: usize,
    mut add: impl FnMut(K, RawCounts),
) -> io::Result<()> {
    let first = first_block(epoch);
    for block in first..first + BLOCKS {
        // SAFETY: by this function's contract; a block is integers and arrays of them.
        unsafe {
            see_per_cpu(fd(slots), block, cpus, |slots: &Block<K>| {
                for slot in slots.iter().filter(|slot| slot.epoch == epoch) {
                    add(slot.key, slot.counts);
                }
            })?;
        }
    }
    Ok(())
}

impl FlowCounts {
    fn add_v4(&mut self, key: KeyV4, counts: RawCounts) {
        add(&mut self.v4, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    fn add_v6(&mut self, key: KeyV6, counts: RawCounts) {
        add(&mut self.v6, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    fn add_icmp_error(&mut self, key: IcmpErrorKey, counts: RawCounts) {
        add(&mut self.icmp_errors, &mut self.room_left, &mut self.unattributed, (key.hook, key), counts.into());
    }

    /// How many different flows, at all hooks together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len() + self.icmp_errors.len()
    }

    /// Whether no flow was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts what was counted at one device under another index: the kernel may give the index to the next device.
    pub fn retire(&mut self, ifindex: u32, retired: u32) {
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
        moved(&mut self.v4, |key| &mut key.hook, ifindex, retired);
        moved(&mut self.v6, |key| &mut key.hook, ifindex, retired);
        moved(&mut self.icmp_errors, |key| &mut key.hook, ifindex, retired);
        moved(&mut self.unattributed, |key| &mut key.hook, ifindex, retired);
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

    /// What was counted, but in no flow, in no particular order.
    pub fn unattributed(&self) -> impl Iterator<Item = Unattributed> {
        self.unattributed.iter().map(|(key, counts)| Unattributed {
            ifindex: key.hook.ifindex(),
            direction: direction(key.hook),
            reason: reason(key.reason),
            counts: *counts,
        })
    }
}

/// Adds to a flow, or if it is new and there is no room for it, to what is in no flow.
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

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or_else(|| LoadError::Layout(format!("no map {name}")))
}

/// Takes a map whose key and value have the sizes of `K` and `V`.
fn take_sized<K, V>(ebpf: &mut Ebpf, name: &str) -> Result<MapData, LoadError> {
    let (Map::HashMap(data) | Map::PerCpuArray(data)) = take(ebpf, name)? else {
        return Err(LoadError::Layout(format!("map {name} is of another type")));
    };
    let info = data.info()?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(LoadError::Layout(format!("map {name} has another layout")));
    }
    Ok(data)
}

fn fd(map: &MapData) -> BorrowedFd<'_> {
    map.fd().as_fd()
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
        flow_counts.retire(7, 8);
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
