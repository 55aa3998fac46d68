//! Each way through a node: every hop of every trip is a packet that tcpdump saw on that device, and the other way round.

use std::net::SocketAddr;

use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{Capture, Eni, Lab, Namespace, TrafficPolicy};

use super::at;
use super::witness::{self, Witness};

const BYTES: u64 = 100_000;

fn vip(family: usize) -> SocketAddr {
    ["172.20.0.10:80", "[fd00:10::10]:80"][family].parse().unwrap()
}

/// A download: who dials whom, and who serves where.
struct Call<'a> {
    lab: &'a Lab,
    client: &'a Namespace,
    dialled: SocketAddr,
    server: &'a Namespace,
    listen: SocketAddr,
}

impl Call<'_> {
    /// Traces it by a filter that need not match each hop. `there` and `back`: the ways that packets take.
    fn assert_followed(&self, filter: &str, there: &[(&str, &str)], back: &[(&str, &str)]) {
        let way = |hops: &[(&str, &str)]| {
            hops.iter().map(|(device, direction)| format!("{device} {direction}")).collect::<Vec<_>>().join(", ")
        };
        let mut devices: Vec<&str> = there.iter().chain(back).map(|(device, _)| *device).collect();
        devices.sort_unstable();
        devices.dedup();
        let serving = TcpServer::start(self.server, self.listen, Serve::Send(BYTES)).unwrap();
        let node = &self.lab.node.namespace;
        let witnesses: Vec<_> = devices.iter().map(|device| Witness::start(node, device, "tcp").unwrap()).collect();
        let trace = self.lab.open_trace(&["tcp", "and", filter]).unwrap();
        assert_eq!(download(self.client, self.dialled).unwrap().received_bytes, BYTES);
        drop(serving);
        self.lab.wait_until_quiet().unwrap();
        let trace = trace.trace().unwrap();
        for (device, witness) in devices.iter().zip(witnesses) {
            let seen = witness.stop().unwrap();
            assert!(seen.len() > 5, "{device}: {seen:?}");
            assert_eq!(witness::of_trips(&trace.trips, device), seen, "{device}, traced by '{filter}'");
        }
        for trip in &trace.trips {
            let from_client = trip.hops[0].dst == self.dialled.ip();
            assert_eq!(trip.way(), way(if from_client { there } else { back }), "{trip}");
            assert!(trip.joined && trip.complete, "{trip}");
        }
    }
}

#[test]
fn to_a_service_and_back() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for family in 0..2 {
        let listen = at(server.addresses()[family], 8080);
        lab.cluster_ip(vip(family), listen).unwrap();
        let call =
            Call { lab: &lab, client: &client.namespace, dialled: vip(family), server: &server.namespace, listen };
        let there = [(client.veth.as_str(), "rx"), (&server.veth, "tx")];
        let back = [(server.veth.as_str(), "rx"), (&client.veth, "tx")];
        // By the backend's address, which the client's packets get on their way; and by the service's, which answers get.
        call.assert_followed(&format!("host {}", listen.ip()), &there, &back);
        call.assert_followed(&format!("host {}", vip(family).ip()), &there, &back);
    }
}

/// Source and destination change at once, and both hops are at one device.
#[test]
fn to_a_service_whose_backend_is_the_caller() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    let way = [(server.veth.as_str(), "rx"), (&server.veth, "tx")];
    for family in 0..2 {
        let listen = at(server.addresses()[family], 8080);
        lab.cluster_ip(vip(family), listen).unwrap();
        let call =
            Call { lab: &lab, client: &server.namespace, dialled: vip(family), server: &server.namespace, listen };
        call.assert_followed(&format!("host {}", lab.node.addresses()[family]), &way, &way);
    }
}

#[test]
fn by_a_node_port_to_a_pod_here_and_elsewhere() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let (server, node) = (lab.pod("server"), &lab.node);
    for family in 0..2 {
        let dialled = |port| at(node.addresses()[family], port);
        let listen = at(server.addresses()[family], 8080);
        lab.node_port(30080, listen, TrafficPolicy::Local).unwrap();
        let client = &lab.outside.namespace;
        let call = Call { lab: &lab, client, dialled: dialled(30080), server: &server.namespace, listen };
        let (there, back) = ([("eth0", "rx"), (&server.veth, "tx")], [(server.veth.as_str(), "rx"), ("eth0", "tx")]);
        call.assert_followed(&format!("host {}", listen.ip()), &there, &back);
        call.assert_followed("port 30080", &there, &back);

        let listen = at(lab.remote.addresses()[family], 8080);
        lab.node_port(30081, listen, TrafficPolicy::Cluster).unwrap();
        let call = Call { lab: &lab, client, dialled: dialled(30081), server: &lab.remote.namespace, listen };
        let way = [("eth0", "rx"), ("eth0", "tx")];
        call.assert_followed("port 30081", &way, &way);
    }
}

/// A pod of the second ENI: out by eth1.
#[test]
fn by_a_second_eni() {
    let lab = Lab::builder().pod_on("client", Eni::Secondary).start().unwrap();
    let (client, remote) = (lab.pod("client"), &lab.remote);
    let listen = at(remote.ipv4, 8080);
    let call = Call { lab: &lab, client: &client.namespace, dialled: listen, server: &remote.namespace, listen };
    let (there, back) = ([(client.veth.as_str(), "rx"), ("eth1", "tx")], [("eth1", "rx"), (&*client.veth, "tx")]);
    call.assert_followed(&format!("host {}", client.ipv4), &there, &back);
}

/// The load has hops at the pod's veth and at the overlay; what carries it is at eth0, and is a trip of its own.
#[test]
fn through_an_overlay() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    let listen = at(lab.overlay(4789).unwrap(), 8080);
    let call = Call { lab: &lab, client: &client.namespace, dialled: listen, server: &lab.remote.namespace, listen };
    let (there, back) = ([(client.veth.as_str(), "rx"), ("overlay", "tx")], [("overlay", "rx"), (&*client.veth, "tx")]);
    call.assert_followed("port 8080", &there, &back);

    let carriers = Capture::start(&lab.node.namespace, "eth0", "udp port 4789").unwrap();
    let serving = TcpServer::start(&lab.remote.namespace, listen, Serve::Send(BYTES)).unwrap();
    let trace = lab.open_trace(&["udp", "port", "4789"]).unwrap();
    download(&client.namespace, listen).unwrap();
    drop(serving);
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    // tcpdump shows the load on a line of its own.
    let carriers = carriers.stop().unwrap().iter().filter(|packet| packet.text.contains("VXLAN")).count();
    assert_eq!(trace.trips.len(), carriers);
    assert!(trace.trips.iter().all(|trip| trip.hops.len() == 1 && trip.hops[0].device == "eth0"));
}

/// Fragments are packets of their own, unless conntrack puts them together on their way: either way nothing is joined that does
/// not belong together, and nothing is missing.
#[test]
fn fragments() {
    const DATAGRAMS: u32 = 20;
    for tracked in [false, true] {
        let lab = Lab::builder().pod("client").pod("server").start().unwrap();
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        if tracked {
            lab.snat().unwrap();
        }
        for address in server.addresses().map(|address| at(address, 9000)) {
            let sink = UdpSink::start(&server.namespace, address).unwrap();
            send_datagrams(&client.namespace, address, 10, 1).unwrap();
            lab.wait_until_quiet().unwrap();
            let filter = format!("host {} and (udp or ip6[6] == 44)", address.ip());
            let devices = [client.veth.as_str(), &server.veth];
            let captures = devices.map(|device| Capture::start(&lab.node.namespace, device, &filter).unwrap());
            let trace = lab.open_trace(&["udp", "and", "host", &address.ip().to_string()]).unwrap();
            send_datagrams(&client.namespace, address, 20_000, DATAGRAMS).unwrap();
            lab.wait_until_quiet().unwrap();
            let trace = trace.trace().unwrap();
            assert_eq!(sink.stop().unwrap().count, u64::from(DATAGRAMS) + 1);
            for (device, capture) in devices.iter().zip(captures) {
                let hops = trace.trips.iter().flat_map(|trip| &trip.hops).filter(|hop| hop.device == *device).count();
                assert_eq!(hops, capture.stop().unwrap().len(), "{device} {address} {tracked}");
                assert_eq!(hops, 3 * DATAGRAMS as usize, "{device} {address} {tracked}");
            }
            if !tracked {
                let way = format!("{} rx, {} tx", client.veth, server.veth);
                assert!(trace.trips.iter().all(|trip| trip.way() == way && trip.joined), "{address}");
            }
            assert!(trace.trips.iter().all(|trip| trip.hops.len() <= 2), "{address}");
        }
    }
}
