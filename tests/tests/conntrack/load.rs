//! Many connections a second, many at once, and translations that race each other.

use super::*;

/// CPU time of each tracker's thread in this process, nanoseconds.
pub fn worker_cpu_ns() -> Vec<u64> {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == "conntrack"))
        .filter_map(|task| fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse().ok())
        .collect()
}

/// Sends `count` UDP connections at `rate` a second through SNAT, as far as possible, each ending within a second or so.
fn load(rate: u16, count: u16) {
    let topology = Topology::new(SNAT);
    topology.router.set("udp_timeout", "1");
    let server = topology.server.enter(|| UdpSocket::bind((SERVER, 9)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let receiver = thread::spawn(move || {
        let mut peers = BTreeMap::new();
        let mut payload = [0; 2];
        while let Ok((_, peer)) = server.recv_from(&mut payload) {
            peers.insert(u16::from_be_bytes(payload), peer);
        }
        peers
    });
    let tracker = start(&topology.router);
    let raw = topology.raw(libc::AF_INET, UDP);
    let began = Instant::now();
    for n in 0..count {
        if n % (rate / 100) == 0 {
            thread::sleep((Duration::from_secs(1) * n.into() / rate.into()).saturating_sub(began.elapsed()));
        }
        raw.send_to(&udp(1024 + n, 9), address(SERVER, 0)).unwrap();
    }
    let sending = began.elapsed();
    let peers = receiver.join().unwrap();
    let cpu_ns = worker_cpu_ns();
    let outcome = tracker.cut(true);
    complete(&outcome);
    let seen: BTreeMap<_, _> =
        outcome.connections.iter().filter(|c| c.original.dport == 9).map(|c| (c.original.sport, c.reply)).collect();
    println!(
        "{count} connections in {sending:?}, wanted {rate}/s: worker's CPU {:?}; the server got {}",
        Duration::from_nanos(cpu_ns[0]),
        peers.len()
    );
    assert!(sending < Duration::from_secs(2) * count.into() / rate.into(), "the rate was not reached");
    assert_eq!(seen.len(), usize::from(count), "none is lost");
    assert!(peers.len() > usize::from(count) / 2, "most datagrams arrive");
    for (sport, peer) in peers {
        assert_eq!(seen[&sport], tuple(UDP, address(SERVER, 9), peer));
    }
}

#[test]
fn none_is_lost_at_5000_connections_a_second() {
    load(5_000, 20_000);
}

#[test]
fn none_is_lost_at_20000_connections_a_second() {
    load(20_000, 60_000);
}

#[test]
fn a_hundred_thousand_entries() {
    let topology = Topology::new(TRACK);
    topology.router.set("udp_timeout", "120");
    let raw = topology.raw(libc::AF_INET, UDP);
    for dport in 1..=2 {
        for sport in 1..=50_000 {
            raw.send_to(&udp(sport, dport), address(SERVER, 0)).unwrap();
        }
    }
    let resident_bytes = || lab::resident_kb(std::process::id()).unwrap() * 1024;
    let before = resident_bytes();
    let began = Instant::now();
    let tracker = start(&topology.router);
    let starting = began.elapsed();
    let bytes = resident_bytes() - before;
    let began = Instant::now();
    let outcome = tracker.cut(true);
    println!("start {starting:?}, finish {:?}, memory {} kB", began.elapsed(), bytes / 1000);
    complete(&outcome);
    let udp = outcome.connections.iter().filter(|c| c.original.proto == UDP && c.original.src.to_string() == CLIENT);
    assert_eq!(udp.count(), 100_000);
}

/// Two first datagrams of one socket at the same moment, as resolvers send A and AAAA queries: each is translated for itself
/// before the second finds that the first has the tuple. The kernel forwards both, but lists only one.
#[test]
fn both_translations_of_a_race_are_seen() {
    const FIRST: u16 = 1024;
    const TRIES: u16 = 5000;
    // Rules that the packets pass between the lookup and the insertion of their entries, to make races likely.
    let topology = Topology::new(&format!(
        "table ip slow {{\nchain forward {{\ntype filter hook forward priority filter\n{}}}\n}}\n{SNAT}",
        "counter\n".repeat(1000)
    ));
    topology.router.set("udp_timeout", "1");
    let server = topology.server.enter(|| UdpSocket::bind((SERVER, 9)).unwrap());
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let receiver = thread::spawn(move || {
        let mut peers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut payload = [0; 2];
        while let Ok((_, peer)) = server.recv_from(&mut payload) {
            peers.entry(u16::from_be_bytes(payload)).or_default().insert(peer);
        }
        peers
    });
    let tracker = start(&topology.router);
    // A socket each: a socket sends one datagram at a time.
    let sockets = [topology.raw(libc::AF_INET, UDP), topology.raw(libc::AF_INET, UDP)];
    let arrivals = AtomicU32::new(0);
    thread::scope(|scope| {
        for raw in &sockets {
            scope.spawn(|| {
                for n in 0..TRIES {
                    arrivals.fetch_add(1, Ordering::SeqCst);
                    while arrivals.load(Ordering::SeqCst) < 2 * (u32::from(n) + 1) {
                        std::hint::spin_loop();
                    }
                    raw.send_to(&udp(FIRST + n, 9), address(SERVER, 0)).unwrap();
                }
            });
        }
    });
    let seen_by_server: BTreeSet<_> = receiver
        .join()
        .unwrap()
        .into_iter()
        .flat_map(|(sport, peers)| {
            let connection = move |peer| Connection {
                zone: 0,
                original: tuple(UDP, address(CLIENT, sport), address(SERVER, 9)),
                reply: tuple(UDP, address(SERVER, 9), peer),
            };
            peers.into_iter().map(connection)
        })
        .collect();
    let races = seen_by_server.len() - originals(&seen_by_server).len();
    // The kernel keeps such an entry for a second, if there is no answer.
    thread::sleep(Duration::from_millis(1500));
    let outcome = tracker.cut(true);
    complete(&outcome);
    let missing = seen_by_server.difference(&set(&outcome)).count();
    println!("{races} races in {TRIES} tries, {missing} translations missing");
    assert!(races > 0, "no race in {TRIES} tries");
    assert_eq!(missing, 0);
}
