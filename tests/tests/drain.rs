//! No packet is lost or counted twice by a drain, however often it drains and on however many CPUs packets are counted.
//!
//! The witnesses are the senders' own number of datagrams for each flow, and the devices' counters.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::traffic::UdpSink;
use lab::{Counters, Lab, counters};
use netpath::kernel::attach::AttachError;
use netpath::kernel::flow_counts::FlowCounts;
use netpath::kernel::load::load;
use netpath::model::Direction;
use netpath::node::devices::Layer;
use netpath::snapshot::{Counts, Reason};

/// What was sent from each source port, and what netpath counted meanwhile.
struct Outcome {
    sent: BTreeMap<u16, u64>,
    flow_counts: FlowCounts,
    drains: u32,
    devices: Vec<(u32, Counters)>,
}

/// Sends from `sockets` sockets on each of two pods to the other for two seconds, one datagram from each in turn, while
/// draining every `every`.
fn flood(sockets: u16, max_flows: u32, every: Duration, family: usize) -> Outcome {
    allow_open_files(2 * u64::from(sockets) + 100);
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let sinks = [client, server]
        .map(|pod| UdpSink::start(&pod.namespace, SocketAddr::new(pod.addresses()[family], 0)).unwrap());
    lab.wait_until_quiet().unwrap();
    let ifindexes = lab.node.namespace.run(|| [client, server].map(|pod| ifindex(&pod.veth))).unwrap();
    let before = [client, server].map(|pod| counters(&lab.node.namespace, &pod.veth).unwrap());

    let (stop, ready) = (&AtomicBool::new(false), &Barrier::new(3));
    let (sent, flow_counts, drains) = thread::scope(|scope| {
        let node = &lab.node.namespace;
        let draining = scope.spawn(move || {
            node.run(|| {
                let attached = load(max_flows).map(|(mut attacher, drain, _)| {
                    for (pod, ifindex) in [client, server].into_iter().zip(ifindexes) {
                        attacher.attach(ifindex, &pod.veth, Layer::Ethernet)?;
                    }
                    Ok::<_, AttachError>((attacher, drain))
                });
                ready.wait();
                let (_attacher, mut drain) = attached.unwrap().unwrap();
                let (mut flow_counts, mut drains) = (FlowCounts::default(), 0);
                while !stop.load(Ordering::Relaxed) {
                    drain.drain(&mut flow_counts).unwrap();
                    drains += 1;
                    thread::sleep(every);
                }
                drain.drain(&mut flow_counts).unwrap();
                (flow_counts, drains)
            })
            .unwrap()
        });
        // Ports of their own, since flows are told apart by them below; and none that the kernel gives to other sockets.
        let senders = [(client, &sinks[1], 20_000), (server, &sinks[0], 25_000)].map(|(pod, sink, first_port)| {
            let from = SocketAddr::new(pod.addresses()[family], first_port);
            scope.spawn(move || pod.namespace.run(|| send(from, sink.address(), sockets, ready)).unwrap())
        });
        let mut sent = BTreeMap::new();
        for sender in senders {
            sent.append(&mut sender.join().unwrap());
        }
        lab.wait_until_quiet().unwrap();
        stop.store(true, Ordering::Relaxed);
        let (flow_counts, drains) = draining.join().unwrap();
        (sent, flow_counts, drains)
    });
    let devices = [client, server]
        .into_iter()
        .zip(ifindexes)
        .zip(before)
        .map(|((pod, ifindex), before)| (ifindex, counters(&lab.node.namespace, &pod.veth).unwrap().since(before)))
        .collect();
    Outcome { sent, flow_counts, drains, devices }
}

/// Raises the process's limit, which is 1,024 by default.
fn allow_open_files(files: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in the limits, which outlive the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit = libc::rlimit { rlim_cur: limit.rlim_cur.max(files), rlim_max: limit.rlim_max.max(files) };
    // SAFETY: the kernel reads the limits, which outlive the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0, "root may raise it");
}

fn ifindex(device: &str) -> u32 {
    // The first word of `N: name@…`; the namespace's own sysfs need not be mounted for it.
    let listing = std::process::Command::new("ip").args(["-oneline", "link", "show", "dev", device]).output().unwrap();
    String::from_utf8(listing.stdout).unwrap().split(':').next().unwrap().parse().unwrap()
}

/// Sends from `sockets` ports, the first of which is `from`'s. Returns how many datagrams went out from each.
fn send(from: SocketAddr, to: SocketAddr, sockets: u16, ready: &Barrier) -> BTreeMap<u16, u64> {
    let sockets: io::Result<Vec<UdpSocket>> = (0..sockets)
        .map(|number| {
            let socket = UdpSocket::bind((from.ip(), from.port() + number))?;
            socket.connect(to)?;
            Ok(socket)
        })
        .collect();
    // Before anything can fail, or the others would wait for ever.
    ready.wait();
    let sockets = sockets.unwrap();
    let mut sent = vec![0; sockets.len()];
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for (socket, sent) in sockets.iter().zip(&mut sent) {
            // ECONNREFUSED cannot be: the sink stays. ENOBUFS is a datagram that did not leave.
            if socket.send(&[0; 64]).is_ok() {
                *sent += 1;
            }
        }
    }
    sockets.iter().map(|socket| socket.local_addr().unwrap().port()).zip(sent).collect()
}

impl Outcome {
    /// Each device's counters against flows and unattributed packets at its hooks.
    fn assert_devices_agree(&self) {
        for (ifindex, own) in &self.devices {
            let mut seen = Counters::default();
            let mut add = |direction: Direction, counts: Counts| match direction {
                Direction::Rx => (seen.rx_bytes += counts.bytes, seen.rx_packets += counts.packets),
                Direction::Tx => (seen.tx_bytes += counts.bytes, seen.tx_packets += counts.packets),
            };
            for flow in self.flow_counts.observations().filter(|flow| flow.ifindex == *ifindex) {
                add(flow.direction, flow.counts);
            }
            for rest in self.flow_counts.unattributed().filter(|rest| rest.ifindex == *ifindex) {
                add(rest.direction, rest.counts);
            }
            assert_eq!(seen, *own, "device {ifindex} after {} drains", self.drains);
        }
        assert_eq!(self.flow_counts.lost, Counts::default());
    }

    /// Each flow's packets, as they entered the node, against what its socket sent.
    fn assert_flows_agree(&self) {
        let mut seen: BTreeMap<u16, u64> = BTreeMap::new();
        for flow in
            self.flow_counts.observations().filter(|flow| flow.direction == Direction::Rx && flow.tuple.proto == 17)
        {
            *seen.entry(flow.tuple.sport).or_default() += flow.counts.packets;
        }
        assert_eq!(seen, self.sent);
    }

    fn total(&self) -> u64 {
        self.sent.values().sum()
    }
}

#[test]
fn few_flows_drained_as_fast_as_possible() {
    let outcome = flood(2, 65_536, Duration::ZERO, 0);
    assert!(outcome.drains >= 10, "only {} drains in two seconds", outcome.drains);
    assert!(outcome.total() > 10_000, "only {} datagrams", outcome.total());
    outcome.assert_flows_agree();
    outcome.assert_devices_agree();
}

/// More flows than the per-CPU cache has slots, so that most packets evict another flow.
#[test]
fn more_flows_than_slots() {
    for family in 0..2 {
        let outcome = flood(3_000, 65_536, Duration::from_millis(5), family);
        assert!(outcome.drains >= 4, "only {} drains in two seconds", outcome.drains);
        outcome.assert_devices_agree();
        outcome.assert_flows_agree();
    }
}

/// Ten times as many flows as the map has room for: what finds none is counted as such, and the sums still agree.
#[test]
fn a_full_map_loses_no_count() {
    let outcome = flood(3_000, 300, Duration::from_millis(500), 0);
    let full: u64 = outcome
        .flow_counts
        .unattributed()
        .filter(|rest| rest.reason == Reason::MapFull)
        .map(|rest| rest.counts.packets)
        .sum();
    assert!(full > 0, "the map was never full");
    outcome.assert_devices_agree();
}
