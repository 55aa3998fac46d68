//! What a device counts and the hook does not see: all of it is explained, and nothing else is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpath::model::{Attach, DeviceClass, DeviceFacts, Direction, NodeInfo, Window};
use netpath::model::{KernelCounters, KernelSlack};
use netpath::path::report;
use netpath::report::{CauseKind, Residual};
use netpath::snapshot::{Counts, Device, Observation, Snapshot, Tuple};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::snapshots::{counts, kernel};

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
}
