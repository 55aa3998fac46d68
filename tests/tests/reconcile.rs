//! What netpath counts is what the devices count: to the byte and the packet, for every device and direction.
//!
//! The witness is /proc/net/dev, read by the test. The lab is quiet at both ends of the window.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use lab::traffic::{Serve, TcpServer, UdpSink, download, ping, send_datagrams, upload};
use lab::{Counters, Lab, Load, Measured, Report, counters, device_counters, iperf3, set_offload};

fn lab() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

/// Measures `work`, and holds every device of the node against its own counters.
fn reconciled(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Report {
    let read = || device_counters(&lab.node.namespace).unwrap();
    lab.wait_until_quiet().unwrap();
    let before = read();
    let Measured { report, messages, .. } = lab.measure(&[], work).unwrap();
    let after = read();
    assert!(messages.is_empty(), "netpath has nothing to complain of: {messages}");

    let kernel: BTreeMap<&str, Counters> =
        after.iter().map(|(name, counters)| (name.as_str(), counters.since(before[name]))).collect();
    let mut hooked = 0;
    for device in &report.devices {
        let name = device.name.as_str();
        let own = kernel[name];
        assert_eq!(device.kernel(), own, "{name}");
        if device.attach == "none" {
            assert_eq!(name, "lo", "everything else is hooked");
            continue;
        }
        hooked += 1;
        assert_eq!(device.hooks(), own, "{name}: netpath against /proc/net/dev");
    }
    assert_eq!(hooked, 1 + lab.pods().len(), "eth0 and every pod's veth");
    assert_eq!(report.health.map_full_packets, 0);
    assert_eq!(report.health.unparsed_packets, 0);
    assert_eq!(report.health.orphan_fragment_packets, 0);
    report
}

/// Bytes at the first hop of the flows from `src` to `dst` and the port, which must be of that path.
fn flow_bytes(report: &Report, proto: &str, src: IpAddr, dst: SocketAddr, path: &str) -> u64 {
    let mut sum = 0;
    for flow in report.flows_of(proto).filter(|flow| flow.src == src && flow.destination() == dst) {
        assert_eq!(flow.path, path, "{flow}");
        sum += flow.bytes;
    }
    sum
}

#[test]
fn tcp_between_pods_by_iperf3() {
    let lab = lab();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for address in server.addresses() {
        let mut totals = None;
        let report = reconciled(&lab, || {
            let target = SocketAddr::new(address, 5201);
            totals = Some(iperf3(&server.namespace, 5201, &client.namespace, target, Load::TcpBytes(300_000_000))?);
            Ok(())
        });
        let source = client.addresses()[usize::from(address.is_ipv6())];
        let bytes = flow_bytes(&report, "tcp", source, SocketAddr::new(address, 5201), "local");
        let received = totals.unwrap().received_bytes;
        assert!(received >= 250_000_000, "iperf3 received only {received}");
        // Headers: at most one of 54 to 86 bytes for every segment, and super-packets have one for many.
        assert!((received..received + received / 10).contains(&bytes), "iperf3 {received}, netpath {bytes}");
        assert_eq!(report.path("eni").bytes, 0);
    }
}

#[test]
fn a_pods_transfers_with_the_outside() {
    let lab = lab();
    let client = &lab.pod("client").namespace;
    for address in lab.outside.addresses() {
        let server =
            TcpServer::start(&lab.outside.namespace, SocketAddr::new(address, 0), Serve::Send(8_000_000)).unwrap();
        let report = reconciled(&lab, || download(client, server.address()).map(drop));
        let eni = report.path("eni").bytes;
        assert!((8_000_000..8_800_000).contains(&eni), "8 MB and headers, not {eni}");
        assert_eq!(report.path("local").bytes, 0);

        let sink = TcpServer::start(&lab.outside.namespace, SocketAddr::new(address, 0), Serve::Receive).unwrap();
        let report = reconciled(&lab, || upload(client, sink.address(), 3_000_000).map(drop));
        let eni = report.path("eni").bytes;
        assert!((3_000_000..3_300_000).contains(&eni), "3 MB and headers, not {eni}");
    }
}

#[test]
fn udp_whole_and_in_fragments() {
    let lab = lab();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for address in server.addresses() {
        // One frame; a frame of the MTU; three fragments; the largest datagram there is.
        for (payload, count) in [(1, 100), (8_900, 50), (20_000, 20), (65_000, 10)] {
            let sink = UdpSink::start(&server.namespace, SocketAddr::new(address, 0)).unwrap();
            let target = sink.address();
            let report = reconciled(&lab, || send_datagrams(&client.namespace, target, payload, count).map(drop));
            let arrived = sink.stop().unwrap();
            assert_eq!((arrived.count, arrived.bytes), (u64::from(count), payload as u64 * u64::from(count)));
            let source = client.addresses()[usize::from(address.is_ipv6())];
            let bytes = flow_bytes(&report, "udp", source, target, "local");
            // All fragments are in the one flow that has the ports.
            assert!(bytes > arrived.bytes, "{payload}: {bytes} for {} of payload", arrived.bytes);
            assert_eq!(report.health.unjoined_flows, 0, "{payload}");
            let udp: Vec<_> = report.flows_of("udp").collect();
            assert_eq!(udp.len(), 1, "{payload}: {udp:?}");
        }
    }
}

#[test]
fn echo_to_every_kind_of_peer() {
    let lab = lab();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for family in 0..2 {
        let report = reconciled(&lab, || {
            for peer in [server.addresses(), lab.outside.addresses(), lab.node.addresses(), lab.remote.addresses()] {
                assert_eq!(ping(&client.namespace, peer[family], 77, 5, 1000)?, 5);
            }
            Ok(())
        });
        let proto = ["icmp", "icmpv6"][family];
        let source = client.addresses()[family];
        // Ethernet 14, IP 20 or 40, ICMP 8, payload 1000; five of them.
        let expected = [1042 * 5, 1062 * 5][family];
        for (peer, path) in
            [(&server.addresses(), "local"), (&lab.outside.addresses(), "eni"), (&lab.node.addresses(), "host")]
        {
            let peer = peer[family];
            let [there, back] = [peer, source].map(|address| SocketAddr::new(address, 77));
            assert_eq!(flow_bytes(&report, proto, source, there, path), expected, "to {peer}");
            assert_eq!(flow_bytes(&report, proto, peer, back, path), expected, "from {peer}");
        }
    }
}

/// A veth that merges (GRO) counts frames without their Ethernet headers. Under load the counters move while they are read, so
/// that no number fits to the byte; still nothing is unexplained, in either direction, with single packets and with merged ones.
#[test]
fn a_veth_that_merges_under_load() {
    let lab = lab();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    for (namespace, name) in [(node, client.veth.as_str()), (&client.namespace, "eth0")] {
        set_offload(namespace, name, "tso", false).unwrap();
        set_offload(namespace, name, "gso", false).unwrap();
        set_offload(namespace, name, "gro", true).unwrap();
    }
    let near = SocketAddr::new(client.addresses()[0], 0);
    let sink = UdpSink::start(&client.namespace, near).unwrap();
    let source = TcpServer::start(node, SocketAddr::new(lab.node.addresses()[0], 0), Serve::Send(20_000_000)).unwrap();
    let receiver = TcpServer::start(node, SocketAddr::new(lab.node.addresses()[0], 0), Serve::Receive).unwrap();
    for tcp in [false, true] {
        let done = AtomicBool::new(false);
        let (report, kernel) = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if tcp {
                        download(&client.namespace, source.address()).unwrap();
                        upload(&client.namespace, receiver.address(), 20_000_000).unwrap();
                    } else {
                        send_datagrams(node, sink.address(), 1_000, 1_000).unwrap();
                    }
                }
            });
            let window = lab.open_window(&[]).unwrap();
            let before = counters(node, &client.veth).unwrap();
            thread::sleep(Duration::from_secs(2));
            let after = counters(node, &client.veth).unwrap();
            let report = window.report();
            done.store(true, Ordering::Relaxed);
            (report.unwrap(), after.since(before))
        });
        let found = report.device(&client.veth);
        let (tx, counted) = (found.tx(), found.kernel());
        assert!(counted.tx_packets >= kernel.tx_packets && kernel.tx_packets > 1_000, "no load: {kernel:?}");
        // 14 bytes a frame, by what netpath saw and the kernel counted.
        let merged = tx.wire_bytes - tx.bytes;
        assert_eq!(merged > 0, tcp, "{tx}");
        for direction in ["tx", "rx"] {
            let residual = found.residual(direction);
            assert_eq!(residual.unexplained_bytes, 0, "{direction}, TCP: {tcp}: {found}");
            let cause = |name: &str| residual.cause(name).map_or(0, |cause| cause.bytes.unwrap());
            let frames = counted.packets(direction).cast_signed();
            if direction == "tx" || tcp {
                let off = cause("ethernet_headers") + 14 * frames;
                assert!(off.abs() <= frames, "{direction}, TCP: {tcp}: {off} of {frames} frames: {found}");
            }
        }
    }
}
