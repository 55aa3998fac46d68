//! What `netpath serve --otlp` sends, against the kernel's counters and those who sent the packets: to a receiver that keeps it, to
//! one that fails in every way, and through a real collector. The official definitions decode it.

mod receiver;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, Namespace, Running, device_counters, http, python, wait_until};
use tempfile::TempDir;

use self::receiver::{Decoded, FINE, Received, Receiver, Record, Reply, decode};

/// Of a datagram, with its headers.
const PAYLOAD: usize = 200;
const FRAME_BYTES: u64 = 14 + 20 + 8 + 200;

const PROMETHEUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9456);

/// A running `netpath serve`, and what it says.
struct Served {
    netpath: Running,
    folder: TempDir,
}

impl Served {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let errors = fs::File::create(folder.path().join("errors")).unwrap();
        let mut command = lab.netpath(&["serve", "--eni", "eth*"]).unwrap();
        let netpath = Running::spawn(command.args(arguments).stderr(errors)).unwrap();
        let served = Self { netpath, folder };
        wait_until("it serves", || served.messages().contains("serving on"));
        served
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.folder.path().join("errors")).unwrap()
    }

    /// Ends it by SIGTERM: what it said of OTLP.
    fn end(self) -> Vec<String> {
        self.netpath.signal(libc::SIGTERM);
        let status = self.netpath.wait(Duration::from_mins(1)).unwrap();
        let messages = fs::read_to_string(self.folder.path().join("errors")).unwrap();
        assert!(status.success(), "{messages}");
        messages.lines().filter(|line| line.contains("OTLP")).map(str::to_owned).collect()
    }
}

/// What `/metrics` says of it.
fn scrape(node: &Namespace) -> BTreeMap<String, u64> {
    let metrics = http::get(node, PROMETHEUS, "/metrics", "").unwrap();
    let otlp = metrics.text().lines().filter(|line| line.starts_with("netpath_otlp_"));
    otlp.map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn sent(signal: &str) -> String {
    format!("netpath_otlp_sent_total{{signal=\"{signal}\"}}")
}

fn dropped(signal: &str, reason: &str) -> String {
    format!("netpath_otlp_dropped_total{{signal=\"{signal}\",reason=\"{reason}\"}}")
}

/// What Container Insights adds up: all that the node's devices have counted, but for loopback.
fn node_network(node: &Namespace) -> u64 {
    let counters = device_counters(node).unwrap();
    counters.iter().filter(|(device, _)| *device != "lo").map(|(_, counted)| counted.rx_bytes + counted.tx_bytes).sum()
}

fn lab() -> Lab {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    lab.wait_until_quiet().unwrap();
    lab
}

/// Packets and bytes by the socket that sent them, as records have it.
fn amounts<'a>(records: impl IntoIterator<Item = &'a Record>, path: &str) -> BTreeMap<SocketAddr, (u64, u64)> {
    let mut amounts: BTreeMap<SocketAddr, (u64, u64)> = BTreeMap::new();
    for record in records {
        if record.text("network.transport") == Some("udp") && record.text("netpath.path") == Some(path) {
            let address = record.text("source.address").unwrap().parse().unwrap();
            let port = u16::try_from(record.number("source.port")).unwrap();
            let (packets, bytes) = amounts.entry(SocketAddr::new(address, port)).or_default();
            *packets += record.number("netpath.packets");
            *bytes += record.number("netpath.bytes");
        }
    }
    amounts
}

/// Whether records have what each socket sent, once. A datagram that is between two devices when a window ends is in both windows, and
/// there is one at most between them.
fn are(found: &BTreeMap<SocketAddr, (u64, u64)>, sockets: &[(SocketAddr, u64)]) -> bool {
    // The kernel may give a socket the port of an earlier one.
    let mut sent: BTreeMap<SocketAddr, (u64, u64)> = BTreeMap::new();
    for (socket, count) in sockets {
        let (least, most) = sent.entry(*socket).or_default();
        *least += count;
        *most += count + 1;
    }
    let is_right = |(socket, (least, most)): (&SocketAddr, &(u64, u64))| {
        found
            .get(socket)
            .is_some_and(|(packets, bytes)| (*least..=*most).contains(packets) && *bytes == packets * FRAME_BYTES)
    };
    found.len() == sent.len() && sent.iter().all(is_right)
}

/// Datagrams from the client, and the socket that they came from.
fn send(lab: &Lab, to: SocketAddr, count: u32) -> (SocketAddr, u64) {
    let client = lab.pod("client");
    let local = send_datagrams(&client.namespace, to, PAYLOAD, count).unwrap();
    (SocketAddr::new(client.ipv4.into(), local.port()), count.into())
}

fn records(decoded: &[Decoded]) -> impl Iterator<Item = &Record> {
    decoded.iter().flat_map(|request| &request.records)
}

fn with_metrics(decoded: &[Decoded]) -> Vec<&Decoded> {
    decoded.iter().filter(|request| !request.metrics.is_empty()).collect()
}

#[test]
fn what_is_sent_is_what_was_counted() {
    let lab = lab();
    let node = &lab.node.namespace;
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    let outside = UdpSink::start(&lab.outside.namespace, (lab.outside.ipv4, 0).into()).unwrap();
    let receiver = Receiver::start(node, (Ipv4Addr::LOCALHOST, 0).into(), |_, _| FINE);
    let (before, eth0) = (node_network(node), device_counters(node).unwrap()["eth0"]);
    let url = format!("http://{}/a/b", receiver.address());
    let arguments = ["--interval", "500ms", "--cluster", "lab", "--node-name", "ip-10-0-0-5", "--otlp", &url];
    let served = Served::start(&lab, &arguments);
    let zero = scrape(node);
    assert_eq!(zero.len(), 8, "{zero:?}");
    let here = [send(&lab, sink.address(), 100), send(&lab, sink.address(), 1)];
    let there = [send(&lab, outside.address(), 50)];
    lab.wait_until_quiet().unwrap();
    wait_until("several windows are sent", || receiver.received().len() > 12);
    let last = send(&lab, sink.address(), 7);
    lab.wait_until_quiet().unwrap();
    assert_eq!(served.end(), [""; 0]);

    let received = receiver.received();
    for request in &received {
        assert!(["/a/b/v1/metrics", "/a/b/v1/logs"].contains(&&*request.path), "{}", request.path);
        let headers = ["content-type", "content-encoding", "user-agent"].map(|name| &*request.headers[name]);
        assert_eq!(headers[..2], ["application/x-protobuf", "gzip"]);
        assert!(headers[2].starts_with("netpath/"), "{}", headers[2]);
    }
    let decoded = decode(&received);
    for request in &decoded {
        assert_eq!(request.scope, "netpath");
        let known = ["service.name", "k8s.cluster.name", "k8s.node.name", "service.instance.id"];
        assert_eq!(known.map(|key| &request.resource[key]), ["netpath", "lab", "ip-10-0-0-5", "lab/ip-10-0-0-5"]);
    }
    assert_sums(&with_metrics(&decoded));
    let metrics = with_metrics(&decoded);
    let last_sums = metrics.last().unwrap();
    assert_eq!(last_sums.value("netpath.node_network_bytes", ""), node_network(node) - before);
    let counted = device_counters(node).unwrap()["eth0"].since(eth0);
    for (direction, bytes) in [("receive", counted.rx_bytes), ("transmit", counted.tx_bytes)] {
        let labels = format!("class=eni,device=eth0,direction={direction}");
        assert_eq!(last_sums.value("netpath.device_kernel_bytes", &labels), bytes, "{direction}");
    }
    // Of the requests before the last.
    let logs = received.iter().filter(|request| request.signal() == "logs").count();
    assert!(logs > 0 && last_sums.value("netpath.otlp_sent", "signal=logs") <= records(&decoded).count() as u64);

    let (local, eni) = (amounts(records(&decoded), "local"), amounts(records(&decoded), "eni"));
    assert!(are(&local, &[here[0], here[1], last]) && are(&eni, &there), "{local:?} {eni:?}");
    for record in records(&decoded) {
        assert_eq!((&*record.event, record.severity, record.time), ("netpath.flow", 9, record.observed));
        let is_there = record.text("destination.address") == Some(&lab.outside.ipv4.to_string());
        if is_there {
            assert_eq!(record.text("network.io.direction"), Some("transmit"));
            assert_eq!(record.text("netpath.nat"), Some("snat"));
            assert_eq!(record.number("netpath.eni_tx_bytes"), record.number("netpath.bytes"));
            assert_eq!(record.number("destination.port"), u64::from(outside.address().port()));
            assert_eq!(record.text("network.type"), Some("ipv4"));
        }
    }
}

/// Sums only grow, all from one start, and each request is of a later time; names and units are those of the conventions.
fn assert_sums(requests: &[&Decoded]) {
    assert!(requests.len() > 4, "too few to prove anything");
    let (mut sums, mut times) = (BTreeMap::new(), Vec::new());
    let starts =
        |request: &Decoded| request.metrics.iter().find(|one| one.name == "netpath.windows").unwrap().points[0].start;
    for request in requests {
        times.push(request.metrics[0].points[0].time);
        for metric in &request.metrics {
            assert!(!metric.description.is_empty());
            assert_eq!(metric.unit == "By", metric.name.ends_with("bytes"), "{}", metric.name);
            for point in &metric.points {
                assert_eq!(point.time, *times.last().unwrap(), "{}", metric.name);
                if metric.kind == "sum" {
                    assert_eq!(metric.temporality.as_deref(), Some("AGGREGATION_TEMPORALITY_CUMULATIVE"));
                    assert_eq!(metric.monotonic, Some(true));
                    assert!(starts(requests[0]) <= point.start && point.start < point.time, "{metric:?}");
                    let last = sums
                        .insert((metric.name.clone(), point.attributes.clone()), (point.start, point.value.as_u64()));
                    let (start, value) = last.unwrap_or((point.start, Some(0)));
                    assert!(value.is_some() && start == point.start && value <= point.value.as_u64(), "{metric:?}");
                }
            }
        }
    }
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
    // One that comes before the last was taken is sent in its place.
    let windows: Vec<u64> = requests.iter().map(|request| request.value("netpath.windows", "")).collect();
    assert!(windows.is_sorted_by(|earlier, later| earlier < later), "{windows:?}");
}

/// The receiver is not there, dies, is overloaded, asks for a pause, hangs, refuses, takes parts, is slow, and then is well.
#[test]
fn a_receiver_that_fails_in_every_way() {
    let lab = lab();
    let node = &lab.node.namespace;
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    let before = node_network(node);
    let free = node.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap().unwrap().local_addr().unwrap();
    let served = Served::start(&lab, &["--interval", "500ms", "--otlp", &format!("http://{free}")]);
    let mut sockets = vec![send(&lab, sink.address(), 10)];
    wait_until("nobody listens", || {
        served.messages().lines().filter(|line| line.contains("connection refused")).count() == 2
    });

    let receiver = Receiver::start(node, free, |signal, number| match (signal, number) {
        ("metrics", 0) => Reply::End,
        ("metrics", 1) => Reply::Whole(503, "", b""),
        ("metrics", 2) => Reply::Whole(429, "Retry-After: 1\r\n", b"slow down"),
        ("metrics", 3) => Reply::Slow(200),
        ("logs", 0) => Reply::Silence,
        ("logs", 1) => Reply::Whole(400, "", b"no"),
        // partial_success { rejected_log_records: 1, error_message: "no" }
        ("logs", 2) => Reply::Whole(200, "", b"\x0a\x06\x08\x01\x12\x02no"),
        _ => FINE,
    });
    let answered = |signal: &str, more: usize| {
        let received = receiver.received();
        received.iter().filter(|request| request.signal() == signal && request.status > 0).count() > more
    };
    // One that nobody takes anything from ends all the same, and says what is lost.
    let lonely =
        Served::start(&lab, &["--interval", "1h", "--listen", "127.0.0.1:9457", "--otlp", "http://127.0.0.1:1"]);
    sockets.push(send(&lab, sink.address(), 10));
    let last_words = lonely.end();
    let lost = last_words.iter().filter(|line| line.contains("have no taker at the end")).count();
    assert_eq!((lost, last_words.len()), (2, 4), "{last_words:?}");
    wait_until("it is well for some windows", || {
        sockets.push(send(&lab, sink.address(), 10));
        thread::sleep(Duration::from_millis(200));
        answered("logs", 3) && answered("metrics", 6)
    });
    lab.wait_until_quiet().unwrap();
    // Until everything has been sent, and this is known.
    wait_until("all is counted", || {
        let (received, counted) = (receiver.received(), scrape(node));
        let decoded = decode(&received);
        let of = |status: u16| -> Vec<&Decoded> {
            decoded.iter().filter(|one| received[one.number].status == status).collect()
        };
        let records = |requests: &[&Decoded]| requests.iter().map(|one| one.records.len() as u64).sum::<u64>();
        let (taken, refused) = (of(200), of(400));
        records(&taken) == counted[&sent("logs")] + 1
            && taken.iter().map(|one| one.points() as u64).sum::<u64>() == counted[&sent("metrics")]
            && counted[&dropped("logs", "rejected")] == 1
            && counted[&dropped("logs", "refused")] == records(&refused)
            && counted[&dropped("logs", "queue_full")] == 0
            && counted[&dropped("metrics", "superseded")] > 0
            && are(&amounts(taken.iter().chain(&refused).flat_map(|one| &one.records), "local"), &sockets)
    });
    let messages = served.end();

    let received = receiver.received();
    let (hung, refused) = (by_status(&received, 0), by_status(&received, 400));
    assert!(hung.iter().any(|request| request.signal() == "logs") && refused.len() == 1);
    let kept = by_status(&received, 200);
    let decoded = decode(&kept);
    assert_eq!(
        with_metrics(&decoded).last().unwrap().value("netpath.node_network_bytes", ""),
        node_network(node) - before
    );
    // What hung came again, and was refused then: each once.
    let all = decode(&kept.into_iter().chain(refused).collect::<Vec<_>>());
    let local = amounts(records(&all), "local");
    assert!(are(&local, &sockets), "{local:?}, {sockets:?}");
    for (text, count) in [("connection refused", 2), ("answers again", 2), ("with status 400", 1), ("(no)", 1)] {
        assert_eq!(messages.iter().filter(|line| line.contains(text)).count(), count, "{text}: {messages:?}");
    }
    assert_eq!(messages.len(), 6, "{messages:?}");
}

fn by_status(received: &[Received], status: u16) -> Vec<Received> {
    received.iter().filter(|request| request.status == status).cloned().collect()
}

/// Where the collector is that `PyPI`'s `rotel` has.
fn rotel() -> PathBuf {
    let output = python().unwrap().args(["-c", "import rotel; print(rotel.__path__[0])"]).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()).join("rotel-agent")
}

/// One window, which the end of netpath sends, to a collector that reads it, and writes it anew.
#[test]
fn through_a_collector() {
    let lab = lab();
    let node = &lab.node.namespace;
    let sink = UdpSink::start(&lab.pod("server").namespace, (lab.pod("server").ipv4, 0).into()).unwrap();
    let receiver = Receiver::start(node, (Ipv4Addr::LOCALHOST, 0).into(), |_, _| FINE);
    let to = format!("http://{}", receiver.address());
    let mut command = node.command(rotel()).unwrap();
    command.args(["start", "--otlp-http-endpoint", "127.0.0.1:4318", "--otlp-grpc-endpoint", "127.0.0.1:4317"]);
    command.args(["--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", &to]);
    let errors = tempfile::NamedTempFile::new().unwrap();
    command.arg("--disable-batching").stdout(errors.reopen().unwrap()).stderr(errors.reopen().unwrap());
    let _collector = Running::spawn(&mut command).unwrap();
    let said = || fs::read_to_string(errors.path()).unwrap();
    let is_there = || node.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 4318))).unwrap().is_ok();
    wait_until("the collector listens", is_there);
    let before = node_network(node);
    let options = tempfile::NamedTempFile::new().unwrap();
    fs::write(options.path(), "interval = \"1h\"\notlp = \"http://localhost:4318\"\n").unwrap();
    let served = Served::start(&lab, &["--config", options.path().to_str().unwrap()]);
    let socket = send(&lab, sink.address(), 100);
    lab.wait_until_quiet().unwrap();
    assert_eq!(served.end(), [""; 0], "{}", said());
    wait_until("the collector has handed on both", || {
        let received = receiver.received();
        ["metrics", "logs"].iter().all(|signal| received.iter().any(|request| request.signal() == *signal))
    });
    let decoded = decode(&receiver.received());
    let metrics = with_metrics(&decoded);
    assert_eq!(metrics[0].value("netpath.node_network_bytes", ""), node_network(node) - before, "{}", said());
    let local = amounts(records(&decoded), "local");
    assert!(are(&local, &[socket]), "{local:?}");
    assert!(decoded.iter().all(|request| request.resource["service.name"] == "netpath"));
}
