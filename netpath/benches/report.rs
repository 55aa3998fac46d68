//! How long it takes to turn 100,000 observations and 100,000 conntrack entries into a report, and what it takes of memory.
//!
//! Half of the connections go through SNAT, a quarter through DNAT to a local pod, a quarter without NAT. Each has both its
//! directions in the observations where there is room for them.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use netpath::path;
use netpath::report::{Attach, Conntrack, DeviceClass, Direction, NodeInfo, Window};
use netpath::snapshot::{Connection, Counts, Device, Observation, Snapshot, Tuple};

const PODS: u32 = 100;
const CONNECTIONS: u32 = 100_000;
const OBSERVATIONS: usize = 100_000;
const ROUNDS: u32 = 10;

fn main() {
    let snapshot = snapshot();
    let start_kib = resident_peak_kib();
    let report = path::report(&snapshot);
    let peak_kib = resident_peak_kib() - start_kib;
    println!(
        "{} observations, {} entries: {} flows, all joined: {}",
        snapshot.observations.len(),
        snapshot.connections.len(),
        report.flows.len(),
        report.health.unjoined_flows == 0
    );
    println!("peak above the snapshot: {} bytes an observation", peak_kib * 1024 / snapshot.observations.len());
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(path::report(black_box(&snapshot)));
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("path::report: {:?} (median of {ROUNDS}), {:?} (best)", times[times.len() / 2], times[0]);
}

fn resident_peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn snapshot() -> Snapshot {
    let device = |ifindex, name: String, class, addresses, routed| Device {
        ifindex,
        name,
        class,
        kind: None,
        driver: None,
        mac: None,
        addresses,
        routed,
        attach: Attach::Tcx,
        blind: None,
        kernel: None,
        kernel_slack: None,
        drops: None,
        appeared: false,
        vanished: false,
        vlan: None,
        pod: None,
        eni_id: None,
    };
    let node = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    let pod = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0100 + number % PODS));
    let veth = |number: u32| 10 + number % PODS;
    let mut devices = vec![device(2, "eth0".to_owned(), DeviceClass::Eni, vec!["10.0.0.5/16".to_owned()], vec![])];
    devices.extend((0..PODS).map(|n| device(veth(n), format!("eni{n:011x}"), DeviceClass::Veth, vec![], vec![pod(n)])));

    let (mut observations, mut connections) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        let port = |base: u32| u16::try_from(base + number / PODS).unwrap();
        let far = IpAddr::V4(Ipv4Addr::from_bits(0xc633_6400 + number % 200));
        let original = Tuple { proto: 6, src: pod(number), sport: port(20_000), dst: far, dport: 443 };
        let (after, out) = match number % 4 {
            0 | 1 => (Tuple { src: node, sport: port(40_000), dport: 443, ..original }, 2),
            2 => (Tuple { dst: pod(number + 1), dport: 8080, ..original }, veth(number + 1)),
            _ => (original, 2),
        };
        // Ports of the node's address must differ between pods.
        let after = if after.src == node {
            Tuple { dst: IpAddr::V4(Ipv4Addr::from_bits(0xcb00_0000 + number)), ..after }
        } else {
            after
        };
        let original = if after.src == node { Tuple { dst: after.dst, ..original } } else { original };
        connections.push(Connection { zone: 0, original, reply: after.reversed() });
        if observations.len() < OBSERVATIONS {
            let counts = Counts { packets: 10, bytes: 10_000 + u64::from(number), wire_bytes: 10_000 };
            let mut seen = |ifindex, direction, tuple| {
                observations.push(Observation { ifindex, direction, vlans: [0, 0], tuple, counts });
            };
            seen(veth(number), Direction::Rx, original);
            seen(out, Direction::Tx, after);
            seen(out, Direction::Rx, after.reversed());
            seen(veth(number), Direction::Tx, original.reversed());
        }
    }
    Snapshot {
        node: NodeInfo { hostname: "node".to_owned(), kernel: "6.1".to_owned(), instance_id: None },
        window: Window { started_at: "2025-01-01T00:00:00Z".to_owned(), duration_ns: 10_000_000_000, skew_ns: None },
        devices,
        observations,
        unattributed: vec![],
        lost: Counts::default(),
        conntrack_reason: None,
        connections,
        conntrack: Conntrack::Ok,
    }
}
