//! Many windows from one attach: they follow each other without a gap, and their sum is what one window would have.
//!
//! The witnesses are /proc/net/dev, the sockets at both ends, and netpath's resident memory as the kernel counts it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::report::{Device, Hook};
use lab::traffic::{Churn, Serve, TcpServer, Transfer, UdpSink, Witnessed, churn, upload};
use lab::{Counters, Lab, Namespace, Report, counters, ip_batch, netpath_hooks, read, resident_kb, wait_until};

/// What netpath counted on a device, nothing where it was not attached.
fn seen_on(device: &Device) -> Counters {
    let count = |hook: Option<Hook>| hook.map_or((0, 0), |hook| (hook.bytes, hook.packets));
    let ((rx_bytes, rx_packets), (tx_bytes, tx_packets)) = (count(device.rx), count(device.tx));
    Counters { rx_bytes, rx_packets, tx_bytes, tx_packets }
}

fn add(sum: &mut Counters, more: Counters) {
    sum.rx_bytes += more.rx_bytes;
    sum.rx_packets += more.rx_packets;
    sum.tx_bytes += more.tx_bytes;
    sum.tx_packets += more.tx_packets;
}

/// A frame with 200 bytes in UDP over IPv4.
const FRAME_BYTES: u64 = 14 + 20 + 8 + 200;

/// What was sent while netpath measured, as those who sent it know.
struct Sent {
    /// How many datagrams, by the socket that sent them.
    datagrams: HashMap<SocketAddr, u64>,
    transfers: Vec<Transfer>,
    connections: Vec<Witnessed>,
    /// How many pods came, sent ten datagrams each, and went.
    pods: usize,
}

/// Windows of 100 ms under TCP, UDP, new connections, and pods that come and go; for 10 seconds, or as many as
/// `INTERVALS_SECONDS` says.
#[test]
fn the_sum_of_all_windows_is_what_the_kernel_counted() {
    let seconds = std::env::var("INTERVALS_SECONDS").map_or(10, |seconds| seconds.parse().unwrap());
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    let node = &lab.node.namespace;
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    node.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    client.namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports");
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let tcp = TcpServer::start(&server.namespace, (server.ipv4, 0).into(), Serve::Receive).unwrap();
    lab.wait_until_quiet().unwrap();
    let watched = [client.veth.as_str(), server.veth.as_str(), "eth0"];
    let before = watched.map(|device| counters(node, device).unwrap());
    let window =
        lab.open_window(&["--interval", "100ms", "--max-flows", "262144", "--output", path.to_str().unwrap()]).unwrap();
    let sent = send_everything(&lab, Duration::from_secs(seconds), sink.address(), tcp.address());
    lab.wait_until_quiet().unwrap();
    let (_, messages, _) = window.finish().unwrap();
    let reports: Vec<Report> = BufReader::new(std::fs::File::open(&path).unwrap())
        .lines()
        .map(|line| read(line.unwrap().as_bytes()).unwrap())
        .collect();
    let late = reports.iter().filter(|report| report.window.late_ns.is_some_and(|late| late > 50_000_000)).count();
    let blind: u64 = reports.iter().map(|report| report.health.blind_devices).sum();
    println!(
        "{} windows, {late} closed more than 50 ms late, {} connections, {} transfers, {} pods ({blind} times blind); {messages}",
        reports.len(),
        sent.connections.len(),
        sent.transfers.len(),
        sent.pods,
    );
    assert!(reports.len() > 20 && sent.pods > 5, "too few to prove anything");

    let counted = watched.into_iter().zip(before).map(|(device, before)| {
        let counted = counters(node, device).unwrap().since(before);
        (device, counted)
    });
    assert_devices(&reports, &counted.collect(), sent.pods);
    assert_eq!(sink.stop().unwrap().count, sent.datagrams.values().sum::<u64>(), "every datagram arrived");
    assert_flows(&reports, &client.veth, &sent, tcp.address());
}

/// Datagrams and uploads to the server, connections to the outside, and pods that come and go, all at once.
fn send_everything(lab: &Lab, duration: Duration, sink: SocketAddr, tcp: SocketAddr) -> Sent {
    let client = lab.pod("client");
    let sockets: Vec<UdpSocket> =
        client.namespace.run(|| (0..50).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect()).unwrap();
    let stop = &AtomicBool::new(false);
    let load = Churn { ports: 8000..8016, per_second: 500, duration, threads: 4 };
    let mut datagrams: HashMap<SocketAddr, u64> = HashMap::new();
    thread::scope(|scope| {
        let uploads = scope.spawn(|| {
            let mut all: Vec<Transfer> = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                all.push(upload(&client.namespace, tcp, 3_000_000).unwrap());
            }
            all
        });
        let pods = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                come_and_go(&lab.node.namespace, &client.namespace, &format!("v{count}"));
                count += 1;
            }
            count
        });
        let churned = scope.spawn(|| churn(&client.namespace, &lab.outside.namespace, lab.outside.ipv4.into(), &load));
        while !churned.is_finished() {
            for socket in &sockets {
                if socket.send_to(&[0; 200], sink).is_ok() {
                    let local = SocketAddr::new(client.ipv4.into(), socket.local_addr().unwrap().port());
                    *datagrams.entry(local).or_default() += 1;
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let (connections, _) = churned.join().unwrap().unwrap();
        Sent { datagrams, transfers: uploads.join().unwrap(), connections, pods: pods.join().unwrap() }
    })
}

/// A device of the node as a pod's, over which ten datagrams are sent once netpath is on it.
fn come_and_go(node: &Namespace, far: &Namespace, name: &str) {
    ip_batch(node, &format!("link add {name} type veth peer name {name}p netns {}\n", far.name())).unwrap();
    wait_until("it is watched", || netpath_hooks(node).unwrap() == 8);
    ip_batch(far, &format!("link set {name}p up\n")).unwrap();
    let up = format!(
        "link set {name} up\naddress add 10.99.0.1/24 dev {name}\n\
         neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev {name}\n"
    );
    ip_batch(node, &up).unwrap();
    let socket = node.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for _ in 0..10 {
        socket.send_to(&[0; 200], ("10.99.0.2", 9)).unwrap();
    }
    wait_until("they have left", || counters(node, name).unwrap().tx_packets == 10);
    ip_batch(node, &format!("link delete {name}\n")).unwrap();
    wait_until("it is gone", || netpath_hooks(node).unwrap() == 6);
}

/// The sums over all windows are what the kernel `counted`, and no window has anything that is not explained.
fn assert_devices(reports: &[Report], counted: &BTreeMap<&str, Counters>, pods: usize) {
    let (mut seen, mut kernel) = (BTreeMap::<&str, Counters>::new(), BTreeMap::<&str, Counters>::new());
    for report in reports {
        assert_eq!(report.window.interval_ns, Some(100_000_000));
        assert!(report.window.duration_ns > 0);
        for device in &report.devices {
            add(seen.entry(&device.name).or_default(), seen_on(device));
            if let Some(counted) = device.kernel {
                add(kernel.entry(&device.name).or_default(), counted);
            }
            if counted.contains_key(device.name.as_str()) {
                let unexplained = ["rx", "tx"].map(|direction| device.residual(direction).unexplained_bytes);
                assert_eq!(unexplained, [0; 2], "{}", device.name);
            }
        }
        let health = &report.health;
        assert_eq!((health.conntrack.as_str(), health.map_full_packets), ("ok", 0), "{health}");
        assert_eq!(health.ambiguous_flows, 0);
    }
    for (device, counted) in counted {
        assert_eq!(seen[device], *counted, "{device}: netpath's own counts");
        assert_eq!(kernel[device], *counted, "{device}: the kernel's, as the windows have them");
    }
    for pod in 0..pods {
        let seen = seen[format!("v{pod}").as_str()];
        assert_eq!((seen.tx_packets, seen.tx_bytes), (10, 10 * FRAME_BYTES), "v{pod}");
    }
}

/// The flows of all windows have each conversation as its sockets know it.
fn assert_flows(reports: &[Report], veth: &str, sent: &Sent, tcp: SocketAddr) {
    // Bytes by protocol and ends, as the client's veth received them.
    let mut moved: HashMap<(&str, SocketAddr, SocketAddr), u64> = HashMap::new();
    let mut on_eni: HashSet<(SocketAddr, SocketAddr)> = HashSet::new();
    for flow in reports.iter().flat_map(|report| &report.flows) {
        for hop in &flow.hops {
            let (src, dst) = hop.ends();
            if hop.hook() == (veth, "rx") {
                *moved.entry((&flow.proto, src, dst)).or_default() += hop.bytes;
            } else if hop.hook() == ("eth0", "tx") {
                assert_eq!(flow.path, "eni", "{src} → {dst}");
                on_eni.insert((src, dst));
            }
        }
    }
    for (&local, count) in &sent.datagrams {
        assert_eq!(moved[&("udp", local, sink_address(&moved, local))], count * FRAME_BYTES, "{local}");
    }
    for transfer in &sent.transfers {
        let bytes = moved[&("tcp", transfer.local, tcp)];
        assert!((transfer.sent_bytes..transfer.sent_bytes * 11 / 10).contains(&bytes), "{transfer:?}: {bytes}");
    }
    let missing: BTreeSet<_> = (sent.connections.iter())
        .filter(|one| !moved.contains_key(&("tcp", one.local, one.server)) || !on_eni.contains(&(one.seen, one.server)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The one address that a socket sent to.
fn sink_address(moved: &HashMap<(&str, SocketAddr, SocketAddr), u64>, local: SocketAddr) -> SocketAddr {
    let mut to = moved.keys().filter(|(proto, src, _)| (*proto, *src) == ("udp", local)).map(|(.., dst)| *dst);
    to.next().unwrap_or_else(|| panic!("{local} is in no window"))
}

/// 1,000 new connections a second, or as many as `SOAK_CONNECTIONS` says, each with two ends of its own: memory follows those
/// that live. For 12 seconds, or as many as `SOAK_SECONDS` says.
#[test]
fn memory_is_that_of_what_lives() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").map_or(12, |seconds| seconds.parse().unwrap());
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    node.write_sysctls(&[
        ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
    ])
    .unwrap();
    let window = lab.open_window(&["--interval", "1s", "--max-flows", "262144", "--output", "/dev/null"]).unwrap();
    // As many rounds as there are ports for.
    let per_second = std::env::var("SOAK_CONNECTIONS").map_or(1_000, |number| number.parse().unwrap());
    let rounds = seconds.div_ceil(60);
    let stop = &AtomicBool::new(false);
    let (made, samples) = thread::scope(|scope| {
        let samples = scope.spawn(|| {
            let mut samples = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Listing removes the connections whose time is over, which the kernel does seldom by itself.
                let listed = node.output("sh", &["-c", "conntrack -L 2>/dev/null | wc -l"]).unwrap();
                samples.push((resident_kb(window.id()).unwrap(), listed.trim().parse::<u64>().unwrap()));
                thread::sleep(Duration::from_millis(500));
            }
            samples
        });
        let mut made = 0;
        for round in 0..rounds {
            let first = 8000 + 16 * u16::try_from(round).unwrap();
            let duration = Duration::from_secs(seconds / rounds);
            let load = Churn { ports: first..first + 16, per_second, duration, threads: 4 };
            let (connections, _) =
                churn(&client.namespace, &lab.outside.namespace, lab.outside.ipv4.into(), &load).unwrap();
            made += connections.len();
        }
        stop.store(true, Ordering::Relaxed);
        (made, samples.join().unwrap())
    });
    let (_, messages, _) = window.finish().unwrap();
    println!("{made} connections; resident kB and connections of conntrack: {samples:?}; {messages}");
    let alive = samples.iter().map(|(_, connections)| *connections).max().unwrap();
    assert!(u64::try_from(made).unwrap() > 2 * alive, "too few have ended to prove anything");
    // At a third of the time every buffer has been used.
    let highest = |samples: &[(u64, u64)]| samples.iter().map(|(resident, _)| *resident).max().unwrap();
    let (early, late) = samples.split_at(samples.len() / 3);
    let (early, late) = (highest(early), highest(late));
    assert!(late <= early + early / 4, "resident memory grew from {early} kB to {late} kB");
}

/// One report a line, as it comes; a reader that has gone away ends it quietly, and leaves nothing behind.
#[test]
fn reports_come_line_by_line() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let mut command = lab.netpath(&["report", "--interval", "500ms", "--format", "json", "--eni", "eth*"]).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let began = Instant::now();
    for _ in 0..3 {
        let report: Report = read(lines.next().unwrap().unwrap().as_bytes()).unwrap();
        assert_eq!(report.window.interval_ns, Some(500_000_000));
    }
    println!("three windows in {:?}", began.elapsed());
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
    wait_until("netpath has left", || netpath_hooks(&lab.node.namespace).unwrap() == 0);
}

/// As many as were asked for; the time, a signal and the end of a command end the last window early, and it is reported.
#[test]
fn what_ends_it() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = lab.netpath(&["report", "--format", "json", "--eni", "eth*", "--interval", "400ms"]).unwrap();
        let output = command.args(arguments).output().unwrap();
        let lines: Vec<Report> =
            String::from_utf8(output.stdout).unwrap().lines().map(|line| read(line.as_bytes()).unwrap()).collect();
        (output.status.code(), lines)
    };
    let late = |reports: &[Report]| reports.iter().map(|one| one.window.late_ns.is_some()).collect::<Vec<_>>();
    let (code, reports) = run(&["--count", "3"]);
    assert_eq!((code, late(&reports)), (Some(0), vec![true; 3]));
    let (code, reports) = run(&["--duration", "1s"]);
    assert_eq!((code, late(&reports)), (Some(0), vec![true, true, false]), "the last one is shorter");
    let (code, reports) = run(&["--", "sh", "-c", "sleep 1; exit 7"]);
    assert_eq!((code, reports.len()), (Some(7), 3));
    let (code, reports) = run(&["--count", "1", "--", "sh", "-c", "sleep 1; exit 7"]);
    assert_eq!((code, reports.len()), (Some(7), 1), "the command goes on");
    wait_until("netpath has left", || netpath_hooks(&lab.node.namespace).unwrap() == 0);
}
