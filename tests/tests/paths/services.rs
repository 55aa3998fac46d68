//! Through services: addresses that exist only as translation.

use std::net::SocketAddr;

use lab::{Eni, Lab, TrafficPolicy};

use super::expected::Expected;
use super::watch::{at, tcp, udp};

const VIP: &str = "172.20.0.10:80";
const VIP6: &str = "[fd00:10::10]:80";

fn vip(family: usize) -> SocketAddr {
    [VIP, VIP6][family].parse().unwrap()
}

#[test]
fn cluster_ip_to_a_pod_here() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let way = [(client.veth.as_str(), "rx"), (&server.veth, "tx")];
    for family in 0..2 {
        let backend = at(server.addresses()[family], 8080);
        lab.cluster_ip(vip(family), backend).unwrap();
        let (window, ends) = tcp(&lab, &client.namespace, vip(family), &server.namespace, backend);
        Expected::of(&window).conversation(&ends, "local", &way, "").assert();
        let (window, ends) = udp(&lab, &client.namespace, vip(family), &server.namespace, backend);
        Expected::of(&window).one_way(&ends, "local", &way, "").assert();
    }
}

#[test]
fn cluster_ip_by_iptables() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let backend = at(server.ipv4, 8080);
    lab.cluster_ip_by_iptables(vip(0), backend).unwrap();
    let (window, ends) = tcp(&lab, &client.namespace, vip(0), &server.namespace, backend);
    let way = [(client.veth.as_str(), "rx"), (&server.veth, "tx")];
    Expected::of(&window).conversation(&ends, "local", &way, "").assert();
}

#[test]
fn cluster_ip_to_a_pod_elsewhere() {
    for eni in [Eni::Primary, Eni::Secondary] {
        let lab = Lab::builder().pod_on("client", eni).start().unwrap();
        let client = lab.pod("client");
        for family in 0..2 {
            let backend = at(lab.remote.addresses()[family], 8080);
            lab.cluster_ip(vip(family), backend).unwrap();
            let (window, ends) = tcp(&lab, &client.namespace, vip(family), &lab.remote.namespace, backend);
            // IPv6 is the primary ENI's alone.
            let out = if eni == Eni::Secondary && family == 0 { "eth1" } else { "eth0" };
            let way = [(client.veth.as_str(), "rx"), (out, "tx")];
            Expected::of(&window).conversation(&ends, "eni", &way, "").assert();
        }
    }
}

/// A pod calls a service and is itself the backend: it comes back to its own veth in the node's name.
#[test]
fn hairpin() {
    for by_iptables in [false, true] {
        let lab = Lab::builder().pod("server").start().unwrap();
        let server = lab.pod("server");
        let way = [(server.veth.as_str(), "rx"), (&server.veth, "tx")];
        for family in 0..if by_iptables { 1 } else { 2 } {
            let backend = at(server.addresses()[family], 8080);
            if by_iptables {
                lab.cluster_ip_by_iptables(vip(family), backend).unwrap();
            } else {
                lab.cluster_ip(vip(family), backend).unwrap();
            }
            let (window, ends) = tcp(&lab, &server.namespace, vip(family), &server.namespace, backend);
            assert_eq!(ends.peer.ip(), lab.node.addresses()[family], "masqueraded");
            Expected::of(&window).conversation(&ends, "local", &way, "").assert();
        }
    }
}

/// A process of the node itself calls a service of the cluster.
#[test]
fn cluster_ip_from_the_node() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    for family in 0..2 {
        let (here, there) = (at(server.addresses()[family], 8080), at(lab.remote.addresses()[family], 8080));
        lab.cluster_ip(vip(family), here).unwrap();
        let (window, ends) = tcp(&lab, &lab.node.namespace, vip(family), &server.namespace, here);
        Expected::of(&window).conversation(&ends, "host", &[(&server.veth, "tx")], "").assert();

        let other = SocketAddr::new(vip(family).ip(), 81);
        lab.cluster_ip(other, there).unwrap();
        let (window, ends) = tcp(&lab, &lab.node.namespace, other, &lab.remote.namespace, there);
        Expected::of(&window).conversation(&ends, "eni", &[("eth0", "tx")], "").assert();
    }
}

#[test]
fn node_port_to_a_pod_here() {
    for (eni, policy) in [
        (Eni::Primary, TrafficPolicy::Local),
        (Eni::Secondary, TrafficPolicy::Local),
        (Eni::Primary, TrafficPolicy::Cluster),
    ] {
        let lab = Lab::builder().pod_on("server", eni).start().unwrap();
        let server = lab.pod("server");
        for family in 0..2 {
            let backend = at(server.addresses()[family], 8080);
            let port = 30080 + u16::try_from(family).unwrap();
            lab.node_port(port, backend, policy).unwrap();
            let dialled = at(lab.node.addresses()[family], port);
            let (window, ends) = tcp(&lab, &lab.outside.namespace, dialled, &server.namespace, backend);
            let way = [("eth0", "rx"), (server.veth.as_str(), "tx")];
            Expected::of(&window).conversation(&ends, "eni", &way, "").assert();
        }
    }
}

/// In by the ENI and out by it again.
#[test]
fn node_port_to_a_pod_elsewhere() {
    let lab = Lab::builder().start().unwrap();
    for family in 0..2 {
        let backend = at(lab.remote.addresses()[family], 8080);
        let port = 30080 + u16::try_from(family).unwrap();
        lab.node_port(port, backend, TrafficPolicy::Cluster).unwrap();
        let dialled = at(lab.node.addresses()[family], port);
        let (window, ends) = tcp(&lab, &lab.outside.namespace, dialled, &lab.remote.namespace, backend);
        assert_eq!(ends.peer.ip(), lab.node.addresses()[family], "masqueraded");
        Expected::of(&window).conversation(&ends, "transit", &[("eth0", "rx"), ("eth0", "tx")], "").assert();
    }
}
