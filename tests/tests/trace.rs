//! `netpath trace` against witnesses: tcpdump on the same devices, nftables' and the kernel's counters, the sender.

mod drops;
mod lost;
mod ways;
mod witness;

use std::net::SocketAddr;

use lab::Lab;
use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams, send_frames};

use self::witness::Witness;

fn at(address: impl Into<std::net::IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// The published experiment, with two tcpdumps and a search for a sequence number, as one command: the segment comes in at eth0
/// for the node's address, and goes out to the pod with the pod's.
#[test]
fn a_segment_of_a_download_through_snat() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let pod = lab.pod("client");
    let node = &lab.node.namespace;
    let server = at(lab.outside.ipv4, 8080);
    let serving = TcpServer::start(&lab.outside.namespace, server, Serve::Send(300_000)).unwrap();
    let [eth0, veth] = ["eth0", &pod.veth].map(|device| Witness::start(node, device, "tcp port 8080").unwrap());
    let trace = lab.open_trace(&["host", &pod.ipv4.to_string(), "and", "tcp", "port", "8080"]).unwrap();
    let transfer = download(&pod.namespace, server).unwrap();
    assert_eq!(transfer.received_bytes, 300_000);
    drop(serving);
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    let (eth0, veth) = (eth0.stop().unwrap(), veth.stop().unwrap());

    // Each hop is a packet that tcpdump saw on that device, and the other way round.
    for (device, seen) in [("eth0", &eth0), (&*pod.veth, &veth)] {
        assert_eq!(witness::of_trips(&trace.trips, device), *seen, "{device}");
    }
    let segments: Vec<_> = eth0.iter().filter(|packet| packet.src == server && packet.payload > 0).collect();
    assert!(segments.len() > 3, "{segments:?}");
    for segment in segments {
        let of_it = |trip: &&lab::trace::Trip| {
            trip.seq == Some(segment.seq) && trip.hops[0].src == server.ip() && trip.payload > 0
        };
        let trips: Vec<_> = trace.trips.iter().filter(of_it).collect();
        let [trip] = trips[..] else { panic!("{} trips of {segment:?}", trips.len()) };
        assert_eq!((trip.way(), trip.end.as_str()), (format!("eth0 rx, {} tx", pod.veth), "pod"), "{trip}");
        let [first, last] = &trip.hops[..] else { panic!("{trip}") };
        assert_eq!((first.dst, last.dst), (lab.node.ipv4.into(), pod.ipv4.into()), "{trip}");
        assert_eq!((first.before_match, last.before_match, trip.joined, trip.complete), (true, false, true, true));
        assert!(last.since_ns < 100_000_000, "{trip}: {} ns", last.since_ns);
    }
}

/// Equal datagrams with identification 0, which tcpdump cannot tell apart: as many trips as were sent, each with both hops.
#[test]
fn equal_datagrams_are_trips_of_their_own() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let sink = UdpSink::start(&server.namespace, at(server.ipv4, 9000)).unwrap();
    // The neighbours know each other after this one.
    send_datagrams(&client.namespace, at(server.ipv4, 9000), 100, 1).unwrap();
    let frames = vec![witness::datagram(client, server.ipv4, 9000, 64); 500];
    let trace = lab.open_trace(&["udp", "dst", "port", "9000"]).unwrap();
    send_frames(&client.namespace, "eth0", &frames).unwrap();
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    assert_eq!(sink.stop().unwrap().count, 501);
    assert_eq!(trace.trips.len(), 500);
    for trip in &trace.trips {
        assert_eq!(trip.way(), format!("{} rx, {} tx", client.veth, server.veth), "{trip}");
        assert_eq!((trip.end.as_str(), trip.retransmission_of), ("pod", None));
    }
}

/// A server that does not hear every other SYN.
#[test]
fn a_repeated_syn_names_the_first_one() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let server = at(lab.remote.ipv4, 8080);
    let serving = TcpServer::start(&lab.remote.namespace, server, Serve::Send(10)).unwrap();
    lab.remote
        .namespace
        .output(
            "nft",
            &["add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }; \
                          add rule ip deaf in tcp flags & (syn | ack) == syn numgen inc mod 2 0 counter drop"],
        )
        .unwrap();
    let trace = lab.open_trace(&["tcp", "port", "8080"]).unwrap();
    download(&lab.pod("client").namespace, server).unwrap();
    drop(serving);
    let trace = trace.trace().unwrap();
    let syns: Vec<_> = trace.trips.iter().filter(|trip| trip.flags.as_deref() == Some("S")).collect();
    let [first, second] = syns[..] else { panic!("{} SYNs", syns.len()) };
    assert_eq!((first.retransmission_of, second.retransmission_of), (None, Some(first.trip)));
    assert_eq!(first.seq, second.seq);
    let others = trace.trips.iter().filter(|trip| trip.flags.as_deref() != Some("S"));
    assert!(others.clone().count() > 3 && others.clone().all(|trip| trip.retransmission_of.is_none()));
}

/// A report at the same time is as exact as without.
#[test]
fn a_report_at_the_same_time_is_exact() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let address = at(server.ipv4, 9000);
    let sink = UdpSink::start(&server.namespace, address).unwrap();
    send_datagrams(&client.namespace, address, 10, 1).unwrap();
    let trace = lab.open_trace(&["udp", "port", "9000"]).unwrap();
    let report =
        lab.measure(&[], || send_datagrams(&client.namespace, address, 1_000, 2_000).map(drop)).unwrap().report;
    drop(sink);
    let trace = trace.trace().unwrap();
    assert_eq!(trace.trips.len(), 2_000);
    let flow = report.flows.iter().find(|flow| flow.hops.iter().any(|hop| hop.dport == Some(9000))).unwrap();
    let packets: Vec<u64> = flow.hops.iter().map(|hop| hop.packets).collect();
    assert_eq!(packets, [2_000, 2_000]);
    let unexplained = report.accounting.terms.iter().find(|term| term.name == "residual");
    assert!(unexplained.is_none_or(|term| term.bytes == 0), "{unexplained:?}");
}
