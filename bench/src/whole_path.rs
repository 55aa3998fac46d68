//! What netpath costs a node's traffic: iperf3 between two pods through the node, with netpath off and on in turn.
//!
//! In: a lab. Out: for each pair of runs, throughput with netpath on as ratio to that with netpath off. The order alternates
//! from pair to pair, so that a drift of the machine's speed favours neither.

use std::net::SocketAddr;

use anyhow::Result;
use lab::{Lab, Load, iperf3};

use crate::figures::{Aim, Figure, Unit};

const PORT: u16 = 5201;
/// As small as DNS or a TCP acknowledgement.
const DATAGRAM_BYTES: u16 = 64;

/// Runs `pairs` pairs of a second each, for TCP and for small UDP datagrams.
pub fn measure(pairs: u32) -> Result<Vec<Figure>> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let tcp = Load::TcpSeconds(1);
    let udp = Load::UdpSeconds { seconds: 1, datagram_bytes: DATAGRAM_BYTES };
    Ok(vec![
        Figure::new("iperf3 TCP, netpath on ÷ off", Unit::Ratio, ratios(&lab, tcp, pairs)?, Some(Aim::AtLeast(0.98))),
        Figure::new(
            format!("iperf3 UDP packets of {DATAGRAM_BYTES} bytes, on ÷ off"),
            Unit::Ratio,
            ratios(&lab, udp, pairs)?,
            Some(Aim::AtLeast(0.97)),
        ),
    ])
}

fn ratios(lab: &Lab, load: Load, pairs: u32) -> Result<Vec<f64>> {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let target = SocketAddr::new(server.ipv4.into(), PORT);
    let off = || -> Result<u64> {
        lab.wait_until_quiet()?;
        let totals = iperf3(&server.namespace, PORT, &client.namespace, target, load)?;
        // Every datagram that was sent crossed the node; those that the receiver had no time for are lost behind it.
        Ok(if matches!(load, Load::TcpSeconds(_)) { totals.received_bytes } else { totals.sent_bytes })
    };
    let on = || -> Result<u64> {
        let mut bytes = 0;
        lab.measure(&[], || off().map(|moved| bytes = moved))?;
        Ok(bytes)
    };
    let pair = |number| -> Result<f64> {
        let (off, on) = if number % 2 == 0 {
            let off = off()?;
            (off, on()?)
        } else {
            let on = on()?;
            (off()?, on)
        };
        #[expect(clippy::cast_precision_loss, reason = "a second's bytes")]
        Ok(on as f64 / off as f64)
    };
    (0..pairs).map(pair).collect()
}
