//! What changes within a window, or did just before: ports that are used again, backends, routes. Each byte is counted once,
//! and where it went is decided by what was seen.

use std::io;

use anyhow::Result;
use lab::traffic::{Serve, TcpServer, UdpEcho, ask, send_datagrams};
use lab::{Eni, Lab, Pod, ip};
use socket2::{Domain, Socket, Type};

use super::watch::{Window, at, watch};

const SERVICE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(172, 20, 0, 10);

/// A service's rule, instead of the one before.
fn forward(lab: &Lab, proto: &str, backend: std::net::Ipv4Addr) -> Result<()> {
    lab.nft(&format!(
        "table ip moving {{ }}
         delete table ip moving
         table ip moving {{
           chain pre {{ type nat hook prerouting priority dstnat; ip daddr {SERVICE} {proto} dport 80 dnat to {backend}:80; }}
         }}"
    ))
}

/// All flows stayed between pods, and have the bytes that the pod's veth moved. Returns these.
fn local_bytes(window: &Window, pod: &Pod) -> u64 {
    let veth = window.devices[&pod.veth];
    let bytes: u64 = window.flows().iter().map(|flow| flow.bytes).sum();
    assert_eq!(bytes, veth.rx_bytes + veth.tx_bytes, "{:?}", window.flows());
    assert!(window.flows().iter().all(|flow| flow.path == "local"), "{:?}", window.flows());
    bytes
}

/// The port's former connection went to another backend, and conntrack still has it; but its packets were before the window.
#[test]
fn a_port_whose_former_connection_has_ended() {
    let lab = Lab::builder().pod("client").pod("former").pod("server").start().unwrap();
    let [client, former, server] = ["client", "former", "server"].map(|name| lab.pod(name));
    let servers =
        [former, server].map(|pod| TcpServer::start(&pod.namespace, at(pod.ipv4, 80), Serve::Send(1000)).unwrap());
    let connect = || -> io::Result<u64> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at(client.ipv4, 40_000).into())?;
        socket.connect(&at(SERVICE, 80).into())?;
        // The server closes first, so that the port is free at once.
        io::copy(&mut &socket, &mut io::sink())
    };
    forward(&lab, "tcp", former.ipv4).unwrap();
    assert_eq!(client.namespace.run(connect).unwrap().unwrap(), 1000);
    forward(&lab, "tcp", server.ipv4).unwrap();
    let window = watch(&lab, || {
        assert_eq!(client.namespace.run(connect)??, 1000);
        Ok(())
    });
    let [before, now] = servers.map(|server| server.stop().unwrap().len());
    assert_eq!((before, now), (1, 1), "each had one of them");
    let paths: Vec<_> = window.flows().iter().map(|flow| (flow.path.as_str(), flow.hops.len())).collect();
    assert_eq!(paths, [("local", 2), ("local", 2)]);
    assert_eq!(window.flows()[0].bytes, window.devices[&server.veth].rx_bytes);
}

/// A UDP client keeps its socket while its service's backend changes: kube-proxy deletes the entry, a new one goes elsewhere.
#[test]
fn a_services_backend_changes() {
    let lab = Lab::builder().pod("client").pod("first").pod("second").start().unwrap();
    let [client, first, second] = ["client", "first", "second"].map(|name| lab.pod(name));
    let servers = [first, second].map(|pod| UdpEcho::start(&pod.namespace, at(pod.ipv4, 80)).unwrap());
    forward(&lab, "udp", first.ipv4).unwrap();
    let window = watch(&lab, || {
        let asked = ask(&client.namespace, 0, at(SERVICE, 80), [100, 20], |number| {
            if number == 10 {
                forward(&lab, "udp", second.ipv4)?;
                lab.node.namespace.output("conntrack", &["-D", "-p", "udp"])?;
            }
            Ok(())
        })?;
        assert_eq!(asked.answers, 20);
        Ok(())
    });
    assert_eq!(servers.map(|server| server.stop().unwrap()), [10, 10]);
    let bytes = local_bytes(&window, client);
    assert_eq!(window.report.path("local").bytes, bytes);
}

/// A route moves a flow to the other ENI: the totals have what either sent.
#[test]
fn a_flow_moves_to_the_other_eni() {
    let lab = Lab::builder().pod("client").pod_on("other", Eni::Secondary).start().unwrap();
    let client = lab.pod("client");
    let window = watch(&lab, || {
        for (router, count) in [("10.0.0.1 dev eth0", 10), ("10.0.0.1 dev eth1", 30)] {
            ip(&lab.node.namespace, &format!("route replace {} via {router} onlink", lab.outside.ipv4))?;
            client.namespace.run(|| -> Result<()> {
                let socket = std::net::UdpSocket::bind(at(client.ipv4, 5000))?;
                for _ in 0..count {
                    socket.send_to(&[0; 1000], at(lab.outside.ipv4, 9))?;
                }
                Ok(())
            })??;
        }
        Ok(())
    });
    let flow = window.report.flow(|flow| flow.dport == Some(9));
    let [eth0, eth1] = ["eth0", "eth1"].map(|name| window.devices[name]);
    assert_eq!((eth0.tx_packets, eth1.tx_packets), (10, 30), "the routes");
    assert_eq!((flow.path.as_str(), flow.bytes), ("eni", eth0.tx_bytes + eth1.tx_bytes), "{flow}");
    let total = eth0.rx_bytes + eth0.tx_bytes + eth1.rx_bytes + eth1.tx_bytes;
    assert_eq!(window.report.path("eni").bytes, total);
}

/// An address passes from one pod to another, as the VPC CNI does after half a minute: each was delivered what it answered.
#[test]
fn an_address_moves_to_another_pod() {
    let lab = Lab::builder().pod("client").pod("first").pod("second").start().unwrap();
    let [client, first, second] = ["client", "first", "second"].map(|name| lab.pod(name));
    let address = std::net::Ipv4Addr::new(10, 0, 0, 99);
    for pod in [first, second] {
        ip(&pod.namespace, &format!("address add {address}/32 dev eth0")).unwrap();
        // Without ARP, every packet is of a flow.
        let mac = pod.namespace.output("cat", &["/sys/class/net/eth0/address"]).unwrap();
        let neighbour = format!("neigh add {address} lladdr {} dev {} nud permanent", mac.trim(), pod.veth);
        ip(&lab.node.namespace, &neighbour).unwrap();
    }
    let route = |pod: &Pod| ip(&lab.node.namespace, &format!("route replace {address} dev {}", pod.veth));
    route(first).unwrap();
    let servers = [first, second].map(|pod| UdpEcho::start(&pod.namespace, at(address, 80)).unwrap());
    let window =
        watch(&lab, || {
            let asked = ask(&client.namespace, 0, at(address, 80), [100, 20], |number| {
                if number == 10 { route(second) } else { Ok(()) }
            })?;
            assert_eq!(asked.answers, 20);
            Ok(())
        });
    assert_eq!(servers.map(|server| server.stop().unwrap()), [10, 10]);
    local_bytes(&window, client);
}

/// Packets of a macvlan pod pass no hook but the ENI's, and crossed it.
#[test]
fn a_macvlan_pod() {
    let lab = Lab::builder().pod("macvlan").start().unwrap();
    let (node, pod) = (&lab.node.namespace, lab.pod("macvlan"));
    ip(node, "link add net1 link eth0 type macvlan mode bridge").unwrap();
    ip(node, &format!("link set net1 netns {}", pod.namespace.name())).unwrap();
    ip(&pod.namespace, "link set net1 up").unwrap();
    ip(&pod.namespace, "addr add 10.0.0.77/24 dev net1").unwrap();
    let address = at(std::net::Ipv4Addr::new(10, 0, 0, 77), 80);
    ip(&lab.vpc, "route add 10.0.0.77/32 dev node-eth0").unwrap();
    let server = UdpEcho::start(&pod.namespace, address).unwrap();
    send_datagrams(&lab.vpc, address, 10, 1).unwrap();
    let window = watch(&lab, || {
        let asked = ask(&lab.vpc, 0, address, [100, 5], |_| Ok(()))?;
        assert_eq!(asked.answers, 5);
        Ok(())
    });
    assert_eq!(server.stop().unwrap(), 6);
    let eth0 = window.devices["eth0"];
    assert!(window.flows().iter().all(|flow| flow.path == "eni"), "{:?}", window.flows());
    assert_eq!(window.report.path("eni").bytes, eth0.rx_bytes + eth0.tx_bytes);
}
