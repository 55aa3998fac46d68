//! Address translation really happens: the kernel's connection table says from what to what.

use std::net::{IpAddr, SocketAddr};

use lab::traffic::{Serve, Served, TcpServer, Transfer, download, ping};
use lab::{Connection, Eni, Lab, Namespace, TrafficPolicy, connections, counters};

const BYTES: u64 = 100_000;
const VIP: &str = "172.20.0.10:80";
const TCP: u8 = 6;

/// A download by way of `through`; what the client, the server and the node's connection table make of it.
fn download_through(
    lab: &Lab,
    client: &Namespace,
    server: &Namespace,
    listen: SocketAddr,
    through: &str,
) -> (Transfer, Served, Connection) {
    let tcp = TcpServer::start(server, listen, Serve::Send(BYTES)).unwrap();
    let transfer = download(client, through.parse().unwrap()).unwrap();
    assert_eq!(transfer.received_bytes, BYTES);
    let served = tcp.stop().unwrap();
    assert_eq!(served.len(), 1);
    let mut tracked = connections(&lab.node.namespace).unwrap();
    tracked.retain(|connection| connection.protocol == TCP);
    assert_eq!(tracked.len(), 1, "{tracked:?}");
    let connection = tracked.remove(0);
    let (original, through) = (&connection.original, through.parse::<SocketAddr>().unwrap());
    assert_eq!((original.src, original.sport), (transfer.local.ip(), Some(transfer.local.port())));
    assert_eq!((original.dst, original.dport), (through.ip(), Some(through.port())));
    assert_eq!((connection.reply.src, connection.reply.sport), (listen.ip(), Some(listen.port())));
    assert_eq!((connection.reply.dst, connection.reply.dport), (served[0].peer.ip(), Some(served[0].peer.port())));
    (transfer, served[0], connection)
}

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

#[test]
fn snat_gives_pods_the_nodes_address_and_another_port() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let (transfer, served, _) = download_through(
        &lab,
        &lab.pod("client").namespace,
        &lab.outside.namespace,
        at(lab.outside.ipv4, 443),
        "198.51.100.7:443",
    );
    assert_eq!(served.peer.ip(), lab.node.ipv4);
    // fully-random draws the same port once in 60 000 times; then run it again.
    assert_ne!(served.peer.port(), transfer.local.port());
}

#[test]
fn snat_translates_echoes_but_nothing_inside_the_vpc() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    for target in [lab.outside.ipv4, lab.remote.ipv4] {
        assert_eq!(ping(&client.namespace, target.into(), 7, 1, 56).unwrap(), 1);
    }
    let tracked = connections(&lab.node.namespace).unwrap();
    let replies_to = |target: IpAddr| {
        let found = tracked.iter().find(|connection| connection.original.dst == target).unwrap();
        assert_eq!((found.original.src, found.original.icmp_id), (client.ipv4.into(), Some(7)));
        found.reply.dst
    };
    assert_eq!(replies_to(lab.outside.ipv4.into()), lab.node.ipv4);
    assert_eq!(replies_to(lab.remote.ipv4.into()), client.ipv4);
}

#[test]
fn snat_sends_pods_of_the_second_eni_out_by_the_first() {
    let lab = Lab::builder().pod_on("batch", Eni::Secondary).start().unwrap();
    lab.snat().unwrap();
    lab.wait_until_quiet().unwrap();
    let read = || ["eth0", "eth1"].map(|device| counters(&lab.node.namespace, device).unwrap());
    let before = read();
    let (_, served, connection) = download_through(
        &lab,
        &lab.pod("batch").namespace,
        &lab.outside.namespace,
        at(lab.outside.ipv4, 443),
        "198.51.100.7:443",
    );
    assert_eq!((served.peer.ip(), connection.mark), (lab.node.ipv4.into(), 0x80));
    let now = read();
    assert!(now[0].since(before[0]).rx_bytes > BYTES);
    assert_eq!(now[1], before[1]);
}

#[test]
fn cluster_ip_reaches_a_local_pod() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let server = lab.pod("server");
    lab.cluster_ip(VIP.parse().unwrap(), at(server.ipv4, 8080)).unwrap();
    let (transfer, served, _) =
        download_through(&lab, &lab.pod("client").namespace, &server.namespace, at(server.ipv4, 8080), VIP);
    assert_eq!(served.peer, transfer.local);
}

#[test]
fn cluster_ip_works_for_ipv6() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let server = lab.pod("server");
    let vip = "[fd00:10::10]:80";
    lab.cluster_ip(vip.parse().unwrap(), at(server.ipv6, 8080)).unwrap();
    download_through(&lab, &lab.pod("client").namespace, &server.namespace, at(server.ipv6, 8080), vip);
}

#[test]
fn cluster_ip_reaches_a_remote_pod() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.cluster_ip(VIP.parse().unwrap(), at(lab.remote.ipv4, 8080)).unwrap();
    let (transfer, served, _) =
        download_through(&lab, &lab.pod("client").namespace, &lab.remote.namespace, at(lab.remote.ipv4, 8080), VIP);
    assert_eq!(served.peer, transfer.local);
}

#[test]
fn cluster_ip_is_reached_by_the_node_itself() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    lab.cluster_ip(VIP.parse().unwrap(), at(server.ipv4, 8080)).unwrap();
    download_through(&lab, &lab.node.namespace, &server.namespace, at(server.ipv4, 8080), VIP);
}

#[test]
fn a_pod_that_calls_its_own_service_is_masqueraded() {
    for by_iptables in [false, true] {
        let lab = Lab::builder().pod("server").start().unwrap();
        let server = lab.pod("server");
        let (vip, backend) = (VIP.parse().unwrap(), at(server.ipv4, 8080));
        if by_iptables { lab.cluster_ip_by_iptables(vip, backend) } else { lab.cluster_ip(vip, backend) }.unwrap();
        let (_, served, _) = download_through(&lab, &server.namespace, &server.namespace, backend, VIP);
        assert_eq!(served.peer.ip(), lab.node.ipv4, "by iptables: {by_iptables}");
    }
}

#[test]
fn cluster_ip_by_iptables_reaches_a_local_pod() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let server = lab.pod("server");
    lab.cluster_ip_by_iptables(VIP.parse().unwrap(), at(server.ipv4, 8080)).unwrap();
    let (transfer, served, _) =
        download_through(&lab, &lab.pod("client").namespace, &server.namespace, at(server.ipv4, 8080), VIP);
    assert_eq!(served.peer, transfer.local);
}

#[test]
fn node_port_with_local_policy_keeps_the_client() {
    for eni in [Eni::Primary, Eni::Secondary] {
        let lab = Lab::builder().pod_on("server", eni).start().unwrap();
        let server = lab.pod("server");
        lab.node_port(30080, at(server.ipv4, 8080), TrafficPolicy::Local).unwrap();
        let (transfer, served, _) =
            download_through(&lab, &lab.outside.namespace, &server.namespace, at(server.ipv4, 8080), "10.0.0.5:30080");
        assert_eq!(served.peer, transfer.local, "{eni:?}");
    }
}

#[test]
fn node_port_reaches_a_remote_backend_in_the_nodes_name() {
    let lab = Lab::builder().start().unwrap();
    lab.node_port(30080, at(lab.remote.ipv4, 8080), TrafficPolicy::Cluster).unwrap();
    let (_, served, _) = download_through(
        &lab,
        &lab.outside.namespace,
        &lab.remote.namespace,
        at(lab.remote.ipv4, 8080),
        "10.0.0.5:30080",
    );
    assert_eq!(served.peer.ip(), lab.node.ipv4);
}

#[test]
fn a_denied_pod_gets_no_further_than_the_node() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    lab.deny("client").unwrap();
    assert_eq!(ping(&client.namespace, server.ipv4.into(), 7, 1, 56).unwrap(), 0);
    assert_eq!(ping(&client.namespace, server.ipv6.into(), 7, 1, 56).unwrap(), 0);
    assert_eq!(ping(&client.namespace, lab.node.ipv4.into(), 7, 1, 56).unwrap(), 1);
    assert_eq!(ping(&server.namespace, lab.outside.ipv4.into(), 7, 1, 56).unwrap(), 1);
}
