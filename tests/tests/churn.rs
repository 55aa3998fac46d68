//! Thousands of short connections a second through SNAT: each is joined with its translation, none with another's.
//!
//! The witness is the server, which tells each client the address it sees: what netpath says of both ends of every single
//! connection is held against that.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::Lab;
use lab::traffic::{Churn, Witnessed, churn};
use serde::Deserialize;

const PER_SECOND: u32 = 5_000;
const DURATION: Duration = Duration::from_secs(3);

/// As much of a report as this needs.
#[derive(Deserialize)]
struct Report {
    flows: Vec<Flow>,
    health: Health,
}

#[derive(Deserialize)]
struct Flow {
    path: String,
    conversation: u64,
    from_initiator: Option<bool>,
    hops: Vec<Hop>,
}

#[derive(Deserialize)]
struct Hop {
    device: String,
    direction: String,
    src: IpAddr,
    sport: Option<u16>,
    dst: IpAddr,
    dport: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Health {
    map_full_packets: u64,
    conntrack: String,
    unjoined_flows: u64,
    ambiguous_flows: u64,
}

impl Hop {
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        (SocketAddr::new(self.src, self.sport.unwrap()), SocketAddr::new(self.dst, self.dport.unwrap()))
    }
}

#[test]
fn short_connections_through_snat() {
    let began = std::time::Instant::now();
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let client = lab.pod("client");
    let load = Churn { ports: 8000..8016, per_second: PER_SECOND, duration: DURATION, threads: 8 };
    let mut made = None;
    // Room for some seconds of flows: on a busy machine netpath's debug build is that late with its drains.
    let (json, messages, _) = lab
        .measure_json(&["--max-flows", "262144"], || {
            made = Some(churn(&client.namespace, &lab.outside.namespace, lab.outside.ipv4.into(), &load)?);
            Ok(())
        })
        .unwrap();
    let (connections, failed) = made.unwrap();
    let report: Report = lab::read(&json).unwrap();
    drop(json);

    println!("measured by {:?}", began.elapsed());
    // The answer's and the call's address pairs on the pod's veth, which name the connection.
    let mut by_ends: HashMap<(SocketAddr, SocketAddr), (&Witnessed, bool)> = HashMap::new();
    for connection in &connections {
        let earlier = by_ends.insert((connection.local, connection.server), (connection, true));
        assert!(earlier.is_none(), "each connection has ports of its own");
        by_ends.insert((connection.server, connection.local), (connection, false));
    }
    assert!(connections.iter().all(|connection| connection.seen.ip() == lab.node.ipv4), "SNAT");
    assert!(connections.iter().filter(|one| one.seen.port() != one.local.port()).count() > connections.len() / 2);

    let (mut right, mut apart, mut elsewhere) = (0, 0, 0);
    let mut conversations: HashMap<(SocketAddr, SocketAddr), u64> = HashMap::new();
    for flow in &report.flows {
        let on_veth = flow.hops.iter().find(|hop| hop.device == client.veth);
        let Some((connection, call)) = on_veth.and_then(|hop| by_ends.get(&hop.ends())) else {
            elsewhere += 1;
            continue;
        };
        if flow.hops.len() == 1 {
            apart += 1;
            assert_eq!(flow.path, "unresolved");
            continue;
        }
        let Witnessed { local, server, seen } = **connection;
        let veth = client.veth.as_str();
        let expected = if *call {
            [(veth, "rx", (local, server)), ("eth0", "tx", (seen, server))]
        } else {
            [("eth0", "rx", (server, seen)), (veth, "tx", (server, local))]
        };
        let hops: Vec<_> =
            flow.hops.iter().map(|hop| (hop.device.as_str(), hop.direction.as_str(), hop.ends())).collect();
        assert_eq!(hops, expected, "joined with the wrong translation");
        assert_eq!((flow.path.as_str(), flow.from_initiator), ("eni", Some(*call)));
        let conversation = *conversations.entry((local, server)).or_insert(flow.conversation);
        assert_eq!(flow.conversation, conversation, "both directions are one conversation");
        right += 1;
    }
    let expected = 2 * connections.len();
    println!(
        "{} connections, {} a second, {failed} failed; of {expected} flows {right} joined, each rightly, {apart} only on the \
         pod's veth, {elsewhere} only on the ENI; {:?}",
        connections.len(),
        connections.len() as u64 / DURATION.as_secs(),
        report.health,
    );
    assert!(connections.len() > 10_000, "too few to prove anything");
    assert!(right * 1000 >= expected * 999, "{right} of {expected}");
    assert!(report.health.unjoined_flows >= apart, "what is not joined is counted as such");
    assert!(failed > 0 || elsewhere <= apart, "{elsewhere} flows without an origin");
    assert_eq!(report.health.map_full_packets, 0);
    assert_eq!((report.health.conntrack.as_str(), report.health.ambiguous_flows), ("ok", 0), "{messages}");
}
