//! The conntrack tracker against real connections, real NAT and the kernel's own list. Needs root, `ip`, `nft` and `conntrack`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::wait_until;
use netpath::model::Conntrack;
use netpath::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use netpath::snapshot::{Connection, Tuple};

use topology::{
    CLIENT, CLIENT6, Namespace, ROUTER, ROUTER6, SERVER, SERVER6, Topology, address, echo, serial, tuple, udp,
};

mod load;
mod topology;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A service address that exists only as DNAT, and SNAT with random ports, as the VPC CNI does it.
const NAT: &str = "
    table inet nat {
        chain prerouting {
            type nat hook prerouting priority dstnat
            ip daddr 10.9.9.9 tcp dport 80 dnat ip to 10.9.2.2:8080
            ip daddr 10.9.9.9 udp dport 53 dnat ip to 10.9.2.2:5353
            ip6 daddr fd09:9::9 tcp dport 80 dnat ip6 to [fd09:2::2]:8080
            ip6 daddr fd09:9::9 udp dport 53 dnat ip6 to [fd09:2::2]:5353
        }
        chain postrouting {
            type nat hook postrouting priority srcnat
            oifname rs ip protocol { tcp, udp, icmp } snat ip to 10.9.2.1 fully-random
            oifname rs ip6 nexthdr { tcp, udp, icmpv6 } snat ip6 to fd09:2::1 fully-random
        }
    }";

/// SNAT only.
const SNAT: &str = "
    table ip nat { chain postrouting {
        type nat hook postrouting priority srcnat
        oifname rs meta l4proto udp snat to 10.9.2.1 fully-random
    }
    }";

/// Tracking without NAT.
const TRACK: &str = "
    table inet filter { chain forward {
        type filter hook forward priority filter
        ct state new counter
    }
    }";

fn start(namespace: &Namespace) -> Tracker {
    namespace.enter(|| Tracker::start(Limits::default()).unwrap())
}

fn complete(outcome: &Outcome) {
    assert_eq!((outcome.state, &outcome.reason), (Conntrack::Ok, &None));
    assert_eq!((outcome.overruns, outcome.malformed), (0, 0));
    assert!(outcome.connections.is_sorted(), "in order");
}

fn set(outcome: &Outcome) -> BTreeSet<Connection> {
    let set: BTreeSet<_> = outcome.connections.iter().copied().collect();
    assert_eq!(set.len(), outcome.connections.len(), "each once");
    set
}

fn originals(connections: &BTreeSet<Connection>) -> BTreeSet<Tuple> {
    connections.iter().map(|connection| connection.original).collect()
}

/// One TCP connection from the client to `dialled`, which the server's `listener` gets; as the two ends saw it.
fn tcp_connection(topology: &Topology, listener: &TcpListener, dialled: SocketAddr) -> Connection {
    let stream = topology.client.enter(|| TcpStream::connect(dialled).unwrap());
    let (mut accepted, peer) = listener.accept().unwrap();
    let connection = Connection {
        zone: 0,
        original: tuple(TCP, stream.local_addr().unwrap(), dialled),
        reply: tuple(TCP, accepted.local_addr().unwrap(), peer),
    };
    drop(stream);
    assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    connection
}

/// The same with one UDP datagram each way.
fn udp_connection(topology: &Topology, server: &UdpSocket, dialled: SocketAddr) -> Connection {
    let client = topology.client.enter(|| {
        let client = UdpSocket::bind(if dialled.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        client.connect(dialled).unwrap();
        client
    });
    client.send(b"?").unwrap();
    let (_, peer) = server.recv_from(&mut [0]).unwrap();
    server.send_to(b"!", peer).unwrap();
    assert_eq!(client.recv(&mut [0]).unwrap(), 1);
    Connection {
        zone: 0,
        original: tuple(UDP, client.local_addr().unwrap(), dialled),
        reply: tuple(UDP, server.local_addr().unwrap(), peer),
    }
}

#[test]
fn nat_is_as_both_ends_saw_it() {
    let topology = Topology::new(NAT);
    let elsewhere = start(&topology.client);
    let (tcp4, tcp6, udp4, udp6) = topology.server.enter(|| {
        (
            TcpListener::bind((SERVER, 8080)).unwrap(),
            TcpListener::bind((SERVER6, 8080)).unwrap(),
            UdpSocket::bind((SERVER, 5353)).unwrap(),
            UdpSocket::bind((SERVER6, 5353)).unwrap(),
        )
    });
    let connect = || {
        BTreeSet::from([
            tcp_connection(&topology, &tcp4, address("10.9.9.9", 80)),
            tcp_connection(&topology, &tcp4, address(SERVER, 8080)),
            tcp_connection(&topology, &tcp6, address("fd09:9::9", 80)),
            tcp_connection(&topology, &tcp6, address(SERVER6, 8080)),
            udp_connection(&topology, &udp4, address("10.9.9.9", 53)),
            udp_connection(&topology, &udp4, address(SERVER, 5353)),
            udp_connection(&topology, &udp6, address("fd09:9::9", 53)),
            udp_connection(&topology, &udp6, address(SERVER6, 5353)),
        ])
    };
    let mut seen_by_ends = connect();
    let tracker = start(&topology.router);
    seen_by_ends.extend(connect());
    topology.raw(libc::AF_INET, ICMP).send_to(&echo(0x1234), address(SERVER, 0)).unwrap();
    topology.raw(libc::AF_INET6, ICMPV6).send_to(&[128, 0, 0, 0, 0x56, 0x78, 0, 0], address(SERVER6, 0)).unwrap();
    wait_until("the echo is tracked", || {
        topology.router.table().iter().any(|c| c.original.proto == ICMPV6 && c.original.sport == 0x5678)
    });
    let table = topology.router.table();
    let outcome = tracker.cut(true);
    complete(&outcome);
    let seen = set(&outcome);

    assert_eq!(seen_by_ends.len(), 16);
    assert_eq!(seen_by_ends.difference(&seen).collect::<Vec<_>>(), [] as [&Connection; 0]);
    assert!(seen_by_ends.iter().all(|c| c.reply != c.original.reversed()), "every connection was translated");
    // Nothing ended yet, so the kernel's list is the whole truth, neighbour discovery included.
    assert_eq!(seen, table);

    let echoes: Vec<_> = seen.iter().filter(|c| c.original.sport == 0x1234 || c.original.sport == 0x5678).collect();
    let original = |c: &&Connection| (c.original.src.to_string(), c.original.dst.to_string(), c.original.dport);
    let back = |c: &&Connection| (c.reply.src.to_string(), c.reply.dst.to_string(), c.reply.sport == c.reply.dport);
    assert_eq!(
        echoes.iter().map(original).collect::<Vec<_>>(),
        [(CLIENT.into(), SERVER.into(), 0x1234), (CLIENT6.into(), SERVER6.into(), 0x5678)]
    );
    assert_eq!(
        echoes.iter().map(back).collect::<Vec<_>>(),
        [(SERVER.into(), ROUTER.into(), true), (SERVER6.into(), ROUTER6.into(), true)]
    );

    let outcome = elsewhere.cut(true);
    complete(&outcome);
    assert_eq!(
        outcome.connections,
        [],
        "the client's namespace tracks nothing, and the router's connections are not its own"
    );
}

#[test]
fn connections_that_are_gone_before_the_end_are_seen() {
    let topology = Topology::new(SNAT);
    topology.router.set("udp_timeout", "1");
    topology.router.set("udp_timeout_stream", "1");
    let server = topology.server.enter(|| UdpSocket::bind((SERVER, 5353)).unwrap());
    let tracker = start(&topology.router);
    let seen_by_ends: BTreeSet<_> =
        (0..200).map(|_| udp_connection(&topology, &server, address(SERVER, 5353))).collect();
    wait_until("it has expired", || !topology.router.table().iter().any(|c| c.original.proto == UDP));
    let outcome = tracker.cut(true);
    complete(&outcome);
    // Some may have got the port of an earlier one, whose entry was still there.
    assert!(seen_by_ends.len() > 150);
    assert_eq!(seen_by_ends.difference(&set(&outcome)).collect::<Vec<_>>(), [] as [&Connection; 0]);
}

#[test]
fn an_overrun_is_said_and_mended_by_a_dump() {
    let topology = Topology::new(TRACK);
    let limits = Limits { receive_buffer_bytes: 1024, ..Limits::default() };
    let tracker = topology.router.enter(|| Tracker::start(limits).unwrap());
    let raw = topology.raw(libc::AF_INET, UDP);
    let sent: BTreeSet<_> = (10_000..13_000)
        .map(|sport| {
            raw.send_to(&udp(sport, 9), address(SERVER, 0)).unwrap();
            tuple(UDP, address(CLIENT, sport), address(SERVER, 9))
        })
        .collect();
    // Neither the last dump nor the few events for which there is room can explain the result after this.
    thread::sleep(Duration::from_secs(1));
    assert!(originals(&topology.router.table()).is_superset(&sent));
    topology.router.flush();
    let outcome = tracker.cut(true);
    assert_eq!(outcome.state, Conntrack::Overrun);
    assert!(outcome.overruns > 0);
    assert!(outcome.reason.as_deref().unwrap().contains("events were lost"), "{:?}", outcome.reason);
    assert_eq!(sent.difference(&originals(&set(&outcome))).count(), 0, "after {} dumps", outcome.dumps);
}

#[test]
fn without_the_capability_the_reason_names_it() {
    let _serial = serial();
    let namespace = Namespace::new();
    let error = namespace.enter(|| {
        // The raw call changes this thread alone, unlike the C library's.
        // SAFETY: no pointers are passed.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        Tracker::start(Limits::default()).unwrap_err()
    });
    assert!(matches!(error, ConntrackError::NotPermitted), "{error:?}");
    let outcome = Outcome::unavailable(&error);
    assert_eq!((outcome.state, outcome.connections.len()), (Conntrack::Unavailable, 0));
    assert!(outcome.reason.unwrap().contains("CAP_NET_ADMIN"));
}

#[test]
fn a_namespace_that_tracks_nothing_is_fine() {
    let topology = Topology::new("");
    let tracker = start(&topology.router);
    topology.raw(libc::AF_INET, UDP).send_to(&udp(1, 2), address(SERVER, 0)).unwrap();
    thread::sleep(Duration::from_millis(50));
    let outcome = tracker.cut(true);
    complete(&outcome);
    assert_eq!(outcome.connections, []);
}

#[test]
fn without_events_the_dumps_count_and_the_gap_is_said() {
    let topology = Topology::new(TRACK);
    topology.router.set("events", "0");
    let tracker = start(&topology.router);
    let raw = topology.raw(libc::AF_INET, UDP);
    raw.send_to(&udp(1, 9), address(SERVER, 0)).unwrap();
    wait_until("it is tracked", || !topology.router.table().is_empty());
    topology.router.flush();
    raw.send_to(&udp(2, 9), address(SERVER, 0)).unwrap();
    wait_until("it is tracked", || !topology.router.table().is_empty());
    let outcome = tracker.cut(true);
    assert_eq!(outcome.state, Conntrack::Overrun);
    assert!(outcome.reason.as_deref().unwrap().contains("nf_conntrack_events=1"), "{:?}", outcome.reason);
    let seen: Vec<_> = outcome.connections.iter().map(|c| c.original).filter(|original| original.dport == 9).collect();
    assert_eq!(seen, [tuple(UDP, address(CLIENT, 2), address(SERVER, 9))]);
}

#[test]
fn more_connections_than_the_limit_are_said() {
    let topology = Topology::new(TRACK);
    let limits = Limits { connections: 10, ..Limits::default() };
    let tracker = topology.router.enter(|| Tracker::start(limits).unwrap());
    let raw = topology.raw(libc::AF_INET, UDP);
    for sport in 1..=20 {
        raw.send_to(&udp(sport, 9), address(SERVER, 0)).unwrap();
    }
    let outcome = tracker.cut(true);
    assert_eq!((outcome.connections.len(), outcome.state), (10, Conntrack::Overrun));
    assert!(outcome.reason.as_deref().unwrap().contains("more than 10 connections"), "{:?}", outcome.reason);
}

#[test]
fn zones_of_both_or_one_direction() {
    let topology = Topology::new(
        "table inet raw { chain prerouting {
            type filter hook prerouting priority raw
            udp dport 1 ct zone set 7
            udp dport 2 ct original zone set 8
            udp dport 3 ct reply zone set 9
        }
        }",
    );
    let tracker = start(&topology.router);
    let raw = topology.raw(libc::AF_INET, UDP);
    for dport in 1..=4 {
        raw.send_to(&udp(1000, dport), address(SERVER, 0)).unwrap();
    }
    wait_until("it is tracked", || topology.router.table().iter().filter(|c| c.original.proto == UDP).count() == 4);
    let table = topology.router.table();
    topology.router.flush();
    let outcome = tracker.cut(true);
    complete(&outcome);
    let udp_only = |connections: BTreeSet<Connection>| -> BTreeSet<_> {
        connections.into_iter().filter(|c| c.original.proto == UDP).collect()
    };
    let seen = udp_only(set(&outcome));
    assert_eq!(seen, udp_only(table));
    let zones: BTreeMap<_, _> = seen.iter().map(|c| (c.original.dport, c.zone)).collect();
    assert_eq!(zones, BTreeMap::from([(1, 7), (2, 8), (3, 9), (4, 0)]));
}

#[test]
fn protocols_with_and_without_ports() {
    let topology = Topology::new(TRACK);
    topology.router.set("checksum", "0");
    let tracker = start(&topology.router);
    let ports = [0x11, 0x22, 0x33, 0x44];
    // SCTP: verification tag 0, checksum (not verified), one INIT chunk of 20 bytes.
    let sctp = [&ports[..], &[0; 8], &[1, 0, 0, 20], &[0, 0, 0, 1], &[0; 4], &[0, 1, 0, 1], &[0; 4]].concat();
    let udplite = [&ports[..], &[0, 8, 0xff, 0xff]].concat();
    // GRE version 1 (PPTP) has a key, which conntrack calls ports.
    let pptp = [0x30, 0x01, 0x88, 0x0b, 0, 0, 0x12, 0x34, 0, 0, 0, 0];
    let gre = [0, 0, 8, 0];
    for (protocol, payload) in [(132, &sctp[..]), (136, &udplite), (47, &gre), (253, &[0; 8]), (50, &[1; 16])] {
        topology.raw(libc::AF_INET, protocol).send_to(payload, address(SERVER, 0)).unwrap();
    }
    topology.raw(libc::AF_INET, 47).send_to(&pptp, address(SERVER, 0)).unwrap();
    // A timestamp request has an identifier, but is no echo.
    topology
        .raw(libc::AF_INET, ICMP)
        .send_to(&[&[13, 0, 0xf2, 0xfe, 0, 1][..], &[0; 14]].concat(), address(SERVER, 0))
        .unwrap();
    let last = |c: &Connection| c.original.proto == ICMP && c.original.src.is_ipv4();
    wait_until("it is tracked", || topology.router.table().iter().any(last));
    let table = topology.router.table();
    topology.router.flush();
    let outcome = tracker.cut(true);
    complete(&outcome);
    let originals = originals(&set(&outcome).into_iter().filter(|c| c.original.src.to_string() == CLIENT).collect());
    let expected: BTreeSet<_> =
        [(132, 0x1122, 0x3344), (136, 0x1122, 0x3344), (47, 0, 0), (253, 0, 0), (50, 0, 0), (ICMP, 0, 0)]
            .map(|(proto, sport, dport)| tuple(proto, address(CLIENT, sport), address(SERVER, dport)))
            .into();
    assert_eq!(originals, expected, "the kernel has {table:#?}");
}

#[test]
fn a_dropped_tracker_ends() {
    let _serial = serial();
    let tracker = start(&Namespace::new());
    // A thread gives itself its name.
    wait_until("the worker has its name", || load::worker_cpu_ns().len() == 1);
    drop(tracker);
    wait_until("the worker has ended", || load::worker_cpu_ns().is_empty());
}
