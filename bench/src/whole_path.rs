//! What netpath costs a node's traffic: iperf3 between two pods through the node, with netpath off, with empty programs on the
//! hooks that netpath would take, and with netpath on, in turn.
//!
//! In: a lab. Out: for each round, throughput as ratio to that without anything. The order changes from round to round, so
//! that a drift of the machine's speed favours none. What is lost with empty programs is what the kernel takes to call any.

use std::net::SocketAddr;

use anyhow::Result;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use lab::{Answer, Lab, Load, iperf3};

use crate::figures::{Aim, Figure, Unit};

const PORT: u16 = 5201;
/// As small as DNS or a TCP acknowledgement.
const DATAGRAM_BYTES: u16 = 64;

/// What is on the hooks during a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hooks {
    Nothing = 0,
    Empty = 1,
    Netpath = 2,
}

/// Runs `rounds` rounds of three seconds each, for TCP and for small UDP datagrams.
pub fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let tcp = Load::TcpSeconds(1);
    let udp = Load::UdpSeconds { seconds: 1, datagram_bytes: DATAGRAM_BYTES };
    let loads = [("TCP".to_owned(), tcp, 0.98), (format!("UDP packets of {DATAGRAM_BYTES} bytes"), udp, 0.97)];
    let mut figures = Vec::new();
    for (words, load, aim) in loads {
        let [empty, netpath] = ratios(&lab, load, rounds)?;
        let figure =
            |what: &str, samples, aim| Figure::new(format!("iperf3 {words}, {what}"), Unit::Ratio, samples, aim);
        figures.push(figure("netpath on ÷ off", netpath, Some(Aim::AtLeast(aim))));
        figures.push(figure("empty programs on ÷ off", empty, None));
    }
    Ok(figures)
}

/// Of each round: with empty programs, and with netpath.
fn ratios(lab: &Lab, load: Load, rounds: usize) -> Result<[Vec<f64>; 2]> {
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let mut moved = [0; 3];
        let mut order = [Hooks::Nothing, Hooks::Empty, Hooks::Netpath];
        order.rotate_left(round % 3);
        for hooks in order {
            moved[hooks as usize] = run(lab, load, hooks)?;
        }
        let [nothing, with @ ..] = moved;
        for (ratios, with) in ratios.iter_mut().zip(with) {
            #[expect(clippy::cast_precision_loss, reason = "a second's bytes")]
            ratios.push(with as f64 / nothing as f64);
        }
    }
    Ok(ratios)
}

/// How many bytes iperf3 moves.
fn run(lab: &Lab, load: Load, hooks: Hooks) -> Result<u64> {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let target = SocketAddr::new(server.ipv4.into(), PORT);
    let run = || -> Result<u64> {
        lab.wait_until_quiet()?;
        let totals = iperf3(&server.namespace, PORT, &client.namespace, target, load)?;
        // Every datagram that was sent crossed the node; those that the receiver had no time for are lost behind it.
        Ok(if matches!(load, Load::TcpSeconds(_)) { totals.received_bytes } else { totals.sent_bytes })
    };
    match hooks {
        Hooks::Nothing => run(),
        Hooks::Empty => {
            let _attached = lab.node.namespace.run(|| attach_empty([&client.veth, &server.veth]))??;
            run()
        }
        Hooks::Netpath => {
            let mut bytes = 0;
            lab.measure(&[], || run().map(|moved| bytes = moved))?;
            Ok(bytes)
        }
    }
}

/// A program that does nothing on both hooks of these devices; it goes when it is dropped.
fn attach_empty(devices: [&str; 2]) -> Result<SchedClassifier> {
    let mut program = Answer::Next.load("empty")?;
    for device in devices {
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            program.attach_with_options(device, direction, TcAttachOptions::TcxOrder(LinkOrder::first()))?;
        }
    }
    Ok(program)
}
