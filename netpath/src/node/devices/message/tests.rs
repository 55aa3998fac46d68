//! Tests of the decoder, against messages that are put together byte by byte as linux/rtnetlink.h describes them.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::netlink::attributes::attribute;

fn netlink(message_type: u16, flags: u16, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    let mut bytes = ((payload.len() + 16) as u32).to_ne_bytes().to_vec();
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

fn ifinfomsg(family: u8) -> Vec<u8> {
    let mut bytes = vec![family, 0];
    bytes.extend(1u16.to_ne_bytes());
    bytes.extend(9i32.to_ne_bytes());
    bytes.extend(0x1043u32.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn stats() -> Vec<u8> {
    let numbers: [u64; 24] = std::array::from_fn(|i| i as u64 + 10);
    attribute(23, &numbers.map(u64::to_ne_bytes).concat())
}

const COUNTERS: KernelCounters = KernelCounters { rx_packets: 10, tx_packets: 11, rx_bytes: 12, tx_bytes: 13 };

#[test]
fn a_veth_with_its_peer_elsewhere() {
    let kind = attribute(1, b"veth\0");
    let bytes = netlink(
        16,
        0,
        &[
            &ifinfomsg(0),
            &attribute(3, b"eni\xff\x1b\0"),
            &attribute(1, &[2, 0, 0, 0, 0xab, 1]),
            &attribute(5, &2u32.to_ne_bytes()),
            &attribute(37, &0u32.to_ne_bytes()),
            &attribute(0x8012, &kind),
            &stats(),
            &attribute(9999, b"something newer"),
        ],
    );
    assert_eq!(
        messages(&bytes),
        [Message::NewLink(RawLink {
            ifindex: 9,
            name: b"eni\xff\x1b".to_vec(),
            altnames: Vec::new(),
            hardware_type: 1,
            flags: 0x1043,
            info: LinkInfo { kind: Some("veth".to_owned()), ..LinkInfo::default() },
            master: None,
            mac: Some([2, 0, 0, 0, 0xab, 1]),
            lower: None,
            elsewhere: Some(0),
            xdp: None,
            parent: None,
            counters: COUNTERS,
            moved: false,
        })]
    );
}

fn only_link(attributes: &[&[u8]]) -> RawLink {
    let (header, name, stats) = (ifinfomsg(0), attribute(3, b"x\0"), stats());
    let parts: Vec<&[u8]> = [header.as_slice(), &name, &stats].into_iter().chain(attributes.iter().copied()).collect();
    match messages(&netlink(16, 0, &parts)).as_slice() {
        [Message::NewLink(link)] => link.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lower_devices() {
    assert_eq!(only_link(&[&attribute(5, &2u32.to_ne_bytes())]).lower, Some(2));
    assert_eq!(only_link(&[&attribute(5, &0u32.to_ne_bytes())]).lower, None);
    assert_eq!(only_link(&[&attribute(5, &9u32.to_ne_bytes())]).lower, None);
    assert_eq!(only_link(&[]).lower, None);
}

#[test]
fn further_names() {
    let names =
        [attribute(53, b"eni-0123456789abcdef0\0"), attribute(99, b"newer"), attribute(53, b"a\xff\0")].concat();
    let link = only_link(&[&attribute(0x8034, &names)]);
    assert_eq!(link.altnames, ["eni-0123456789abcdef0", "a\u{fffd}"]);
    assert!(only_link(&[]).altnames.is_empty());
    let cut = netlink(16, 0, &[&ifinfomsg(0), &attribute(3, b"x\0"), &stats(), &attribute(52, &[200, 0, 53, 0])]);
    assert_eq!(messages(&cut), [Message::Malformed]);
}

#[test]
fn hardware() {
    let link = only_link(&[&attribute(56, b"0000:00:05.0\0"), &attribute(1, &[10, 0, 0, 1])]);
    assert_eq!(link.parent.as_deref(), Some("0000:00:05.0"));
    assert_eq!(link.mac, None, "a tunnel's IPv4 address is no MAC");
}

#[test]
fn xdp_programs() {
    let with = |mode: u8, ids: &[&[u8]]| {
        let parts = [&[attribute(2, &[mode])], &ids.iter().map(|id| attribute(4, id)).collect::<Vec<_>>()[..]].concat();
        only_link(&[&attribute(43, &parts.concat())]).xdp
    };
    assert_eq!(with(0, &[]), None);
    let id = 77u32.to_ne_bytes();
    assert_eq!(with(1, &[&id]), Some(Xdp { mode: XdpMode::Driver, program_id: Some(77) }));
    assert_eq!(with(2, &[&id]), Some(Xdp { mode: XdpMode::Generic, program_id: Some(77) }));
    assert_eq!(with(3, &[&id]), Some(Xdp { mode: XdpMode::Hardware, program_id: Some(77) }));
    assert_eq!(with(4, &[]), Some(Xdp { mode: XdpMode::Several, program_id: None }));
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    let name = attribute(3, b"x\0");
    assert_eq!(messages(&netlink(17, 0, &[&ifinfomsg(7), &name])), [Message::Other]);
    assert_eq!(
        messages(&netlink(17, 0, &[&ifinfomsg(0), &name, &stats()])),
        [Message::DelLink { ifindex: 9, counters: COUNTERS, complete: true }]
    );
}

#[test]
fn a_deleted_veth_has_lost_its_rx() {
    let (header, name, stats) = (ifinfomsg(0), attribute(3, b"x\0"), stats());
    let kind = attribute(0x8012, &attribute(1, b"veth\0"));
    let moved = attribute(45, &0u32.to_ne_bytes());
    let complete = |parts: &[&[u8]]| match messages(&netlink(17, 0, parts)).as_slice() {
        [Message::DelLink { complete, .. }] => *complete,
        other => panic!("{other:?}"),
    };
    assert!(!complete(&[&header, &name, &stats, &kind]));
    assert!(complete(&[&header, &name, &stats, &kind, &moved]));
}

#[test]
fn addresses() {
    let header = |family: u8, prefix: u8| [vec![family, prefix, 0, 0], 9u32.to_ne_bytes().to_vec()].concat();
    let v4 = netlink(20, 0, &[&header(2, 24), &attribute(1, &[10, 0, 0, 5]), &attribute(2, &[10, 0, 0, 5])]);
    let ptp = netlink(21, 0, &[&header(2, 32), &attribute(1, &[10, 0, 0, 6]), &attribute(2, &[10, 0, 0, 5])]);
    let v6 = netlink(20, 0, &[&header(10, 64), &attribute(1, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])]);
    let address = |text: &str| text.to_owned();
    assert_eq!(
        messages(&[v4, ptp, v6].concat()),
        [
            Message::NewAddress { ifindex: 9, address: address("10.0.0.5/24") },
            Message::DelAddress { ifindex: 9, address: address("10.0.0.5/32") },
            Message::NewAddress { ifindex: 9, address: address("fd00::1/64") },
        ]
    );
}

fn rtmsg(family: u8, length: u8, table: u8, kind: u8) -> Vec<u8> {
    vec![family, length, 0, 0, table, 3, 253, kind, 0, 0, 0, 0]
}

#[test]
fn pod_routes() {
    let to = attribute(1, &[10, 0, 0, 21]);
    let device = attribute(4, &9u32.to_ne_bytes());
    let main = attribute(15, &254u32.to_ne_bytes());
    let route = HostRoute { to: [10, 0, 0, 21].into(), table: 254, metric: 0, ifindex: 9 };
    let one = |flags: u16, parts: &[&[u8]]| messages(&netlink(24, flags, parts)).remove(0);
    let header = rtmsg(2, 32, 254, 1);
    assert_eq!(one(0, &[&header, &main, &to, &device]), Message::NewRoute { route, replaces: false });
    assert_eq!(one(0x100, &[&header, &to, &device]), Message::NewRoute { route, replaces: true });
    let metric = attribute(6, &50u32.to_ne_bytes());
    assert_eq!(
        one(0, &[&header, &to, &device, &metric]),
        Message::NewRoute { route: HostRoute { metric: 50, ..route }, replaces: false }
    );
    let v6 = netlink(25, 0, &[&rtmsg(10, 128, 254, 1), &attribute(1, &[0xfd; 16]), &device]);
    assert_eq!(
        messages(&v6),
        [Message::DelRoute(HostRoute { to: [0xfd; 16].into(), table: 254, metric: 0, ifindex: 9 })]
    );

    // Of another table: in the header or, beyond 255, in an attribute.
    for (table, number) in [(vec![], 3), (attribute(15, &1000u32.to_ne_bytes()), 1000)] {
        let route = HostRoute { table: number, ..route };
        let header = rtmsg(2, 32, if number == 3 { 3 } else { 252 }, 1);
        assert_eq!(one(0, &[&header, &table, &to, &device]), Message::NewRoute { route, replaces: false });
    }
    // Not to a device alone: a subnet, a blackhole, a gateway, several next hops.
    assert_eq!(one(0, &[&rtmsg(2, 24, 254, 1), &to, &device]), Message::Other);
    assert_eq!(one(0, &[&rtmsg(2, 32, 254, 6), &to, &device]), Message::Other);
    assert_eq!(one(0, &[&header, &to, &device, &attribute(5, &[10, 0, 0, 1])]), Message::Other);
    assert_eq!(one(0, &[&header, &to, &attribute(9, &[0; 16])]), Message::Other);
}

#[test]
fn routes_that_deliver_here() {
    let one = |message_type, parts: &[&[u8]]| messages(&netlink(message_type, 0, parts)).remove(0);
    let to = attribute(1, &[192, 0, 2, 0]);
    let route = DeliveringRoute { network: "192.0.2.0/24".parse().unwrap(), table: 255 };
    // local, broadcast, anycast
    for kind in [2, 3, 4] {
        assert_eq!(one(24, &[&rtmsg(2, 24, 255, kind), &to]), Message::NewDelivery(route));
        assert_eq!(one(25, &[&rtmsg(2, 24, 255, kind), &to]), Message::DelDelivery(route));
    }
    // unicast, blackhole, unreachable
    for kind in [1, 6, 7] {
        assert_eq!(one(24, &[&rtmsg(2, 24, 255, kind), &to]), Message::Other);
    }
    let all = DeliveringRoute { network: "::/0".parse().unwrap(), table: 100 };
    assert_eq!(one(24, &[&rtmsg(10, 0, 100, 2)]), Message::NewDelivery(all), "a default route has no destination");
    assert_eq!(one(24, &[&rtmsg(2, 33, 255, 2), &to]), Message::Malformed);
}

#[test]
fn rules() {
    let header = |lengths: [u8; 2], action: u8, flags: u32| {
        let mut bytes = vec![2, lengths[0], lengths[1], 0, 254, 0, 0, action];
        bytes.extend(flags.to_ne_bytes());
        bytes
    };
    let one = |parts: &[&[u8]]| messages(&netlink(32, 0, parts)).remove(0);
    let priority = attribute(6, &100u32.to_ne_bytes());
    let table = attribute(15, &1000u32.to_ne_bytes());
    let all = header([0, 0], 1, 0);
    let usual = Rule { ipv6: false, priority: 100, table: RuleTable::Table(1000), unconditional: true };
    let some = Rule { unconditional: false, ..usual };
    let everybody_has = [attribute(14, &u32::MAX.to_ne_bytes()), attribute(21, &[3])].concat();
    assert_eq!(one(&[&all, &priority, &table, &everybody_has]), Message::NewRule(usual));
    assert_eq!(
        one(&[&all, &priority]),
        Message::NewRule(Rule { table: RuleTable::Table(254), ..usual }),
        "the table in the header"
    );
    // By destination, by source, by what is not so; by mark, device, protocol, or only for some routes.
    for header in [header([32, 0], 1, 0), header([0, 8], 1, 0), header([0, 0], 1, 2)] {
        assert_eq!(one(&[&header, &priority, &table]), Message::NewRule(some));
    }
    for attribute in
        [attribute(10, &[1, 0, 0, 0]), attribute(3, b"eth0\0"), attribute(22, &[6]), attribute(14, &[0; 4])]
    {
        assert_eq!(one(&[&all, &priority, &table, &attribute]), Message::NewRule(some));
    }
    let of_vrf = Rule { table: RuleTable::OfVrf, ..usual };
    assert_eq!(one(&[&all, &attribute(15, &[0; 4]), &priority, &attribute(19, &[1])]), Message::NewRule(of_vrf));
    assert_eq!(one(&[&header([0, 0], 8, 0), &priority]), Message::Other, "a rule that prohibits");
    assert_eq!(messages(&netlink(33, 0, &[&all, &priority, &table])), [Message::DelRule(usual)]);
}

#[test]
fn vlans_of_a_port() {
    let vlan = |flags: u16, vid: u16| attribute(2, &[flags.to_ne_bytes(), vid.to_ne_bytes()].concat());
    let one = |vlans: &[Vec<u8>]| {
        let spec = attribute(0x801a, &vlans.concat());
        messages(&netlink(16, 0, &[&ifinfomsg(7), &attribute(3, b"x\0"), &spec])).remove(0)
    };
    let is = |pvid, untagged: &[u16]| Message::PortVlans {
        ifindex: 9,
        vlans: PortVlans { pvid, untagged: untagged.to_vec() },
    };
    assert_eq!(one(&[]), is(None, &[]));
    assert_eq!(one(&[vlan(6, 100), vlan(0, 200)]), is(Some(100), &[100]));
    assert_eq!(one(&[vlan(2, 1), vlan(4 | 8, 10), vlan(4 | 16, 12)]), is(Some(1), &[10, 11, 12]), "a range");
    assert_eq!(one(&[vlan(8, 2), vlan(16, 4094)]), is(None, &[]));
    assert_eq!(one(&[vlan(4 | 16, 7), vlan(4, 9)]), is(None, &[7, 9]), "an end without a beginning");
    assert_eq!(messages(&netlink(16, 0, &[&ifinfomsg(7), &attribute(3, b"x\0")])), [Message::Other]);
}

#[test]
fn what_kinds_have_to_say() {
    let info = |kind: &[u8], data: &[u8]| {
        only_link(&[&attribute(18, &[attribute(1, kind), attribute(0x8002, data)].concat())]).info
    };
    assert_eq!(info(b"tun\0", &attribute(3, &[2])).tap, Some(true));
    assert_eq!(info(b"tun\0", &attribute(3, &[1])).tap, Some(false));
    assert_eq!(info(b"tun\0", &[]).tap, None);
    assert!(info(b"bridge\0", &attribute(7, &[1])).vlan_filtering);
    assert!(!info(b"bridge\0", &attribute(7, &[0])).vlan_filtering);
    assert_eq!(info(b"vrf\0", &attribute(1, &10u32.to_ne_bytes())).vrf_table, Some(10));
    let remote = |kind: &[u8], number, address: &[u8]| info(kind, &attribute(number, address)).remote;
    for (kind, number) in [("vxlan", 2), ("geneve", 2), ("gretap", 7), ("ipip", 3), ("vti", 5)] {
        assert_eq!(remote(kind.as_bytes(), number, &[10, 0, 0, 9]), Some([10, 0, 0, 9].into()), "{kind}");
    }
    for (kind, number) in [("vxlan", 16), ("geneve", 7), ("ip6gre", 7), ("ip6tnl", 3)] {
        assert_eq!(remote(kind.as_bytes(), number, &[0xfd; 16]), Some([0xfd; 16].into()), "{kind}");
    }
    assert_eq!(remote(b"vxlan", 2, &[239, 1, 1, 1]), None, "a group is many");
    assert_eq!(remote(b"gre", 7, &[0; 4]), None, "anywhere");
    assert_eq!(only_link(&[&attribute(10, &3u32.to_ne_bytes())]).master, Some(3));
}

#[test]
fn what_cannot_be_read_is_said() {
    assert_eq!(messages(&[1, 2, 3]), [Message::Malformed]);
    assert_eq!(messages(&netlink(16, 0, &[&[0; 8]])), [Message::Malformed]);
    assert_eq!(messages(&netlink(16, 0, &[&ifinfomsg(0), &stats()])), [Message::Malformed], "no name");
    assert_eq!(messages(&netlink(16, 0, &[&ifinfomsg(0), &attribute(3, b"x\0")])), [Message::Malformed], "no counters");
    assert_eq!(messages(&netlink(16, 0, &[&ifinfomsg(0), &[200, 0, 3, 0]])), [Message::Malformed], "too long");
    assert_eq!(messages(&netlink(24, 0, &[&rtmsg(2, 32, 254, 1), &attribute(1, &[10, 0])])), [Message::Malformed]);
    assert_eq!(messages(&netlink(4, 0, &[])), [Message::Malformed], "overrun");
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = messages(&bytes);
    }

    #[test]
    fn never_panics_behind_a_good_header(
        message_type in 16u16..36, family in prop_oneof![Just(0u8), Just(2), Just(7), Just(10)],
        bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        let mut payload = bytes;
        if let Some(first) = payload.first_mut() {
            *first = family;
        }
        let _ = messages(&netlink(message_type, 0, &[&payload]));
    }
}
