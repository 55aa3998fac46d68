//! Off the node: with and without SNAT, by either ENI.

use std::io;

use lab::traffic::{Serve, TcpServer};
use lab::{Eni, Lab, Load, ip, iperf3};
use socket2::{Domain, Socket, Type};

use super::expected::Expected;
use super::watch::{at, echoes, tcp, track, udp, watch};

const IMDS: &str = "169.254.169.254";
const IMDS6: &str = "fd00:ec2::254";

#[test]
fn snat_from_random_ports() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    let way = [(client.veth.as_str(), "rx"), ("eth0", "tx")];
    let listen = at(lab.outside.ipv4, 443);

    let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.outside.namespace, listen);
    assert_eq!(ends.peer.ip(), lab.node.ipv4);
    // fully-random draws the same port once in 60 000 times; then run it again.
    assert_ne!(ends.peer.port(), ends.client.port());
    Expected::of(&window).conversation(&ends, "eni", &way, "").assert();

    let (window, ends) = udp(&lab, &client.namespace, listen, &lab.outside.namespace, listen);
    assert_eq!(ends.peer.ip(), lab.node.ipv4);
    Expected::of(&window).one_way(&ends, "eni", &way, "").assert();

    let (window, ends) = echoes(&lab, &client.namespace, lab.outside.ipv4.into(), 300);
    assert_eq!(ends.peer.ip(), lab.node.ipv4);
    Expected::of(&window).conversation(&ends, "eni", &way, "").assert();
}

/// Two pods with one source port and one destination: only the translation tells them apart outside.
#[test]
fn two_pods_with_equal_ports() {
    let lab = Lab::builder().pod("one").pod("two").start().unwrap();
    lab.snat().unwrap();
    let (one, two) = (lab.pod("one"), lab.pod("two"));
    let target = lab.outside.ipv4.into();
    let window = watch(&lab, || {
        for (pod, count) in [(one, 3), (two, 5)] {
            assert_eq!(lab::traffic::ping(&pod.namespace, target, 300, count, 500)?, count);
        }
        Ok(())
    });
    for (pod, count) in [(one, 3_u64), (two, 5)] {
        let flow = |initiator: bool| {
            window.report.flow(|flow| {
                let end = if initiator { flow.src } else { flow.hops[1].dst };
                end == pod.ipv4 && flow.from_initiator == Some(initiator)
            })
        };
        for flow in [flow(true), flow(false)] {
            assert_eq!((flow.path.as_str(), flow.packets), ("eni", count), "{flow}");
            assert_eq!(flow.hops[1].packets, flow.packets, "{flow}");
        }
        assert_eq!(flow(true).conversation, flow(false).conversation);
    }
    assert_eq!(window.flows().len(), 4);
}

/// One client port twice in the window, with another translation each time: nothing says which packet at the veth had which,
/// so the two are one flow, and no byte is counted twice.
#[test]
fn a_port_used_twice_is_one_flow() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    let listen = at(lab.outside.ipv4, 443);
    let server = TcpServer::start(&lab.outside.namespace, listen, Serve::Send(1000)).unwrap();
    let connect = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at(client.ipv4, 5000).into())?;
        socket.connect(&listen.into())?;
        io::copy(&mut &socket, &mut io::sink())
    };
    let window = watch(&lab, || {
        for _ in 0..2 {
            assert_eq!(client.namespace.run(connect)??, 1000);
        }
        Ok(())
    });
    let served = server.stop().unwrap();
    assert_ne!(served[0].peer, served[1].peer, "fully-random");
    let eth0 = window.devices["eth0"];
    assert_eq!(window.flows().len(), 2);
    for (initiator, bytes, way) in [(true, eth0.tx_bytes, "tx"), (false, eth0.rx_bytes, "rx")] {
        let flow = window.report.flow(|flow| flow.from_initiator == Some(initiator));
        assert_eq!((flow.path.as_str(), flow.bytes), ("eni", bytes), "{flow}");
        let at_eni = flow.hops.iter().filter(|hop| hop.device == "eth0");
        let mut seen: Vec<_> = at_eni
            .map(|hop| format!("{} {}", hop.direction, if initiator { hop.ends().0 } else { hop.ends().1 }))
            .collect();
        let mut expected: Vec<_> = served.iter().map(|one| format!("{way} {}", one.peer)).collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "{flow}");
    }
    assert_eq!(window.report.path("eni").bytes, eth0.rx_bytes + eth0.tx_bytes);
}

#[test]
fn no_snat_within_the_vpc_nor_for_ipv6() {
    for eni in [Eni::Primary, Eni::Secondary] {
        let lab = Lab::builder().pod_on("client", eni).start().unwrap();
        lab.snat().unwrap();
        track(&lab);
        let client = lab.pod("client");
        let out = if eni == Eni::Secondary { "eth1" } else { "eth0" };
        for (listen, host, device) in [
            (at(lab.remote.ipv4, 443), &lab.remote, out),
            // IPv6 addresses are the primary ENI's.
            (at(lab.remote.ipv6, 443), &lab.remote, "eth0"),
            (at(lab.outside.ipv6, 443), &lab.outside, "eth0"),
        ] {
            let (window, ends) = tcp(&lab, &client.namespace, listen, &host.namespace, listen);
            assert_eq!(ends.peer, ends.client, "untouched");
            let way = [(client.veth.as_str(), "rx"), (device, "tx")];
            Expected::of(&window).conversation(&ends, "eni", &way, "").assert();
        }
    }
}

/// The CNI's mark sends what leaves the VPC out by the primary ENI, and the answers come back there.
#[test]
fn a_pod_of_the_second_eni_leaves_the_vpc_by_the_first() {
    let lab = Lab::builder().pod_on("batch", Eni::Secondary).start().unwrap();
    lab.snat().unwrap();
    let batch = lab.pod("batch");
    let way = [(batch.veth.as_str(), "rx"), ("eth0", "tx")];
    let listen = at(lab.outside.ipv4, 443);
    let (window, ends) = tcp(&lab, &batch.namespace, listen, &lab.outside.namespace, listen);
    assert_eq!(ends.peer.ip(), lab.node.ipv4);
    assert_eq!(window.tracked[0].mark, 0x80);
    assert_eq!(window.devices["eth1"], lab::Counters::default(), "the second ENI is idle");
    Expected::of(&window).conversation(&ends, "eni", &way, "").assert();
}

#[test]
fn instance_metadata() {
    let lab = Lab::builder().pod_on("client", Eni::Secondary).start().unwrap();
    lab.snat().unwrap();
    ip(&lab.vpc, &format!("addr add {IMDS}/32 dev node-eth0")).unwrap();
    ip(&lab.vpc, &format!("addr add {IMDS6}/128 dev node-eth0")).unwrap();
    track(&lab);
    let client = lab.pod("client");
    for address in [IMDS, IMDS6] {
        let listen = at(address.parse::<std::net::IpAddr>().unwrap(), 80);
        let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.vpc, listen);
        assert_eq!(ends.peer.ip() == lab.node.ipv4, listen.is_ipv4(), "IPv4 is translated");
        let way = [(client.veth.as_str(), "rx"), ("eth0", "tx")];
        Expected::of(&window).conversation(&ends, "eni", &way, "imds").assert();

        // The node's own processes ask too.
        let (window, ends) = tcp(&lab, &lab.node.namespace, listen, &lab.vpc, listen);
        Expected::of(&window).conversation(&ends, "eni", &[("eth0", "tx")], "imds").assert();
    }
}

#[test]
fn the_nodes_own_connections() {
    let lab = Lab::builder().pod("idle").start().unwrap();
    track(&lab);
    for family in 0..2 {
        let (there, here) = (at(lab.outside.addresses()[family], 443), at(lab.node.addresses()[family], 22));
        let (window, ends) = tcp(&lab, &lab.node.namespace, there, &lab.outside.namespace, there);
        Expected::of(&window).conversation(&ends, "eni", &[("eth0", "tx")], "").assert();
        let (window, ends) = tcp(&lab, &lab.outside.namespace, here, &lab.node.namespace, here);
        Expected::of(&window).conversation(&ends, "eni", &[("eth0", "rx")], "").assert();
    }
}

/// A load balancer in the VPC that takes the client's place: nothing on the node can tell that both ends are its pods, so
/// it is two conversations, and no flag. Each byte did cross the ENI twice.
#[test]
fn a_load_balancer_makes_two_conversations() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    track(&lab);
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let (front, back) = (at([10, 0, 0, 200], 80), at(server.ipv4, 8080));
    ip(&lab.vpc, "addr add 10.0.0.200/32 dev node-eth0").unwrap();
    let at_router = lab::traffic::mac(&lab.vpc, "node-eth0").unwrap().map(|byte| format!("{byte:02x}")).join(":");
    ip(&lab.node.namespace, &format!("neigh add 10.0.0.200 lladdr {at_router} dev eth0 nud permanent")).unwrap();
    let rules = format!(
        "table ip balancer {{ chain in {{ type nat hook prerouting priority dstnat; ip daddr {} tcp dport 80 dnat to {back}; }}; \
         chain out {{ type nat hook postrouting priority srcnat; ct status dnat meta l4proto tcp snat to {} fully-random; }}; }}",
        front.ip(),
        front.ip()
    );
    lab.vpc.output("nft", &[&rules]).unwrap();
    let (window, ends) = tcp(&lab, &client.namespace, front, &server.namespace, back);
    assert_eq!(ends.peer.ip(), front.ip());
    let near = super::watch::Ends { server: front, peer: ends.client, ..ends };
    let far = super::watch::Ends { client: ends.peer, dialled: back, ..ends };
    Expected::of(&window)
        .conversation(&near, "eni", &[(&client.veth, "rx"), ("eth0", "tx")], "")
        .conversation(&far, "eni", &[("eth0", "rx"), (&server.veth, "tx")], "")
        .assert();
}

/// The bytes of a real load, through SNAT: iperf3's own figure, the devices' and netpath's.
#[test]
fn iperf3_through_snat() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    let mut totals = None;
    let window = watch(&lab, || {
        let target = at(lab.outside.ipv4, 5201);
        totals = Some(iperf3(&lab.outside.namespace, 5201, &client.namespace, target, Load::TcpBytes(100_000_000))?);
        Ok(())
    });
    let received = totals.unwrap().received_bytes;
    assert!(received > 90_000_000, "iperf3 received only {received}");
    let flow = &window.flows()[0];
    assert_eq!((flow.path.as_str(), flow.from_initiator), ("eni", Some(true)), "{flow}");
    let hops = &flow.hops;
    assert_eq!((hops[0].device.as_str(), hops[1].device.as_str()), (client.veth.as_str(), "eth0"), "{flow}");
    assert_eq!((hops.len(), hops[1].src), (2, lab.node.ipv4.into()), "{flow}");
    let bytes = hops[1].bytes;
    assert!((received..received + received / 10).contains(&bytes), "iperf3 {received}, netpath {bytes}");
    // iperf3's control connection is the only other one.
    assert_eq!(window.flows().len(), 4);
}
