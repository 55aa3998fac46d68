//! What Prometheus scrapes is what the kernel counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{Lab, Prometheus, counters, http, ip_batch, netpath_hooks, wait_until};
use serde_json::Value;

use super::{metrics, serve, value, wait_for_windows};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/serve.md");
/// As the documentation has it: 0 at every scrape.
const INVARIANT: &str = "sum(netpath_node_network_bytes_total) - sum(netpath_container_insights_bytes_total) \
    - sum(netpath_residual_bytes_total{sign=\"kernel_more\"}) + sum(netpath_residual_bytes_total{sign=\"netpath_more\"})";

/// The sum of all series whose name and labels begin so, in the text format.
fn sum(metrics: &str, series: &str) -> u64 {
    let values = metrics.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
}

/// The same as [`INVARIANT`], of one scrape.
pub fn assert_adds_up(metrics: &str) {
    let residual = |sign: &str| {
        let of =
            metrics.lines().filter(|line| line.starts_with("netpath_residual_bytes_total{") && line.contains(sign));
        of.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>()
    };
    let node = sum(metrics, "netpath_node_network_bytes_total");
    let terms = sum(metrics, "netpath_container_insights_bytes_total");
    assert_eq!(node + residual("\"netpath_more\""), terms + residual("\"kernel_more\""));
}

/// A pod's device that comes, has ten packets sent to it, and goes. Returns what its counters had.
pub fn come_and_go(lab: &Lab, name: &str) -> u64 {
    let node = &lab.node.namespace;
    let hooks = netpath_hooks(node).unwrap();
    let far = &lab.pod("client").namespace;
    far.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    ip_batch(node, &format!("link add {name} type veth peer name {name}p netns {}\n", far.name())).unwrap();
    wait_until("it is watched", || netpath_hooks(node).unwrap() == hooks + 2);
    ip_batch(far, &format!("link set {name}p up\n")).unwrap();
    let up = "address add 10.99.0.1/24 dev NAME\nlink set NAME up\nneighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev NAME\n";
    ip_batch(node, &up.replace("NAME", name)).unwrap();
    let socket = node.run(|| std::net::UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for _ in 0..10 {
        socket.send_to(&[0; 200], ("10.99.0.2", 9)).unwrap();
    }
    wait_until("they have left", || counters(node, name).unwrap().tx_packets == 10);
    let counted = counters(node, name).unwrap();
    ip_batch(node, &format!("link delete {name}\n")).unwrap();
    wait_until("it is gone", || netpath_hooks(node).unwrap() == hooks);
    counted.rx_bytes + counted.tx_bytes
}

#[test]
fn what_prometheus_scrapes_adds_up() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    node.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    let files = lab.host_files().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let outside = TcpServer::start(&lab.outside.namespace, (lab.outside.ipv4, 0).into(), Serve::Send(200_000)).unwrap();
    lab.wait_until_quiet().unwrap();
    let netpath =
        serve(&lab, &["--veths", "--host-root", files.path().to_str().unwrap(), "--zone", "198.51.100.0/24=use1-az2"]);
    let devices = ["eth0", client.veth.as_str(), server.veth.as_str()];
    let before = devices.map(|device| counters(node, device).unwrap());
    wait_for_windows(&lab);
    // A pod has series before it has moved anything.
    let pod = |name: &str, path: &str, direction: &str| {
        format!("{{namespace=\"default\",pod=\"{name}\",path=\"{path}\",direction=\"{direction}\"}}")
    };
    let silent = pod("server", "eni", "receive");
    assert_eq!(value(&metrics(&lab), &format!("netpath_pod_bytes_total{silent}")), Some(0));
    let rules = Path::new(DEPLOY).join("prometheus/netpath.rules.yaml");
    let prometheus = Prometheus::start(node, folder.path(), &rules).unwrap();
    let query = |query: &str| prometheus.number(query).unwrap();

    let stop = AtomicBool::new(false);
    // As long as it takes Prometheus to scrape often enough to prove anything.
    let scraped = || query("count_over_time(netpath_windows_total[5m])");
    let (rounds, gone): (u64, u64) = thread::scope(|scope| {
        let scrapes = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_adds_up(&metrics(&lab));
                count += 1;
            }
            count
        });
        let (mut rounds, mut gone) = (0, 0);
        while scraped() < 15 {
            send_datagrams(&client.namespace, sink.address(), 958, 50).unwrap();
            download(&client.namespace, outside.address()).unwrap();
            gone += come_and_go(&lab, &format!("v{rounds}"));
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(scrapes.join().unwrap() > 10, "too few scrapes to prove anything");
        (rounds, gone)
    });
    lab.wait_until_quiet().unwrap();
    wait_for_windows(&lab);
    let windows = value(&metrics(&lab), "netpath_windows_total").unwrap();
    let is_scraped = || !prometheus.query(&format!("netpath_windows_total >= {windows}")).unwrap().is_empty();
    wait_until("Prometheus has scraped that", is_scraped);

    let mut total = gone;
    for (device, before) in devices.into_iter().zip(before) {
        let counted = counters(node, device).unwrap().since(before);
        total += counted.rx_bytes + counted.tx_bytes;
        for (direction, bytes) in [("receive", counted.rx_bytes), ("transmit", counted.tx_bytes)] {
            let of = format!("netpath_device_kernel_bytes_total{{device=\"{device}\",direction=\"{direction}\"}}");
            assert_eq!(query(&of), bytes, "{of}");
        }
    }
    assert_eq!(query("netpath_node_network_bytes_total"), total);
    // 42 bytes of headers each.
    let sent = rounds * 50 * 1000;
    assert_eq!(query("netpath_bytes_total{path=\"local\"}"), sent);
    for (name, direction) in [("client", "transmit"), ("server", "receive")] {
        assert_eq!(query(&format!("netpath_pod_bytes_total{}", pod(name, "local", direction))), sent, "{name}");
    }
    let received = query(&format!("netpath_pod_bytes_total{}", pod("client", "eni", "receive")));
    assert!(received > rounds * 200_000, "{received}");
    assert_eq!(query("sum(netpath_zone_bytes_total{src_zone=\"use1-az2\"})"), received);
    assert_eq!(query(&format!("max_over_time(abs({INVARIANT})[5m:500ms])")), 0, "at every scrape");
    assert!(query(&format!("count_over_time(({INVARIANT})[5m:500ms])")) > 10);
    let known = metrics(&lab);
    for counter in known.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")) {
        assert_eq!(query(&format!("max(resets({counter}[5m]))")), 0, "{counter} only grows");
    }
    assert_eq!(query("netpath_incomplete_windows_total"), 0);

    assert_examples(&lab, &prometheus);
    assert_tools_agree(&lab);
    drop(prometheus);
    drop(netpath);
}

/// Every expression of the documentation and of the dashboard is one that Prometheus takes, about metrics that there are.
fn assert_examples(lab: &Lab, prometheus: &Prometheus) {
    let docs = fs::read_to_string(DOCS).unwrap();
    let examples: Vec<&str> = docs.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 5);
    for example in examples {
        assert!(!prometheus.query(example).unwrap().is_empty(), "{example}");
    }
    let dashboard: Value =
        serde_json::from_slice(&fs::read(format!("{DEPLOY}/grafana/netpath.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 15);
    let known = metrics(lab);
    for expression in expressions {
        let expression = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        prometheus.query(&expression).unwrap();
        for name in names(&expression) {
            // A lab has no ENA and no ipamd.
            let is_known =
                known.contains(&format!("# TYPE {name} ")) || name.contains("_ena_") || name.contains("_eni_ip_");
            assert!(is_known, "{name} of the dashboard");
        }
    }
    for line in known.lines().filter_map(|line| line.strip_prefix("# TYPE netpath_")) {
        let name = line.split(' ').next().unwrap();
        assert!(docs.contains(&format!("`netpath_{name}`")), "netpath_{name} is not in the documentation");
    }
}

fn names(expression: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.split(move |c| !is_name(c)).filter(|word| word.starts_with("netpath_") && *word != "netpath_more")
}

/// promtool finds nothing wrong, Prometheus has loaded the alerts, and the other format is there, too.
fn assert_tools_agree(lab: &Lab) {
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), metrics(lab).as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && said.trim().is_empty(), "{said}");
    let rules = http::get(&lab.node.namespace, Prometheus::ADDRESS, "/api/v1/rules", "").unwrap();
    let rules: Value = serde_json::from_slice(&rules.body).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    let health: BTreeMap<_, _> = rules.iter().map(|rule| (rule["name"].as_str(), rule["health"].as_str())).collect();
    assert!(health.len() > 4 && health.values().all(|health| *health == Some("ok")), "{health:?}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0";
    let open = http::get(&lab.node.namespace, super::ADDRESS, "/metrics", accept).unwrap();
    assert!(open.head.contains("application/openmetrics-text") && open.text().ends_with("# EOF\n"));
}

#[test]
fn alerts_fire_when_they_should() {
    let output = Command::new("promtool")
        .args(["test", "rules", "netpath.rules.test.yaml"])
        .current_dir(format!("{DEPLOY}/prometheus"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
