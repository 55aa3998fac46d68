//! netpath's programs and maps as this process has loaded them, reached through the kernel: netpath itself hands out only
//! what counting needs.
//!
//! In: how many flows to make room for. Out: programs to run, maps to fill, and what the kernel says of their memory.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData, MapInfo};
use aya::programs::{SchedClassifier, loaded_programs};
use netpath::kernel::attach::Attacher;
use netpath::kernel::drain::Drain;
use netpath::kernel::flow_counts::FlowCounts;
use netpath::kernel::load::load;
use netpath_ebpf::map;

/// A `KeyV4` as words: hook, tag, source, destination, ports.
pub type Key = [u32; 5];
/// `Counts` as words: packets, bytes, wire bytes.
pub type Counts = [u64; 3];

/// What `netpath` loads, held open.
pub struct Loaded {
    /// Keeps the programs.
    _attacher: Attacher,
    drain: Drain,
    /// The epoch that counts.
    epoch: u32,
    flows_v4: [HashMap<MapData, Key, Counts>; 2],
    maps: Vec<MapSize>,
    program_ids: Vec<u32>,
}

/// A map's size.
#[derive(Clone, Debug)]
pub struct MapSize {
    /// As the kernel keeps it: 15 characters.
    pub name: String,
    id: u32,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a value.
    pub value_bytes: u64,
    /// Elements there is room for.
    pub max_entries: u64,
    /// What the kernel says it takes on this machine.
    pub memory_bytes: u64,
}

impl Loaded {
    /// Loads netpath's object as `netpath report --max-flows` would.
    pub fn new(max_flows: u32) -> Result<Self> {
        let before = own("map_id")?;
        let programs_before = own("prog_id")?;
        let (attacher, drain, _) = load(max_flows)?;
        let new = own("map_id")?.into_iter().filter(|(id, _)| !before.contains_key(id));
        let maps = new.map(|(id, text)| MapSize::parse(id, &text)).collect::<Result<Vec<_>>>()?;
        let new_programs = own("prog_id")?.into_keys().filter(|id| !programs_before.contains_key(id));
        let flows = |name: &str| -> Result<_> {
            let map = maps.iter().find(|map| map.name == name).with_context(|| format!("no map {name}"))?;
            Ok(HashMap::try_from(Map::HashMap(MapData::from_id(map.id)?))?)
        };
        let flows_v4 = [flows(map::V4[0])?, flows(map::V4[1])?];
        Ok(Self { _attacher: attacher, drain, epoch: 1, flows_v4, program_ids: new_programs.collect(), maps })
    }

    /// One of the programs, by its name.
    pub fn program(&self, name: &'static str) -> Result<SchedClassifier> {
        for info in loaded_programs() {
            let info = info?;
            if self.program_ids.contains(&info.id()) && info.name_as_str() == Some(name) {
                return Ok(SchedClassifier::from_program_info(info, name.into())?);
            }
        }
        anyhow::bail!("the kernel has no program {name} of this process")
    }

    /// The maps.
    pub fn maps(&self) -> &[MapSize] {
        &self.maps
    }

    /// Puts a flow into the map of the epoch that counts.
    pub fn insert(&mut self, key: Key, counts: Counts) -> Result<()> {
        self.flows_v4[(self.epoch & 1) as usize].insert(key, counts, 0).context("the flow map takes no more")
    }

    /// How many packets are in the flow map of the epoch that counts, rather than in the cache.
    pub fn packets_in_map(&self) -> Result<u64> {
        let counts =
            self.flows_v4[(self.epoch & 1) as usize].iter().map(|entry| entry.map(|(_, [packets, ..])| packets));
        Ok(counts.sum::<Result<u64, _>>()?)
    }

    /// Drains into a new tally.
    pub fn drain(&mut self) -> Result<FlowCounts> {
        let mut flow_counts = FlowCounts::default();
        self.drain.drain(&mut flow_counts)?;
        self.epoch += 1;
        Ok(flow_counts)
    }
}

impl MapSize {
    fn parse(id: u32, text: &str) -> Result<Self> {
        let field = |key: &str| field(text, key).with_context(|| format!("the kernel tells no {key} of map {id}"));
        let info = MapInfo::from_id(id)?;
        Ok(Self {
            name: info.name_as_str().unwrap_or_default().to_owned(),
            id,
            kind: u32::try_from(field("map_type")?)?,
            key_bytes: field("key_size")?,
            value_bytes: field("value_size")?,
            max_entries: field("max_entries")?,
            memory_bytes: field("memlock")?,
        })
    }

    /// By how much it grows with each CPU that the machine may have. From the kernel's `kernel/bpf/arraymap.c` and
    /// `hashtab.c`: a per-CPU array has each value once a CPU, in units of 8 bytes; a hash map has one spare element a CPU,
    /// with 48 bytes of its own.
    pub fn bytes_per_cpu(&self) -> u64 {
        const HASH: u32 = 1;
        const PERCPU_ARRAY: u32 = 6;
        match self.kind {
            PERCPU_ARRAY => self.max_entries * self.value_bytes.next_multiple_of(8),
            HASH => 48 + self.key_bytes.next_multiple_of(8) + self.value_bytes.next_multiple_of(8),
            _ => 0,
        }
    }
}

/// What this process holds of a kind, by the key of its id in `/proc/self/fdinfo`: id and text.
fn own(id_key: &str) -> Result<BTreeMap<u32, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // The descriptor that lists the folder is gone by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        if let Some(id) = field(&text, id_key) {
            all.insert(u32::try_from(id)?, text);
        }
    }
    Ok(all)
}

/// A line `key:\tnumber`.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok())
}

/// Fails where the kernel would not run programs as nodes do.
pub fn check_machine() -> Result<()> {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default().trim().to_owned();
    ensure!(
        read("net/core/bpf_jit_enable") != "0",
        "the kernel interprets eBPF; run: sysctl net.core.bpf_jit_enable=1"
    );
    ensure!(
        read("kernel/bpf_stats_enabled") != "1",
        "the kernel times each program; run: sysctl kernel.bpf_stats_enabled=0"
    );
    Ok(())
}
