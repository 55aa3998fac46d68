//! What is the node's own without being an address of a device at the end of the window: the kernel's routes decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, ip};

use super::expected::Expected;
use super::watch::{Ends, at, tcp, udp, watch};

/// How `ip route get` begins for the address, in the node.
fn route_to(lab: &Lab, address: IpAddr) -> String {
    lab.node.namespace.output("ip", &["route", "get", &address.to_string()]).unwrap()
}

/// Addresses of a route of type local, of table `local` and of another one that a rule leads to (`AnyIP`).
#[test]
fn delivered_by_a_route_alone() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    for command in [
        "route add local 192.0.2.0/25 dev lo",
        "-6 route add local 2001:db8:c::/64 dev lo",
        "route add local 192.0.2.128/25 dev lo table 100",
        "rule add pref 100 lookup 100",
    ] {
        ip(node, command).unwrap();
    }
    ip(&lab.vpc, &format!("route add 192.0.2.0/24 via {}", lab.node.ipv4)).unwrap();
    ip(&lab.vpc, &format!("-6 route add 2001:db8:c::/64 via {}", lab.node.ipv6)).unwrap();
    for address in ["192.0.2.9", "2001:db8:c::9"] {
        let address: IpAddr = address.parse().unwrap();
        assert!(route_to(&lab, address).starts_with("local "));
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let (dialled, listen) = (at(address, 80), at(any, 80));
        let (window, ends) = tcp(&lab, &client.namespace, dialled, node, listen);
        let ends = Ends { server: dialled, ..ends };
        Expected::of(&window).conversation(&ends, "host", &[(&client.veth, "rx")], "").assert();
        let (window, ends) = tcp(&lab, &lab.remote.namespace, dialled, node, listen);
        let ends = Ends { server: dialled, ..ends };
        Expected::of(&window).conversation(&ends, "eni", &[("eth0", "rx")], "").assert();
    }
    // The kernel takes packets to these, and answers from them only by transparent sockets.
    assert!(route_to(&lab, [192, 0, 2, 200].into()).starts_with("local "));
    let (dialled, listen) = (at([192, 0, 2, 200], 81), at(Ipv4Addr::UNSPECIFIED, 81));
    let (window, ends) = udp(&lab, &client.namespace, dialled, node, listen);
    let ends = Ends { server: dialled, ..ends };
    Expected::of(&window).one_way(&ends, "host", &[(&client.veth, "rx")], "").assert();
}

/// The first address of each network that an IPv6 router is in is the router's (RFC 4291, 2.6.1), by a route of type anycast.
#[test]
fn anycast_of_a_subnet() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    let network: Ipv6Addr = Ipv6Addr::from_bits(lab.node.ipv6.to_bits() & (u128::MAX << 64));
    assert!(route_to(&lab, network.into()).starts_with("anycast "));
    let dialled = at(network, 7000);
    let sink = UdpSink::start(&lab.node.namespace, at(Ipv6Addr::UNSPECIFIED, 7000)).unwrap();
    let mut local = None;
    let window = watch(&lab, || {
        local = Some(send_datagrams(&client.namespace, dialled, 100, 10)?);
        Ok(())
    });
    assert_eq!(sink.stop().unwrap().count, 10);
    let ends = Ends { proto: "udp", client: local.unwrap(), dialled, server: dialled, peer: local.unwrap() };
    Expected::of(&window).one_way(&ends, "host", &[(&client.veth, "rx")], "").assert();
}

/// A virtual address (keepalived, kube-vip) that moves to another node in the window.
#[test]
fn an_address_that_goes_in_the_window() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    ip(node, "addr add 10.0.0.99/32 dev eth0").unwrap();
    let dialled = at([10, 0, 0, 99], 7000);
    let sink = UdpSink::start(node, at([0, 0, 0, 0], 7000)).unwrap();
    let mut local = None;
    let window = watch(&lab, || {
        local = Some(send_datagrams(&client.namespace, dialled, 100, 10)?);
        sleep(Duration::from_millis(100));
        ip(node, "addr del 10.0.0.99/32 dev eth0")
    });
    assert_eq!(sink.stop().unwrap().count, 10);
    let ends = Ends { proto: "udp", client: local.unwrap(), dialled, server: dialled, peer: local.unwrap() };
    Expected::of(&window).one_way(&ends, "host", &[(&client.veth, "rx")], "").assert();
}
