//! Addresses and frames that are not ordinary: multicast, broadcast, link-local, VLAN tags, SCTP.

use std::net::{IpAddr, Ipv4Addr};

use lab::traffic::{UdpSink, mac, send_datagrams, send_frames};
use lab::{Lab, ip};

use super::expected::Expected;
use super::watch::{Ends, Window, at, track, udp, watch};

/// Ten datagrams from `client` to `group`, which nobody answers.
fn send(lab: &Lab, client: &lab::Namespace, group: IpAddr) -> (Window, Ends) {
    let mut local = None;
    let window = watch(lab, || {
        local = Some(send_datagrams(client, at(group, 5000), 100, 10)?);
        Ok(())
    });
    let (client, dialled) = (local.unwrap(), at(group, 5000));
    (window, Ends { proto: "udp", client, dialled, server: dialled, peer: client })
}

#[test]
fn multicast_of_pods_and_of_the_node() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    for group in ["239.1.2.3", "224.0.0.251", "ff05::1:3"] {
        let group: IpAddr = group.parse().unwrap();
        let (window, ends) = send(&lab, &client.namespace, group);
        // Only the node's own stack can be meant: it forwards no multicast.
        Expected::of(&window).one_way(&ends, "host", &[(&client.veth, "rx")], "multicast").assert();
        if group.is_ipv4() {
            let (window, ends) = send(&lab, &lab.node.namespace, group);
            Expected::of(&window).one_way(&ends, "eni", &[("eth0", "tx")], "multicast").assert();
        }
    }
    ip(&lab.vpc, "route add 239.0.0.0/8 dev node-eth0").unwrap();
    let (window, ends) = send(&lab, &lab.vpc, [239, 1, 2, 3].into());
    Expected::of(&window).one_way(&ends, "eni", &[("eth0", "rx")], "multicast").assert();
}

#[test]
fn amazons_link_local_services() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    for (address, port, scope) in [("169.254.169.253", 53, "amazon_dns"), ("169.254.169.123", 123, "amazon_ntp")] {
        ip(&lab.vpc, &format!("addr add {address}/32 dev node-eth0")).unwrap();
        let listen = at(address.parse::<IpAddr>().unwrap(), port);
        let (window, ends) = udp(&lab, &client.namespace, listen, &lab.vpc, listen);
        assert_eq!(ends.peer.ip(), lab.node.ipv4);
        Expected::of(&window).one_way(&ends, "eni", &[(&client.veth, "rx"), ("eth0", "tx")], scope).assert();
    }
}

/// An Ethernet and IPv4 header for `payload`.
fn ipv4_frame(to_mac: [u8; 6], from_mac: [u8; 6], proto: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0];
    header[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = header.chunks(2).fold(0_u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&(!folded).to_be_bytes());
    [&to_mac[..], &from_mac, &[0x08, 0x00], &header, payload].concat()
}

/// A UDP header without checksum, which IPv4 allows.
fn udp_payload(sport: u16, dport: u16, bytes: usize) -> Vec<u8> {
    let length = u16::try_from(8 + bytes).unwrap();
    let mut all = [sport, dport, length, 0].map(u16::to_be_bytes).concat();
    all.resize(8 + bytes, b'n');
    all
}

#[test]
fn broadcast() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    // A pod that asks for an address by DHCP, and a neighbour of the node that calls everybody in its network.
    let cases = [
        (&client.namespace, "eth0", client.veth.as_str(), [0, 0, 0, 0], [255; 4], "host"),
        (&lab.vpc, "node-eth0", "eth0", [10, 0, 0, 77], [10, 0, 0, 255], "eni"),
    ];
    for (namespace, device, hook, src, dst, path) in cases {
        let from = mac(namespace, device).unwrap();
        let frame = ipv4_frame([0xff; 6], from, 17, src.into(), dst.into(), &udp_payload(68, 67, 300));
        let window = watch(&lab, || send_frames(namespace, device, &vec![frame; 4]));
        let (src, dst) = (at(src, 68), at(dst, 67));
        let ends = Ends { proto: "udp", client: src, dialled: dst, server: dst, peer: src };
        Expected::of(&window).one_way(&ends, path, &[(hook, "rx")], "broadcast").assert();
        assert_eq!(window.flows()[0].packets, 4);
    }
}

/// Frames with a tag that no device of the node takes off: a flow of their own, not mixed with the untagged ones.
///
/// VLAN devices themselves are joined in `netpath/scenarios/branch_eni*.toml`; kernels without the module 8021q have none.
#[test]
fn tagged_frames_are_a_flow_of_their_own() {
    const SRC: [u8; 4] = [10, 0, 0, 77];
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    let (to, from) = (mac(&lab.node.namespace, "eth0").unwrap(), mac(&lab.vpc, "node-eth0").unwrap());
    let plain = ipv4_frame(to, from, 17, SRC.into(), server.ipv4, &udp_payload(7000, 7001, 200));
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
    let bytes = plain.len() as u64;
    let sink = UdpSink::start(&server.namespace, at(server.ipv4, 7001)).unwrap();
    lab.wait_until_quiet().unwrap();
    let before = lab::counters(&lab.node.namespace, "eth0").unwrap();
    let frames = [vec![plain; 3], vec![tagged; 5]].concat();
    let measured = lab.measure(&[], || send_frames(&lab.vpc, "node-eth0", &frames)).unwrap();
    let eth0 = lab::counters(&lab.node.namespace, "eth0").unwrap().since(before);
    assert_eq!((eth0.rx_packets, eth0.rx_bytes), (8, 8 * bytes + 5 * 4), "the device counts the tags");

    assert_eq!(sink.stop().unwrap().count, 3, "the pod gets the untagged ones");

    let flows = &measured.report.flows;
    let of = |vlans: &[u16]| measured.report.flow(|flow| flow.hops[0].vlans == vlans);
    let (untagged, tagged) = (of(&[]), of(&[100]));
    assert_eq!((untagged.packets, untagged.path.as_str(), untagged.hops.len()), (3, "eni", 2));
    assert_eq!((tagged.packets, tagged.hops.len()), (5, 1));
    // Nothing on the node takes this tag, so the pod did not get it.
    assert_eq!(tagged.path, "undelivered", "{tagged}");
    assert_ne!(untagged.conversation, tagged.conversation);
    assert_eq!(untagged.bytes, 3 * bytes);
    assert_eq!(flows.len(), 2);
}

/// One association's first message through SNAT, by raw frames: this kernel has no SCTP sockets, its conntrack knows SCTP.
#[test]
fn sctp_through_snat() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    track(&lab);
    let client = lab.pod("client");
    let (to, from) = (mac(&lab.node.namespace, &client.veth).unwrap(), mac(&client.namespace, "eth0").unwrap());
    let frame = ipv4_frame(to, from, 132, client.ipv4, lab.outside.ipv4, &sctp_init(9000, 9899));
    let window = watch(&lab, || send_frames(&client.namespace, "eth0", &[frame]));
    let entry = window.tracked.iter().find(|entry| entry.protocol == 132).expect("conntrack follows SCTP");
    assert_eq!(entry.reply.dst, lab.node.ipv4);
    let end = |address: IpAddr, port: Option<u16>| at(address, port.unwrap());
    let ends = Ends {
        proto: "sctp",
        client: at(client.ipv4, 9000),
        dialled: at(lab.outside.ipv4, 9899),
        server: end(entry.reply.src, entry.reply.sport),
        peer: end(entry.reply.dst, entry.reply.dport),
    };
    let flow = window.report.flow(|flow| flow.proto == "sctp" && flow.sport == Some(9000));
    let hop = &flow.hops[1];
    assert_eq!(flow.path, "eni", "{flow}");
    assert_eq!((hop.device.as_str(), hop.src), ("eth0", ends.peer.ip()), "{flow}");
    assert_eq!(hop.sport, Some(ends.peer.port()), "{flow}");
    assert_eq!(hop.bytes, flow.bytes, "{flow}");
}

/// RFC 9260: common header and an INIT chunk, with the `CRC32c` that conntrack checks.
fn sctp_init(sport: u16, dport: u16) -> Vec<u8> {
    let mut packet = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = packet.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    });
    packet[8..12].copy_from_slice(&(!sum).to_le_bytes());
    packet
}
