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

/// Each packet is a message with 32 bytes and padding to a multiple of 16; a handshake's has none.
#[test]
fn wireguard_counts_messages() {
    let wireguard = |kind: &str, tx_bytes, tx_packets| {
        let device = Device {
            attach: Attach::Tcx,
            kind: Some(kind.to_owned()),
            kernel: Some(KernelCounters { tx_bytes, tx_packets, ..KernelCounters::default() }),
            ..Device::new(2, "wg0", DeviceClass::Tunnel)
        };
        let hook = HookCounts { bytes: 10_000, packets: 100, wire_bytes: 10_000, ..HookCounts::default() };
        residuals(&device, &Seen::default(), &Seen { hook, ..Seen::default() }).unwrap().tx
    };
    for (bytes, packets) in [(3_200_u64, 100), (4_700, 100), (4_400 + 148, 101)] {
        let residual = wireguard("wireguard", 10_000 + bytes, packets);
        assert_eq!(causes(&residual), [("encryption", Some(i64::try_from(bytes).unwrap()), None)]);
        assert_eq!(residual.unexplained_bytes, 0);
        assert_eq!(wireguard("vxlan", 10_000 + bytes, packets).unexplained_bytes, i64::try_from(bytes).unwrap());
    }
    assert_eq!(wireguard("wireguard", 13_199, 100).unexplained_bytes, 3_199, "too few");
    assert_eq!(wireguard("wireguard", 14_701, 100).unexplained_bytes, 4_701, "too many");
}
