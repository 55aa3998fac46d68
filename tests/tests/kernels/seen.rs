//! A window on a node whose packets take unusual ways: the report, held against /proc/net/dev.
//!
//! It must not take a figure from netpath as a witness.

use std::net::SocketAddr;

use anyhow::Result;
use lab::report::Flow;
use lab::traffic::{Serve, TcpServer, UdpEcho, ask, download};
use lab::{Counters, Lab, Measured, Namespace, Report, device_counters};

use super::Way;

/// Datagrams of one conversation, and the payload of each.
pub const DATAGRAMS: usize = 20;
const PAYLOAD: usize = 100;
/// The same with UDP, IPv4 and Ethernet headers.
pub const FRAMES_BYTES: u64 = DATAGRAMS as u64 * (14 + 20 + 8 + PAYLOAD as u64);
/// Payload of one download.
pub const BYTES: u64 = 100_000;

/// A report, with which the devices' own counters agree.
pub struct Seen {
    pub report: Report,
}

/// Measures `work`. No device may have a byte that is not explained, and what crossed an ENI must be what `eth0` counted, each
/// byte once. The counters are read outside of the window and in it, as netpath may do at any time between.
pub fn measure(lab: &Lab, way: Way, arguments: &[&str], work: impl FnOnce() -> Result<()>) -> Seen {
    let read = || device_counters(&lab.node.namespace).unwrap();
    lab.wait_until_quiet().unwrap();
    let before = read();
    let mut inside = None;
    let work = || {
        let opened = read();
        work()?;
        lab.wait_until_quiet()?;
        inside = Some((opened, read()));
        Ok(())
    };
    let Measured { report, messages, .. } = lab.measure(&[way.arguments, arguments].concat(), work).unwrap();
    let ((opened, closed), after) = (inside.unwrap(), read());
    assert!(messages.is_empty(), "netpath has nothing to complain of: {messages}");
    for device in report.devices.iter().filter(|device| device.name != "lo") {
        let name = device.name.as_str();
        assert_eq!(device.blind, None, "{name}");
        // Bonds and their like, whose packets pass the hooks of others.
        if device.attach == "none" {
            assert_eq!(device.class, "other", "{name}");
            continue;
        }
        assert_eq!(device.attach, way.name, "{name}");
        let (least, most) = (closed[name].since(opened[name]), after[name].since(before[name]));
        for (way, least, most) in [("rx", least.rx_bytes, most.rx_bytes), ("tx", least.tx_bytes, most.tx_bytes)] {
            let own = device.kernel().bytes(way);
            assert!((least..=most).contains(&own), "{name} {way}: {own} is not from {least} to {most}");
            assert_eq!(device.hook(way).unattributed_packets, 0, "all of {name}'s packets can be read");
            let residual = device.residual(way);
            assert_eq!(residual.unexplained_bytes, 0, "{name} {way}: {residual}");
        }
    }
    let [least, most] =
        [(&closed, &opened), (&after, &before)].map(|(now, then)| both(now["eth0"].since(then["eth0"])));
    let crossed = report.path("eni").bytes;
    assert!((least..=most).contains(&crossed), "{crossed} crossed the ENI, which counted {least} to {most}");
    Seen { report }
}

fn both(counters: Counters) -> u64 {
    counters.rx_bytes + counters.tx_bytes
}

impl Seen {
    pub fn flows(&self) -> &[Flow] {
        &self.report.flows
    }

    /// The two flows of the conversation with this port of this protocol: to it, and from it.
    pub fn conversation(&self, proto: &str, port: u16) -> [&Flow; 2] {
        ["dport", "sport"].map(|end| {
            let port_of = |flow: &Flow| if end == "dport" { flow.dport } else { flow.sport };
            let is_it = |flow: &&Flow| flow.proto == proto && port_of(flow) == Some(port);
            let found: Vec<_> = self.flows().iter().filter(is_it).collect();
            let [flow] = found[..] else { panic!("one {proto} flow with {end} {port}: {:?}", self.flows()) };
            flow
        })
    }

    /// As `conversation`; both flows must be of this path, pass these hooks there and the same ones back, and be one.
    pub fn assert_way(&self, proto: &str, port: u16, path: &str, hops: &[(&str, &str)]) -> [&Flow; 2] {
        let [out, back] = self.conversation(proto, port);
        let other = |way: &str| if way == "rx" { "tx" } else { "rx" };
        let again: Vec<_> = hops.iter().rev().map(|&(device, way)| (device, other(way))).collect();
        assert_eq!((out.path.as_str(), out.hooks()), (path, hops.to_vec()), "{out}");
        assert_eq!((back.path.as_str(), back.hooks()), (path, again), "{back}");
        assert_eq!(out.conversation, back.conversation, "one conversation: {out} {back}");
        [out, back]
    }

    /// Nothing but `inside` was carried by other packets.
    pub fn assert_carried(&self, inside: &[&Flow]) {
        let bytes: u64 = inside.iter().map(|flow| flow.bytes).sum();
        let carried = &self.report.totals.in_tunnels;
        assert_eq!((carried.bytes, carried.flows), (bytes, inside.len() as u64), "{carried}");
    }
}

/// Asks a server [`DATAGRAMS`] times, and gets as many answers.
pub fn converse(client: &Namespace, server: &Namespace, address: SocketAddr) -> Result<()> {
    let echo = UdpEcho::start(server, address)?;
    let asked = ask(client, 0, address, [PAYLOAD, DATAGRAMS], |_| Ok(()))?;
    assert_eq!((asked.answers as usize, echo.stop()?), (DATAGRAMS, DATAGRAMS as u64));
    Ok(())
}

/// Downloads [`BYTES`].
pub fn fetch(client: &Namespace, server: &Namespace, address: SocketAddr) -> Result<()> {
    let source = TcpServer::start(server, address, Serve::Send(BYTES))?;
    assert_eq!(download(client, source.address())?.received_bytes, BYTES);
    Ok(())
}
