//! EMF events: by the rules of the specification, with the kernel's numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, Running, counters, wait_until};
use serde_json::Value;

use super::{get, metrics, serve, value, wait_for_windows};

/// What the specification allows (Amazon `CloudWatch` user guide, "Specification: Embedded metric format").
fn assert_is_emf(line: &str) -> Value {
    const UNITS: [&str; 4] = ["Bytes/Second", "Count/Second", "Count", "Bytes"];
    assert!(line.len() <= 256 << 10);
    let event: Value = serde_json::from_str(line).unwrap();
    let about = &event["_aws"];
    assert!(about["Timestamp"].as_u64().is_some_and(|time| time > 1_700_000_000_000), "{line}");
    for directive in about["CloudWatchMetrics"].as_array().unwrap() {
        assert!((1..=1024).contains(&directive["Namespace"].as_str().unwrap().len()));
        for dimensions in directive["Dimensions"].as_array().unwrap() {
            let names: Vec<&str> = dimensions.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert!(names.len() <= 30 && names.iter().collect::<BTreeSet<_>>().len() == names.len());
            assert!(
                names.iter().all(|name| event[name].as_str().is_some_and(|value| (1..=1024).contains(&value.len()))),
                "{line}"
            );
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for metric in metrics {
            let name = metric["Name"].as_str().unwrap();
            assert!(event[name].is_number(), "{name}: {line}");
            assert!(UNITS.contains(&metric["Unit"].as_str().unwrap()));
        }
    }
    event
}

/// What a field comes to over all events: a rate times the length of its window.
fn sum<'a>(events: impl IntoIterator<Item = &'a Value>, field: &str) -> u64 {
    let of = |event: &Value| event[field].as_f64().unwrap() * event["window_duration_ns"].as_f64().unwrap() / 1e9;
    let sum: f64 = events.into_iter().map(of).sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes are whole")]
    let whole = sum.round() as u64;
    whole
}

/// Lines that a listener was sent, over however many connections.
struct Agent {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn start(lab: &Lab) -> Self {
        let listener = lab.node.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let (address, lines) = (listener.local_addr().unwrap(), Arc::default());
        let into = Arc::clone(&lines);
        let read = |stream: TcpStream, into: Arc<Mutex<Vec<String>>>| {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let into = Arc::clone(&into);
                thread::spawn(move || read(stream, into));
            }
        });
        Self { address, lines }
    }
}

#[test]
fn events_have_what_the_kernel_counted() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let files = lab.host_files().unwrap();
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let agent = Agent::start(&lab);
    let target = format!("tcp:{}", agent.address);
    lab.wait_until_quiet().unwrap();
    let host_root = files.path().to_str().unwrap();
    let names = ["--cluster", "prod", "--node-name", "node-7", "--host-root", host_root];
    let netpath = serve(&lab, &[&["--emf", &target][..], &names].concat());
    let before = counters(node, &client.veth).unwrap();
    for _ in 0..5 {
        send_datagrams(&client.namespace, sink.address(), 958, 40).unwrap();
    }
    lab.wait_until_quiet().unwrap();
    wait_for_windows(&lab);
    let counted = counters(node, &client.veth).unwrap().since(before);
    let written = value(&metrics(&lab), "netpath_emf_events_total").unwrap();
    assert_eq!(value(&metrics(&lab), "netpath_emf_events_dropped_total"), Some(0));
    wait_until("the agent has them", || agent.lines.lock().unwrap().len() as u64 >= written);
    let events: Vec<Value> = agent.lines.lock().unwrap().iter().map(|line| assert_is_emf(line)).collect();
    let of_kind = |kind: &'static str| events.iter().filter(move |event| event["Type"] == kind);

    assert!(of_kind("Node").all(|event| event["ClusterName"] == "prod" && event["NodeName"] == "node-7"));
    assert_eq!(sum(of_kind("Node"), "local_bytes"), 200_000, "42 bytes of headers each");
    let is_clients = |event: &&Value| event["interface"] == client.veth.as_str();
    let interface = |field| sum(of_kind("NodeNet").filter(is_clients), field);
    assert_eq!(interface("node_interface_network_rx_bytes"), counted.rx_bytes);
    assert_eq!(interface("node_interface_network_rx_packets"), counted.rx_packets);
    // The pod's own view.
    let pod = |field| {
        sum(of_kind("Pod").filter(|event| event["PodName"] == "client" && event["Namespace"] == "default"), field)
    };
    assert_eq!((pod("pod_network_tx_bytes"), pod("pod_network_rx_bytes")), (counted.rx_bytes, counted.tx_bytes));
    assert_eq!(sum(of_kind("PodNet").filter(is_clients), "pod_interface_network_tx_bytes"), counted.rx_bytes);
    let all: BTreeMap<&str, usize> =
        ["Node", "NodeNet", "Pod", "PodNet"].map(|kind| (kind, of_kind(kind).count())).into();
    assert!(all.values().all(|count| *count > 0), "{all:?}");
    let total: u64 = sum(of_kind("NodeNet"), "node_interface_network_total_bytes");
    assert_eq!(sum(of_kind("Node"), "node_network_total_bytes"), total);
    drop(netpath);
}

/// Nobody takes them, then somebody does.
#[test]
fn an_agent_that_is_away_holds_nothing_up() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let agent = Agent::start(&lab);
    // Takes connections, and reads nothing.
    let deaf = lab.node.namespace.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    for (target, takes) in [
        (agent.address.to_string(), true),
        ("127.0.0.1:9".to_owned(), false),
        (deaf.local_addr().unwrap().to_string(), true),
    ] {
        let netpath = serve(&lab, &["--emf", &format!("tcp:{target}"), "--interval", "100ms"]);
        wait_for_windows(&lab);
        let counted = |name: &str| value(&metrics(&lab), name).unwrap();
        if takes {
            wait_until("events are written", || counted("netpath_emf_events_total") > 0);
        } else {
            wait_until("events are given up", || counted("netpath_emf_events_dropped_total") > 0);
        }
        assert_eq!(get(&lab, "/healthz").unwrap().status, 200);
        end(netpath);
    }
    // A pipe that nobody reads fills up.
    let mut command = lab.netpath(&["serve", "--eni", "eth*", "--interval", "100ms", "--emf", "stdout"]).unwrap();
    let (_unread, pipe) = std::io::pipe().unwrap();
    // SAFETY: it makes the pipe smaller, and takes no pointer.
    assert!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) } >= 0);
    let netpath = Running::spawn(command.stdin(Stdio::null()).stdout(pipe).stderr(Stdio::null())).unwrap();
    let dropped =
        || value(get(&lab, "/metrics").as_ref().map_or("", |answer| answer.text()), "netpath_emf_events_dropped_total");
    wait_until("events are given up", || dropped().is_some_and(|count| count > 0));
    end(netpath);
}

fn end(netpath: Running) {
    netpath.signal(libc::SIGTERM);
    assert!(netpath.wait(std::time::Duration::from_mins(1)).unwrap().success());
}
