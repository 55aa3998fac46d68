//! Adds up: devices, totals by path, and what `node_network_total_bytes` is made of.
//!
//! In: a snapshot and the report's flows. Out: the report's sums. A byte is counted once in the totals, at its flow's
//! first hop; in the accounting it is counted wherever Container Insights counts it, under the name of why.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::container_insights::counted;
use super::topology::{Role, Topology};
use crate::report::{
    Accounting, Attach, ContainerInsights, Device, DeviceClass, Direction, Ec2, Flow, Health, HookCounts, Hop,
    PathClass, PathTotal, Term, Totals,
};
use crate::snapshot::{self, Counts, Reason, Snapshot};

/// Every class, in the order of the report.
const CLASSES: [PathClass; 6] = [
    PathClass::Eni,
    PathClass::Local,
    PathClass::Host,
    PathClass::Transit,
    PathClass::Undelivered,
    PathClass::Unresolved,
];

/// The devices with what their hooks saw.
#[must_use]
pub fn devices(snapshot: &Snapshot, sorted: &[&snapshot::Device]) -> Vec<Device> {
    let mut hooks: HashMap<(u32, Direction), HookCounts> = HashMap::new();
    for seen in &snapshot.observations {
        add(hooks.entry((seen.ifindex, seen.direction)).or_default(), seen.counts);
    }
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
        Device {
            ifindex: device.ifindex,
            name: device.name.clone(),
            class: device.class,
            kind: device.kind.clone(),
            driver: device.driver.clone(),
            mac: device.mac.clone(),
            addresses: device.addresses.clone(),
            eni_id: device.eni_id.clone(),
            pod: device.pod.clone(),
            attach: device.attach,
            blind: device.blind.clone(),
            counted_by_container_insights: counted(&device.name),
            rx: hook(Direction::Rx),
            tx: hook(Direction::Tx),
            kernel: device.kernel,
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
pub fn totals(flows: &[Flow], topology: &Topology) -> Totals {
    let mut by_path: BTreeMap<_, _> = CLASSES.into_iter().map(|class| (class, PathTotal::default())).collect();
    let mut in_tunnels = PathTotal::default();
    let is_tunnel =
        |hop: &Hop| topology.place(hop.ifindex).is_some_and(|place| place.device.class == DeviceClass::Tunnel);
    for flow in flows {
        add_flow(by_path.entry(flow.path).or_default(), flow);
        if flow.hops.iter().any(is_tunnel) {
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

/// The numbers that CloudWatch shows, and the parts of `node_network_total_bytes`.
#[must_use]
pub fn accounting(duration_ns: u64, devices: &[Device], flows: &[Flow], topology: &Topology) -> Accounting {
    let sum = |bytes: fn(&Device) -> Option<u64>, of: fn(&Device) -> bool| {
        let mut of = devices.iter().filter(|device| of(device)).peekable();
        of.peek()?;
        of.try_fold(0u64, |sum, device| Some(sum.saturating_add(bytes(device)?)))
    };
    let is_eni = |device: &Device| device.class == DeviceClass::Eni;
    let total = sum(kernel_bytes, |device| device.counted_by_container_insights);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people; CloudWatch's is a double too")]
    let rate = |bytes: u64| (duration_ns > 0).then(|| bytes as f64 * 1e9 / duration_ns as f64);
    Accounting {
        container_insights: ContainerInsights {
            node_network_total_bytes: total,
            bytes_per_second: total.and_then(rate),
        },
        ec2: Ec2 {
            network_in_bytes: sum(|device| device.kernel.map(|kernel| kernel.rx_bytes), is_eni),
            network_out_bytes: sum(|device| device.kernel.map(|kernel| kernel.tx_bytes), is_eni),
        },
        terms: terms(total, devices, flows, topology),
    }
}

fn kernel_bytes(device: &Device) -> Option<u64> {
    device.kernel.map(|kernel| kernel.rx_bytes.saturating_add(kernel.tx_bytes))
}

/// A part of `node_network_total_bytes`, in the order of the report; the residual follows them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Eni,
    EniCopyOnVeth,
    EniCopyOnVlan,
    Local,
    Host,
    Undelivered,
    Unresolved,
    OtherDevices,
    Unattributed,
    NotAttached,
}

impl Part {
    const ALL: [Self; 10] = [
        Self::Eni,
        Self::EniCopyOnVeth,
        Self::EniCopyOnVlan,
        Self::Local,
        Self::Host,
        Self::Undelivered,
        Self::Unresolved,
        Self::OtherDevices,
        Self::Unattributed,
        Self::NotAttached,
    ];

    /// What the bytes are that a flow has on a device.
    fn of(path: PathClass, class: DeviceClass, role: Role) -> Self {
        match (class, path) {
            (DeviceClass::Eni, _) => Self::Eni,
            (DeviceClass::Vlan, _) if role == Role::Outside => Self::EniCopyOnVlan,
            (DeviceClass::Veth, PathClass::Eni | PathClass::Transit) => Self::EniCopyOnVeth,
            (DeviceClass::Veth, PathClass::Local) => Self::Local,
            (DeviceClass::Veth, PathClass::Host) => Self::Host,
            (DeviceClass::Veth, PathClass::Undelivered) => Self::Undelivered,
            (DeviceClass::Veth, PathClass::Unresolved) => Self::Unresolved,
            _ => Self::OtherDevices,
        }
    }

    /// The term's name and its explanation.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Eni => ("eni", "seen on the ENIs themselves: what EC2 counts"),
            Self::EniCopyOnVeth => {
                ("eni_copy_on_veth", "the same bytes again, on the host's end of the pods' veth pairs")
            }
            Self::EniCopyOnVlan => {
                ("eni_copy_on_vlan", "the same bytes again, on VLAN devices that stand on an ENI (branch ENIs)")
            }
            Self::Local => ("local", "between pods of this node: counted on both pods' veths, and on no ENI"),
            Self::Host => ("host", "between this node and its own pods: counted on one veth, and on no ENI"),
            Self::Undelivered => ("undelivered", "entered by a veth and was dropped on this node"),
            Self::Unresolved => ("unresolved", "seen on a veth, and it is not known where else"),
            Self::OtherDevices => ("other_devices", "seen on bridges, tunnels and other devices on the way"),
            Self::Unattributed => {
                ("unattributed", "seen, but in no flow: ARP, unreadable packets, or no room for more flows")
            }
            Self::NotAttached => ("not_attached", "counted by the kernel on devices that netpath did not watch"),
        }
    }
}

/// The parts: what the hooks saw on counted devices, by why it is there, and what they did not see. Without a total there
/// is no residual.
fn terms(total: Option<u64>, devices: &[Device], flows: &[Flow], topology: &Topology) -> Vec<Term> {
    let mut sums = [0i128; Part::ALL.len()];
    // Of two devices with one ifindex the first has the hooks.
    let mut classes: HashMap<u32, Option<DeviceClass>> = HashMap::new();
    for device in devices {
        classes.entry(device.ifindex).or_insert(device.counted_by_container_insights.then_some(device.class));
        if device.counted_by_container_insights {
            for hook in [device.rx, device.tx].into_iter().flatten() {
                sums[Part::Unattributed as usize] += i128::from(hook.unattributed_bytes);
            }
            if device.attach == Attach::None {
                sums[Part::NotAttached as usize] += i128::from(kernel_bytes(device).unwrap_or(0));
            }
        }
    }
    for flow in flows {
        for hop in &flow.hops {
            if let Some(&Some(class)) = classes.get(&hop.ifindex) {
                sums[Part::of(flow.path, class, topology.role(hop.ifindex)) as usize] += i128::from(hop.bytes);
            }
        }
    }
    let term = |(name, explanation): (&str, &str), bytes: i128| Term {
        name: name.to_owned(),
        bytes: i64::try_from(bytes).unwrap_or(if bytes < 0 { i64::MIN } else { i64::MAX }),
        explanation: explanation.to_owned(),
    };
    let residual = (
        "residual",
        "counted by the kernel and not seen by netpath, or the reverse where it is negative: a driver that counts frames before \
         the kernel merges them, packets that are dropped before they reach netpath's hooks",
    );
    let rest = total.map(|total| term(residual, i128::from(total) - sums.iter().sum::<i128>()));
    Part::ALL.into_iter().zip(sums).map(|(part, bytes)| term(part.words(), bytes)).chain(rest).collect()
}

/// What netpath knows of its own gaps.
#[must_use]
pub fn health(snapshot: &Snapshot, flows: &[Flow], ambiguous_flows: u64) -> Health {
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
        unjoined_flows: flows.iter().filter(|flow| flow.path == PathClass::Unresolved).count() as u64,
        ambiguous_flows,
        blind_devices: snapshot.devices.iter().filter(|device| device.blind.is_some()).count() as u64,
    }
}
