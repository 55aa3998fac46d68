//! Adds up: devices, totals by path, and what `node_network_total_bytes` is made of.
//!
//! In: a snapshot and the report's flows. Out: the report's sums. A byte is counted once in the totals (see `crossing`); in
//! the accounting it is counted wherever Container Insights counts it, under the name of why.

mod blind;
mod outside;
mod residual;
mod terms;

use self::residual::Seen;
use super::container_insights::counted;
use super::diversions::Diverted;
use super::topology::Topology;
use super::uplink;
use crate::model::{Attach, Direction};
use crate::report::{Accounting, Device, Flow, Health, PathClass, PathTotal, Totals};
use crate::snapshot::{self, Reason, Snapshot};

/// The devices with what their hooks saw; still without the names of their pods.
#[must_use]
pub fn devices(snapshot: &Snapshot, sorted: &[&snapshot::Device], diverted: &Diverted) -> Vec<Device> {
    let mut hooks = residual::by_hook(snapshot, diverted);
    let mut report_device = |device: &&snapshot::Device| {
        // Taken out, so that a second device with the same index does not show the same counts again.
        let mut hook = |direction| {
            let attached = device.facts.attach != Attach::None;
            hooks.remove(&(device.facts.ifindex, direction)).or(attached.then(Seen::default))
        };
        let (rx, tx) = (hook(Direction::Rx), hook(Direction::Tx));
        let residual = residual::residuals(device, &rx.unwrap_or_default(), &tx.unwrap_or_default());
        let blind_reasons = blind::reasons(device, residual.as_ref());
        Device {
            facts: device.facts.clone(),
            pod: None,
            pod_origin: None,
            blind: (!blind_reasons.is_empty())
                .then(|| blind_reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
            blind_reasons,
            counted_by_container_insights: counted(&device.facts.name),
            rx: rx.map(|seen| seen.hook),
            tx: tx.map(|seen| seen.hook),
            residual,
        }
    };
    sorted.iter().map(&mut report_device).collect()
}

/// Whether the device may have sent packets that its hook did not see: it was new, and sent some before netpath was attached, or
/// its counter has more without a known cause.
#[must_use]
pub fn sent_unseen(device: &Device) -> bool {
    let sent_more = device
        .residual
        .as_ref()
        .is_some_and(|residual| residual.tx.unexplained_bytes > 0 || device.facts.appeared && residual.tx.packets > 0);
    sent_more || device.facts.appeared && device.facts.vanished
}

/// Each flow's bytes once, by path; apart from them what travelled in tunnels, and what crossed an ENI a second time.
#[must_use]
pub fn totals(flows: &[Flow]) -> Totals {
    let mut totals = Totals {
        by_path: PathClass::ALL.into_iter().map(|class| (class, PathTotal::default())).collect(),
        ..Totals::default()
    };
    for flow in flows {
        let own_bytes = flow.bytes.saturating_sub(flow.carried_bytes).saturating_sub(flow.local_bytes);
        // Of a flow that travelled both ways, nobody knows which packets went which.
        let all_carried = own_bytes == 0 && flow.carried_bytes > 0;
        let packets = if all_carried { 0 } else { flow.packets };
        add(totals.by_path.entry(flow.path).or_default(), own_bytes, packets);
        if flow.local_bytes > 0 {
            // Their packets are counted with the others'.
            add(totals.by_path.entry(PathClass::Local).or_default(), flow.local_bytes, 0);
        }
        if flow.carried_bytes > 0 {
            add(&mut totals.in_tunnels, flow.carried_bytes, flow.packets - packets);
        }
        if flow.own {
            add(&mut totals.own, flow.bytes, flow.packets);
        }
        if flow.again_bytes > 0 {
            add(&mut totals.eni_again, flow.again_bytes, 0);
        }
    }
    totals
}

fn add(total: &mut PathTotal, bytes: u64, packets: u64) {
    total.bytes = total.bytes.saturating_add(bytes);
    total.packets = total.packets.saturating_add(packets);
    total.flows += 1;
}

/// The numbers that CloudWatch shows, and the parts of `node_network_total_bytes`. Notes at each flow which parts it is in.
#[must_use]
pub fn accounting(duration_ns: u64, devices: &[Device], flows: &mut [Flow], topology: &Topology) -> Accounting {
    let container_insights = outside::container_insights(duration_ns, devices);
    let total = container_insights.node_network_total_bytes;
    let terms = terms::terms(total, devices, flows, topology);
    let term_bytes = terms.iter().map(|term| (term.name.to_string(), term.bytes)).collect();
    Accounting { container_insights, ec2: outside::ec2(devices), terms, term_bytes }
}

/// What netpath knows of its own gaps.
#[must_use]
pub fn health(snapshot: &Snapshot, devices: &[Device], flows: &[Flow], ambiguous_flows: u64) -> Health {
    let packets = |reason| {
        let lost = snapshot.unattributed.iter().filter(|lost| lost.reason == reason);
        lost.fold(0u64, |sum, lost| sum.saturating_add(lost.counts.packets))
    };
    let (eni, eni_reason) = uplink::health(devices, snapshot.default_routes.as_deref());
    Health {
        eni,
        eni_reason,
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
        drops_unseen: snapshot.kernel_drops.unwatched_reason.clone(),
        drops_lost_packets: snapshot.kernel_drops.lost_packets,
        clsact_new_devices: snapshot.new_qdiscs.devices,
        clsact_lost_packets: snapshot.new_qdiscs.lost_packets,
    }
}
