//! What netpath's user space takes for a number of flows: drain, report, memory. Each number in a process of its own, since
//! a process has only one peak of memory.
//!
//! In: how many observations (a flow at a hook). Out: lines `name value`, which the bench reads. A quarter as many
//! connections, each seen in both directions at two devices; half of them through SNAT, a quarter through DNAT to a pod.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::str;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Lab, output_within};
use netpath::model::{Attach, DeviceClass, DeviceFacts, Direction, NodeInfo, Window};
use netpath::path;
use netpath::render::{self, block::Screen, report::View};
use netpath::snapshot::{Connection, Counts, Device, Snapshot, Tuple};

use crate::clock::{peak_memory_bytes, process_cpu_ns, reset_peak_memory};
use crate::loaded::Loaded;

const PODS: u32 = 100;
const LIMIT: Duration = Duration::from_mins(5);

/// Names of what is measured.
pub const DRAIN_MS: &str = "drain_ms";
/// `path::report`.
pub const REPORT_MS: &str = "report_ms";
/// The table.
pub const TABLE_MS: &str = "table_ms";
/// JSON.
pub const JSON_MS: &str = "json_ms";
/// CPU time of a drain, a report and its rendering as JSON.
pub const CPU_MS: &str = "cpu_ms";
/// The peak of resident memory.
pub const PEAK_MB: &str = "peak_mb";

/// Measures with so many observations in a process of its own, on the lab's node.
pub fn measure(lab: &Lab, observations: u32, rounds: u32) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut command = lab.node.namespace.command(std::env::current_exe()?)?;
    command.args(["child", "flows", &observations.to_string(), &rounds.to_string()]);
    let output = output_within(&mut command, LIMIT)?;
    ensure!(
        output.status.success(),
        "measuring with {observations} observations failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for line in str::from_utf8(&output.stdout)?.lines() {
        let (name, value) = line.split_once(' ').context("a line is no 'name value'")?;
        samples.entry(name.to_owned()).or_default().push(value.parse()?);
    }
    Ok(samples)
}

/// The child's part: prints what it measures.
pub fn child(observations: u32, rounds: u32) -> Result<()> {
    let connections: Vec<Connection> = (0..observations / 4).map(|number| seen(number).0).collect();
    let mut loaded = Loaded::new(observations)?;
    for round in 0..=rounds {
        for number in 0..observations / 4 {
            for (ifindex, direction, tuple) in seen(number).1 {
                loaded.insert(key(ifindex, direction, tuple)?, [10, 10_000 + u64::from(number), 10_400])?;
            }
        }
        reset_peak_memory()?;
        let cpu_start = process_cpu_ns();
        let (flow_counts, drain_ms) = timed(|| loaded.drain());
        let flow_counts = flow_counts?;
        ensure!(
            flow_counts.len() == observations as usize,
            "the drain gave {} of {observations} flows",
            flow_counts.len()
        );
        let snapshot = Snapshot {
            devices: devices(),
            observations: flow_counts.observations().collect(),
            unattributed: flow_counts.unattributed().collect(),
            lost: flow_counts.lost,
            connections: connections.clone(),
            ..Snapshot::new(
                NodeInfo {
                    hostname: "node".to_owned(),
                    kernel: "6.1".to_owned(),
                    instance_id: None,
                    ..NodeInfo::default()
                },
                Window {
                    started_at: "2025-01-01T00:00:00Z".to_owned(),
                    duration_ns: 1_000_000_000,
                    ..Window::default()
                },
            )
        };
        drop(flow_counts);
        let (report, report_ms) = timed(|| path::report(&snapshot));
        ensure!(report.health.unjoined_flows == 0, "{} flows are not joined", report.health.unjoined_flows);
        let (written, json_ms) = timed(|| render::json::write(&report, &mut io::sink()));
        written?;
        let cpu_ms = (process_cpu_ns() - cpu_start) / 1_000;
        let (view, screen) = (View { top: Some(20), ..View::default() }, Screen::default());
        let (written, table_ms) = timed(|| render::table::write(&report, &mut io::sink(), &view, &screen));
        written?;
        black_box(report);
        // The first round warms up.
        if round > 0 {
            let peak_bytes = peak_memory_bytes()?;
            println!("{DRAIN_MS} {drain_ms}\n{REPORT_MS} {report_ms}\n{JSON_MS} {json_ms}\n{TABLE_MS} {table_ms}");
            println!("{CPU_MS} {}.{:03}", cpu_ms / 1_000, cpu_ms % 1_000);
            println!("{PEAK_MB} {}.{:06}", peak_bytes / 1_000_000, peak_bytes % 1_000_000);
        }
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64() * 1e3)
}

fn pod(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0100 + number % PODS)
}

fn veth(number: u32) -> u32 {
    10 + number % PODS
}

const ENI: u32 = 2;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

/// A connection of a pod, and where its packets are seen.
fn seen(number: u32) -> (Connection, [(u32, Direction, Tuple); 4]) {
    // The number is in the far address, so that no two connections share a tuple, whatever is translated.
    let far = Ipv4Addr::from_bits(0xc000_0000 + number);
    let original = Tuple { proto: 6, src: pod(number).into(), sport: 20_000, dst: far.into(), dport: 443 };
    let (after, out) = match number % 4 {
        0 | 1 => (Tuple { src: NODE.into(), sport: 40_000, ..original }, ENI),
        2 => {
            #[expect(clippy::cast_possible_truncation, reason = "only to spread them over ports")]
            let (high, low) = ((number >> 14) as u16, (number & 0x3fff) as u16);
            let service = Tuple { sport: 20_000 + high, dport: 40_000 + low, dst: far.into(), ..original };
            let backend = Tuple { dst: pod(number + 1).into(), ..service };
            return entry(number, service, backend, veth(number + 1));
        }
        _ => (original, ENI),
    };
    entry(number, original, after, out)
}

fn entry(number: u32, original: Tuple, after: Tuple, out: u32) -> (Connection, [(u32, Direction, Tuple); 4]) {
    let observations = [
        (veth(number), Direction::Rx, original),
        (out, Direction::Tx, after),
        (out, Direction::Rx, after.reversed()),
        (veth(number), Direction::Tx, original.reversed()),
    ];
    (Connection { zone: 0, original, reply: after.reversed() }, observations)
}

/// As it is in the kernel's map.
fn key(ifindex: u32, direction: Direction, tuple: Tuple) -> Result<[u32; 5]> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (tuple.src, tuple.dst) else {
        anyhow::bail!("the bench's flows are IPv4");
    };
    let [s0, s1] = tuple.sport.to_be_bytes();
    let [d0, d1] = tuple.dport.to_be_bytes();
    let hook = ifindex << 1 | u32::from(direction == Direction::Tx);
    Ok([
        hook,
        tuple.proto.into(),
        u32::from_ne_bytes(src.octets()),
        u32::from_ne_bytes(dst.octets()),
        u32::from_ne_bytes([s0, s1, d0, d1]),
    ])
}

fn devices() -> Vec<Device> {
    let device = |ifindex, name: String, class, addresses, routed| Device {
        routed,
        ..Device::new(DeviceFacts { addresses, attach: Attach::Tcx, ..DeviceFacts::new(ifindex, name, class) })
    };
    let eni = device(ENI, "eth0".to_owned(), DeviceClass::Eni, vec![format!("{NODE}/16")], vec![]);
    let veths = (0..PODS).map(|number| {
        device(veth(number), format!("eni{number:011x}"), DeviceClass::Veth, vec![], vec![pod(number).into()])
    });
    [eni].into_iter().chain(veths).collect()
}

/// Counts are what the kernel's map is filled with.
const _: () = assert!(size_of::<Counts>() == 24);
