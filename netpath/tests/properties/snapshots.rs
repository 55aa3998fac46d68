//! Any snapshot: what proptest chooses from.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpath::model::{
    Attach, Blind, Conntrack, DeviceClass, DeviceFacts, Direction, Drops, KernelCounters, KernelSlack, NameSource,
    NodeInfo, Qdisc, Window, Xdp, XdpMode,
};
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

pub fn counts(largest: u64) -> impl Strategy<Value = Counts> {
    (0..=largest, 0..=largest, 0..=largest).prop_map(|(packets, bytes, wire_bytes)| Counts {
        packets,
        bytes,
        wire_bytes,
    })
}

pub fn kernel(largest: u64) -> impl Strategy<Value = KernelCounters> {
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
pub fn snapshot(largest: u64) -> impl Strategy<Value = Snapshot> {
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
