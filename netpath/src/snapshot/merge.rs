//! Two consecutive windows of a session as one.
//!
//! In: snapshots, the second of which was opened by what closed the first. Out: the snapshot that one window over both would
//! have been. Pure. How far kernel counters may be from the hooks' counts is the sum of both windows': their common boundary
//! counts for both, though it would not be one in a single window.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use super::{Connection, Device, FIRST_RETIRED_IFINDEX, KernelDrop, KernelDrops, Names, PodRecord, Snapshot};
use crate::model::{
    Allowances, Conntrack, ConntrackTable, DeviceFacts, Eni, Ipam, KernelSlack, NameSource, Qdisc, Skew, Window,
};

impl Snapshot {
    /// This window and the next one of the same session, as one.
    #[must_use]
    pub fn merge(mut self, next: Self) -> Self {
        let indexes = indexes_in(&self.devices, &next.devices);
        let index = |ifindex: u32| indexes.get(&ifindex).copied().unwrap_or(ifindex);
        for device in &mut self.devices {
            renumber(device, index);
        }
        for observation in &mut self.observations {
            observation.ifindex = index(observation.ifindex);
        }
        for unattributed in &mut self.unattributed {
            unattributed.ifindex = index(unattributed.ifindex);
        }
        for eni in &mut self.enis {
            eni.ifindex = eni.ifindex.map(index);
        }
        for ifindex in
            self.names.pods.iter_mut().flat_map(|pod| &mut pod.veths).chain(self.default_routes.iter_mut().flatten())
        {
            *ifindex = index(*ifindex);
        }
        // The worse one has the reason.
        let (conntrack, conntrack_reason) = if severity(next.conntrack) > severity(self.conntrack) {
            (next.conntrack, next.conntrack_reason)
        } else {
            (self.conntrack, self.conntrack_reason)
        };
        let hook = |one: &super::Observation| (one.ifindex, one.direction, one.vlans, one.tuple, one.about);
        Self {
            node: next.node,
            window: merge_times(self.window, &next.window),
            devices: merge_devices(self.devices, next.devices),
            observations: sum(self.observations, next.observations, hook, |into, from| into.counts += from.counts),
            unattributed: sum(
                self.unattributed,
                next.unattributed,
                |one| (one.ifindex, one.direction, one.reason),
                |into, from| into.counts += from.counts,
            ),
            lost: {
                self.lost += next.lost;
                self.lost
            },
            own_connections: {
                self.own_connections.extend(next.own_connections);
                self.own_connections
            },
            connections: merge_connections(self.connections, next.connections),
            conntrack,
            conntrack_reason,
            conntrack_table: merge_tables(self.conntrack_table, next.conntrack_table),
            device_overruns: self.device_overruns.saturating_add(next.device_overruns),
            default_routes: self.default_routes,
            new_qdiscs: next.new_qdiscs,
            enis: merge_enis(self.enis, next.enis),
            ipam: merge_ipam(self.ipam, next.ipam),
            sources: next.sources,
            names: merge_names(self.names, next.names),
            diversions: self.diversions.union(next.diversions),
            kernel_drops: merge_drops(self.kernel_drops, next.kernel_drops),
        }
    }
}

fn merge_times(first: Window, next: &Window) -> Window {
    Window {
        duration_ns: first.duration_ns.saturating_add(next.duration_ns),
        skew_ns: first.skew_ns.zip(next.skew_ns).map(|(first, next)| Skew { start: first.start, end: next.end }),
        interval_ns: first.interval_ns.zip(next.interval_ns).map(|(first, next)| first.saturating_add(next)),
        late_ns: next.late_ns,
        ..first
    }
}

/// The index in the merged snapshot of each device of the first window: that of the next one, if the device goes on, otherwise
/// its own or one that nobody has.
fn indexes_in(first: &[Device], next: &[Device]) -> HashMap<u32, u32> {
    let indexes = |devices: &[Device]| devices.iter().map(|device| device.facts.ifindex).collect::<HashSet<_>>();
    let (of_first, of_next) = (indexes(first), indexes(next));
    // By the kernel's index, which one device at most has at the boundary.
    let continued: HashMap<u32, u32> = next
        .iter()
        .filter(|device| !device.facts.appeared)
        .map(|device| (device.former_ifindex.unwrap_or(device.facts.ifindex), device.facts.ifindex))
        .collect();
    let mut free =
        (0..=FIRST_RETIRED_IFINDEX).rev().filter(|index| !of_first.contains(index) && !of_next.contains(index));
    let mut merged_index = |device: &Device| match continued.get(&device.facts.ifindex) {
        Some(&index) if !device.facts.vanished => index,
        _ if of_next.contains(&device.facts.ifindex) => free.next().unwrap_or(device.facts.ifindex),
        _ => device.facts.ifindex,
    };
    first.iter().map(|device| (device.facts.ifindex, merged_index(device))).collect()
}

fn renumber(device: &mut Device, index: impl Fn(u32) -> u32) {
    let new = index(device.facts.ifindex);
    if new != device.facts.ifindex {
        device.former_ifindex = device.former_ifindex.or(Some(device.facts.ifindex));
        device.facts.ifindex = new;
    }
    device.lower = device.lower.map(&index);
    device.master = device.master.map(&index);
    if let Some(vlan) = &mut device.vlan {
        vlan.lower_ifindex = index(vlan.lower_ifindex);
    }
}

fn merge_devices(first: Vec<Device>, next: Vec<Device>) -> Vec<Device> {
    let mut devices: BTreeMap<u32, Device> = first.into_iter().map(|device| (device.facts.ifindex, device)).collect();
    for device in next {
        let whole = match devices.remove(&device.facts.ifindex) {
            Some(before) => merge_device(before, device),
            None => device,
        };
        devices.insert(whole.facts.ifindex, whole);
    }
    devices.into_values().collect()
}

/// What a device is at the end of both windows, and what it did in them.
fn merge_device(first: Device, next: Device) -> Device {
    let formerly: BTreeSet<_> =
        [first.formerly_routed, first.routed, next.formerly_routed].concat().into_iter().collect();
    let mut blind = first.blind;
    for reason in next.blind {
        if !blind.contains(&reason) {
            blind.push(reason);
        }
    }
    Device {
        blind,
        formerly_routed: formerly.into_iter().filter(|address| !next.routed.contains(address)).collect(),
        facts: merge_facts(first.facts, next.facts),
        ..next
    }
}

fn merge_facts(first: DeviceFacts, next: DeviceFacts) -> DeviceFacts {
    let other_programs = next.other_programs.map(|mut present| {
        let before = first.other_programs.into_iter().flatten();
        let left: Vec<_> = before.filter(|one| one.ahead && !present.contains(one)).collect();
        present.extend(left);
        present
    });
    let slack = |first: KernelSlack, next: KernelSlack| KernelSlack {
        below: first.below + next.below,
        above: first.above + next.above,
    };
    DeviceFacts {
        kernel: first.kernel.zip(next.kernel).map(|(first, next)| first + next),
        kernel_slack: first.kernel_slack.zip(next.kernel_slack).map(|(first, next)| slack(first, next)),
        drops: first.drops.zip(next.drops).map(|(first, next)| first + next),
        qdisc: first.qdisc.zip(next.qdisc).and_then(|(first, next)| merge_qdisc(&first, next)),
        filter_drops: first.filter_drops.zip(next.filter_drops).map(|(first, next)| first.saturating_add(next)),
        other_programs,
        appeared: first.appeared,
        eni_id: next.eni_id.or(first.eni_id),
        ..next
    }
}

/// `None` if they are different ones.
fn merge_qdisc(first: &Qdisc, next: Qdisc) -> Option<Qdisc> {
    (first.kind == next.kind).then(|| Qdisc {
        passed_bytes: first.passed_bytes.saturating_add(next.passed_bytes),
        dropped_packets: first.dropped_packets.saturating_add(next.dropped_packets),
        queued_packets: first.queued_packets.saturating_add(next.queued_packets),
        queued_bytes: first.queued_bytes.saturating_add(next.queued_bytes),
        ..next
    })
}

/// Adds up what has the same key.
fn sum<T, K: Eq + Hash>(mut first: Vec<T>, next: Vec<T>, key: impl Fn(&T) -> K, add: impl Fn(&mut T, &T)) -> Vec<T> {
    let mut positions: HashMap<K, usize> = first.iter().enumerate().map(|(at, one)| (key(one), at)).collect();
    for one in next {
        if let Some(&at) = positions.get(&key(&one)) {
            add(&mut first[at], &one);
        } else {
            positions.insert(key(&one), first.len());
            first.push(one);
        }
    }
    first
}

fn merge_drops(first: KernelDrops, next: KernelDrops) -> KernelDrops {
    let kind = |one: &KernelDrop| (one.tuple, one.reason.clone(), one.location.clone(), one.in_node);
    KernelDrops {
        watched: first.watched && next.watched,
        unwatched_reason: first.unwatched_reason.or(next.unwatched_reason),
        lost_packets: first.lost_packets.saturating_add(next.lost_packets),
        records: sum(first.records, next.records, kind, |into, from| {
            into.packets = into.packets.saturating_add(from.packets);
        }),
    }
}

fn merge_connections(first: Vec<Connection>, next: Vec<Connection>) -> Vec<Connection> {
    let mut all = [first, next].concat();
    all.sort_unstable();
    all.dedup();
    all
}

fn severity(conntrack: Conntrack) -> u8 {
    match conntrack {
        Conntrack::Ok => 0,
        Conntrack::Overrun => 1,
        Conntrack::Unavailable => 2,
    }
}

fn merge_tables(first: Option<ConntrackTable>, next: Option<ConntrackTable>) -> Option<ConntrackTable> {
    let (first, next) = (first?, next?);
    Some(ConntrackTable {
        drop: first.drop.saturating_add(next.drop),
        early_drop: first.early_drop.saturating_add(next.early_drop),
        insert_failed: first.insert_failed.saturating_add(next.insert_failed),
        ..next
    })
}

fn merge_enis(first: Vec<Eni>, mut next: Vec<Eni>) -> Vec<Eni> {
    for before in first {
        let same = |eni: &&mut Eni| (eni.ifindex, &eni.mac) == (before.ifindex, &before.mac);
        match next.iter_mut().find(same) {
            Some(eni) => eni.allowances = before.allowances.zip(eni.allowances).map(|(first, next)| add(first, next)),
            None => next.push(before),
        }
    }
    next
}

/// What was counted in both windows.
fn add(first: Allowances, next: Allowances) -> Allowances {
    let both = |first: Option<u64>, next: Option<u64>| first.zip(next).map(|(first, next)| first.saturating_add(next));
    Allowances {
        bw_in_allowance_exceeded: both(first.bw_in_allowance_exceeded, next.bw_in_allowance_exceeded),
        bw_out_allowance_exceeded: both(first.bw_out_allowance_exceeded, next.bw_out_allowance_exceeded),
        pps_allowance_exceeded: both(first.pps_allowance_exceeded, next.pps_allowance_exceeded),
        conntrack_allowance_exceeded: both(first.conntrack_allowance_exceeded, next.conntrack_allowance_exceeded),
        linklocal_allowance_exceeded: both(first.linklocal_allowance_exceeded, next.linklocal_allowance_exceeded),
        conntrack_allowance_available: next.conntrack_allowance_available,
    }
}

fn merge_ipam(first: Option<Ipam>, next: Option<Ipam>) -> Option<Ipam> {
    let Some(mut next) = next else { return first };
    let before = first.map(|ipam| ipam.metrics).unwrap_or_default();
    for metric in &mut next.metrics {
        let grown = before.iter().find(|one| one.name == metric.name).and_then(|one| one.in_window);
        metric.in_window = grown.zip(metric.in_window).map(|(first, next)| first.saturating_add(next));
    }
    Some(next)
}

fn merge_names(first: Names, next: Names) -> Names {
    let mut pods = first.pods;
    for pod in next.pods {
        match pods.iter_mut().find(|before| is_same(before, &pod)) {
            Some(before) => {
                let veths: BTreeSet<u32> = before.veths.iter().chain(&pod.veths).copied().collect();
                before.veths = veths.into_iter().collect();
                before.at_end = pod.at_end;
            }
            None => pods.push(pod),
        }
    }
    let services: BTreeSet<_> = first.services.into_iter().chain(next.services).collect();
    let count = |source| match source {
        NameSource::KubeProxy => services.len(),
        source => {
            let named = pods.iter().filter(|pod| pod.source == source);
            named.map(|pod| (&pod.namespace, &pod.name)).collect::<HashSet<_>>().len()
        }
    };
    let mut sources = next.sources;
    for source in &mut sources {
        if let Some(before) = first.sources.iter().find(|before| before.source == source.source)
            && before.state > source.state
        {
            (source.state, source.reason) = (before.state, before.reason.clone());
        }
        source.count = count(source.source) as u64;
    }
    Names { sources, pods, services: services.into_iter().collect() }
}

/// Whether a record of the next window is about the pod that this one is about. One that was not there at the boundary is
/// another, of the same name.
fn is_same(before: &PodRecord, next: &PodRecord) -> bool {
    before.at_end
        && next.at_start
        && (before.source, &before.namespace, &before.name) == (next.source, &next.namespace, &next.name)
        && (&before.uid, &before.addresses) == (&next.uid, &next.addresses)
}
