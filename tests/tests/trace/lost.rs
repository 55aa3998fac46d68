//! What is not shown is counted: over the rate, not in the sample, no room.

use lab::Lab;
use lab::traffic::{UdpSink, send_datagrams};

use super::at;

/// Each datagram to another pod is at two hooks: the accounts have twice as many as were sent.
#[test]
fn accounts_are_exact() {
    const SENT: u32 = 3_000;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let address = at(server.ipv4, 9000);
    let sink = UdpSink::start(&server.namespace, address).unwrap();
    send_datagrams(&client.namespace, address, 100, 1).unwrap();
    for arguments in [&["--rate", "100"][..], &["--sample", "10"], &["--count", "7"], &[]] {
        let mut all = arguments.to_vec();
        all.extend(["udp", "port", "9000"]);
        let trace = lab.open_trace(&all).unwrap();
        send_datagrams(&client.namespace, address, 100, SENT).unwrap();
        lab.wait_until_quiet().unwrap();
        let trace = trace.trace().unwrap();
        let summary = &trace.summary;
        assert_eq!(summary.no_room, 0, "{arguments:?}: {summary:?}");
        assert!(trace.trips.iter().all(|trip| trip.hops.len() == 2 && trip.complete), "{arguments:?}");
        if arguments.contains(&"--count") {
            assert_eq!(trace.trips.len(), 7);
            continue;
        }
        assert_eq!(summary.matched, u64::from(SENT) * 2, "{arguments:?}: {summary:?}");
        assert_eq!(summary.received, summary.trips * 2);
        match arguments {
            ["--rate", _] => assert!(summary.over_rate > u64::from(SENT), "{summary:?}"),
            ["--sample", _] => {
                assert!((SENT as usize / 20..SENT as usize / 5).contains(&trace.trips.len()), "{summary:?}");
            }
            _ => assert_eq!(trace.trips.len(), SENT as usize),
        }
    }
    drop(sink);
}

/// netpath stands still, and its buffer is small.
#[test]
fn what_finds_no_room_is_counted() {
    const SENT: u32 = 10_000;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let address = at(server.ipv4, 9000);
    let sink = UdpSink::start(&server.namespace, address).unwrap();
    send_datagrams(&client.namespace, address, 100, 1).unwrap();
    lab.wait_until_quiet().unwrap();
    let trace = lab.open_trace(&["--buffer", "1", "udp", "dst", "port", "9000"]).unwrap();
    trace.signal(libc::SIGSTOP);
    send_datagrams(&client.namespace, address, 100, SENT).unwrap();
    lab.wait_until_quiet().unwrap();
    trace.signal(libc::SIGCONT);
    drop(sink);
    let trace = trace.trace().unwrap();
    let summary = &trace.summary;
    assert_eq!(summary.matched, u64::from(SENT) * 2, "{summary:?}");
    assert!(summary.no_room > u64::from(SENT), "{summary:?}");
    assert!(trace.trips.len() < SENT as usize / 2, "{}", trace.trips.len());
    assert!(trace.trips.iter().all(|trip| trip.hops.len() == 2 || !trip.complete));
}

/// More events at once than are read at once: reading goes on by itself, though the kernel wakes nobody up for the rest.
#[test]
fn a_burst_does_not_stall_the_reader() {
    const SENT: u32 = 40_000;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let address = at(server.ipv4, 9000);
    let sink = UdpSink::start(&server.namespace, address).unwrap();
    send_datagrams(&client.namespace, address, 100, 1).unwrap();
    lab.wait_until_quiet().unwrap();
    // It has room for half of them, so that half must be read when the other half comes. Nothing is written, which would wait for a reader.
    let trace = lab.open_trace(&["--drops", "--buffer", "16", "udp", "dst", "port", "9000"]).unwrap();
    for part in 0..2 {
        send_datagrams(&client.namespace, address, 100, SENT / 2).unwrap();
        if part == 0 {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
    }
    lab.wait_until_quiet().unwrap();
    let trace = trace.trace().unwrap();
    assert_eq!((trace.summary.matched, trace.summary.no_room), (u64::from(SENT) * 2, 0), "{:?}", trace.summary);
    assert_eq!(trace.summary.not_shown, u64::from(SENT));
    drop(sink);
}
