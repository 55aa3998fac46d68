//! The programs themselves, run by the kernel over any bytes (`BPF_PROG_TEST_RUN`): they answer -1 to every packet, and
//! count it under the key that the parser finds on the host, for what `wire` says, whichever way they take.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fragments;
mod frames;
mod icmp_errors;
mod model;
mod tunnels;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapInfo};
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, loaded_programs};
use lab::Lab;
use netpath::kernel::attach::Attacher;
use netpath::kernel::drain::Drain;
use netpath::kernel::flow_counts::FlowCounts;
use netpath::kernel::load::load;
use netpath::kernel::trace;
use netpath::node::devices::Layer;
use netpath_ebpf::trace::Settings;
use netpath_ebpf::{Direction, Reason, map};

use self::frames::{Beside, Random, one_of_each};
use self::model::{Counted, Model, Sum, Way, Words, add};

/// `BPF_PROG_TEST_RUN` gives packets the loopback device unless told otherwise.
const LOOPBACK: u32 = 1;
const FRAMES: u64 = 30_000;

#[test]
fn every_answer_is_minus_one_and_every_count_is_the_parsers() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let veth = lab.node.namespace.ifindex(&lab.pod("client").veth).unwrap();
    for (name, direction, ethernet) in [
        (map::RX, Direction::Rx, true),
        (map::TX, Direction::Tx, true),
        (map::RX_IP, Direction::Rx, false),
        (map::TX_IP, Direction::Tx, false),
    ] {
        let ways = lab.node.namespace.run(|| run(name, direction, ethernet, [LOOPBACK, veth])).unwrap();
        println!("{name}: {ways:?}");
        let least: &[Way] = if ethernet {
            use Way::{General, GeneralTunnel, Hit, IcmpError, PlainEviction, PlainMiss, PlainSuper, Rest};
            &[Hit, PlainMiss, PlainEviction, PlainSuper, General, GeneralTunnel, IcmpError, Rest]
        } else {
            &[Way::General, Way::GeneralTunnel, Way::IcmpError, Way::Rest]
        };
        for way in least {
            assert!(ways.get(way).is_some_and(|packets| *packets > 300), "{name}: hardly any packet was {way:?}");
        }
        assert!(ways.values().sum::<u64>() > FRAMES, "{name}: the kernel refused more than a few");
    }
}

/// The verifier gives up after a million instructions. Old kernels' gave up on programs of which Linux 6.18 looked at 91,000.
/// They look at more than it does: Linux 6.1 at 52,000 where it looks at 43,000.
#[test]
fn the_verifier_has_little_to_look_at() {
    const MOST: u32 = 60_000;
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for name in [map::RX, map::TX, map::RX_IP, map::TX_IP] {
            // Not told before Linux 5.16.
            let instructions = loaded(name).program.info().unwrap().verified_instruction_count();
            assert!(instructions.is_none_or(|count| count < MOST), "{name}: {instructions:?}");
        }
    };
    lab.node.namespace.run(run).unwrap();
    lab.node.namespace.run(|| trace_programs(MOST)).unwrap();
}

/// The programs of a trace, all that are loaded.
fn trace_programs(most: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _in_it = runtime.enter();
    let before = own("prog_id");
    let options = trace::Options { settings: Settings::default(), buffer_bytes: 1 << 20, debug: false };
    let (mut attacher, tracer) = trace::load(&options).unwrap();
    attacher.attach(LOOPBACK, "lo", Layer::Ip).unwrap();
    let programs: HashSet<u32> = own("prog_id").difference(&before).copied().collect();
    let mut names = HashSet::new();
    for info in loaded_programs().flatten().filter(|info| programs.contains(&info.id())) {
        let (name, instructions) = (info.name_as_str().unwrap().to_owned(), info.verified_instruction_count());
        assert!(instructions.is_none_or(|count| count < most), "{name}: {instructions:?}");
        names.insert(name);
    }
    let end = if tracer.frees.has_reasons { map::DROPPED } else { map::FREED };
    let expected = [map::HOP_RX, map::HOP_TX, map::HOP_RX_IP, map::HOP_TX_IP, end];
    assert!(expected.iter().all(|name| names.contains(*name)), "{names:?}");
}

/// Runs a program over packets of two devices, holds it against the model, and returns how many packets went each way.
fn run(name: &'static str, direction: Direction, ethernet: bool, devices: [u32; 2]) -> BTreeMap<Way, u64> {
    stay_on_this_cpu();
    let Loaded { program, mut drain, maps, .. } = loaded(name);
    let (program, _callable) = lab::behind_vlan_push(program.fd().unwrap().as_fd()).unwrap();
    let mut flow_counts = FlowCounts::default();
    drain.drain(&mut flow_counts).unwrap();
    let epoch = 2;

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut model = Model::new(epoch, direction, ethernet);
    let seeds = one_of_each();
    for _ in 0..FRAMES {
        let frame = random.frame(&seeds);
        let ifindex = devices[random.below(2)];
        // Once more or several times, so that flows have their slots.
        for _ in 0..=random.below(3) {
            let beside = random.beside();
            match answer(&program, ifindex, &frame, beside) {
                Some(answer) => assert_eq!(answer, -1, "{frame:02x?} {beside:?}"),
                None => continue,
            }
            model.see(ifindex, &frame, beside);
        }
    }

    let mut in_maps = flow_map::<5>(&maps, map::V4[epoch as usize & 1]);
    in_maps.append(&mut flow_map::<11>(&maps, map::V6[epoch as usize & 1]));
    assert_eq!(in_maps, model.flows, "{name}: what slots were emptied into");
    drain.drain(&mut flow_counts).unwrap();
    assert_eq!(flow_counts.lost.packets, 0);
    assert_eq!(counted(&flow_counts), model.all, "{name}");
    let reasons: HashSet<u32> = model.all.keys().filter_map(|counted| Some(counted.err()?.1)).collect();
    assert!(reasons.len() >= if ethernet { 3 } else { 2 }, "{name}: only {reasons:?} occurred");
    model.ways
}

/// One of netpath's programs, freshly loaded.
struct Loaded {
    program: SchedClassifier,
    drain: Drain,
    /// Ids of the maps.
    maps: HashSet<u32>,
    /// Keeps the programs.
    _attacher: Attacher,
}

fn loaded(name: &'static str) -> Loaded {
    loaded_with(name, 65_536)
}

/// With room for so many flows.
fn loaded_with(name: &'static str, max_flows: u32) -> Loaded {
    // Two tests that load at one time could take each other's.
    static LOADING: Mutex<()> = Mutex::new(());
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let (programs, maps): (HashSet<_>, HashSet<_>) = (own("prog_id"), own("map_id"));
    let (mut attacher, drain, _) = load(max_flows).unwrap();
    if [map::RX_IP, map::TX_IP].contains(&name) {
        // They are loaded with the first device that needs them. Nothing passes this one.
        attacher.attach(LOOPBACK, "lo", Layer::Ip).unwrap();
    }
    let programs: HashSet<u32> = own("prog_id").difference(&programs).copied().collect();
    let maps = own("map_id").difference(&maps).copied().collect();
    let is_it = |info: &ProgramInfo| programs.contains(&info.id()) && info.name_as_str() == Some(name);
    let program = loaded_programs().flatten().find(is_it).unwrap();
    let program = SchedClassifier::from_program_info(program, name.into()).unwrap();
    Loaded { program, drain, maps, _attacher: attacher }
}

/// Runs the program over one packet. `None` if the kernel makes no packet of these bytes: they claim to be IP, and have no
/// room for its header.
fn answer(program: &SchedClassifier, ifindex: u32, frame: &[u8], beside: Beside) -> Option<i32> {
    // `struct __sk_buff`; the kernel takes these fields of it, and `lab::behind_vlan_push` the mark.
    const MARK: usize = 8;
    const IFINDEX: usize = 40;
    const GSO_SEGS: usize = 164;
    const GSO_SIZE: usize = 176;
    let mut context = [0; 192];
    let mut put = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    put(MARK, beside.vlan_tci.map_or(0, lab::vlan_mark));
    put(IFINDEX, ifindex);
    put(GSO_SEGS, beside.gso_segs);
    put(GSO_SIZE, beside.gso_size);
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.ctx_in = Some(&context);
    options.repeat = 1;
    match program.test_run(options) {
        Ok(result) => Some(result.return_value.cast_signed()),
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
            assert!(frame.len() < 14 + 40, "{frame:02x?} {beside:?}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Keeps this thread on the CPU it is on: each CPU has a cache of its own.
fn stay_on_this_cpu() {
    // SAFETY: the set is a plain value that lives through the calls.
    let kept = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(libc::sched_getcpu()).unwrap(), &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(kept, 0);
}

/// The ids of the programs or maps that this process holds, by /proc.
fn own(key: &str) -> HashSet<u32> {
    let texts = fs::read_dir("/proc/self/fdinfo").unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()));
    // The descriptor that lists the folder is gone by now.
    let id = |text: String| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse::<u32>().ok())
    };
    texts.flatten().filter_map(id).collect()
}

/// One of the maps.
fn map_data(ids: &HashSet<u32>, name: &str) -> MapData {
    // One went with the attacher, where there is no TCX.
    let is_it = |id: &&u32| MapInfo::from_id(**id).is_ok_and(|info| info.name_as_str() == Some(name));
    MapData::from_id(*ids.iter().find(is_it).unwrap()).unwrap()
}

/// What is in a flow map.
fn flow_map<const WORDS: usize>(ids: &HashSet<u32>, name: &str) -> BTreeMap<Words, Sum>
where
    [u32; WORDS]: Pod,
{
    let map: HashMap<_, [u32; WORDS], Sum> = Map::HashMap(map_data(ids, name)).try_into().unwrap();
    let words = |key: [u32; WORDS]| {
        key.chunks(2).map(|pair| u64::from(*pair.get(1).unwrap_or(&0)) << 32 | u64::from(pair[0])).collect()
    };
    map.iter().map(|entry| entry.unwrap()).map(|(key, counts)| (words(key), counts)).collect()
}

/// What netpath read from cache and maps.
fn counted(flow_counts: &FlowCounts) -> BTreeMap<Counted, Sum> {
    let sum = |counts: netpath::snapshot::Counts| netpath_ebpf::Counts {
        packets: counts.packets,
        bytes: counts.bytes,
        wire_overhead_bytes: counts.wire_bytes - counts.bytes,
    };
    let mut all = BTreeMap::new();
    for flow in flow_counts.observations() {
        let tuple = |t: netpath::snapshot::Tuple| (t.src, t.dst, t.proto, t.sport, t.dport);
        let key = Ok((flow.ifindex, tuple(flow.tuple), flow.vlans, flow.about.map(tuple)));
        add(&mut all, key, sum(flow.counts));
    }
    for rest in flow_counts.unattributed() {
        add(&mut all, Err((rest.ifindex, number(rest.reason))), sum(rest.counts));
    }
    all
}

fn number(reason: netpath::snapshot::Reason) -> u32 {
    use netpath::snapshot::Reason as Seen;
    let reason = match reason {
        Seen::NonIp => Reason::NonIp,
        Seen::Unparsed => Reason::Unparsed,
        Seen::OrphanFragment => Reason::OrphanFragment,
        Seen::MapFull => Reason::MapFull,
    };
    reason as u32
}
