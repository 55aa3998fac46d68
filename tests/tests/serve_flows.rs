//! Flow records of a fleet, read by real engines with the document's own statements, against what senders sent and kernels counted.

mod disk;
mod document;
mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use document::{Answers, Document};
use fleet::Node;
use lab::traffic::{Serve, TcpServer, UdpSink, send_datagrams, upload};
use lab::{Lab, Pod, counters, ip, join_vpcs, wait_until};
use serde_json::Value;

const ZONE_1: &str = "use1-az1";
const ZONE_2: &str = "use1-az2";
/// Headers of a datagram: Ethernet, IPv4, UDP.
const HEADERS: u64 = 14 + 20 + 8;
const SERVICE: &str = "10.100.0.10:7000";
const SERVICE_NAME: &str = "default/replica:main";
/// An address that node-c's ENI has by its prefix, and no pod.
const NOBODY: &str = "10.0.3.30:9000";
const BY_SERVICE: u64 = 200_000;

fn port(pod: &Pod, number: u16) -> SocketAddr {
    SocketAddr::new(pod.ipv4.into(), number)
}

/// Three nodes in two zones. The addresses of one are known to IMDS, another has a prefix, and those of the third's pods came after
/// IMDS was asked.
fn nodes() -> [Node; 3] {
    let labs = [
        Lab::builder().pod("web").pod("cache").online().start().unwrap(),
        Lab::builder().subnet(2).pod("db").pod("feed").online().start().unwrap(),
        Lab::builder().subnet(3).pod("replica").pod("mute").online().start().unwrap(),
    ];
    join_vpcs((&labs[0], "to-b"), (&labs[1], "to-a")).unwrap();
    join_vpcs((&labs[0], "to-c"), (&labs[2], "to-a")).unwrap();
    join_vpcs((&labs[1], "to-c"), (&labs[2], "to-b")).unwrap();
    let [a, b, c] = labs;
    [
        Node::new("node a", ZONE_1, a, "10.0.0.5\n10.0.0.21\n10.0.0.22", None),
        Node::new("node-b", ZONE_1, b, "10.0.2.5", None),
        Node::new("node-c", ZONE_2, c, "10.0.3.5", Some("10.0.3.16/28")),
    ]
}

/// Sends so many datagrams of so many bytes: what they are on a device.
fn datagrams(from: &lab::Namespace, to: SocketAddr, count: u32, bytes: u16) -> u64 {
    send_datagrams(from, to, bytes.into(), count).unwrap();
    u64::from(count) * (u64::from(bytes) + HEADERS)
}

/// What was sent, and what the kernels counted between the nodes.
#[derive(Debug, Default)]
struct Sent {
    web_to_replica: u64,
    web_to_mute: u64,
    db_to_replica: u64,
    /// Of which nothing comes back.
    feed_to_replica: u64,
    web_to_db: u64,
    web_to_cache: u64,
    cache_to_web: u64,
    from_outside: u64,
    to_outside: u64,
    web_to_nobody: u64,
}

fn talk([a, b, c]: &[Node; 3]) -> Sent {
    let (web, cache) = (a.lab.pod("web"), a.lab.pod("cache"));
    let (db, replica, mute) = (b.lab.pod("db"), c.lab.pod("replica"), c.lab.pod("mute"));
    let sinks: Vec<_> = [web, cache, db, replica, mute]
        .into_iter()
        .map(|pod| UdpSink::start(&pod.namespace, port(pod, 9000)).unwrap())
        .collect();
    let outside = SocketAddr::new(a.lab.outside.ipv4.into(), 9000);
    let beyond = UdpSink::start(&a.lab.outside.namespace, outside).unwrap();
    let upload_to = TcpServer::start(&web.namespace, port(web, 80), Serve::Receive).unwrap();

    let service: SocketAddr = SERVICE.parse().unwrap();
    let sent = Sent {
        web_to_replica: datagrams(&web.namespace, service, 100, 1_000),
        web_to_mute: datagrams(&web.namespace, port(mute, 9000), 10, 700),
        db_to_replica: datagrams(&db.namespace, port(replica, 9000), 50, 500),
        feed_to_replica: datagrams(&b.lab.pod("feed").namespace, port(replica, 9000), 25, 250),
        web_to_db: datagrams(&web.namespace, port(db, 9000), 70, 200),
        web_to_cache: datagrams(&web.namespace, port(cache, 9000), 20, 100),
        cache_to_web: datagrams(&cache.namespace, port(web, 9000), 30, 300),
        from_outside: datagrams(&a.lab.outside.namespace, port(web, 9000), 40, 400),
        to_outside: datagrams(&web.namespace, outside, 10, 100),
        web_to_nobody: datagrams(&web.namespace, NOBODY.parse().unwrap(), 5, 50),
    };
    let backend = TcpServer::start(&replica.namespace, port(replica, 9000), Serve::Receive).unwrap();
    upload(&web.namespace, service, BY_SERVICE).unwrap();
    upload(&replica.namespace, upload_to.address(), 300_000).unwrap();
    backend.stop().unwrap();
    upload_to.stop().unwrap();
    let arrived: u64 = sinks.into_iter().map(|sink| sink.stop().unwrap().count).sum();
    assert_eq!(
        (arrived, beyond.stop().unwrap().count),
        (100 + 10 + 50 + 25 + 70 + 20 + 30 + 40, 10),
        "nothing is lost on the way"
    );
    sent
}

/// Bytes that a router sent to another lab's and got from there.
fn between(node: &Node, device: &str) -> [u64; 2] {
    let counters = counters(&node.lab.vpc, device).unwrap();
    [counters.tx_bytes, counters.rx_bytes]
}

fn prepare([a, b, c]: &[Node; 3]) {
    // Services are for conntrack: its own address for replica, and the node's for who goes out.
    a.lab.snat().unwrap();
    let service = SERVICE.parse().unwrap();
    a.lab.cluster_ip(service, port(c.lab.pod("replica"), 9000)).unwrap();
    a.lab.name_service(service, ["default", "replica", "main"]).unwrap();
    // What cache sends goes by the ENI and the VPC, also to web.
    let node = &a.lab.node.namespace;
    ip(node, "route add default via 10.0.0.1 dev eth0 table 100").unwrap();
    ip(node, &format!("rule add pref 100 iif {} lookup 100", a.lab.pod("cache").veth)).unwrap();
    ip(&a.lab.vpc, "route add 10.0.3.30 via 10.0.3.21 dev to-c onlink").unwrap();
    ip(&c.lab.vpc, "route add 10.0.3.30 via 10.0.3.5 dev node-eth0 onlink").unwrap();
    ip(&c.lab.node.namespace, "route add blackhole 10.0.3.30").unwrap();
    for node in [a, b, c] {
        node.lab.wait_until_quiet().unwrap();
    }
}

#[test]
fn a_fleet_is_counted_once() {
    let nodes = nodes();
    prepare(&nodes);
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    // The name of who sent in the last second of an hour is not known to who receives in the next one.
    wait_until("no hour ends meanwhile", || !now("+%M:%S").starts_with("59:"));
    let day = now("+%F");
    let serving = nodes.each_ref().map(|node| node.serve(&flows));
    let links = || [between(&nodes[0], "to-c"), between(&nodes[1], "to-c"), between(&nodes[0], "to-b")];
    let before = (links(), nodes.each_ref().map(Node::node_network));
    let sent = talk(&nodes);
    for node in &nodes {
        node.lab.wait_until_quiet().unwrap();
    }
    let after = (links(), nodes.each_ref().map(Node::node_network));
    for netpath in serving {
        assert_eq!(netpath.end(), "");
    }
    let link = |number: usize, direction: usize| after.0[number][direction] - before.0[number][direction];
    let node_network: BTreeMap<_, _> = nodes
        .iter()
        .enumerate()
        .map(|(number, node)| (node.name.clone(), after.1[number] - before.1[number]))
        .collect();

    are_as_their_schemas(&flows);
    // Of another day: who reads it cannot go on.
    for kind in ["flow", "eni", "window"] {
        let earlier = flows.join(format!("netpath.{kind}/date=2026-01-30/hour=01/node=node-b"));
        fs::create_dir_all(&earlier).unwrap();
        fs::write(earlier.join("20260130T010000Z-0000.json.gz"), "no records").unwrap();
    }
    let document = Document::read();
    let answers = ["DuckDB", "ClickHouse"].map(|engine| document.ask(engine, &flows, &day));
    for answers in &answers {
        zones(answers, &sent, link);
        costs(answers, &sent, link);
        talkers(answers, &sent, link);
        node_sums(answers, &node_network);
    }
    let [one, other] = answers.map(|answers| answers.into_iter().map(|(question, rows)| (question, sorted(&rows))));
    for (one, other) in one.zip(other) {
        assert_eq!(one, other, "engines agree");
    }
}

/// Every file is there as a whole, and every record is as its schema has it.
fn are_as_their_schemas(folder: &Path) {
    let list = "find . -type f ! -name '*Z-0000.json.gz'; find . -name '*.json.gz' | xargs zcat";
    let output = Command::new("sh").args(["-c", list]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut kinds = BTreeMap::new();
    for line in output.stdout.split_inclusive(|byte| *byte == b'\n') {
        let record: Value = lab::read(line).unwrap();
        *kinds.entry(text(&record["schema"])).or_insert(0) += 1;
    }
    let kinds: Vec<_> = kinds.into_iter().filter(|(_, count)| *count >= 3).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["netpath.eni/1", "netpath.flow/1", "netpath.window/1"]);
}

/// Rows as text, in an order that does not depend on the engine.
fn sorted(rows: &[Vec<Value>]) -> Vec<Vec<String>> {
    let cell = |value: &Value| value.as_f64().map_or_else(|| text(value), |number| number.to_string());
    let mut rows: Vec<_> = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>()).collect();
    rows.sort();
    rows
}

/// In UTC.
fn now(format: &str) -> String {
    let output = Command::new("date").args(["-u", format]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn number(value: &Value) -> i64 {
    // DuckDB's sums are of 128 bits.
    #[expect(clippy::cast_possible_truncation, reason = "they are whole")]
    value.as_i64().unwrap_or_else(|| value.as_f64().unwrap() as i64)
}

/// The rows of an answer by all columns but the last, which is a number.
fn by(answers: &Answers, question: &str) -> BTreeMap<String, u64> {
    let row = |row: &Vec<Value>| {
        let (last, names) = row.split_last().unwrap();
        (names.iter().map(text).collect::<Vec<_>>().join(" "), u64::try_from(number(last)).unwrap())
    };
    answers[question].iter().map(row).collect()
}

fn zones(answers: &Answers, sent: &Sent, link: impl Fn(usize, usize) -> u64) {
    let expected = [
        (format!("{ZONE_1} {ZONE_2}"), link(0, 0) + link(1, 0)),
        (format!("{ZONE_2} {ZONE_1}"), link(0, 1) + link(1, 1)),
        (format!("{ZONE_1} {ZONE_1}"), link(2, 0) + link(2, 1) + sent.cache_to_web),
        (format!("{ZONE_1} -"), sent.to_outside),
        (format!("- {ZONE_1}"), sent.from_outside),
    ];
    assert_eq!(by(answers, "Bytes by pair of zones"), expected.into());
    let datagrams = sent.web_to_replica + sent.web_to_mute;
    assert!(link(0, 0) > datagrams, "there are acknowledgements besides");
    assert_eq!((link(1, 0), link(1, 1), link(2, 0)), (sent.db_to_replica + sent.feed_to_replica, 0, sent.web_to_db));
}

/// What each pod sent to another zone and received from there. Of the kernels' counts: all but replica's and mute's share.
fn costs(answers: &Answers, sent: &Sent, link: impl Fn(usize, usize) -> u64) {
    let row = |row: &Vec<Value>| (format!("{}/{}", text(&row[0]), text(&row[1])), [number(&row[2]), number(&row[3])]);
    let costs: BTreeMap<_, _> = answers["The pods that cost most across zones"].iter().map(row).collect();
    let to_replica = link(0, 0) - sent.web_to_mute - sent.web_to_nobody;
    let expected = [
        ("default/web", [link(0, 0), link(0, 1)]),
        ("-/-", [0, sent.web_to_nobody]),
        ("default/db", [sent.db_to_replica, 0]),
        ("default/feed", [sent.feed_to_replica, 0]),
        ("default/mute", [0, sent.web_to_mute]),
        ("default/replica", [link(0, 1), to_replica + sent.db_to_replica + sent.feed_to_replica]),
    ];
    let expected = expected.map(|(pod, sides)| (pod.to_owned(), sides.map(|bytes| i64::try_from(bytes).unwrap())));
    assert_eq!(costs, expected.into());

    let mut pairs: BTreeMap<_, u64> = BTreeMap::new();
    let mut by_service = 0;
    for (pair, bytes) in by(answers, "Who talks to whom across zones") {
        let (pair, service) = pair.rsplit_once(' ').unwrap();
        *pairs.entry(pair.to_owned()).or_default() += bytes;
        by_service += if service == SERVICE_NAME { bytes } else { 0 };
    }
    let expected = [
        (format!("default web {ZONE_1} default replica {ZONE_2}"), to_replica),
        (format!("default web {ZONE_1} - - {ZONE_2}"), sent.web_to_nobody),
        (format!("default replica {ZONE_2} default web {ZONE_1}"), link(0, 1)),
        (format!("default web {ZONE_1} default mute {ZONE_2}"), sent.web_to_mute),
        (format!("default db {ZONE_1} default replica {ZONE_2}"), sent.db_to_replica),
        (format!("default feed {ZONE_1} default replica {ZONE_2}"), sent.feed_to_replica),
    ];
    assert_eq!(pairs, expected.into());
    assert!(by_service > BY_SERVICE && by_service < BY_SERVICE * 5 / 4, "{by_service} bytes by the service");
}

fn talkers(answers: &Answers, sent: &Sent, link: impl Fn(usize, usize) -> u64) {
    let expected = [
        ("eni web replica", link(0, 0) - sent.web_to_mute - sent.web_to_nobody),
        ("eni web 10.0.3.30", sent.web_to_nobody),
        ("eni replica web", link(0, 1)),
        ("eni db replica", sent.db_to_replica),
        ("eni feed replica", sent.feed_to_replica),
        ("eni 198.51.100.7 web", sent.from_outside),
        ("eni web db", sent.web_to_db),
        ("eni cache web", sent.cache_to_web),
        ("eni web mute", sent.web_to_mute),
        ("local web cache", sent.web_to_cache),
        ("eni web 198.51.100.7", sent.to_outside),
    ];
    let expected = expected.map(|(names, bytes)| (names.to_owned(), bytes));
    assert_eq!(by(answers, "Top talkers by path"), expected.into());
    let left = [("node a default cache default web".to_owned(), sent.cache_to_web)];
    assert_eq!(by(answers, "Pairs of pods of one node that left it"), left.into());

    let whose = by(answers, "Whose bytes these are");
    for (names, bytes) in [
        // Out by the ENI, and in again; out of the one veth, and into the other.
        ("node a cache web eni", 2 * sent.cache_to_web),
        ("node a cache web eni_copy_on_veth", 2 * sent.cache_to_web),
        ("node-b db 10.0.3.21 eni", sent.db_to_replica),
        ("node-c 10.0.2.21 replica eni_copy_on_veth", sent.db_to_replica),
        ("node a 198.51.100.7 web eni", sent.from_outside),
    ] {
        assert_eq!(whose.get(names), Some(&bytes), "{names} in {whose:#?}");
    }
}

fn node_sums(answers: &Answers, node_network: &BTreeMap<String, u64>) {
    let mut sums = BTreeMap::new();
    for row in &answers["A node's CloudWatch sum explained"] {
        *sums.entry(text(&row[0])).or_insert(0) += number(&row[2]);
    }
    let sums: BTreeMap<_, _> = sums.into_iter().map(|(node, sum)| (node, u64::try_from(sum).unwrap())).collect();
    assert_eq!(&sums, node_network);
    let terms = by(answers, "A node's CloudWatch sum explained").into_keys();
    let of_b: Vec<_> = terms.filter(|names| names.starts_with("node-b")).collect();
    assert_eq!(of_b, ["node-b eni", "node-b eni_copy_on_veth"]);

    let windows = &answers["Nodes and hours that are missing"];
    let nodes: BTreeSet<_> = windows.iter().map(|row| text(&row[0])).collect();
    assert!(nodes.iter().eq(node_network.keys()), "{nodes:?}");
    for row in windows {
        assert!(row[3].as_f64().unwrap() > 0.0 && row[4..].iter().all(|gap| number(gap) == 0), "{row:?}");
    }
}
