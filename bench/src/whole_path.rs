//! What netpath costs a node's traffic: iperf3 between two pods through the node, with netpath off, with empty programs on the
//! hooks that netpath would take, with netpath on, and with a trace that accepts none of it, in turn.
//!
//! In: a lab. Out: for each round, throughput with each of the four. The same connection goes on through all
//! rounds, since two connections differ by more than any program costs; what crosses the node is read from the kernel's
//! counters of the receiver's device. The order changes from round to round, so that a drift of the machine's speed favours
//! none. What is lost with empty programs is what the kernel takes to call any.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use lab::{Answer, Lab, Stream, counters};

use crate::clock::monotonic_ns;
use crate::figures::{Aim, Figure, Unit, markdown, median, range_of_median};

const PORT: u16 = 5201;
/// As small as DNS or a TCP acknowledgement.
const DATAGRAM_BYTES: u16 = 64;
/// For a connection to reach its speed, again after a change of the hooks.
const SETTLE: Duration = Duration::from_millis(100);
/// The shorter, the less a connection's own ups and downs weigh, which last for seconds. netpath drains its maps once a
/// second and not in this time: with a handful of flows that takes it less than a thousandth of a CPU.
const ROUND: Duration = Duration::from_millis(300);

/// What is on the hooks during a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hooks {
    Nothing = 0,
    Empty = 1,
    Netpath = 2,
    /// `netpath trace`, with a filter that accepts nothing of it.
    Trace = 3,
}

/// What crosses the node in a second.
#[derive(Clone, Copy, Default)]
struct Speed {
    bits: f64,
    packets: f64,
}

/// One load, and what was left of it.
pub struct Traffic {
    load: String,
    aim: f64,
    /// One a round, in the order of [`Hooks`].
    rounds: Vec<[Speed; 4]>,
}

impl Traffic {
    /// Throughput as ratio, one a round.
    fn ratio(&self, of: Hooks, to: Hooks) -> Vec<f64> {
        self.rounds.iter().map(|speeds| speeds[of as usize].bits / speeds[to as usize].bits).collect()
    }

    /// For the table of all figures.
    pub fn figures(&self) -> [Figure; 3] {
        let figure = |what: &str, of, aim| {
            let ratios = self.ratio(of, Hooks::Nothing);
            Figure::new(format!("iperf3 {}, {what} on ÷ off", self.load), Unit::Ratio, ratios, aim)
        };
        let aim = Some(Aim::AtLeast(self.aim));
        [
            figure("netpath", Hooks::Netpath, aim),
            figure("netpath trace", Hooks::Trace, Some(Aim::AtLeast(0.97))),
            figure("empty programs", Hooks::Empty, None),
        ]
    }

    fn row(&self) -> Vec<String> {
        let alone = |of: fn(Speed) -> f64| {
            median(&self.rounds.iter().map(|speeds| of(speeds[Hooks::Nothing as usize])).collect::<Vec<_>>())
        };
        let ratio = |of, to| {
            let ratios = self.ratio(of, to);
            let [low, high] = range_of_median(&ratios);
            format!("{:.3} ({low:.3} to {high:.3})", median(&ratios))
        };
        vec![
            self.load.clone(),
            format!("{:.2} Gbit/s", alone(|speed| speed.bits) / 1e9),
            format!("{:.0} thousand", alone(|speed| speed.packets) / 1e3),
            ratio(Hooks::Empty, Hooks::Nothing),
            ratio(Hooks::Netpath, Hooks::Nothing),
            ratio(Hooks::Netpath, Hooks::Empty),
            ratio(Hooks::Trace, Hooks::Nothing),
        ]
    }
}

/// Each load with its speed, and what is left of it.
pub fn table(traffic: &[Traffic]) -> String {
    let head = [
        "load",
        "nothing on the hooks",
        "packets/s",
        "empty programs ÷ nothing",
        "netpath ÷ nothing",
        "netpath ÷ empty",
        "netpath trace ÷ nothing",
    ];
    markdown(&head, &traffic.iter().map(Traffic::row).collect::<Vec<_>>())
}

/// Runs `rounds` rounds of some 2 seconds each, for TCP and for small UDP datagrams.
pub fn measure(rounds: usize) -> Result<Vec<Traffic>> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let tcp = Traffic { load: "TCP".to_owned(), aim: 0.98, rounds: run(&lab, None, rounds)? };
    let load = format!("UDP packets of {DATAGRAM_BYTES} bytes");
    let udp = Traffic { load, aim: 0.97, rounds: run(&lab, Some(DATAGRAM_BYTES), rounds)? };
    Ok(vec![tcp, udp])
}

fn run(lab: &Lab, datagram_bytes: Option<u16>, rounds: usize) -> Result<Vec<[Speed; 4]>> {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let target = SocketAddr::new(server.ipv4.into(), PORT);
    let _stream = Stream::start(&server.namespace, PORT, &client.namespace, target, datagram_bytes)?;
    let round = |round: usize| {
        let mut speeds = [Speed::default(); 4];
        let mut order = [Hooks::Nothing, Hooks::Empty, Hooks::Netpath, Hooks::Trace];
        order.rotate_left(round % 4);
        for hooks in order {
            speeds[hooks as usize] = with(lab, hooks)?;
        }
        Ok(speeds)
    };
    (0..rounds).map(round).collect()
}

/// How fast it goes with this on the node's hooks.
fn with(lab: &Lab, hooks: Hooks) -> Result<Speed> {
    match hooks {
        Hooks::Nothing => speed(lab),
        Hooks::Empty => {
            let devices = [&lab.pod("client").veth, &lab.pod("server").veth];
            let _attached = lab.node.namespace.run(|| attach_empty(devices))??;
            speed(lab)
        }
        Hooks::Netpath => {
            let window = lab.open_window(&[])?;
            let speed = speed(lab);
            window.finish()?;
            speed
        }
        Hooks::Trace => {
            let trace = lab.open_trace(&["port", "9"])?;
            let speed = speed(lab);
            trace.finish()?;
            speed
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a second's bytes and nanoseconds")]
fn speed(lab: &Lab) -> Result<Speed> {
    let server = &lab.pod("server").namespace;
    let read = || counters(server, "eth0").map(|counters| (monotonic_ns(), counters));
    sleep(SETTLE);
    let (start, before) = read()?;
    sleep(ROUND);
    let (end, after) = read()?;
    let (seconds, moved) = ((end - start) as f64 / 1e9, after.since(before));
    ensure!(moved.rx_packets > 0, "iperf3 has ended, or sends nothing");
    Ok(Speed { bits: moved.rx_bytes as f64 * 8.0 / seconds, packets: moved.rx_packets as f64 / seconds })
}

/// A program that does nothing on both hooks of these devices; it goes when it is dropped.
fn attach_empty(devices: [&String; 2]) -> Result<SchedClassifier> {
    let mut program = Answer::Next.load("empty")?;
    for device in devices {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            program.attach_with_options(device, direction, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
        }
    }
    Ok(program)
}
