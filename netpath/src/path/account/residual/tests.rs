use super::*;
use crate::report::{DeviceClass, HookCounts};

const PACKETS: u64 = 100;
const SHOWN_AGAIN: Counts = Counts { packets: 40, bytes: 4_000, wire_bytes: 4_400 };

/// An ENI whose ingress hook saw 60 packets once, and 40 twice; it counted so much.
fn eni(rx_bytes: u64, rx_packets: u64, slack: KernelSlack) -> Residual {
    let device = Device {
        attach: Attach::Tcx,
        kernel: Some(KernelCounters { rx_bytes, rx_packets, ..KernelCounters::default() }),
        kernel_slack: Some(slack),
        ..Device::new(2, "eth0", DeviceClass::Eni)
    };
    let hook = HookCounts { bytes: 64_000, packets: PACKETS, wire_bytes: 64_730, ..HookCounts::default() };
    let merged = Some(Headers { least: 40, most: 134 });
    let seen = Seen { hook, merged, shown_again: SHOWN_AGAIN, ..Seen::default() };
    residuals(&device, &seen, &Seen::default()).unwrap().rx
}

fn causes(residual: &Residual) -> Vec<(&str, Option<i64>, Option<u64>)> {
    residual.causes.iter().map(|cause| (cause.name.as_str(), cause.bytes, cause.packets)).collect()
}

#[test]
fn what_is_shown_again_is_counted_once() {
    let residual = eni(60_000, 60, KernelSlack::default());
    assert_eq!((residual.bytes, residual.packets, residual.unexplained_bytes), (-4_000, -40, 0));
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40))]);
}

#[test]
fn the_rest_is_counted_as_devices_count() {
    // 5 frames more, with headers of 66, and 14 bytes less for each frame.
    let residual = eni(60_330 - 65 * 14, 65, KernelSlack::default());
    assert_eq!(residual.unexplained_bytes, 0);
    let expected = [
        ("shown_again", Some(-4_000), Some(40)),
        ("gro_gso_headers", Some(330), None),
        ("ethernet_headers", Some(-910), None),
    ];
    assert_eq!(causes(&residual), expected);
    // The bytes of all frames, and the packets that the hook saw.
    let residual = eni(60_330, 60, KernelSlack::default());
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40)), ("gro_gso_headers", Some(330), None)]);
    // While it was read, two packets of 1500 came.
    let two = KernelCounters { rx_bytes: 3_000, rx_packets: 2, ..KernelCounters::default() };
    let residual = eni(63_000, 62, KernelSlack { below: two, ..KernelSlack::default() });
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40)), ("sampling", Some(3_000), None)]);
    assert_eq!(residual.unexplained_bytes, 0);
}

#[test]
fn the_packets_do_not_fit() {
    for packets in [59, 61] {
        let residual = eni(59_000, packets, KernelSlack::default());
        assert_eq!(causes(&residual), [("shown_again", None, Some(40))], "{packets}");
        assert_eq!(residual.unexplained_bytes, -5_000);
    }
}

/// A device merges again what it counted: the headers of one frame are IPv4's and TCP's, and an Ethernet header where its
/// packets begin with one.
#[test]
fn headers_of_a_frame_that_was_merged_again() {
    // A super-packet of three frames, of which the device counted two merged, and 40 bytes more.
    let of_headers = |mac: Option<&str>| {
        let device = Device {
            attach: Attach::Tcx,
            mac: mac.map(str::to_owned),
            kernel: Some(KernelCounters { rx_bytes: 4_280, rx_packets: 2, ..KernelCounters::default() }),
            ..Device::new(2, "wg0", DeviceClass::Tunnel)
        };
        let hook = HookCounts { bytes: 4_240, packets: 1, wire_bytes: 4_320, ..HookCounts::default() };
        let seen = Seen { hook, merged: Some(Headers { least: 40, most: 134 }), ..Seen::default() };
        let residual = residuals(&device, &seen, &Seen::default()).unwrap().rx;
        causes(&residual).into_iter().map(|(name, bytes, _)| (name.to_owned(), bytes.unwrap())).collect::<Vec<_>>()
    };
    let merged = |bytes| ("gro_gso_headers".to_owned(), bytes);
    let infiniband = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01";
    assert_eq!(of_headers(None), [merged(40)]);
    assert_eq!(of_headers(Some(infiniband)), [merged(40)]);
    // That is too little for a frame, so the device leaves two Ethernet headers out of its count.
    assert_eq!(of_headers(Some("02:00:00:00:00:01")), [merged(68), ("ethernet_headers".to_owned(), -28)]);
}

/// Counters that no report can hold are as near as it can.
#[test]
fn the_largest_counters() {
    let difference = |rx_bytes, hook_bytes| {
        let device = Device {
            attach: Attach::Tcx,
            kernel: Some(KernelCounters { rx_bytes, ..KernelCounters::default() }),
            ..Device::new(2, "eth0", DeviceClass::Eni)
        };
        let seen = Seen { hook: HookCounts { bytes: hook_bytes, ..HookCounts::default() }, ..Seen::default() };
        residuals(&device, &seen, &Seen::default()).unwrap().rx.bytes
    };
    assert_eq!(difference(u64::MAX, 0), i64::MAX);
    assert_eq!(difference(0, u64::MAX), i64::MIN);
    assert_eq!(difference(7, 7), 0);
}

#[test]
fn shown_again_and_more() {
    // As many packets as were seen once, and what no packet explains.
    let residual = eni(61_000, 60, KernelSlack::default());
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40))]);
    assert_eq!(residual.unexplained_bytes, 1_000);
    let two = KernelCounters { rx_bytes: 3_000, rx_packets: 2, ..KernelCounters::default() };
    let residual = eni(66_000, 62, KernelSlack { below: two, ..KernelSlack::default() });
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40)), ("sampling", Some(3_000), None)]);
    assert_eq!(residual.unexplained_bytes, 3_000);
    let residual = eni(54_000, 58, KernelSlack { above: two, ..KernelSlack::default() });
    assert_eq!(causes(&residual), [("shown_again", Some(-4_000), Some(40)), ("sampling", Some(-3_000), None)]);
    assert_eq!(residual.unexplained_bytes, -3_000);
}

/// A device that says it dropped three packets, with what it counted more than the hook's 10 of 10 000 bytes, in this
/// direction: the bytes of the drops if they are a cause, and what has none.
fn dropped(direction: Direction, bytes: i64, packets: i64, below: KernelCounters) -> (Option<Option<i64>>, i64) {
    let (kernel_bytes, kernel_packets) =
        (10_000u64.checked_add_signed(bytes).unwrap(), 10u64.checked_add_signed(packets).unwrap());
    let device = Device {
        attach: Attach::Tcx,
        kernel: Some(match direction {
            Direction::Rx => {
                KernelCounters { rx_bytes: kernel_bytes, rx_packets: kernel_packets, ..KernelCounters::default() }
            }
            Direction::Tx => {
                KernelCounters { tx_bytes: kernel_bytes, tx_packets: kernel_packets, ..KernelCounters::default() }
            }
        }),
        drops: Some(Drops { rx_packets: 3, tx_packets: 3 }),
        kernel_slack: Some(KernelSlack { below, ..KernelSlack::default() }),
        ..Device::new(2, "eth0", DeviceClass::Eni)
    };
    let hook = HookCounts { bytes: 10_000, packets: 10, wire_bytes: 10_000, ..HookCounts::default() };
    let (seen, none) = (Seen { hook, ..Seen::default() }, Seen::default());
    let residual = match direction {
        Direction::Rx => residuals(&device, &seen, &none).unwrap().rx,
        Direction::Tx => residuals(&device, &none, &seen).unwrap().tx,
    };
    let of_drops = residual.causes.iter().find(|cause| cause.name.starts_with("dropped"));
    (of_drops.map(|cause| cause.bytes), residual.unexplained_bytes)
}

#[test]
fn what_a_device_dropped() {
    use Direction::{Rx, Tx};
    let at_rest = KernelCounters::default();
    let of = |direction, bytes, packets| dropped(direction, bytes, packets, at_rest);
    // Three packets of 100 bytes, of the least length, and of the largest.
    assert_eq!(of(Rx, 300, 3), (Some(Some(300)), 0));
    assert_eq!(of(Rx, 60, 3), (Some(Some(60)), 0));
    assert_eq!(of(Rx, 3 * 65_550, 3), (Some(Some(3 * 65_550)), 0));
    assert_eq!(of(Tx, -300, -3), (Some(Some(-300)), 0));
    assert_eq!(of(Tx, -60, -3), (Some(Some(-60)), 0));
    // Longer than a packet can be, or shorter: something else happened besides.
    assert_eq!(of(Rx, 3 * 65_550 + 1, 3), (Some(None), 3 * 65_550 + 1));
    assert_eq!(of(Tx, -59, -3), (Some(None), -59));
    // The device leaves Ethernet headers out of its count besides.
    assert_eq!(of(Rx, 180 - 13 * 14, 3), (Some(Some(180)), 0));
    // Not as many are missing.
    assert_eq!(of(Rx, 300, 2), (Some(None), 300));
    assert_eq!(of(Tx, -300, -4), (Some(None), -300));
    // None are missing: these were dropped where neither counts them.
    assert_eq!(of(Rx, 300, 0), (None, 300));
    assert_eq!(of(Tx, -300, 0), (None, -300));
    assert_eq!(of(Tx, 300, -3), (None, 300));
    assert_eq!(of(Tx, 0, -3), (None, 0));
    // No packet is without a byte.
    assert_eq!(of(Rx, -13 * 14, 3), (None, -13 * 14));
    // A fourth came while the counters were read.
    let one = KernelCounters { rx_bytes: 1_500, rx_packets: 1, ..KernelCounters::default() };
    let (of_drops, unexplained) = dropped(Rx, 6_000, 4, one);
    assert!(of_drops.flatten().is_some_and(|bytes| (4_500..=6_000).contains(&bytes)));
    assert_eq!(unexplained, 0);
}
