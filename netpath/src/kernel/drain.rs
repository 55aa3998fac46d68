//! Reads the maps exactly: each packet is in one drain and in one only.
//!
//! In: the maps of the loaded object. Out: [`FlowCounts`]. There are two of each map, and programs count into those of the
//! current epoch. A drain moves on to the next epoch, waits until no program can still hold the old one, then reads and
//! empties the old maps, which no program writes any more. No count is torn, lost or seen twice.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use aya::util::nr_cpus;
use netpath_ebpf::{
    BLOCKS, Block, Counts as RawCounts, DropKey, FlowKey, IcmpErrorKey, KeyV4, KeyV6, MAX_DROPS, UnattributedKey,
    first_block, map,
};

use super::bpf::{Barrier, drain_map, read_per_cpu};
use super::error::LoadError;
use super::flow_counts::FlowCounts;

/// The maps, and the epoch that programs count into.
pub struct Drain {
    epoch: Array<MapData, u32>,
    /// `Counts` as words, one for even and one for odd epochs.
    lost: Array<MapData, [u64; 3]>,
    /// Dropped packets that there was no room for, of even and of odd epochs.
    drops_lost: Array<MapData, u64>,
    slots_v4: MapData,
    slots_v6: MapData,
    /// Those of even epochs, and those of odd ones.
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
    drops: MapData,
}

/// Whether a flow map was filled to more than a quarter, so that the next drain should not wait long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct MapFill(pub bool);

/// Flows kept in memory, as a multiple of the capacity of a flow map.
pub const FLOWS_IN_MEMORY: usize = 8;

impl Drain {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let mut flows = |parity: usize| -> Result<Flows, LoadError> {
            Ok(Flows {
                v4: take_sized::<KeyV4, RawCounts>(ebpf, map::V4[parity])?,
                v6: take_sized::<KeyV6, RawCounts>(ebpf, map::V6[parity])?,
                icmp_errors: take_sized::<IcmpErrorKey, RawCounts>(ebpf, map::ICMP_ERRORS[parity])?,
                unattributed: take_sized::<UnattributedKey, RawCounts>(ebpf, map::UNATTRIBUTED[parity])?,
                drops: take_sized::<DropKey, u64>(ebpf, map::DROPS[parity])?,
            })
        };
        let flows = [flows(0)?, flows(1)?];
        let mut epoch: Array<MapData, u32> = Array::try_from(take(ebpf, map::EPOCH)?)?;
        let current = 1;
        epoch.set(0, current, 0)?;
        Ok(Self {
            epoch,
            lost: Array::try_from(take(ebpf, map::LOST)?)?,
            drops_lost: Array::try_from(take(ebpf, map::DROPS_LOST)?)?,
            slots_v4: take_sized::<u32, Block<KeyV4>>(ebpf, map::SLOTS_V4)?,
            slots_v6: take_sized::<u32, Block<KeyV6>>(ebpf, map::SLOTS_V6)?,
            max_flows: flows[0].v4.info()?.max_entries(),
            flows,
            current,
            cpus: nr_cpus().map_err(|(_, error)| LoadError::Cpus(error))?,
            barrier: Barrier::new().map_err(LoadError::Map)?,
        })
    }

    /// An empty sum with room for eight times as many flows as a flow map holds, IPv4 and IPv6 together. Further flows are
    /// counted as unattributed.
    #[must_use]
    pub fn bounded_counts(&self) -> FlowCounts {
        FlowCounts::bounded(self.flows_in_memory())
    }

    /// Takes what was added up. What stays is as [`bounded_counts`](Self::bounded_counts).
    pub fn take(&self, flow_counts: &mut FlowCounts) -> FlowCounts {
        flow_counts.take(self.flows_in_memory())
    }

    fn flows_in_memory(&self) -> usize {
        FLOWS_IN_MEMORY.saturating_mul(self.max_flows as usize)
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
        let (mut v4, mut v6, mut icmp_errors, mut drops) = (0, 0, 0, 0);
        // SAFETY: `take_sized` compared the sizes with the maps' own, and all types are integers and arrays of them.
        unsafe {
            collect_slots(&self.slots_v4, old, self.cpus, |key, counts| flow_counts.add_v4(key, counts))?;
            collect_slots(&self.slots_v6, old, self.cpus, |key, counts| flow_counts.add_v6(key, counts))?;
            drain_map(fd(&maps.v4), |key: KeyV4, counts: RawCounts| {
                flow_counts.add_v4(key, counts);
                v4 += 1;
            })?;
            drain_map(fd(&maps.v6), |key: KeyV6, counts: RawCounts| {
                flow_counts.add_v6(key, counts);
                v6 += 1;
            })?;
            drain_map(fd(&maps.icmp_errors), |key: IcmpErrorKey, counts: RawCounts| {
                flow_counts.add_icmp_error(key, counts);
                icmp_errors += 1;
            })?;
            drain_map(fd(&maps.unattributed), |key: UnattributedKey, counts: RawCounts| {
                flow_counts.add_unattributed(key, counts);
            })?;
            drain_map(fd(&maps.drops), |key: DropKey, packets: u64| {
                flow_counts.add_drops(key, packets);
                drops += 1;
            })?;
        }
        let [packets, bytes, wire_overhead_bytes] = self.lost.get(&odd, 0).map_err(io::Error::other)?;
        flow_counts.lost += RawCounts { packets, bytes, wire_overhead_bytes }.into();
        self.lost.set(odd, [0; 3], 0).map_err(io::Error::other)?;
        flow_counts.drops_lost += self.drops_lost.get(&odd, 0).map_err(io::Error::other)?;
        self.drops_lost.set(odd, 0, 0).map_err(io::Error::other)?;
        Ok(MapFill(v4.max(v6).max(icmp_errors) > self.max_flows / 4 || drops > MAX_DROPS / 4))
    }
}

/// Passes the slots of an epoch to `add`.
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
            read_per_cpu(fd(slots), block, cpus, |slots: &Block<K>| {
                for slot in slots.iter().filter(|slot| slot.epoch == epoch) {
                    add(slot.key, slot.counts);
                }
            })?;
        }
    }
    Ok(())
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
