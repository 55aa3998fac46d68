//! conntrack at its limits: no room in its table, and more to tell than netpath can read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{Namespace, add_connections, connections, conntrack_drops, conntrack_number};

use super::{each_way, lab, reconciled, while_it_stands_still};

/// A frame with 100 bytes in UDP over IPv4.
const FRAME_BYTES: u64 = 14 + 20 + 8 + 100;

/// The limit is the machine's, but each namespace has a count of its own: the node's table is filled, and the limit left alone.
#[test]
fn a_full_table() {
    let lab = lab();
    lab.snat().unwrap();
    let (node, client, outside) = (&lab.node.namespace, &lab.pod("client").namespace, &lab.outside);
    let address = SocketAddr::new(outside.ipv4.into(), 0);
    let listener = outside.namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let server = listener.local_addr().unwrap();
    let stream = client.run(|| TcpStream::connect(server)).unwrap().unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), lab.node.ipv4, "the lab translates");
    let [count, limit] = ["count", "max"].map(|name| conntrack_number(node, name).unwrap());
    assert!(limit <= 500_000, "{limit} connections are too many to fill a table with: lower nf_conntrack_max");
    add_connections(node, count..limit).unwrap();
    // It takes half a minute to fill.
    each_way(|way| {
        assert_eq!(conntrack_number(node, "count").unwrap(), limit);
        let dropped = conntrack_drops(node).unwrap();

        let sink = UdpSink::start(&outside.namespace, address).unwrap();
        let mut new = None;
        let report = reconciled(&lab, way, &[], || {
            new = Some(send_datagrams(client, sink.address(), 100, 50)?);
            (&stream).write_all(&vec![7; 100_000])?;
            (&accepted).read_exact(&mut vec![0; 100_000])?;
            Ok(())
        });
        assert_eq!(sink.stop().unwrap().count, 0, "there is no room for a new connection");
        let dropped = conntrack_drops(node).unwrap() - dropped;
        assert_eq!(dropped, 50, "by the kernel, and netpath had none dropped");
        assert_eq!(conntrack_number(node, "count").unwrap(), limit, "nor did it add to the table");
        let table = report.health.conntrack_table.unwrap();
        assert_eq!((table.connections, table.limit), (limit, Some(limit)));
        assert_eq!((table.drop, table.early_drop), (dropped, 0));
        assert_eq!((report.health.conntrack.as_str(), report.health.unjoined_flows), ("ok", 0));

        let lost = report.flow_from(new.unwrap());
        assert_eq!((lost.path.as_str(), lost.hops.len()), ("undelivered", 1), "{lost}");
        assert_eq!((lost.packets, lost.bytes), (50, 50 * FRAME_BYTES));
        let known = report.flow_from(stream.local_addr().unwrap());
        assert_eq!((known.path.as_str(), known.hops.len()), ("eni", 2), "{known}");
        assert_eq!(known.hops[1].sport, Some(peer.port()), "as the server sees it");
        assert!((100_000..110_000).contains(&known.bytes), "{known}");

        let doctor = lab.netpath(&["doctor", "--eni", "eth*"]).unwrap().output().unwrap();
        let text = String::from_utf8(doctor.stdout).unwrap();
        assert!(text.contains(&format!("nearly full ({limit} of {limit} connections)")), "{text}");
    });
}

fn forget_all(node: &Namespace) {
    node.output("conntrack", &["-F"]).unwrap();
    assert_eq!(connections(node).unwrap(), []);
}

/// netpath gets no CPU while more connections come and go than it has room for messages about: what still exists when it
/// reads again is joined, what was gone is not guessed at, and every byte is counted.
#[test]
fn lost_messages_are_said() {
    /// Of 1,280 bytes in the kernel, two for each connection; the socket has room for 64 MiB.
    const CONNECTIONS: u64 = 40_000;
    /// Fewer than any machine's limit.
    const AT_ONCE: u64 = 4_000;
    each_way(|way| {
        let lab = lab();
        lab.snat().unwrap();
        let (node, client, outside) = (&lab.node.namespace, &lab.pod("client").namespace, &lab.outside);
        let address = SocketAddr::new(outside.ipv4.into(), 0);
        let server = TcpServer::start(&outside.namespace, address, Serve::Send(100_000)).unwrap();
        let sink = UdpSink::start(&outside.namespace, address).unwrap();
        let socket = client.run(|| UdpSocket::bind((lab.pod("client").ipv4, 0))).unwrap().unwrap();
        let mut late = None;
        let report = reconciled(&lab, way, &[], || {
            late = Some(while_it_stands_still(&lab, || {
                for from in (0..CONNECTIONS).step_by(usize::try_from(AT_ONCE)?) {
                    add_connections(node, from..from + AT_ONCE)?;
                    forget_all(node);
                }
                socket.send_to(&[0; 100], sink.address())?;
                lab.wait_until_quiet()?;
                forget_all(node);
                download(client, server.address())
            })?);
            Ok(())
        });
        let peer = sink.stop().unwrap().peer.unwrap();
        assert_eq!(peer.ip(), lab.node.ipv4, "the lab translates");
        let health = &report.health;
        assert_eq!(health.conntrack, "overrun");
        let reason = health.conntrack_reason.as_deref().unwrap();
        assert!(reason.starts_with("conntrack events were lost") && reason.contains("; measure again"), "{reason}");

        let gone = report.flow_from(socket.local_addr().unwrap());
        assert_eq!(
            (gone.path.as_str(), gone.hops.len()),
            ("unresolved", 1),
            "it left under an unknown address: {gone}"
        );
        assert_eq!((gone.bytes, health.unjoined_flows), (FRAME_BYTES, 1));
        assert_eq!(report.flow_from(peer).bytes, FRAME_BYTES, "as it left");
        let late = report.flow_from(late.unwrap().local);
        assert_eq!((late.path.as_str(), late.hops.len()), ("eni", 2), "it is still in the table: {late}");
        assert_eq!(late.hops[1].sport, Some(server.stop().unwrap()[0].peer.port()), "as the server saw it");
    });
}
