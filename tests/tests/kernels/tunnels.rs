//! Tunnels of each kind to another node: what is inside, and the packets that carry it over the ENI.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use lab::report::Flow;
use lab::traffic::ping;
use lab::{Host, introduce, ip, ip_batch};

use super::seen::{FRAMES_BYTES, converse, fetch, measure};
use super::{chosen_way, lab};

/// What the load of a device of this kind needs to get from one end to the other, and whether it has Ethernet headers.
fn options(kind: &str, near: &Host, far: &Host) -> (String, bool) {
    let (ipv4, ipv6) =
        (format!("local {} remote {}", near.ipv4, far.ipv4), format!("local {} remote {}", near.ipv6, far.ipv6));
    match kind {
        "gretap" => (format!("{ipv4} key 9"), true),
        "erspan" => (format!("{ipv4} seq key 7 erspan_ver 1 erspan 5"), true),
        "geneve" => (format!("id 5 remote {}", far.ipv4), true),
        "vxlan" => (format!("{ipv4} id 6 dstport 4789"), true),
        "ip6gre" => (ipv6, false),
        "ip6gretap" => (format!("{ipv6} key 8"), true),
        "ip6tnl" => (format!("{ipv6} mode any"), false),
        _ => (ipv4, false),
    }
}

#[test]
#[ignore = "needs modules of many kinds of tunnels, which `cargo xtask kernels` has"]
fn each_kind_of_tunnel() {
    const KINDS: [&str; 9] = ["gre", "gretap", "erspan", "ipip", "vxlan", "geneve", "ip6gre", "ip6gretap", "ip6tnl"];
    const ECHOES: u16 = 5;
    // Ethernet 14, IPv4 20, ICMP 8.
    const HEADERS: u64 = 14 + 20 + 8;
    const PAYLOAD: usize = 100;
    let lab = lab();
    let (node, remote) = (&lab.node, &lab.remote);
    for (near, far, own) in [(node, remote, 1), (remote, node, 2)] {
        near.namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
        let mut batch = String::new();
        for (number, kind) in (0_u8..).zip(KINDS) {
            let (options, _) = options(kind, near, far);
            writeln!(batch, "link add to-{kind} type {kind} {options}\nlink set to-{kind} up mtu 1300").unwrap();
            writeln!(batch, "addr add 10.50.{number}.{own}/24 dev to-{kind}").unwrap();
        }
        ip_batch(&near.namespace, &batch).unwrap();
    }
    for (number, kind) in (0_u8..).zip(KINDS).filter(|(_, kind)| options(kind, node, remote).1) {
        let [near, far] = [1, 2].map(|own| format!("10.50.{number}.{own}"));
        let device = format!("to-{kind}");
        introduce((&node.namespace, &device, &near), (&remote.namespace, &device, &far)).unwrap();
    }

    let seen = measure(&lab, chosen_way(), &[], || {
        for number in (0_u8..).take(KINDS.len()) {
            let far = Ipv4Addr::new(10, 50, number, 2);
            assert_eq!(ping(&node.namespace, far.into(), 300 + u16::from(number), ECHOES, PAYLOAD)?, ECHOES);
        }
        Ok(())
    });
    let mut inside = Vec::new();
    for (number_of, kind) in (0_u8..).zip(KINDS) {
        let far = Ipv4Addr::new(10, 50, number_of, 2);
        for direction in ["tx", "rx"] {
            let is_it = |flow: &&Flow| if direction == "tx" { flow.dst == far } else { flow.src == far };
            let found: Vec<_> = seen.flows().iter().filter(is_it).collect();
            let [flow] = found[..] else { panic!("one flow of {kind} each way: {found:?}") };
            assert_eq!((flow.path.as_str(), flow.proto.as_str()), ("eni", "icmp"), "{flow}");
            let [hop] = &flow.hops[..] else { panic!("one hook: {flow}") };
            assert_eq!(hop.hook(), (format!("to-{kind}").as_str(), direction), "{flow}");
            let ethernet = if options(kind, node, remote).1 { 0 } else { 14 };
            let expected = u64::from(ECHOES) * (HEADERS - ethernet + PAYLOAD as u64);
            assert_eq!((flow.packets, flow.bytes), (u64::from(ECHOES), expected), "{flow}");
            inside.push(flow);
        }
    }
    seen.assert_carried(&inside);
    assert!(seen.flows().iter().all(|flow| flow.path == "eni"), "{:?}", seen.flows());
}

#[test]
#[ignore = "needs the module wireguard, which `cargo xtask kernels` has"]
fn wireguard() {
    const PORT: u16 = 51_820;
    let lab = lab();
    let (client, node, remote) = (lab.pod("client"), &lab.node, &lab.remote);
    let folder = tempfile::tempdir().unwrap();
    let wg = |host: &Host, arguments: &str| {
        host.namespace.output("wg", &arguments.split(' ').collect::<Vec<_>>()).unwrap().trim().to_owned()
    };
    let keys = [(node, "B"), (remote, "C")].map(|(host, letter)| {
        host.namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
        ip(&host.namespace, "link add wg0 type wireguard").unwrap();
        // Any 32 bytes are a private key, but for zeros.
        let file = folder.path().join(letter);
        std::fs::write(&file, letter.repeat(42) + "A=\n").unwrap();
        wg(host, &format!("set wg0 listen-port {PORT} private-key {}", file.display()));
        wg(host, "show wg0 public-key")
    });
    for (host, key, other, inside) in
        [(node, &keys[1], remote, "10.99.0.0/24".to_owned()), (remote, &keys[0], node, format!("{}/32", client.ipv4))]
    {
        wg(host, &format!("set wg0 peer {key} allowed-ips {inside} endpoint {}:{PORT}", other.ipv4));
        ip_batch(&host.namespace, &format!("link set wg0 up mtu 1400\nroute replace {inside} dev wg0\n")).unwrap();
    }
    ip(&remote.namespace, "addr add 10.99.0.7/32 dev wg0").unwrap();
    let at = |port| SocketAddr::from(([10, 99, 0, 7], port));
    // They shake hands.
    converse(&client.namespace, &remote.namespace, at(80)).unwrap();

    let seen = measure(&lab, chosen_way(), &[], || {
        converse(&client.namespace, &remote.namespace, at(80))?;
        fetch(&client.namespace, &remote.namespace, at(443))
    });
    let hops = [(client.veth.as_str(), "rx"), ("wg0", "tx")];
    let [out, back] = seen.assert_way("udp", 80, "eni", &hops);
    let [ask, answer] = seen.assert_way("tcp", 443, "eni", &hops);
    // As the device has them, without Ethernet headers.
    let headers = 14 * out.packets;
    assert_eq!([out, back].map(|flow| flow.bytes), [FRAMES_BYTES - headers; 2]);
    seen.assert_carried(&[out, back, ask, answer]);
    // The device counts a message for each packet: a header of 16 bytes, the packet, padded to a multiple of 16 bytes, and 16
    // bytes that prove who sent it.
    let wg0 = seen.report.device("wg0");
    for way in ["rx", "tx"] {
        let (packets, bytes) = (wg0.kernel().packets(way), wg0.kernel().bytes(way));
        let besides = bytes - wg0.hook(way).wire_bytes;
        assert!((32 * packets..48 * packets).contains(&besides), "{way}: {besides} of {packets} packets");
    }
    let outer: Vec<&Flow> = seen.flows().iter().filter(|flow| flow.sport == Some(PORT)).collect();
    assert!(outer.len() == 2 && outer.iter().all(|flow| flow.path == "eni"), "{outer:?}");
}
