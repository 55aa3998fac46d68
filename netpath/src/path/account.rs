//! Adds up: devices, totals by path, and what `node_network_total_bytes` is made of.
//!
//! In: a snapshot and the report's flows. Out: the report's sums. A byte is counted once in the totals, at its flow's
//! first hop; in the accounting it is counted wherever Container Insights counts it, under the name of why.

mod blind;
mod outside;
mod residual;
mod terms;

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::container_insights::counted;
use super::topology::Topology;
use crate::report::{Accounting, Attach, Device, Direction, Flow, Health, HookCounts, PathClass, PathTotal, Totals};
use crate::snapshot::{self, Counts, Observation, Reason, Snapshot};

/// The devices with what their hooks saw; still without the names of their pods.
#[must_use]
pub fn devices(snapshot: &Snapshot, sorted: &[&snapshot::Device]) -> Vec<Device> {
    let mut hooks: HashMap<(u32, Direction), HookCounts> = HashMap::new();
    for seen in &snapshot.observations {
        add(hooks.entry((seen.ifindex, seen.direction)).or_default(), seen.counts);
    }
    let sent_tagged = |seen: &&Observation| seen.direction == Direction::Tx && seen.vlans != [0; 2];
    let tagged: HashSet<u32> = snapshot.observations.iter().filter(sent_tagged).map(|seen| seen.ifindex).collect();
    for lost in &snapshot.unattributed {
        let hook = hooks.entry((lost.ifindex, lost.direction)).or_default();
        add(hook, lost.counts);
        hook.unattributed_bytes = hook.unattributed_bytes.saturating_add(lost.counts.bytes);
        hook.unattributed_packets = hook.unattributed_packets.saturating_add(lost.counts.packets);
    }
    let mut report_device = |device: &&snapshot::Device| {
        // Taken out, so that a second device with the same index does not show the same counts again.
        let mut hook = |direction| {
            let attached = device.attach != Attach::None;
            hooks.remove(&(device.ifindex, direction)).or(attached.then(HookCounts::default))
        };
        let (rx, tx) = (hook(Direction::Rx), hook(Direction::Tx));
        let residual = residual::residuals(device, rx, tx, tagged.contains(&device.ifindex));
        Device {
            ifindex: device.ifindex,
            name: device.name.clone(),
            class: device.class,
            kind: device.kind.clone(),
            driver: device.driver.clone(),
            mac: device.mac.clone(),
            addresses: device.addresses.clone(),
            eni_id: device.eni_id.clone(),
            pod: None,
            pod_origin: None,
            attach: device.attach,
            blind: blind::reason(device, residual.as_ref()),
            counted_by_container_insights: counted(&device.name),
            rx,
            tx,
            kernel: device.kernel,
            kernel_slack: device.kernel_slack,
            drops: device.drops,
            qdisc: device.qdisc.clone(),
            filter_drops: device.filter_drops,
            xdp: device.xdp,
            other_programs: device.other_programs.clone(),
            appeared: device.appeared,
            vanished: device.vanished,
            residual,
        }
    };
    sorted.iter().map(&mut report_device).collect()
}

fn add(hook: &mut HookCounts, counts: Counts) {
    hook.bytes = hook.bytes.saturating_add(counts.bytes);
    hook.packets = hook.packets.saturating_add(counts.packets);
    hook.wire_bytes = hook.wire_bytes.saturating_add(counts.wire_bytes);
}

/// Each flow's bytes once, by path, and how much of it was in tunnels.
#[must_use]
pub fn totals(flows: &[Flow], is_tunnel: impl Fn(u32) -> bool) -> Totals {
    let mut by_path: BTreeMap<_, _> = PathClass::ALL.into_iter().map(|class| (class, PathTotal::default())).collect();
    let mut in_tunnels = PathTotal::default();
    for flow in flows {
        add_flow(by_path.entry(flow.path).or_default(), flow);
        if flow.hops.iter().any(|hop| is_tunnel(hop.ifindex)) {
            add_flow(&mut in_tunnels, flow);
        }
    }
    Totals { by_path, in_tunnels }
}

fn add_flow(total: &mut PathTotal, flow: &Flow) {
    total.bytes = total.bytes.saturating_add(flow.bytes);
    total.packets = total.packets.saturating_add(flow.packets);
    total.flows += 1;
}

/// The numbers that CloudWatch shows, and the parts of `node_network_total_bytes`. Notes at each flow which parts it is in.
#[must_use]
pub fn accounting(duration_ns: u64, devices: &[Device], flows: &mut [Flow], topology: &Topology) -> Accounting {
    let container_insights = outside::container_insights(duration_ns, devices);
    let total = container_insights.node_network_total_bytes;
    let terms = terms::terms(total, devices, flows, topology);
    Accounting { container_insights, ec2: outside::ec2(devices), terms }
}

/// What netpath knows of its own gaps.
#[must_use]
pub fn health(snapshot: &Snapshot, devices: &[Device], flows: &[Flow], ambiguous_flows: u64) -> Health {
    let packets = |reason| {
        let lost = snapshot.unattributed.iter().filter(|lost| lost.reason == reason);
        lost.fold(0u64, |sum, lost| sum.saturating_add(lost.counts.packets))
    };
    Health {
        map_full_packets: packets(Reason::MapFull),
        unparsed_packets: packets(Reason::Unparsed),
        orphan_fragment_packets: packets(Reason::OrphanFragment),
        non_ip_packets: packets(Reason::NonIp),
        lost_packets: snapshot.lost.packets,
        conntrack: snapshot.conntrack,
        conntrack_reason: snapshot.conntrack_reason.clone(),
        conntrack_table: snapshot.conntrack_table,
        unjoined_flows: flows.iter().filter(|flow| flow.path == PathClass::Unresolved).count() as u64,
        ambiguous_flows,
        blind_devices: devices.iter().filter(|device| device.blind.is_some()).count() as u64,
        device_overruns: snapshot.device_overruns,
        clsact_new_devices: snapshot.new_qdiscs.devices,
        clsact_lost_packets: snapshot.new_qdiscs.lost_packets,
    }
}
