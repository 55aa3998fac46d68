//! Between the node's own processes and its pods: no ENI is passed.

use lab::{Lab, ip};

use super::expected::Expected;
use super::watch::{at, echoes, tcp, track, udp};

#[test]
fn a_probe_from_the_node() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    for tracked in [false, true] {
        if tracked {
            track(&lab);
        }
        for family in 0..2 {
            let listen = at(server.addresses()[family], 8080);
            let (window, ends) = tcp(&lab, &lab.node.namespace, listen, &server.namespace, listen);
            Expected::of(&window).conversation(&ends, "host", &[(&server.veth, "tx")], "").assert();
        }
    }
}

/// A node-local agent, a host-network pod.
#[test]
fn a_pod_calls_the_node() {
    let lab = Lab::builder().pod("client").start().unwrap();
    track(&lab);
    let client = lab.pod("client");
    let way = [(client.veth.as_str(), "rx")];
    for family in 0..2 {
        let listen = at(lab.node.addresses()[family], 9100);
        let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.node.namespace, listen);
        Expected::of(&window).conversation(&ends, "host", &way, "").assert();
        let (window, ends) = udp(&lab, &client.namespace, listen, &lab.node.namespace, listen);
        Expected::of(&window).one_way(&ends, "host", &way, "").assert();
        let (window, ends) = echoes(&lab, &client.namespace, listen.ip(), 300);
        Expected::of(&window).conversation(&ends, "host", &way, "").assert();
    }
}

/// Node-local DNS and the Pod Identity agent have link-local addresses of their own, on a device that carries nothing.
#[test]
fn a_pod_calls_an_agent_with_a_link_local_address() {
    let lab = Lab::builder().pod("client").start().unwrap();
    track(&lab);
    let client = lab.pod("client");
    for (address, remark) in [("169.254.20.10", "link_local"), ("169.254.170.23", "pod_identity")] {
        ip(&lab.node.namespace, &format!("addr add {address}/32 dev lo")).unwrap();
        let listen = at(address.parse::<std::net::IpAddr>().unwrap(), 80);
        let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.node.namespace, listen);
        Expected::of(&window).conversation(&ends, "host", &[(&client.veth, "rx")], remark).assert();
    }
}
