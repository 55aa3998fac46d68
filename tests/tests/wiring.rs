//! The lab is what it says it is: everybody reaches everybody, and the kernel counts exactly what was sent.

use std::net::SocketAddr;
use std::time::Duration;

use lab::traffic::{
    Serve, TcpServer, UdpSink, download, echo, ping, send_datagrams, send_frames, short_connections, upload,
};
use lab::{Capture, Counters, Eni, Lab, Load, connections, counters, iperf3};

const ETHERNET_BYTES: u64 = 14;
const UDP_BYTES: u64 = 8;
const IPV4_BYTES: u64 = 20;
const IPV6_BYTES: u64 = 40;

fn two_pods() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

#[test]
fn everybody_reaches_everybody() {
    let lab = Lab::builder().pod("client").pod("server").pod_on("batch", Eni::Secondary).start().unwrap();
    let hosts = [&lab.node, &lab.outside, &lab.remote].map(|host| (&host.namespace, host.addresses()));
    let pods = lab.pods().iter().map(|pod| (&pod.namespace, pod.addresses()));
    let all: Vec<_> = hosts.into_iter().chain(pods).collect();
    for (from, _) in &all {
        for (to, addresses) in &all {
            for address in addresses {
                assert_eq!(ping(from, *address, 7, 1, 56).unwrap(), 1, "{} to {} {address}", from.name(), to.name());
            }
        }
    }
}

#[test]
fn a_pod_of_the_second_eni_uses_it_off_the_node_but_not_on_it() {
    let lab = Lab::builder().pod("client").pod_on("batch", Eni::Secondary).start().unwrap();
    let batch = lab.pod("batch");
    lab.wait_until_quiet().unwrap();
    let read = || ["eth0", "eth1", &batch.veth].map(|device| counters(&lab.node.namespace, device).unwrap());
    let before = read();
    assert_eq!(ping(&batch.namespace, lab.remote.ipv4.into(), 7, 3, 100).unwrap(), 3);
    assert_eq!(ping(&batch.namespace, lab.pod("client").ipv4.into(), 7, 4, 100).unwrap(), 4);
    lab.wait_until_quiet().unwrap();
    let now = read();
    let packets = |index: usize| {
        let delta = now[index].since(before[index]);
        (delta.rx_packets, delta.tx_packets)
    };
    assert_eq!([packets(0), packets(1), packets(2)], [(0, 0), (3, 3), (7, 7)]);
}

#[test]
fn veths_count_each_byte_of_datagrams_and_fragments() {
    let lab = two_pods();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for (to, ip_bytes, fragment_header) in
        [(server.addresses()[0], IPV4_BYTES, 0), (server.addresses()[1], IPV6_BYTES, 8)]
    {
        // Each fragment carries a multiple of 8 bytes, as many as 9001 allows.
        let room = (9001 - ip_bytes - fragment_header) / 8 * 8;
        for (payload, count) in [(1, 10), (1000, 10), (20_000, 3)] {
            let fragments =
                if payload + UDP_BYTES + ip_bytes > 9001 { (payload + UDP_BYTES).div_ceil(room) } else { 1 };
            let extra = if fragments > 1 { fragment_header } else { 0 };
            let frame_bytes = payload + UDP_BYTES + fragments * (ETHERNET_BYTES + ip_bytes + extra);

            let sink = UdpSink::start(&server.namespace, SocketAddr::new(to, 0)).unwrap();
            lab.wait_until_quiet().unwrap();
            let read = |veth: &str| counters(&lab.node.namespace, veth).unwrap();
            let before = (read(&client.veth), read(&server.veth));
            send_datagrams(&client.namespace, sink.address(), usize::try_from(payload).unwrap(), count).unwrap();
            lab.wait_until_quiet().unwrap();
            let now = (read(&client.veth), read(&server.veth));
            let arrived = sink.stop().unwrap();

            let count = u64::from(count);
            assert_eq!((arrived.count, arrived.bytes), (count, count * payload));
            let expected = (count * frame_bytes, count * fragments);
            let (from, to) = (now.0.since(before.0), now.1.since(before.1));
            assert_eq!((from.rx_bytes, from.rx_packets), expected, "in from the client, {payload} bytes");
            assert_eq!((to.tx_bytes, to.tx_packets), expected, "out to the server, {payload} bytes");
            assert_eq!((from.tx_packets, to.rx_packets), (0, 0), "nothing goes back");
        }
    }
}

#[test]
fn tcp_moves_exactly_what_was_asked_for() {
    const BYTES: u64 = 3_000_001;
    let lab = two_pods();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for address in server.addresses() {
        let listen = SocketAddr::new(address, 0);
        let start = |serve| TcpServer::start(&server.namespace, listen, serve).unwrap();
        for (serve, to_server, to_client) in
            [(Serve::Send(BYTES), 0, BYTES), (Serve::Receive, BYTES, 0), (Serve::Echo, BYTES, BYTES)]
        {
            let tcp = start(serve);
            let seen = match serve {
                Serve::Send(_) => download(&client.namespace, tcp.address()),
                Serve::Receive => upload(&client.namespace, tcp.address(), BYTES),
                Serve::Echo => echo(&client.namespace, tcp.address(), BYTES),
            };
            let seen = seen.unwrap();
            assert_eq!((seen.sent_bytes, seen.received_bytes), (to_server, to_client), "{serve:?}");
            let served = tcp.stop().unwrap();
            assert_eq!(served.len(), 1);
            assert_eq!(
                (served[0].peer, served[0].received_bytes, served[0].sent_bytes),
                (seen.local, to_server, to_client)
            );
        }
    }
}

#[test]
fn short_connections_are_all_made() {
    let lab = two_pods();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let tcp = TcpServer::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 0), Serve::Send(100)).unwrap();
    let outcome = short_connections(&client.namespace, tcp.address(), 500, Duration::from_millis(600), 3).unwrap();
    assert_eq!((outcome.completed.len(), outcome.failed), (300, 0));
    assert!(outcome.completed.iter().all(|local| local.ip() == client.ipv4), "{outcome:?}");
    let mut seen: Vec<_> = tcp.stop().unwrap().iter().map(|served| served.peer).collect();
    let mut made = outcome.completed;
    seen.sort_unstable();
    made.sort_unstable();
    assert_eq!(seen, made);
}

#[test]
fn iperf3_says_what_it_moved() {
    let lab = two_pods();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let before = counters(&lab.node.namespace, &server.veth).unwrap();
    let (mut least, mut most) = (0, 0);
    for address in server.addresses() {
        for load in [Load::TcpBytes(20_000_000), Load::Udp { bytes: 1_000_000, datagram_bytes: 1000 }] {
            let target = SocketAddr::new(address, 5201);
            let totals = iperf3(&server.namespace, 5201, &client.namespace, target, load).unwrap();
            assert!(totals.sent_bytes >= totals.received_bytes && totals.received_bytes > 0, "{totals:?}");
            if let Load::Udp { bytes, .. } = load {
                assert_eq!(totals.sent_bytes, bytes);
            }
            least += totals.received_bytes;
            most += totals.sent_bytes;
        }
    }
    let sent = counters(&lab.node.namespace, &server.veth).unwrap().since(before).tx_bytes;
    // Headers of 1000-byte datagrams and iperf3's control connections are well below an eighth.
    assert!((least..most + most / 8).contains(&sent), "{least} to {most} bytes of payload, {sent} on the device");
}

#[test]
fn frames_leave_as_they_are_written() {
    let lab = two_pods();
    let client = lab.pod("client");
    // First: what a new device says of its multicast groups is not to be captured.
    lab.wait_until_quiet().unwrap();
    let capture = Capture::start(&lab.node.namespace, &client.veth, "").unwrap();
    lab.wait_until_quiet().unwrap();
    let before = counters(&lab.node.namespace, &client.veth).unwrap();
    let mut frame = vec![0xff; 6];
    frame.extend(lab::traffic::mac(&client.namespace, "eth0").unwrap());
    // Local experimental EtherType 1 (IEEE 802).
    frame.extend([0x88, 0xb5]);
    frame.resize(300, 0);
    let mut vlan = frame.clone();
    vlan.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
    send_frames(&client.namespace, "eth0", &[frame, vlan]).unwrap();
    lab.wait_until_quiet().unwrap();
    let seen = counters(&lab.node.namespace, &client.veth).unwrap().since(before);
    assert_eq!(seen, Counters { rx_bytes: 604, rx_packets: 2, ..Counters::default() });
    let packets = capture.stop().unwrap();
    assert_eq!(packets.iter().map(|packet| packet.frame_bytes).collect::<Vec<_>>(), [300, 304], "{packets:?}");
    assert!(packets[1].text.contains("vlan 100"), "{packets:?}");
}

#[test]
fn nothing_is_tracked_until_something_is_translated() {
    let lab = two_pods();
    ping(&lab.pod("client").namespace, lab.outside.ipv4.into(), 7, 1, 56).unwrap();
    assert_eq!(connections(&lab.node.namespace).unwrap(), []);
}
