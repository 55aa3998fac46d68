//! Packets that do not arrive: the kernel's reason and place, as many as the kernel counted.

use lab::traffic::{UdpSink, mac, send_datagrams, send_frames};
use lab::{Lab, Namespace, tc};

use super::at;
use super::witness::{datagram, is_of};

/// Kernels before 5.17 give no reason; the lab's tests run on newer ones.
fn assert_dropped(trace: &lab::trace::Trace, address: std::net::Ipv4Addr, count: usize, reason: &str, place: &str) {
    let trips: Vec<_> = trace.trips.iter().filter(|trip| is_of(trip, address)).collect();
    assert_eq!(trips.len(), count, "{reason}");
    for trip in trips {
        assert_eq!((trip.end.as_str(), trip.reason.as_deref()), ("dropped", Some(reason)), "{trip}");
        assert!(trip.location.as_deref().is_some_and(|location| location.starts_with(place)), "{:?}", trip.location);
    }
}

fn counted(namespace: &Namespace) -> usize {
    let rules = namespace.output("nft", &["list", "chain", "ip", "rules1", "forward1"]).unwrap();
    let packets = rules.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    packets.unwrap().parse().unwrap()
}

#[test]
fn by_a_rule_a_missing_route_and_a_time_to_live() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    lab.nft(
        "add table ip rules1\nadd chain ip rules1 forward1 { type filter hook forward priority 0; }\n\
         add rule ip rules1 forward1 udp dport 9 counter drop",
    )
    .unwrap();
    node.output("ip", &["route", "add", "blackhole", "203.0.113.9"]).unwrap();
    // The neighbours know each other after these.
    send_datagrams(&client.namespace, at(server.ipv4, 8), 10, 1).unwrap();
    send_datagrams(&client.namespace, at(lab.remote.ipv4, 8), 10, 1).unwrap();
    let trace = lab.open_trace(&["--drops", "udp"]).unwrap();
    send_datagrams(&client.namespace, at(server.ipv4, 9), 10, 7).unwrap();
    send_frames(&client.namespace, "eth0", &vec![datagram(client, [203, 0, 113, 9].into(), 10, 64); 5]).unwrap();
    send_frames(&client.namespace, "eth0", &vec![datagram(client, lab.remote.ipv4, 11, 1); 3]).unwrap();
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    assert_eq!(counted(node), 7);
    assert_dropped(&trace, server.ipv4, 7, "NETFILTER_DROP", "nf");
    let to = |address: std::net::Ipv4Addr| trace.trips.iter().filter(|trip| is_of(trip, address)).collect::<Vec<_>>();
    for (address, count) in [([203, 0, 113, 9].into(), 5), (lab.remote.ipv4, 3)] {
        let trips = to(address);
        assert_eq!(trips.len(), count, "{address}");
        for trip in trips {
            assert_eq!((trip.end.as_str(), trip.way()), ("dropped", format!("{} rx", client.veth)), "{trip}");
            assert!(trip.location.as_deref().is_some_and(|place| place.starts_with("ip_")), "{:?}", trip.location);
        }
    }
}

/// Behind the egress hook there is a queue, and it is full.
#[test]
fn by_a_full_queue() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    let node = &lab.node.namespace;
    let _sink = UdpSink::start(&lab.remote.namespace, at(lab.remote.ipv4, 9)).unwrap();
    send_datagrams(&client.namespace, at(lab.remote.ipv4, 9), 10, 1).unwrap();
    lab.wait_until_quiet().unwrap();
    tc(node, "qdisc add dev eth0 root tbf rate 100kbit burst 2000 limit 5000").unwrap();
    let trace = lab.open_trace(&["udp", "dst", "port", "9"]).unwrap();
    send_datagrams(&client.namespace, at(lab.remote.ipv4, 9), 1_000, 50).unwrap();
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    let shown = node.output("tc", &["-s", "qdisc", "show", "dev", "eth0"]).unwrap();
    let dropped = shown.split_whitespace().skip_while(|word| *word != "(dropped").nth(1).unwrap();
    let dropped: usize = dropped.trim_end_matches(',').parse().unwrap();
    assert!(dropped > 0, "{shown}");
    assert_eq!(trace.trips.len(), 50);
    let trips: Vec<_> = trace.trips.iter().filter(|trip| trip.end == "dropped").collect();
    assert_eq!(trips.len(), dropped);
    for trip in trips {
        assert_eq!(trip.way(), format!("{} rx, eth0 tx", client.veth), "{trip}");
        assert!(trip.reason.as_deref().is_some_and(|reason| reason.contains("QDISC")), "{trip}");
    }
}

/// Frames for other hardware addresses.
#[test]
fn frames_to_another_address() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let client = lab.pod("client");
    let trace = lab.open_trace(&["udp", "port", "12"]).unwrap();
    send_datagrams(&client.namespace, at(lab.remote.ipv4, 8), 10, 1).unwrap();
    let mut frame = datagram(client, lab.remote.ipv4, 12, 64);
    frame[0] = 2;
    frame[5] ^= 0xff;
    assert_ne!(frame[..6], mac(&lab.node.namespace, &client.veth).unwrap());
    send_frames(&client.namespace, "eth0", &vec![frame; 4]).unwrap();
    let trace = trace.trace().unwrap();
    assert_dropped(&trace, lab.remote.ipv4, 4, "OTHERHOST", "ip_rcv_core");
}

/// A socket of a pod that nobody reads: the packets were delivered to the pod, as its own counter of full buffers says.
#[test]
fn by_a_pods_socket() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let address = at(server.ipv4, 9);
    let bound = server.namespace.run(|| std::net::UdpSocket::bind(address)).unwrap().unwrap();
    let trace = lab.open_trace(&["udp", "dst", "port", "9"]).unwrap();
    send_datagrams(&client.namespace, address, 1_000, 2_000).unwrap();
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    let counts = server.namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap().unwrap();
    let udp: Vec<Vec<&str>> =
        counts.lines().filter(|line| line.starts_with("Udp: ")).map(|line| line.split(' ').collect()).collect();
    let errors = udp[0].iter().position(|name| *name == "RcvbufErrors").unwrap();
    let full: usize = udp[1][errors].parse().unwrap();
    let with_reason = trace.trips.iter().filter(|trip| trip.reason.as_deref() == Some("SOCKET_RCVBUFF")).count();
    assert!(full > 0 && with_reason == full, "{with_reason} of {full}");
    assert!(trace.trips.len() == 2_000 && trace.trips.iter().all(|trip| trip.end == "pod"));
    drop(bound);
}
