//! `netpath trace`: one packet from hook to hook through NAT, where it ends, and the accounts.

use std::net::SocketAddr;

use lab::ip_batch;
use lab::traffic::{Serve, TcpServer, UdpEcho, UdpSink, ask, download, send_datagrams};

use super::counting::between;
use super::{attached, each_way, has_drop_reasons, lab};

#[test]
fn segments_are_followed_through_snat() {
    each_way(|way| {
        let lab = lab();
        lab.snat().unwrap();
        let client = lab.pod("client");
        let server = SocketAddr::new(lab.outside.ipv4.into(), 8080);
        let serving = TcpServer::start(&lab.outside.namespace, server, Serve::Send(1_000_000)).unwrap();
        let filter = ["host", &client.ipv4.to_string(), "and", "tcp", "port", "8080"];
        let trace = lab.open_trace(&[way.arguments, &filter].concat()).unwrap();
        assert_eq!(download(&client.namespace, server).unwrap().received_bytes, 1_000_000);
        drop(serving);
        lab.wait_until_quiet().unwrap();
        let trace = trace.trace().unwrap();
        assert_eq!(attached(&lab.node.namespace), 0, "it leaves nothing");
        let mut payload = 0;
        for trip in &trace.trips {
            let from_server = trip.hops[0].src == server.ip();
            let expected = if from_server {
                (format!("eth0 rx, {} tx", client.veth), "pod")
            } else {
                (format!("{} rx, eth0 tx", client.veth), "forwarded")
            };
            assert_eq!(
                (trip.way(), trip.end.as_str(), trip.joined, trip.complete),
                (expected.0, expected.1, true, true)
            );
            let [first, last] = &trip.hops[..] else { panic!("{trip}") };
            if from_server {
                payload += u64::from(if trip.retransmission_of.is_none() { trip.payload } else { 0 });
                assert_eq!((first.dst, last.dst), (lab.node.ipv4.into(), client.ipv4.into()), "{trip}");
            } else {
                assert_eq!((first.src, last.src), (client.ipv4.into(), lab.node.ipv4.into()), "{trip}");
            }
        }
        assert_eq!(payload, 1_000_000, "each byte is in one trip");
    });
}

/// A packet has its tag beside it where it leaves by the device below.
#[test]
#[ignore = "needs VLAN devices, which `cargo xtask kernels` has"]
fn packets_are_followed_through_a_vlan_device() {
    let lab = lab();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    let (near, far) = ("link eth0 type vlan id 7", "link node-eth0 type vlan id 7");
    assert!(between("vlan", (node, near), (&lab.vpc, far)));
    ip_batch(&lab.vpc, &format!("route replace {} via 192.168.77.1\n", client.ipv4)).unwrap();
    let server = SocketAddr::from(([192, 168, 77, 2], 9000));
    let echo = UdpEcho::start(&lab.vpc, server).unwrap();
    each_way(|way| {
        let trace = lab.open_trace(&[way.arguments, &["udp", "port", "9000"]].concat()).unwrap();
        let asked = ask(&client.namespace, 0, server, [100, 20], |_| Ok(())).unwrap();
        assert_eq!(asked.answers, 20);
        lab.wait_until_quiet().unwrap();
        let trips = trace.trace().unwrap().trips;
        assert_eq!(trips.len(), 40);
        for trip in &trips {
            let to_server = trip.hops[0].dst == server.ip();
            let there = format!("{} rx, over0 tx, eth0 tx", client.veth);
            let back = format!("eth0 rx, over0 rx, {} tx", client.veth);
            assert_eq!(trip.way(), if to_server { there } else { back }, "{trip}");
            assert!(trip.joined && trip.complete, "{trip}");
        }
    });
    drop(echo);
}

#[test]
fn drops_have_the_kernels_reason_and_place() {
    each_way(|way| {
        let lab = lab();
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        lab.nft(
            "add table ip rules1\nadd chain ip rules1 forward1 { type filter hook forward priority 0; }\n\
             add rule ip rules1 forward1 udp dport 9 drop",
        )
        .unwrap();
        send_datagrams(&client.namespace, SocketAddr::new(server.ipv4.into(), 8), 10, 1).unwrap();
        let filter = ["--drops", "udp", "dst", "port", "9"];
        let trace = lab.open_trace(&[way.arguments, &filter].concat()).unwrap();
        send_datagrams(&client.namespace, SocketAddr::new(server.ipv4.into(), 9), 10, 20).unwrap();
        lab.wait_until_quiet().unwrap();
        let trace = trace.trace().unwrap();
        assert_eq!(trace.trips.len(), 20);
        let (end, reason) = if has_drop_reasons() { ("dropped", Some("NETFILTER_DROP")) } else { ("unknown", None) };
        for trip in &trace.trips {
            assert_eq!((trip.end.as_str(), trip.reason.as_deref()), (end, reason), "{trip}");
            assert!(
                trip.location
                    .as_deref()
                    .is_some_and(|place| place.starts_with("nf_hook_slow") || place.starts_with("nft_"))
            );
            assert_eq!(trip.way(), format!("{} rx", client.veth), "{trip}");
        }
    });
}

#[test]
fn the_accounts_have_every_packet() {
    each_way(|way| {
        let lab = lab();
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        for address in server.addresses().map(|address| SocketAddr::new(address, 9000)) {
            let _sink = UdpSink::start(&server.namespace, address).unwrap();
            send_datagrams(&client.namespace, address, 10, 1).unwrap();
            let filter = ["--rate", "10", "udp", "dst", "port", "9000"];
            let trace = lab.open_trace(&[way.arguments, &filter].concat()).unwrap();
            send_datagrams(&client.namespace, address, 100, 5_000).unwrap();
            lab.wait_until_quiet().unwrap();
            let trace = trace.trace().unwrap();
            assert_eq!(trace.summary.matched, 10_000, "two hooks each: {:?}", trace.summary);
            assert!(trace.summary.over_rate > 0 && trace.trips.iter().all(|trip| trip.hops.len() == 2));
        }
    });
}
