//! conntrack at its limits: no room in its table.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use lab::traffic::{UdpSink, send_datagrams};
use lab::{add_connections, conntrack_drops, conntrack_number};
use serde_json::Value;

use super::{each_way, lab, number, reconciled};

/// A frame with 100 bytes in UDP over IPv4.
const FRAME_BYTES: u64 = 14 + 20 + 8 + 100;

fn flow(report: &Value, from: SocketAddr) -> &Value {
    let is_it = |flow: &&Value| flow["src"] == from.ip().to_string() && flow["sport"] == from.port();
    report["flows"].as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("no flow from {from}"))
}

fn hops(flow: &Value) -> &[Value] {
    flow["hops"].as_array().unwrap()
}

/// The limit is the machine's, but each namespace has a count of its own: the node's table is filled, and the limit left alone.
#[test]
fn a_full_table() {
    each_way(|way| {
        let lab = lab();
        lab.snat().unwrap();
        let (node, client, outside) = (&lab.node.namespace, &lab.pod("client").namespace, &lab.outside);
        let address = SocketAddr::new(outside.ipv4.into(), 0);
        let listener = outside.namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let server = listener.local_addr().unwrap();
        let mut stream = client.run(|| TcpStream::connect(server)).unwrap().unwrap();
        let (mut accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), lab.node.ipv4, "the lab translates");
        let [count, limit] = ["count", "max"].map(|name| conntrack_number(node, name).unwrap());
        assert!(limit <= 500_000, "{limit} connections are too many to fill a table with: lower nf_conntrack_max");
        add_connections(node, count..limit).unwrap();
        assert_eq!(conntrack_number(node, "count").unwrap(), limit);
        let dropped = conntrack_drops(node).unwrap();

        let sink = UdpSink::start(&outside.namespace, address).unwrap();
        let mut new = None;
        let report = reconciled(&lab, way, &[], || {
            new = Some(send_datagrams(client, sink.address(), 100, 50)?);
            stream.write_all(&vec![7; 100_000])?;
            accepted.read_exact(&mut vec![0; 100_000])?;
            Ok(())
        });
        assert_eq!(sink.stop().unwrap().count, 0, "there is no room for a new connection");
        let dropped = conntrack_drops(node).unwrap() - dropped;
        assert_eq!(dropped, 50, "by the kernel, and netpath had none dropped");
        assert_eq!(conntrack_number(node, "count").unwrap(), limit, "nor did it add to the table");
        let table = &report["health"]["conntrack_table"];
        assert_eq!((number(&table["connections"]), number(&table["limit"])), (limit, limit));
        assert_eq!((number(&table["drop"]), number(&table["early_drop"])), (dropped, 0));
        assert_eq!((&report["health"]["conntrack"], &report["health"]["unjoined_flows"]), (&"ok".into(), &0.into()));

        let lost = flow(&report, new.unwrap());
        assert_eq!((&lost["path"], hops(lost).len()), (&"undelivered".into(), 1), "{lost}");
        assert_eq!((number(&lost["packets"]), number(&lost["bytes"])), (50, 50 * FRAME_BYTES));
        let known = flow(&report, stream.local_addr().unwrap());
        assert_eq!((&known["path"], hops(known).len()), (&"eni".into(), 2), "{known}");
        assert_eq!(hops(known)[1]["sport"], peer.port(), "as the server sees it");
        assert!((100_000..110_000).contains(&number(&known["bytes"])), "{known}");

        let doctor = lab.netpath(&["doctor", "--eni", "eth*"]).unwrap().output().unwrap();
        let text = String::from_utf8(doctor.stdout).unwrap();
        assert!(text.contains(&format!("nearly full ({limit} of {limit} connections)")), "{text}");
    });
}
