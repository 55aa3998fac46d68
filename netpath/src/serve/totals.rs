//! What a report adds to the series.
//!
//! In: a report of each window. Out: [`Series`]. Pure. The windows are exact and follow each other without a gap, and so are the
//! counters: at any time `node_network = Σ container_insights + Σ residual{kernel_more} − Σ residual{netpath_more}`, and a device's
//! counters have grown by what the kernel's own have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::metric::Metric;
use super::sampling::Sampling;
use super::series::Series;
use super::under_way::{Amount, Held, Pending, Pod};
use super::zones::Zones;
use crate::model::{Allowances, Conntrack, DeviceClass, Direction};
use crate::report::{CauseKind, Device, Flow, PathClass, Report, TermKind};
use crate::sanitise::sanitise;

/// What a pod receives, and what it sends.
const RECEIVE: &str = "receive";
const TRANSMIT: &str = "transmit";

/// The paths on which every pod has series from the beginning. Of others it has them once there is something on them.
const USUAL_PATHS: [PathClass; 3] = [PathClass::Eni, PathClass::Local, PathClass::Host];

/// What to make series of.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Of veths, too.
    pub veths: bool,
    /// Which addresses are in which availability zone.
    pub zones: Zones,
    /// For how many flows at hooks a window has room.
    pub room: u64,
}

/// What one window leaves to the next.
#[derive(Debug, Default)]
pub struct Carried {
    under_way: Pending,
    sampling: Sampling,
}

/// Adds what a window has.
pub fn add(series: &mut Series, carried: &mut Carried, report: &Report, choice: &Choice) {
    series.advance(Duration::from_nanos(report.window.duration_ns));
    series.add(Metric::Windows, &[], 1);
    series.set(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1);
    let (held, over) = carried.under_way.roll(&report.flows);
    let mut paths: BTreeMap<PathClass, Amount> = BTreeMap::new();
    for (path, total) in &report.totals.by_path {
        paths.insert(*path, Amount { bytes: total.bytes, packets: total.packets });
    }
    for (flow, held) in report.flows.iter().zip(&held) {
        let amount = paths.entry(flow.path).or_default();
        *amount = amount.less(*held);
    }
    for Held { path, amount, .. } in &over {
        *paths.entry(*path).or_default() += *amount;
    }
    for (path, Amount { bytes, packets }) in paths {
        series.add(Metric::Bytes, &[path.name()], bytes);
        series.add(Metric::Packets, &[path.name()], packets);
    }
    add_accounting(series, report, carried.sampling.roll(&report.devices));
    add_pods(series, report, &held, &over);
    add_zones(series, report, &choice.zones);
    add_devices(series, &report.devices, choice.veths);
    add_enis(series, report);
    add_health(series, report, choice.room);
}

/// `owed`: what devices that have gone had too little in the windows before.
fn add_accounting(series: &mut Series, report: &Report, owed: i64) {
    let accounting = &report.accounting;
    for (direction, bytes) in [(RECEIVE, accounting.ec2.network_in_bytes), (TRANSMIT, accounting.ec2.network_out_bytes)]
    {
        series.add(Metric::Ec2Bytes, &[direction], bytes.unwrap_or(0));
    }
    let total = accounting.container_insights.node_network_total_bytes;
    series.add(Metric::IncompleteWindows, &[], total.is_none().into());
    // Without it there is no residual either: the parts would not be its parts.
    let Some(total) = total else { return };
    // No more than there is to take away.
    let owed = owed.max(i64::try_from(total).map_or(i64::MIN, |total| -total));
    series.add(Metric::NodeNetworkBytes, &[], total.saturating_add_signed(owed));
    add_residual(series, &TermKind::Cause(CauseKind::Sampling).to_string(), owed);
    for term in &accounting.terms {
        let name = term.name.to_string();
        let more = u64::try_from(term.bytes).unwrap_or(0);
        match term.name {
            TermKind::Cause(cause) if cause != CauseKind::NotAttached => add_residual(series, &name, term.bytes),
            TermKind::Residual => add_residual(series, &name, term.bytes),
            _ => series.add(Metric::ContainerInsightsBytes, &[&name], more),
        }
    }
}

fn add_residual(series: &mut Series, cause: &str, bytes: i64) {
    let sizes = if bytes < 0 { (0, bytes.unsigned_abs()) } else { (bytes.unsigned_abs(), 0) };
    series.add(Metric::ResidualBytes, &[cause, "kernel_more"], sizes.0);
    series.add(Metric::ResidualBytes, &[cause, "netpath_more"], sizes.1);
}

fn add_pods(series: &mut Series, report: &Report, held: &[Amount], over: &[Held]) {
    let mut pods = Pods::new();
    for device in &report.devices {
        if let Some(pod) = device.pod.as_deref().filter(|_| !device.facts.vanished) {
            for path in USUAL_PATHS {
                pods.entry((Some(pod.into()), path, RECEIVE)).or_default();
                pods.entry((Some(pod.into()), path, TRANSMIT)).or_default();
            }
        }
    }
    let mut between = 0;
    for (flow, held) in report.flows.iter().zip(held) {
        let apart = if flow.path == PathClass::Local { 0 } else { flow.local_bytes };
        let all = Amount { bytes: flow.bytes - apart, packets: flow.packets }.less(*held);
        let part = Held::of(flow, all);
        add_part(&mut pods, &part);
        if apart > 0 {
            // Their packets are counted with the others'.
            add_part(&mut pods, &Held { path: PathClass::Local, amount: Amount { bytes: apart, packets: 0 }, ..part });
        }
        if flow.local_pair_left_node {
            between += all.bytes;
        }
    }
    for part in over {
        add_part(&mut pods, part);
    }
    series.add(Metric::LocalPairEniBytes, &[], between);
    for ((pod, path, direction), Amount { bytes, packets }) in pods {
        let (namespace, name) = pod.as_deref().and_then(|pod| pod.split_once('/')).unwrap_or_default();
        let labels = [namespace, name, path.name(), direction];
        series.add(Metric::PodBytes, &labels, bytes);
        series.add(Metric::PodPackets, &labels, packets);
    }
}

/// By pod, path and direction.
type Pods = HashMap<(Pod, PathClass, &'static str), Amount>;

fn add_part(pods: &mut Pods, part: &Held) {
    for (pod, direction) in [(&part.src, TRANSMIT), (&part.dst, RECEIVE)] {
        if let Some(pod) = pod.as_ref().filter(|_| !part.amount.is_nothing()) {
            *pods.entry((pod.clone(), part.path, direction)).or_default() += part.amount;
        }
    }
}

/// What crossed ENIs, from this node's zone and to it.
fn add_zones(series: &mut Series, report: &Report, zones: &Zones) {
    let here = report.node.zone_id.as_deref().unwrap_or_default();
    let enis: HashSet<u32> =
        report.devices.iter().filter(|device| is_eni(device)).map(|device| device.facts.ifindex).collect();
    let outside = |flow: &Flow, direction: Direction| -> Option<IpAddr> {
        let hop = flow.hops.iter().find(|hop| hop.direction == direction && enis.contains(&hop.ifindex))?;
        Some(if direction == Direction::Tx { hop.dst } else { hop.src })
    };
    let mut crossed: HashMap<(&str, &str), u64> = HashMap::new();
    for flow in report.flows.iter().filter(|flow| flow.eni_rx_bytes > 0 || flow.eni_tx_bytes > 0) {
        let there = |direction| outside(flow, direction).and_then(|address| zones.of(address)).unwrap_or_default();
        *crossed.entry((here, there(Direction::Tx))).or_default() += flow.eni_tx_bytes;
        *crossed.entry((there(Direction::Rx), here)).or_default() += flow.eni_rx_bytes;
    }
    for ((from, to), bytes) in crossed.into_iter().filter(|(_, bytes)| *bytes > 0) {
        series.add(Metric::ZoneBytes, &[from, to], bytes);
    }
}

fn is_eni(device: &Device) -> bool {
    device.facts.class == DeviceClass::Eni
}

fn add_devices(series: &mut Series, devices: &[Device], veths: bool) {
    for device in devices.iter().filter(|device| veths || device.facts.class != DeviceClass::Veth) {
        let (name, class) = (sanitise(&device.facts.name), device.facts.class.to_string());
        let kernel = device.facts.kernel.map(|kernel| [kernel.rx_bytes, kernel.tx_bytes]);
        for (at, (direction, hook)) in [(RECEIVE, device.rx), (TRANSMIT, device.tx)].into_iter().enumerate() {
            let labels = [&*name, &*class, direction];
            if let Some(hook) = hook {
                series.add(Metric::DeviceBytes, &labels, hook.bytes);
            }
            if let Some(kernel) = kernel {
                series.add(Metric::DeviceKernelBytes, &labels, kernel[at]);
            }
        }
    }
}

fn add_enis(series: &mut Series, report: &Report) {
    series.clear(Metric::EniInfo);
    series.clear(Metric::EniIpAddresses);
    let zone = report.node.zone_id.as_deref().unwrap_or_default();
    for eni in &report.enis {
        let device = sanitise(eni.device.as_deref().unwrap_or_default());
        let id = eni.id.as_ref().map_or("", |id| &id.value);
        let index = eni.device_index.as_ref().map(|index| index.value.to_string()).unwrap_or_default();
        let role = eni.role.as_ref().map(|role| role.value.to_string()).unwrap_or_default();
        series.set(Metric::EniInfo, &[id, &device, &role, &index, zone], 1);
        if let Some(addresses) = eni.pod_addresses.as_ref().map(|fact| fact.value) {
            series.set(Metric::EniIpAddresses, &[id, "assigned"], addresses.assigned);
            if let Some(free) = addresses.free {
                series.set(Metric::EniIpAddresses, &[id, "free"], free);
            }
        }
        for (allowance, packets) in exceeded(eni.allowances.unwrap_or_default()) {
            if let Some(packets) = packets {
                series.add(Metric::EnaAllowanceExceededPackets, &[&device, id, allowance], packets);
            }
        }
    }
}

fn exceeded(allowances: Allowances) -> [(&'static str, Option<u64>); 5] {
    [
        ("bw_in", allowances.bw_in_allowance_exceeded),
        ("bw_out", allowances.bw_out_allowance_exceeded),
        ("pps", allowances.pps_allowance_exceeded),
        ("conntrack", allowances.conntrack_allowance_exceeded),
        ("linklocal", allowances.linklocal_allowance_exceeded),
    ]
}

fn add_health(series: &mut Series, report: &Report, room: u64) {
    let health = &report.health;
    let unattributed = [
        ("map_full", health.map_full_packets),
        ("unparsed", health.unparsed_packets),
        ("orphan_fragment", health.orphan_fragment_packets),
        ("non_ip", health.non_ip_packets),
        ("lost", health.lost_packets),
    ];
    for (reason, packets) in unattributed {
        series.add(Metric::UnattributedPackets, &[reason], packets);
    }
    series.add(Metric::UnjoinedFlows, &[], health.unjoined_flows);
    series.add(Metric::AmbiguousFlows, &[], health.ambiguous_flows);
    series.add(Metric::ConntrackOverruns, &[], (health.conntrack == Conntrack::Overrun).into());
    series.add(Metric::DeviceOverruns, &[], health.device_overruns);
    series.set(Metric::BlindDevices, &[], health.blind_devices);
    let hops = report.flows.iter().flat_map(|flow| &flow.hops);
    let (ipv4, ipv6) =
        hops.fold((0, 0), |(ipv4, ipv6), hop| if hop.src.is_ipv4() { (ipv4 + 1, ipv6) } else { (ipv4, ipv6 + 1) });
    series.set(Metric::FlowMapEntries, &["ipv4"], ipv4);
    series.set(Metric::FlowMapEntries, &["ipv6"], ipv6);
    series.set(Metric::FlowMapCapacity, &[], room);
}
