//! What the programs take for a packet, by `BPF_PROG_TEST_RUN`, in ns of CPU time.
//!
//! In: netpath's programs and the reference programs. Out: figures, and the share of packets that the per-CPU cache served.
//! The contenders take turns over many rounds, so that whatever else happens on the machine happens to all of them.
//! Several flows come from a program that rewrites the packet and then calls the program under test; what that takes with
//! an empty program behind it is subtracted.

#[path = "../../netpath-ebpf/reference/spread.rs"]
mod spread;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netpath_ebpf::{Direction, Hook, KeyV4, Ports, Tag, map, slot_index};

use self::spread::spread;
use crate::clock::{stay_on_this_cpu, thread_cpu_ns};
use crate::figures::{Aim, Figure, Unit, least, median, show};
use crate::frames;
use crate::loaded::Loaded;
use crate::trace::Trace;

/// The default of `--max-flows`.
const MAX_FLOWS: u32 = 65_536;
/// `BPF_PROG_TEST_RUN` gives packets the loopback device.
const LOOPBACK: u32 = 1;

/// A program under test; the number is its place among the targets of `in_turn`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Empty = 0,
    BareHash = 1,
    Netpath = 2,
    NetpathFull = 3,
    /// Not a target of `in_turn`.
    Trace = 4,
}

/// The flows that `in_turn` makes: how many, and the numbers of the first two.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Turn {
    flows: u32,
    first: u32,
    distance: u32,
}

struct Contender {
    what: String,
    program: Program,
    frame: Vec<u8>,
    turn: Option<Turn>,
    aim: Option<Aim>,
}

/// What the cache does with that many flows, each in turn.
pub struct Interleaved {
    /// How many.
    pub flows: u32,
    /// Over the empty program, median.
    pub over_ns: f64,
    /// Share of packets whose flow was in its slot.
    pub hit_rate: f64,
}

struct Arena {
    netpath: Loaded,
    /// With room for one flow, which is not one of the bench's.
    _full: Loaded,
    _reference: Ebpf,
    turn: Array<MapData, [u32; 4]>,
    _trace: Trace,
    /// In the order of [`Program`].
    targets: [SchedClassifier; 5],
    in_turn: SchedClassifier,
    _targets_map: ProgramArray<MapData>,
}

/// Runs all contenders `rounds` times, `packets` packets each time.
pub fn measure(reference: &Path, rounds: u32, packets: u32) -> Result<(Vec<Figure>, Vec<Interleaved>)> {
    stay_on_this_cpu();
    let mut arena = Arena::new(reference)?;
    let contenders = contenders()?;
    // The first fragment that the later one belongs to; and each program once, to have warm caches and filled maps.
    arena.run(Program::Netpath, &frames::fragment(true)?, None, 1)?;
    let mut netpath_packets = 1;
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 0..=rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let ns = arena.run(contender.program, &contender.frame, contender.turn, packets)?;
            netpath_packets += u64::from(packets) * u64::from(contender.program == Program::Netpath);
            if round > 0 {
                samples.push(ns);
            }
        }
    }
    let flow_counts = arena.netpath.drain()?;
    let counted = flow_counts.observations().map(|flow| flow.counts.packets).sum::<u64>()
        + flow_counts.unattributed().map(|rest| rest.counts.packets).sum::<u64>();
    ensure!(counted == netpath_packets, "netpath counted {counted} of {netpath_packets} packets");

    let mut figures = Vec::new();
    let mut interleaved = Vec::new();
    for (contender, own) in contenders.iter().zip(&samples) {
        let base = |turn: Option<Turn>| {
            let is_base = |other: &Contender| other.program == Program::Empty && other.turn == turn;
            contenders.iter().position(is_base).context("each contender has an empty program")
        };
        let (base, empty) = (&samples[base(contender.turn)?], &samples[base(None)?]);
        let over: Vec<f64> = own.iter().zip(base).map(|(own, base)| own - base).collect();
        let over_ns = [least(own) - least(base), median(&over)];
        if let Some(turn) = contender.turn
            && contender.program == Program::Netpath
        {
            let hit_rate = arena.hit_rate(&contender.frame, turn)?;
            if contender.aim.is_some() {
                ensure!(hit_rate < 0.01, "{}: {hit_rate} of the packets did not miss", contender.what);
            } else {
                interleaved.push(Interleaved { flows: turn.flows, over_ns: over_ns[1], hit_rate });
            }
        }
        if contender.program == Program::Empty && contender.turn.is_some() {
            continue;
        }
        figures.push(Figure {
            what: contender.what.clone(),
            unit: Unit::Ns,
            samples: own.iter().map(|ns| ns - (median(base) - median(empty))).collect(),
            ratio: Some([1.0 + over_ns[0] / least(empty), 1.0 + over_ns[1] / median(empty)]),
            over_ns: Some(over_ns).filter(|_| contender.program != Program::Empty),
            aim: contender.aim,
        });
    }
    Ok((figures, interleaved))
}

fn contenders() -> Result<Vec<Contender>> {
    let tcp = frames::tcp_v4()?;
    let all = |first: u32, flows: u32| Turn { flows, first, distance: 1 };
    let missing = sharing_a_slot(&tcp)?;
    let one = |what: &str, program, frame: Result<Vec<u8>>, aim| -> Result<Contender> {
        Ok(Contender { what: what.to_owned(), program, frame: frame?, turn: None, aim })
    };
    let mut contenders = vec![
        one("empty program", Program::Empty, frames::tcp_v4(), None)?,
        one("bare shared hash, one flow", Program::BareHash, frames::tcp_v4(), None)?,
        one("netpath, IPv4 TCP, one flow", Program::Netpath, frames::tcp_v4(), Some(Aim::Over(8.0)))?,
        one("netpath, IPv6 TCP, one flow", Program::Netpath, frames::tcp_v6(), Some(Aim::Over(12.0)))?,
        one("netpath, VLAN IPv4 TCP, one flow", Program::Netpath, frames::tcp_vlan(), Some(Aim::Over(12.0)))?,
        one("netpath, first fragments", Program::Netpath, frames::fragment(true), None)?,
        one("netpath, later fragments", Program::Netpath, frames::fragment(false), None)?,
        one("netpath, ARP (no flow)", Program::Netpath, Ok(frames::arp()), None)?,
        one("trace, IPv4 TCP that the filter rejects", Program::Trace, frames::tcp_v4(), Some(Aim::Over(40.0)))?,
        one("trace, IPv6 TCP that the filter rejects", Program::Trace, frames::tcp_v6(), None)?,
    ];
    let mut in_turn = |what: &str, turn: Turn, programs: &[Program], aim: Option<Aim>| {
        contenders.extend(programs.iter().map(|&program| Contender {
            what: match program {
                Program::BareHash => format!("bare shared hash, {what}"),
                Program::NetpathFull => format!("netpath, {what}, map full"),
                Program::Empty | Program::Netpath | Program::Trace => format!("netpath, {what}"),
            },
            program,
            frame: tcp.clone(),
            turn: Some(turn),
            aim: aim.filter(|_| program == Program::Netpath),
        }));
    };
    let [empty, bare, netpath, full] = [Program::Empty, Program::BareHash, Program::Netpath, Program::NetpathFull];
    in_turn("1 flow rewritten", all(0, 1), &[empty, netpath], None);
    in_turn("100 flows in turn", all(100, 100), &[empty, bare, netpath], None);
    in_turn("1,000 flows in turn", all(1_000, 1_000), &[empty, bare, netpath], None);
    in_turn("10,000 flows in turn", all(10_000, 10_000), &[empty, bare, netpath], None);
    in_turn("every packet misses", missing, &[empty, netpath, full], Some(Aim::Over(60.0)));
    Ok(contenders)
}

/// Two flows of one slot.
fn sharing_a_slot(frame: &[u8]) -> Result<Turn> {
    let word = |at: usize| -> u32 { u32::from_ne_bytes(std::array::from_fn(|offset| frame[at + offset])) };
    let mut seen = HashMap::new();
    for number in 1_000_000..1_100_000 {
        let flow = spread(number);
        let mut source = word(26).to_ne_bytes();
        source[2..].copy_from_slice(&((flow >> 16) as u16).to_ne_bytes());
        let key = KeyV4 {
            hook: Hook::new(LOOPBACK, Direction::Rx),
            tag: Tag::new(0, 0, 6),
            src_be: u32::from_ne_bytes(source),
            dst_be: word(30),
            ports: Ports { src_be: (flow & 0xffff) as u16, dst_be: u16::from_ne_bytes([frame[36], frame[37]]) },
        };
        if let Some(first) = seen.insert(slot_index(&key, 1), number) {
            return Ok(Turn { flows: 2, first, distance: number - first });
        }
    }
    anyhow::bail!("no two flows share a slot")
}

impl Arena {
    fn new(reference: &Path) -> Result<Self> {
        let object = std::fs::read(reference).with_context(|| format!("cannot read {}", reference.display()))?;
        let mut reference = Ebpf::load(&object)?;
        let mut load = |name: &'static str| -> Result<SchedClassifier> {
            let program: &mut SchedClassifier = reference.program_mut(name).context("no such program")?.try_into()?;
            program.load()?;
            Ok(SchedClassifier::from_program_info(program.info()?, name.into())?)
        };
        let [empty, bare_hash, in_turn] = [load("empty")?, load("bare_hash")?, load("in_turn")?];
        let netpath = Loaded::new(MAX_FLOWS)?;
        let mut full = Loaded::new(1)?;
        full.insert([u32::MAX; 5], [0; 3])?;
        let trace = Trace::new()?;
        let targets = [empty, bare_hash, netpath.program(map::RX)?, full.program(map::RX)?, trace.program()?];
        let mut targets_map = ProgramArray::try_from(reference.take_map("TARGETS").context("no map TARGETS")?)?;
        for (index, program) in (0..).zip(&targets[..Program::Trace as usize]) {
            targets_map.set(index, program.fd()?, 0)?;
        }
        let turn = Array::try_from(reference.take_map("TURN").context("no map TURN")?)?;
        Ok(Self {
            netpath,
            _full: full,
            _reference: reference,
            turn,
            _trace: trace,
            targets,
            in_turn,
            _targets_map: targets_map,
        })
    }

    /// Runs a program over a packet, `packets` times. Returns CPU time a packet, in ns.
    fn run(&mut self, program: Program, frame: &[u8], turn: Option<Turn>, packets: u32) -> Result<f64> {
        let under_test = if let Some(Turn { flows, first, distance }) = turn {
            self.turn.set(0, [flows, first, distance, program as u32], 0)?;
            &self.in_turn
        } else {
            &self.targets[program as usize]
        };
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.repeat = packets;
        let start = thread_cpu_ns();
        let result = under_test.test_run(options)?;
        let spent = thread_cpu_ns() - start;
        // An answer other than -1 is a program that did not come to its end.
        ensure!(result.return_value.cast_signed() == -1, "a program answered {}", result.return_value);
        #[expect(clippy::cast_precision_loss, reason = "a run takes less than 2^52 ns")]
        Ok(spent as f64 / f64::from(packets))
    }

    /// The share of packets whose flow is in its slot, with each flow in turn: those that are not are in the flow map.
    fn hit_rate(&mut self, frame: &[u8], turn: Turn) -> Result<f64> {
        self.netpath.drain()?;
        let packets = turn.flows * (10_000 / turn.flows).max(20);
        self.run(Program::Netpath, frame, Some(turn), packets)?;
        let evicted = u32::try_from(self.netpath.packets_in_map()?)?;
        let counted: u64 = self.netpath.drain()?.observations().map(|flow| flow.counts.packets).sum();
        ensure!(counted == u64::from(packets), "netpath counted {counted} of {packets} packets");
        // The flow that leaves its slot last, of each slot, is not in the map.
        Ok(1.0 - f64::from(evicted) / f64::from(packets))
    }
}

impl Interleaved {
    /// A row: flows, cost, hits.
    pub fn row(&self) -> Vec<String> {
        vec![self.flows.to_string(), show(self.over_ns, Unit::Ns), show(self.hit_rate * 100.0, Unit::Percent)]
    }
}
