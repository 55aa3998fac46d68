use super::*;
use crate::model::{DeviceClass, DeviceFacts};
use crate::report::HookCounts;

const PACKETS: u64 = 100;
const SHOWN_AGAIN: Counts = Counts { packets: 40, bytes: 4_000, wire_bytes: 4_400 };

/// An ENI whose ingress hook saw 60 packets once, and 40 twice; it counted so much.
fn eni(rx_bytes: u64, rx_packets: u64, slack: KernelSlack) -> Residual {
    let device = Device::new(DeviceFacts {
        attach: Attach::Tcx,
        kernel: Some(KernelCounters { rx_bytes, rx_packets, ..KernelCounters::default() }),
        kernel_slack: Some(slack),
        ..DeviceFacts::new(2, "eth0", DeviceClass::Eni)
    });
    let hook = HookCounts { bytes: 64_000, packets: PACKETS, wire_bytes: 64_730, ..HookCounts::default() };
    let merged = Some(Headers { least: 40, most: 134 });
    let seen = Seen { hook, merged, shown_again: SHOWN_AGAIN, ..Seen::default() };
    residuals(&device, &seen, &Seen::default()).unwrap().rx
}

fn causes(residual: &Residual) -> Vec<(CauseKind, Option<i64>, Option<u64>)> {
    residual.causes.iter().map(|cause| (cause.name, cause.bytes, cause.packets)).collect()
}

#[test]
fn what_is_shown_again_is_counted_once() {
    let residual = eni(60_000, 60, KernelSlack::default());
    assert_eq!((residual.bytes, residual.packets, residual.unexplained_bytes), (-4_000, -40, 0));
    assert_eq!(causes(&residual), [(CauseKind::ShownAgain, Some(-4_000), Some(40))]);
}

#[test]
fn the_rest_is_counted_as_devices_count() {
    // 5 frames more, with headers of 66, and 14 bytes less for each frame.
    let residual = eni(60_330 - 65 * 14, 65, KernelSlack::default());
    assert_eq!(residual.unexplained_bytes, 0);
    let expected = [
        (CauseKind::ShownAgain, Some(-4_000), Some(40)),
        (CauseKind::GroGsoHeaders, Some(330), None),
        (CauseKind::EthernetHeaders, Some(-910), None),
    ];
    assert_eq!(causes(&residual), expected);
    // The bytes of all frames, and the packets that the hook saw.
    let residual = eni(60_330, 60, KernelSlack::default());
    assert_eq!(
        causes(&residual),
        [(CauseKind::ShownAgain, Some(-4_000), Some(40)), (CauseKind::GroGsoHeaders, Some(330), None)]
    );
    // While it was read, two packets of 1500 came.
    let two = KernelCounters { rx_bytes: 3_000, rx_packets: 2, ..KernelCounters::default() };
    let residual = eni(63_000, 62, KernelSlack { below: two, ..KernelSlack::default() });
    assert_eq!(
        causes(&residual),
        [(CauseKind::ShownAgain, Some(-4_000), Some(40)), (CauseKind::Sampling, Some(3_000), None)]
    );
    assert_eq!(residual.unexplained_bytes, 0);
}

#[test]
fn the_packets_do_not_fit() {
    for packets in [59, 61] {
        let residual = eni(59_000, packets, KernelSlack::default());
        assert_eq!(causes(&residual), [(CauseKind::ShownAgain, None, Some(40))], "{packets}");
        assert_eq!(residual.unexplained_bytes, -5_000);
    }
}

/// Each packet is a message with 32 bytes and padding to a multiple of 16; a handshake's has none.
#[test]
fn wireguard_counts_messages() {
    let wireguard = |kind: &str, tx_bytes, tx_packets| {
        let device = Device::new(DeviceFacts {
            attach: Attach::Tcx,
            kind: Some(kind.to_owned()),
            kernel: Some(KernelCounters { tx_bytes, tx_packets, ..KernelCounters::default() }),
            ..DeviceFacts::new(2, "wg0", DeviceClass::Tunnel)
        });
        let hook = HookCounts { bytes: 10_000, packets: 100, wire_bytes: 10_000, ..HookCounts::default() };
        residuals(&device, &Seen::default(), &Seen { hook, ..Seen::default() }).unwrap().tx
    };
    for (bytes, packets) in [(3_200_u64, 100), (4_700, 100), (4_400 + 148, 101)] {
        let residual = wireguard("wireguard", 10_000 + bytes, packets);
        assert_eq!(causes(&residual), [(CauseKind::Encryption, Some(i64::try_from(bytes).unwrap()), None)]);
        assert_eq!(residual.unexplained_bytes, 0);
        assert_eq!(wireguard("vxlan", 10_000 + bytes, packets).unexplained_bytes, i64::try_from(bytes).unwrap());
    }
    assert_eq!(wireguard("wireguard", 13_199, 100).unexplained_bytes, 3_199, "too few");
    assert_eq!(wireguard("wireguard", 14_701, 100).unexplained_bytes, 4_701, "too many");
}

/// A device merges again what it counted: the headers of one frame are IPv4's and TCP's, and an Ethernet header where its
/// packets begin with one.
#[test]
fn headers_of_a_frame_that_was_merged_again() {
    // A super-packet of three frames, of which the device counted two merged, and 40 bytes more.
    let of_headers = |mac: Option<&str>| {
        let device = Device::new(DeviceFacts {
            attach: Attach::Tcx,
            mac: mac.map(str::to_owned),
            kernel: Some(KernelCounters { rx_bytes: 4_280, rx_packets: 2, ..KernelCounters::default() }),
            ..DeviceFacts::new(2, "wg0", DeviceClass::Tunnel)
        });
        let hook = HookCounts { bytes: 4_240, packets: 1, wire_bytes: 4_320, ..HookCounts::default() };
        let seen = Seen { hook, merged: Some(Headers { least: 40, most: 134 }), ..Seen::default() };
        let residual = residuals(&device, &seen, &Seen::default()).unwrap().rx;
        causes(&residual).into_iter().map(|(name, bytes, _)| (name, bytes.unwrap())).collect::<Vec<_>>()
    };
    let merged = |bytes| (CauseKind::GroGsoHeaders, bytes);
    let infiniband = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01";
    assert_eq!(of_headers(None), [merged(40)]);
    assert_eq!(of_headers(Some(infiniband)), [merged(40)]);
    // That is too little for a frame, so the device leaves two Ethernet headers out of its count.
    assert_eq!(of_headers(Some("02:00:00:00:00:01")), [merged(68), (CauseKind::EthernetHeaders, -28)]);
}

/// Counters that no report can hold are as near as it can.
#[test]
fn the_largest_counters() {
    let difference = |rx_bytes, hook_bytes| {
        let device = Device::new(DeviceFacts {
            attach: Attach::Tcx,
            kernel: Some(KernelCounters { rx_bytes, ..KernelCounters::default() }),
            ..DeviceFacts::new(2, "eth0", DeviceClass::Eni)
        });
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
    assert_eq!(causes(&residual), [(CauseKind::ShownAgain, Some(-4_000), Some(40))]);
    assert_eq!(residual.unexplained_bytes, 1_000);
    let two = KernelCounters { rx_bytes: 3_000, rx_packets: 2, ..KernelCounters::default() };
    let residual = eni(66_000, 62, KernelSlack { below: two, ..KernelSlack::default() });
    assert_eq!(
        causes(&residual),
        [(CauseKind::ShownAgain, Some(-4_000), Some(40)), (CauseKind::Sampling, Some(3_000), None)]
    );
    assert_eq!(residual.unexplained_bytes, 3_000);
    let residual = eni(54_000, 58, KernelSlack { above: two, ..KernelSlack::default() });
    assert_eq!(
        causes(&residual),
        [(CauseKind::ShownAgain, Some(-4_000), Some(40)), (CauseKind::Sampling, Some(-3_000), None)]
    );
    assert_eq!(residual.unexplained_bytes, -3_000);
}

/// A device that says it dropped three packets, with what it counted more than the hook's 10 of 10 000 bytes, in this
/// direction: the bytes of the drops, for each cause that they are, and what has none.
fn dropped(direction: Direction, bytes: i64, packets: i64, below: KernelCounters) -> (Vec<Option<i64>>, i64) {
    let (kernel_bytes, kernel_packets) =
        (10_000u64.checked_add_signed(bytes).unwrap(), 10u64.checked_add_signed(packets).unwrap());
    let device = Device::new(DeviceFacts {
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
        ..DeviceFacts::new(2, "eth0", DeviceClass::Eni)
    });
    let hook = HookCounts { bytes: 10_000, packets: 10, wire_bytes: 10_000, ..HookCounts::default() };
    let (seen, none) = (Seen { hook, ..Seen::default() }, Seen::default());
    let residual = match direction {
        Direction::Rx => residuals(&device, &seen, &none).unwrap().rx,
        Direction::Tx => residuals(&device, &none, &seen).unwrap().tx,
    };
    let of_drops = residual.causes.iter().filter(|cause| cause.name.to_string().starts_with("dropped"));
    (of_drops.map(|cause| cause.bytes).collect(), residual.unexplained_bytes)
}

#[test]
fn what_a_device_dropped() {
    use Direction::{Rx, Tx};
    let at_rest = KernelCounters::default();
    let of = |direction, bytes, packets| dropped(direction, bytes, packets, at_rest);
    // Three packets of 100 bytes, of the least length, and of the largest.
    assert_eq!(of(Rx, 300, 3), (vec![Some(300)], 0));
    assert_eq!(of(Rx, 60, 3), (vec![Some(60)], 0));
    assert_eq!(of(Rx, 3 * 65_550, 3), (vec![Some(3 * 65_550)], 0));
    assert_eq!(of(Tx, -300, -3), (vec![Some(-300)], 0));
    assert_eq!(of(Tx, -60, -3), (vec![Some(-60)], 0));
    // Longer than a packet can be, or shorter: something else happened besides.
    assert_eq!(of(Rx, 3 * 65_550 + 1, 3), (vec![None], 3 * 65_550 + 1));
    assert_eq!(of(Tx, -59, -3), (vec![None], -59));
    // The device leaves Ethernet headers out of its count besides.
    assert_eq!(of(Rx, 180 - 13 * 14, 3), (vec![Some(180)], 0));
    // Not as many are missing.
    assert_eq!(of(Rx, 300, 2), (vec![None], 300));
    assert_eq!(of(Tx, -300, -4), (vec![None], -300));
    // None are missing: these were dropped where neither counts them.
    assert_eq!(of(Rx, 300, 0), (vec![], 300));
    assert_eq!(of(Tx, -300, 0), (vec![], -300));
    assert_eq!(of(Tx, 300, -3), (vec![], 300));
    assert_eq!(of(Tx, 0, -3), (vec![], 0));
    // No packet is without a byte.
    assert_eq!(of(Rx, -13 * 14, 3), (vec![], -13 * 14));
    // A fourth came while the counters were read.
    let one = KernelCounters { rx_bytes: 1_500, rx_packets: 1, ..KernelCounters::default() };
    let (of_drops, unexplained) = dropped(Rx, 6_000, 4, one);
    assert!(matches!(of_drops[..], [Some(4_500..=6_000)]), "{of_drops:?}");
    assert_eq!(unexplained, 0);
}

/// What an ENI's hook saw, and how much more the device counted.
#[derive(Clone, Copy, Default)]
struct Counting {
    packets: u64,
    bytes: u64,
    wire_bytes: u64,
    tagged: [u64; 2],
    more_packets: i64,
    more_bytes: i64,
    /// Packets and bytes that the counter may have too much, and that it may lack.
    below: (u64, u64),
    above: (u64, u64),
}

impl Counting {
    /// The causes with their bytes, and what has none.
    fn causes(self) -> (Vec<(CauseKind, i64)>, i64) {
        let slack = |(rx_packets, rx_bytes)| KernelCounters { rx_bytes, rx_packets, ..KernelCounters::default() };
        let device = Device::new(DeviceFacts {
            attach: Attach::Tcx,
            kernel: Some(KernelCounters {
                rx_bytes: self.bytes.checked_add_signed(self.more_bytes).unwrap(),
                rx_packets: self.packets.checked_add_signed(self.more_packets).unwrap(),
                ..KernelCounters::default()
            }),
            kernel_slack: Some(KernelSlack { below: slack(self.below), above: slack(self.above) }),
            ..DeviceFacts::new(2, "eth0", DeviceClass::Eni)
        });
        let Self { packets, bytes, wire_bytes, tagged, .. } = self;
        let hook = HookCounts { bytes, packets, wire_bytes, ..HookCounts::default() };
        let is_merged = wire_bytes > bytes + 4 * tagged[0];
        let merged = is_merged.then_some(Headers { least: 40, most: 134 });
        let seen = Seen { hook, tagged_packets: tagged, merged, ..Seen::default() };
        let residual = residuals(&device, &seen, &Seen::default()).unwrap().rx;
        let causes = causes(&residual).into_iter().map(|(name, bytes, _)| (name, bytes.unwrap()));
        (causes.collect(), residual.unexplained_bytes)
    }
}

fn explained(causes: &[(CauseKind, i64)]) -> (Vec<(CauseKind, i64)>, i64) {
    (causes.to_vec(), 0)
}

/// Of two ways of counting that both fit under load, it is the plainer one unless the other is nearer by far.
#[test]
fn the_nearest_way_of_counting() {
    let of = |more_packets, more_bytes| {
        let (packets, bytes, slack) = (100, 150_000, (3, 4_500));
        let counting = Counting { packets, bytes, wire_bytes: bytes, more_packets, more_bytes, ..Counting::default() };
        Counting { below: slack, above: slack, ..counting }.causes()
    };
    assert_eq!(of(0, -1_400), explained(&[(CauseKind::EthernetHeaders, -1_400)]));
    assert_eq!(of(0, -1_000), explained(&[(CauseKind::Sampling, -1_000)]));
    assert_eq!(of(2, 3_000), explained(&[(CauseKind::Sampling, 3_000)]));
    // Two packets more, and no Ethernet header of any.
    assert_eq!(
        of(2, 3_000 - 102 * 14),
        explained(&[(CauseKind::EthernetHeaders, -1_400), (CauseKind::Sampling, 2_972)])
    );
    // Of two that fit to the byte the plainer one: 7 tags in 4 packets, or 4 Ethernet headers less and 7 tags.
    let tags =
        Counting { packets: 4, bytes: 400, wire_bytes: 416, tagged: [4, 3], more_bytes: -28, ..Counting::default() };
    assert_eq!(tags.causes(), explained(&[(CauseKind::VlanTags, -28)]));
}

/// Ten super-packets of five frames each.
#[test]
fn frames_of_super_packets() {
    let ten = Counting { packets: 10, bytes: 40_000, wire_bytes: 42_640, ..Counting::default() };
    let frames = |more_bytes| Counting { more_packets: 40, more_bytes, ..ten };
    let expected = explained(&[(CauseKind::GroGsoHeaders, 2_640), (CauseKind::EthernetHeaders, -700)]);
    assert_eq!(frames(1_940).causes(), expected);
    assert_eq!(Counting { above: (0, 800), ..frames(1_940) }.causes(), expected);
    // No packet has a tag, so that none is missing.
    assert_eq!(frames(2_560).causes(), explained(&[(CauseKind::GroGsoHeaders, 2_560)]));
    // Frames are more than the packets that are made of them: as many say nothing of frames.
    let few = Counting { wire_bytes: 40_330, ..ten };
    assert_eq!(Counting { more_bytes: 190, ..few }.causes(), (vec![], 190));
    // Fewer packets, and bytes that are no nearer to the frames' than to the packets'.
    for more_bytes in [100, 165] {
        let fewer = Counting { more_packets: -2, more_bytes, above: (0, 300), ..few };
        assert_eq!(fewer.causes(), (vec![], more_bytes));
    }
}

/// Four of ten super-packets have a tag beside them.
#[test]
fn frames_of_which_some_have_tags() {
    let of = |more_bytes| {
        let (packets, bytes, wire_bytes) = (10, 40_000, 42_720);
        let counting = Counting { packets, bytes, wire_bytes, tagged: [4, 0], ..Counting::default() };
        Counting { more_packets: 40, more_bytes, ..counting }.causes()
    };
    for frames in [4, 20, 40, 44] {
        let tags = -4 * frames;
        assert_eq!(of(2_720 + tags), explained(&[(CauseKind::GroGsoHeaders, 2_720), (CauseKind::VlanTags, tags)]));
    }
    assert_eq!(
        of(1_940),
        explained(&[(CauseKind::GroGsoHeaders, 2_720), (CauseKind::EthernetHeaders, -700), (CauseKind::VlanTags, -80)])
    );
    // Six packets without a tag are six frames at least, so that no 45 have one.
    assert!(!of(2_720 - 4 * 45).0.contains(&(CauseKind::VlanTags, -4 * 45)));
}

/// Ten super-packets that were counted as thirty, with headers that the hook may not know.
#[test]
fn packets_that_were_merged_again() {
    let ten = Counting { packets: 10, bytes: 40_000, wire_bytes: 42_640, more_packets: 20, ..Counting::default() };
    let tagged = Counting { tagged: [7, 0], more_bytes: 20 * 66 + 28, ..ten };
    assert_eq!(tagged.causes(), explained(&[(CauseKind::GroGsoHeaders, 1_320), (CauseKind::VlanTags, 28)]));
    // Two of the packets came while the counters were read: 18 headers of 54 at least.
    let in_time = Counting { more_bytes: 980, below: (2, 3_000), ..ten };
    assert_eq!(in_time.causes(), explained(&[(CauseKind::GroGsoHeaders, 980)]));
    // Two are not counted yet: 20 headers of 134 at most.
    let not_yet = Counting { more_packets: 18, more_bytes: 2_500, above: (2, 3_000), wire_bytes: 41_680, ..ten };
    assert_eq!(not_yet.causes(), explained(&[(CauseKind::GroGsoHeaders, 2_500)]));
}
