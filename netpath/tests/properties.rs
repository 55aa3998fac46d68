//! What must hold for any snapshot, whatever it contains.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpath::model::{
    Attach, Blind, Conntrack, DeviceClass, DeviceFacts, Direction, Drops, KernelCounters, KernelSlack, NameSource,
    NodeInfo, Qdisc, Window, Xdp, XdpMode,
};
use netpath::path::report;
use netpath::render::{json, table};
use netpath::report::{CauseKind, PathClass, Report, Residual, TermKind};
use netpath::snapshot::{
    Connection, Counts, Device, Names, Observation, PodRecord, Reason, Snapshot, Tuple, Unattributed, Vlan,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Few addresses, so that tuples meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let v6 = |last| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    select(vec![
        v4(10, 0, 0, 5),
        v4(10, 0, 0, 21),
        v4(10, 0, 0, 22),
        v4(172, 20, 0, 10),
        v4(198, 51, 100, 7),
        v4(169, 254, 169, 254),
        v4(224, 0, 0, 1),
        v4(0, 0, 0, 0),
        v4(255, 255, 255, 255),
        v6(1),
        v6(2),
        IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
    ])
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (select(vec![1u8, 6, 17, 47]), address(), 0..3u16, address(), 0..3u16)
        .prop_map(|(proto, src, sport, dst, dport)| Tuple { proto, src, sport, dst, dport })
}

fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::Rx, Direction::Tx])
}

fn counts(largest: u64) -> impl Strategy<Value = Counts> {
    (0..=largest, 0..=largest, 0..=largest).prop_map(|(packets, bytes, wire_bytes)| Counts {
        packets,
        bytes,
        wire_bytes,
    })
}

fn kernel(largest: u64) -> impl Strategy<Value = KernelCounters> {
    (0..=largest, 0..=largest, 0..=largest, 0..=largest).prop_map(|(rx_bytes, rx_packets, tx_bytes, tx_packets)| {
        KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets }
    })
}

/// What a source says of one of few pods.
fn record() -> impl Strategy<Value = PodRecord> {
    let source = select(vec![NameSource::VpcCni, NameSource::Cri, NameSource::PodLogs]);
    (source, select(vec!["a", "b", "c"]), vec(address(), 0..2), vec(0..6u32, 0..2), any::<bool>(), any::<bool>())
        .prop_map(|(source, name, addresses, veths, at_start, at_end)| PodRecord {
            source,
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: None,
            addresses,
            veths,
            at_start,
            at_end,
        })
}

fn device(largest: u64) -> impl Strategy<Value = Device> {
    let class = select(vec![
        DeviceClass::Eni,
        DeviceClass::Veth,
        DeviceClass::Veth,
        DeviceClass::Vlan,
        DeviceClass::Bridge,
        DeviceClass::Tunnel,
        DeviceClass::Loopback,
        DeviceClass::Other,
    ]);
    let names = vec!["eth0", "eni0a1b", "veth1", "lo", "vlan.eth.1", "\u{1b}[31m", ""];
    let attach = select(vec![Attach::Tcx, Attach::Tcx, Attach::None]);
    let vlan = (0..6u32, 0..3u16).prop_map(|(lower_ifindex, id)| Vlan { lower_ifindex, id });
    let addresses = select(vec!["10.0.0.5/24", "fe80::1/64", "10.0.0.5/99", "nonsense", "/", "0.0.0.0/0"]);
    let slack = (kernel(largest), kernel(largest)).prop_map(|(below, above)| KernelSlack { below, above });
    let drops = (0..9u64, 0..9u64).prop_map(|(rx_packets, tx_packets)| Drops { rx_packets, tx_packets });
    let some = (option::of(kernel(largest)), option::of(vlan));
    let qdisc = (0..largest, 0..9u64, -9..9i64, -9_999..9_999i64).prop_map(
        |(passed_bytes, dropped_packets, queued_packets, queued_bytes)| Qdisc {
            kind: "tbf".to_owned(),
            passed_bytes,
            dropped_packets,
            queued_packets,
            queued_bytes,
        },
    );
    let window =
        (option::of(slack), option::of(drops), option::of((qdisc, option::of(0..9u64))), any::<bool>(), any::<bool>());
    let some = (some, window);
    (0..6u32, select(names), class, vec(addresses, 0..3), vec(address(), 0..2), attach, any::<bool>(), some).prop_map(
        |(
            ifindex,
            name,
            class,
            addresses,
            routed,
            attach,
            blind,
            ((kernel, vlan), (kernel_slack, drops, qdisc, appeared, vanished)),
        )| Device {
            routed,
            blind: blind.then_some(Blind::Late).into_iter().collect(),
            vlan,
            ..Device::new(DeviceFacts {
                addresses: addresses.into_iter().map(str::to_owned).collect(),
                attach,
                kernel,
                kernel_slack,
                drops,
                filter_drops: qdisc.as_ref().and_then(|(_, filter_drops)| *filter_drops),
                xdp: vanished.then_some(Xdp { mode: XdpMode::Generic, program_id: None }),
                qdisc: qdisc.map(|(qdisc, _)| qdisc),
                appeared,
                vanished,
                ..DeviceFacts::new(ifindex, name, class)
            })
        },
    )
}

/// Any snapshot, with counts of up to `largest`.
fn snapshot(largest: u64) -> impl Strategy<Value = Snapshot> {
    let about = option::weighted(0.1, tuple());
    let observation = (0..7u32, direction(), (0..3u16, 0..2u16), tuple(), about, counts(largest)).prop_map(
        |(ifindex, direction, (outer, inner), tuple, about, counts)| Observation {
            ifindex,
            direction,
            vlans: [outer, inner],
            tuple,
            about,
            counts,
        },
    );
    let reason = select(vec![Reason::NonIp, Reason::Unparsed, Reason::OrphanFragment, Reason::MapFull]);
    let unattributed = (0..7u32, direction(), reason, counts(largest))
        .prop_map(|(ifindex, direction, reason, counts)| Unattributed { ifindex, direction, reason, counts });
    let connection = (0..2u16, tuple(), tuple(), any::<bool>()).prop_map(|(zone, original, other, nat)| Connection {
        zone,
        original,
        reply: if nat { Tuple { proto: original.proto, ..other } } else { original.reversed() },
    });
    let conntrack = select(vec![Conntrack::Ok, Conntrack::Ok, Conntrack::Unavailable, Conntrack::Overrun]);
    (
        vec(device(largest), 0..7),
        vec(observation, 0..40),
        vec(unattributed, 0..4),
        vec((connection, option::of(any::<Index>())), 0..10),
        conntrack,
        vec(record(), 0..5),
        0..3u64,
    )
        .prop_map(|(devices, mut observations, unattributed, connections, conntrack, pods, seconds)| {
            // A snapshot has one observation for a hook, VLANs and tuple.
            let mut seen = HashSet::new();
            observations.retain(|one| seen.insert((one.ifindex, one.direction, one.vlans, one.tuple, one.about)));
            // Most entries are about something that was seen.
            let about = |(mut connection, index): (Connection, Option<Index>)| {
                if let (Some(index), false) = (index, observations.is_empty()) {
                    connection.original = index.get(&observations).tuple;
                    connection.reply.proto = connection.original.proto;
                }
                connection
            };
            let connections = connections.into_iter().map(about).collect();
            Snapshot {
                devices,
                observations,
                unattributed,
                names: Names { pods, ..Names::default() },
                connections,
                conntrack,
                ..Snapshot::new(
                    NodeInfo {
                        hostname: "node".to_owned(),
                        kernel: "6.1".to_owned(),
                        instance_id: None,
                        ..NodeInfo::default()
                    },
                    Window {
                        started_at: "2025-01-01T00:00:00Z".to_owned(),
                        duration_ns: seconds * 1_000_000_000,
                        ..Window::default()
                    },
                )
            }
        })
}

/// A snapshot of one ENI that received one flow.
fn one_device(counts: Counts, rx_bytes: u64, slack: KernelSlack) -> Snapshot {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
    Snapshot {
        devices: vec![Device::new(DeviceFacts {
            attach: Attach::Tcx,
            kernel: Some(KernelCounters { rx_bytes, rx_packets: counts.packets, ..KernelCounters::default() }),
            kernel_slack: Some(slack),
            ..DeviceFacts::new(2, "eth0", DeviceClass::Eni)
        })],
        observations: vec![Observation {
            ifindex: 2,
            direction: Direction::Rx,
            vlans: [0; 2],
            tuple: Tuple { proto: 6, src: address, sport: 1, dst: address, dport: 2 },
            about: None,
            counts: Counts { wire_bytes: counts.bytes, ..counts },
        }],
        ..Snapshot::new(
            NodeInfo {
                hostname: "node".to_owned(),
                kernel: "6.1".to_owned(),
                instance_id: None,
                ..NodeInfo::default()
            },
            Window { started_at: "2025-01-01T00:00:00Z".to_owned(), duration_ns: 1, ..Window::default() },
        )
    }
}

/// Packets of one flow that passed a hook: super-packets of so many frames each, with headers of one length.
#[derive(Clone, Copy, Debug)]
struct Packets {
    ipv6: bool,
    /// Bytes of TCP options.
    options: u64,
    frames: u64,
    payload: u64,
    count: u64,
}

impl Packets {
    fn headers(self) -> u64 {
        14 + if self.ipv6 { 60 } else { 40 } + self.options
    }

    /// One of them as it passes the hook.
    fn length(self) -> u64 {
        self.headers() + self.frames * self.payload
    }
}

fn packets() -> impl Strategy<Value = Packets> {
    (any::<bool>(), select(vec![0u64, 12, 24]), select(vec![1u64, 1, 2, 3, 17, 44]), 100..1500u64, 1..200u64)
        .prop_map(|(ipv6, options, frames, payload, count)| Packets { ipv6, options, frames, payload, count })
}

/// What a device counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Packet,
    Frame,
    /// Packets that are merged again after it counted them: each in so many, if it has as many frames.
    Part(u64),
}

/// How a device counts.
#[derive(Clone, Copy, Debug)]
struct Counting {
    unit: Unit,
    ethernet: bool,
    /// All packets have a tag beside them, and whether the device counts it.
    tag: Option<bool>,
}

impl Counting {
    /// Bytes and packets that the device counts for one packet.
    fn of(self, one: Packets) -> (u64, u64) {
        let units = match self.unit {
            Unit::Packet => 1,
            Unit::Frame => one.frames,
            Unit::Part(parts) => parts.min(one.frames),
        };
        let each = u64::from(self.tag == Some(true)) * 4;
        let bytes = one.length() + (units - 1) * one.headers() + units * each;
        (bytes - if self.ethernet { 0 } else { 14 * units }, units)
    }
}

fn counting() -> impl Strategy<Value = Counting> {
    let unit = select(vec![Unit::Packet, Unit::Frame, Unit::Part(2), Unit::Part(5)]);
    let tag = option::of(any::<bool>());
    (unit, any::<bool>(), tag).prop_map(|(unit, ethernet, tag)| Counting { unit, ethernet, tag })
}

/// A snapshot of a veth that received these packets, and counts them so; and what the device counted more and less than the
/// hook saw, since it was read at another moment.
fn counted(flows: &[Packets], how: Counting, more: &[Packets], less: &[Packets]) -> Snapshot {
    let sum = |all: &[Packets]| {
        let mut sum = KernelCounters::default();
        for one in all {
            let (bytes, units) = how.of(*one);
            sum.rx_bytes += bytes * one.count;
            sum.rx_packets += units * one.count;
        }
        sum
    };
    let (below, above) = (sum(more), sum(less));
    let all = sum(flows) + below;
    let kernel = KernelCounters {
        rx_bytes: all.rx_bytes.saturating_sub(above.rx_bytes),
        rx_packets: all.rx_packets.saturating_sub(above.rx_packets),
        ..KernelCounters::default()
    };
    let mut snapshot = one_device(Counts::default(), 0, KernelSlack { below, above });
    snapshot.devices[0].facts.class = DeviceClass::Veth;
    snapshot.devices[0].facts.kernel = Some(kernel);
    snapshot.observations = flows
        .iter()
        .zip(0u16..)
        .map(|(one, sport)| {
            let address = if one.ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
            let besides = (one.frames - 1) * one.headers() + if how.tag.is_some() { 4 * one.frames } else { 0 };
            Observation {
                ifindex: 2,
                direction: Direction::Rx,
                vlans: [u16::from(how.tag.is_some()), 0],
                tuple: Tuple { proto: 6, src: address, sport, dst: address, dport: 1 },
                about: None,
                counts: Counts {
                    packets: one.count,
                    bytes: one.count * one.length(),
                    wire_bytes: one.count * (one.length() + besides),
                },
            }
        })
        .collect();
    snapshot
}

fn received(snapshot: &Snapshot) -> Residual {
    report(snapshot).devices[0].residual.clone().unwrap().rx
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is lost and nothing is counted twice: what ENIs' hooks saw is what crossed an ENI, once or twice; what no ENI
    /// and no tunnel saw is what pods sent, or else received.
    #[test]
    fn bytes_are_counted_once(mut snapshot in snapshot(1 << 40)) {
        // A VLAN device shows again what is below it.
        let vlans: HashSet<u32> = snapshot.devices.iter().filter(|one| one.facts.class == DeviceClass::Vlan).map(|one| one.facts.ifindex).collect();
        snapshot.devices.retain(|one| !vlans.contains(&one.facts.ifindex));
        // Of two devices with one index, nobody knows which saw the packets.
        let mut indexes = HashSet::new();
        snapshot.devices.retain(|one| indexes.insert(one.facts.ifindex));
        let report = report(&snapshot);
        let class: HashMap<u32, DeviceClass> = snapshot.devices.iter().map(|one| (one.facts.ifindex, one.facts.class)).collect();
        let is = |ifindex: u32, wanted| class.get(&ifindex) == Some(&wanted);
        let total = |path| report.totals.by_path[&path].bytes;

        // Copies of this node's own packets to many, as if they came in, are no packets of the ENI's.
        let again: u64 = report.flows.iter().flat_map(|flow| &flow.hops)
            .filter(|hop| hop.shown_again && is(hop.ifindex, DeviceClass::Eni)).map(|hop| hop.bytes).sum();
        let at_enis: u64 = snapshot.observations.iter().filter(|one| is(one.ifindex, DeviceClass::Eni)).map(|one| one.counts.bytes).sum();
        let dropped_behind_enis: u64 = report.flows.iter()
            .filter(|flow| flow.path == PathClass::Undelivered && flow.hops.iter().any(|hop| is(hop.ifindex, DeviceClass::Eni)))
            .map(|flow| flow.bytes).sum();
        let crossed = total(PathClass::Eni) + total(PathClass::Transit) + report.totals.eni_again.bytes + dropped_behind_enis;
        prop_assert_eq!(crossed, at_enis - again);

        for flow in &report.flows {
            let sum = |wanted: fn(DeviceClass) -> bool, direction| -> Option<u64> {
                let hops = flow.hops.iter().filter(|hop| hop.direction == direction && class.get(&hop.ifindex).is_some_and(|class| wanted(*class)));
                hops.map(|hop| hop.bytes).reduce(|sum, bytes| sum + bytes)
            };
            let outside = |class| matches!(class, DeviceClass::Eni | DeviceClass::Tunnel);
            if sum(outside, Direction::Rx).or(sum(outside, Direction::Tx)).is_none() {
                let veths = |class| class == DeviceClass::Veth;
                let most = sum(veths, Direction::Rx).max(sum(veths, Direction::Tx)).unwrap_or(flow.hops[0].bytes).max(flow.hops[0].bytes);
                prop_assert!(flow.bytes <= most, "{flow:?}");
                prop_assert_eq!((flow.carried_bytes, flow.local_bytes, flow.again_bytes), (0, 0, 0));
                prop_assert!(flow.path != PathClass::Eni && flow.path != PathClass::Transit);
            } else if sum(|class| class == DeviceClass::Eni, Direction::Rx).is_some() {
                prop_assert!(flow.path != PathClass::Unresolved, "an ENI saw it: {flow:?}");
            }
        }
    }

    /// Packets of a flow are counted once: where it went, or in a tunnel.
    #[test]
    fn packets_are_counted_once(snapshot in snapshot(3)) {
        let report = report(&snapshot);
        let of_flows: u64 = report.flows.iter().map(|flow| flow.packets).sum();
        let by_path: u64 = report.totals.by_path.values().map(|total| total.packets).sum();
        prop_assert_eq!(by_path + report.totals.in_tunnels.packets, of_flows);
    }

    /// What was counted in two parts of one hook is what was counted in one. Of super-packets it may not be: a part shows them
    /// where the whole does not.
    #[test]
    fn parts_of_an_observation_add_up(mut snapshot in snapshot(1 << 40), share in 0..=100u64) {
        let part = |bytes| bytes / 100 * share;
        let mut parts = snapshot.clone();
        parts.observations.clear();
        for whole in &mut snapshot.observations {
            let Counts { packets, bytes, .. } = whole.counts;
            whole.counts.wire_bytes = bytes;
            for (packets, bytes) in [(part(packets), part(bytes)), (packets - part(packets), bytes - part(bytes))] {
                parts.observations.push(Observation { counts: Counts { packets, bytes, wire_bytes: bytes }, ..*whole });
            }
        }
        prop_assert_eq!(report(&parts), report(&snapshot));
    }

    /// A path that is not known, and a drop, have a reason; other paths have none.
    #[test]
    fn reasons(snapshot in snapshot(1 << 40)) {
        for flow in report(&snapshot).flows {
            let open = matches!(flow.path, PathClass::Undelivered | PathClass::Unresolved);
            prop_assert_eq!(flow.reason.is_some(), open, "{:?}", flow);
        }
    }

    /// What a hook saw is in a flow, or in none, and in the sums of its device.
    #[test]
    fn hooks_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let observed: u64 = snapshot.observations.iter().map(|one| one.counts.bytes).sum();
        let lost: u64 = snapshot.unattributed.iter().map(|one| one.counts.bytes).sum();
        let known: HashSet<u32> = snapshot.devices.iter().map(|device| device.facts.ifindex).collect();
        let elsewhere: u64 = snapshot.observations.iter().filter(|one| !known.contains(&one.ifindex))
            .map(|one| one.counts.bytes)
            .chain(snapshot.unattributed.iter().filter(|one| !known.contains(&one.ifindex)).map(|one| one.counts.bytes))
            .sum();
        let hooks: u64 = report.devices.iter().flat_map(|device| [device.rx, device.tx]).flatten().map(|hook| hook.bytes).sum();
        prop_assert_eq!(hooks + elsewhere, observed + lost);
    }

    /// Each observation is a hop of exactly one flow.
    #[test]
    fn each_observation_is_one_hop(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let count: usize = report.flows.iter().map(|flow| flow.hops.len()).sum();
        prop_assert_eq!(count, snapshot.observations.len());
        let mut actual: Vec<_> = report.flows.iter().flat_map(|flow| &flow.hops)
            .map(|hop| (hop.ifindex, hop.direction, hop.src, hop.dst, hop.bytes, hop.packets)).collect();
        let mut expected: Vec<_> = snapshot.observations.iter()
            .map(|one| (one.ifindex, one.direction, one.tuple.src, one.tuple.dst, one.counts.bytes, one.counts.packets))
            .collect();
        actual.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(actual, expected);
        for (flow, id) in report.flows.iter().zip(1..) {
            prop_assert_eq!(flow.id, id);
        }
    }

    /// No name stands against a record: neither one about the veth, nor one about the address for all of the window.
    #[test]
    fn no_name_against_a_record(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let own: Vec<&str> = snapshot.devices.iter().flat_map(|device| &device.facts.addresses).map(String::as_str).collect();
        for flow in &report.flows {
            let (first, last) = (&flow.hops[0], &flow.hops[flow.hops.len() - 1]);
            for (pod, address, hop, direction) in
                [(&flow.src_pod, flow.src, first, Direction::Rx), (&flow.dst_pod, last.dst, last, Direction::Tx)]
            {
                let Some(pod) = pod else { continue };
                let others = || snapshot.names.pods.iter().filter(|record| format!("default/{}", record.name) != *pod);
                let known = snapshot.names.pods.iter().any(|record| format!("default/{}", record.name) == *pod);
                prop_assert!(known, "nobody has heard of {pod}");
                let class = report.devices.iter().find(|device| device.facts.ifindex == hop.ifindex).map(|device| device.facts.class);
                if hop.direction == direction && class == Some(DeviceClass::Veth)
                    && flow.hops.iter().all(|other| other.direction != direction || other.ifindex == hop.ifindex)
                {
                    prop_assert!(!others().any(|record| record.veths.contains(&hop.ifindex)), "{pod} {flow:?}");
                }
                // Where conntrack knows the flow, its ends may be others than the hops'. Which of several pods with one address
                // it was, the veth tells.
                let with_address = snapshot.names.pods.iter().filter(|record| record.addresses.contains(&address));
                let disputed = with_address.map(|record| &record.name).collect::<HashSet<_>>().len() > 1;
                let is_own = own.iter().any(|text| text.starts_with(&format!("{address}/")));
                if flow.from_initiator.is_none() && !disputed && !is_own && !address.is_loopback() && !address.is_unspecified() {
                    let throughout = |record: &PodRecord| record.at_start && record.at_end && record.addresses.contains(&address);
                    prop_assert!(!others().any(throughout), "{pod} {flow:?}");
                }
            }
        }
    }

    /// The parts make up the whole, exactly, whenever the whole is known.
    #[test]
    fn terms_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let counted = |name: &str| !["lo", "veth"].iter().any(|prefix| name.starts_with(prefix));
        let whole: Option<u64> = report.devices.iter()
            .filter(|device| counted(&device.facts.name))
            .map(|device| match (device.facts.kernel, device.facts.vanished, device.rx, device.tx) {
                (Some(kernel), ..) => Some(kernel.rx_bytes + kernel.tx_bytes),
                // It took its counters along.
                (None, true, Some(rx), Some(tx)) => Some(rx.bytes + tx.bytes),
                _ => None,
            })
            .sum();
        let any = snapshot.devices.iter().any(|device| counted(&device.facts.name));
        let total = report.accounting.container_insights.node_network_total_bytes;
        prop_assert_eq!(total, whole.filter(|_| any));
        if let Some(total) = total {
            let sum: i64 = report.accounting.terms.iter().map(|term| term.bytes).sum();
            prop_assert_eq!(sum, i64::try_from(total).unwrap());
        }
    }

    /// What the flows say of the terms that they are in is what the terms say.
    #[test]
    fn flows_make_up_their_terms(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let mut sums: HashMap<TermKind, i64> = HashMap::new();
        for term in report.flows.iter().flat_map(|flow| &flow.terms) {
            prop_assert!(term.bytes > 0);
            *sums.entry(term.name).or_default() += i64::try_from(term.bytes).unwrap();
        }
        for term in &report.accounting.terms {
            let of_flows = sums.remove(&term.name).unwrap_or(0);
            let not_of_flows = matches!(term.name, TermKind::Unattributed | TermKind::Cause(_) | TermKind::Residual);
            prop_assert_eq!(of_flows, if not_of_flows { 0 } else { term.bytes }, "{}", term.name);
        }
        prop_assert!(sums.is_empty(), "{:?}", sums);
    }

    /// A difference is what its causes explain and what they do not; sampling explains no more than was measured; and what
    /// the devices cannot explain is what the accounting cannot.
    #[test]
    fn residuals_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let mut unexplained = 0;
        for device in &report.devices {
            prop_assert_eq!(device.residual.is_some(), device.facts.kernel.is_some());
            let (Some(residual), Some(kernel)) = (&device.residual, device.facts.kernel) else { continue };
            let slack = device.facts.kernel_slack.unwrap_or_default();
            for (one, counted, hook, below, above) in [
                (&residual.rx, kernel.rx_bytes, device.rx, slack.below.rx_bytes, slack.above.rx_bytes),
                (&residual.tx, kernel.tx_bytes, device.tx, slack.below.tx_bytes, slack.above.tx_bytes),
            ] {
                let signed = |bytes: u64| i64::try_from(bytes).unwrap();
                prop_assert_eq!(one.bytes, signed(counted) - signed(hook.map_or(0, |hook| hook.bytes)));
                let explained: i64 = one.causes.iter().filter_map(|cause| cause.bytes).sum();
                prop_assert_eq!(one.bytes, explained + one.unexplained_bytes);
                for cause in one.causes.iter().filter(|cause| [CauseKind::Sampling, CauseKind::AttachWindow].contains(&cause.name)) {
                    prop_assert!((-signed(above)..=signed(below)).contains(&cause.bytes.unwrap()), "{:?}", one);
                }
                if device.counted_by_container_insights {
                    unexplained += one.unexplained_bytes;
                }
            }
        }
        // Of two devices with one index only the first has what the hooks saw.
        let indexes: HashSet<u32> = snapshot.devices.iter().map(|device| device.facts.ifindex).collect();
        let residual = report.accounting.terms.iter().find(|term| term.name == TermKind::Residual);
        if let (Some(residual), true) = (residual, indexes.len() == snapshot.devices.len()) {
            prop_assert_eq!(residual.bytes, unexplained);
        }
    }

    /// A device whose counters moved while they were being read is never said to have lost what that explains.
    #[test]
    fn what_sampling_can_explain_is_explained(
        seen in counts(1 << 40), below in kernel(1 << 30), above in kernel(1 << 30), share in (0..=100u64, 0..=100u64),
    ) {
        let (too_much, missing) = (below.rx_bytes / 100 * share.0, above.rx_bytes / 100 * share.1);
        prop_assume!(seen.bytes + too_much >= missing);
        let snapshot = one_device(seen, seen.bytes + too_much - missing, KernelSlack { below, above });
        let report = report(&snapshot);
        let residual = &report.devices[0].residual.as_ref().unwrap().rx;
        prop_assert_eq!(residual.unexplained_bytes, 0, "{:?}", residual);
    }

    /// However a device counts the packets that the hook saw, nothing is unexplained, also if it was read while more came.
    #[test]
    fn every_way_of_counting_is_explained(
        flows in vec(packets(), 1..6), how in counting(), more in vec(packets(), 0..2), less in vec(packets(), 0..2),
    ) {
        // What has passed the hook and is not in the counter.
        let less: Vec<Packets> = less.into_iter().map(|one| Packets { count: one.count.min(flows[0].count), ..flows[0] }).collect();
        let residual = received(&counted(&flows, how, &more, &less));
        prop_assert_eq!(residual.unexplained_bytes, 0, "{:?}", residual);
    }

    /// At rest the causes are what the device counts and the hook does not see, and the reverse.
    #[test]
    fn headers_are_what_they_are(flows in vec(packets(), 1..6), how in counting()) {
        let residual = received(&counted(&flows, how, &[], &[]));
        let bytes = |name: CauseKind| residual.causes.iter().filter(|cause| cause.name == name).filter_map(|cause| cause.bytes).sum::<i64>();
        let (mut headers, mut units) = (0, 0);
        for one in &flows {
            let (_, of_one) = how.of(*one);
            headers += (of_one - 1) * one.headers() * one.count;
            units += of_one * one.count;
        }
        // Packets of which some are merged and of unlike headers, or with tags, have several readings.
        if matches!(how.unit, Unit::Part(_)) || how.tag.is_some() {
            prop_assert_eq!(residual.unexplained_bytes, 0);
        } else {
            prop_assert_eq!(bytes(CauseKind::GroGsoHeaders), i64::try_from(headers).unwrap(), "{:?}", residual);
            let ethernet = if how.ethernet { 0 } else { -14 * i64::try_from(units).unwrap() };
            prop_assert_eq!(bytes(CauseKind::EthernetHeaders), ethernet, "{:?}", residual);
        }
    }

    /// What no way of counting makes has no cause.
    #[test]
    fn what_no_way_of_counting_makes_is_unexplained(flows in vec(packets(), 1..6), more in -20_000..20_000i64) {
        let how = Counting { unit: Unit::Packet, ethernet: true, tag: None };
        let mut snapshot = counted(&flows, how, &[], &[]);
        let kernel = snapshot.devices[0].facts.kernel.as_mut().unwrap();
        let packets = i64::try_from(kernel.rx_packets).unwrap();
        let wire: u64 = flows.iter().map(|one| (one.frames - 1) * one.headers() * one.count).sum();
        let some = [0, -14 * packets, 4 * packets, i64::try_from(wire).unwrap()];
        // Frames without Ethernet headers are more than the packets.
        prop_assume!(!some.contains(&more) && i64::try_from(kernel.rx_bytes).unwrap() + more >= 0);
        kernel.rx_bytes = kernel.rx_bytes.checked_add_signed(more).unwrap();
        let residual = received(&snapshot);
        prop_assert_eq!(residual.unexplained_bytes, more, "{:?}", residual);
        // Fewer packets than the hook saw are missing, and no more of headers.
        if more < 0 {
            snapshot.devices[0].facts.kernel.as_mut().unwrap().rx_packets -= 1;
            prop_assert_eq!(received(&snapshot).unexplained_bytes, more);
        }
    }

    /// The order in which the kernel handed out facts says nothing.
    #[test]
    fn order_does_not_matter(snapshot in snapshot(1 << 40), seed in any::<u64>()) {
        let mut devices = HashMap::new();
        for device in &snapshot.devices {
            devices.insert(device.facts.ifindex, device.clone());
        }
        // One device for an index, since the kernel has no more at one time.
        let mut one = snapshot.clone();
        one.devices = devices.into_values().collect();
        // After a connection was forgotten the responder's packets begin one again.
        let again = snapshot.connections.iter().map(|known| Connection { original: known.reply, reply: known.original, ..*known });
        one.connections.extend(again);
        let mut other = one.clone();
        other.devices.sort_by_key(|device| u64::from(device.facts.ifindex).wrapping_mul(seed | 1));
        other.observations.rotate_left(usize::try_from(seed % 7).unwrap().min(one.observations.len()));
        other.observations.reverse();
        other.connections.reverse();
        other.unattributed.reverse();
        prop_assert_eq!(report(&one), report(&other));
    }

    /// A file may hold anything: counters at their limits, circular VLANs, two devices with one index, hostile names.
    #[test]
    fn nothing_panics(snapshot in snapshot(u64::MAX), width in option::of(0..200u16), top in 0..5usize) {
        let report = report(&snapshot);
        let mut text = Vec::new();
        table::write(&report, &mut text, table::Style { top, colour: true, width, ..table::Style::default() }).unwrap();
        let text = String::from_utf8(text).unwrap();
        // The only escapes are netpath's own.
        let stripped = text.replace("\u{1b}[1m", "").replace("\u{1b}[33m", "").replace("\u{1b}[0m", "");
        prop_assert!(!stripped.contains('\u{1b}'), "{}", stripped);

        let mut text = Vec::new();
        json::write(&report, &mut text).unwrap();
        let read: Report = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(read, report);
    }
}
