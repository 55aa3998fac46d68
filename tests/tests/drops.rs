//! What the kernel drops is in the report with its reason and place, and nothing is called dropped that was not.
//!
//! The witnesses are the counters of nft rules and qdiscs, and those who sent.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lab::report::{Flow, FlowDrop};
use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, Namespace, Report, ip, read, tc};

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// Packets that the first rule with a counter saw.
fn counted(namespace: &Namespace, family: &str, chain: &str) -> u64 {
    let rules = namespace.output("nft", &["list", "chain", family, "rules1", chain]).unwrap();
    let packets = rules.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    packets.unwrap().parse().unwrap()
}

/// Packets that the queue of eth0 dropped.
fn dropped_by_queue(namespace: &Namespace) -> u64 {
    let shown = namespace.output("tc", &["-s", "qdisc", "show", "dev", "eth0"]).unwrap();
    let packets = shown.split_whitespace().skip_while(|word| *word != "(dropped").nth(1);
    packets.unwrap().trim_end_matches(',').parse().unwrap()
}

/// Packets that were dropped for reasons of this name.
fn of_reason(flow: &Flow, name: &str) -> u64 {
    let is_it = |one: &&FlowDrop| one.reason.as_deref().is_some_and(|reason| reason.contains(name));
    flow.drops.iter().filter(is_it).map(|one| one.packets).sum()
}

/// Why, where without the offset, whether in the node, and how many: of a flow that was dropped for one reason.
fn dropped(flow: &Flow) -> (String, String, Option<bool>, u64) {
    let [one] = &flow.drops[..] else { panic!("{flow}") };
    let place = one.location.as_deref().and_then(|place| place.split('+').next()).unwrap_or_default();
    (one.reason.clone().unwrap_or_default(), place.to_owned(), one.in_node, one.packets)
}

fn verdict(flow: &Flow) -> (&str, Option<&str>) {
    (flow.path.as_str(), flow.reason.as_deref())
}

const UNDELIVERED: (&str, Option<&str>) = ("undelivered", Some("dropped"));

/// By a rule in both families, also of a service's first packets, which conntrack never knows; for want of a route; by their time to
/// live.
#[test]
fn a_drop_has_the_kernels_reason_and_as_many_packets() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    lab.snat().unwrap();
    let service = at([172, 20, 0, 10], 53);
    lab.cluster_ip(service, at(server.ipv4, 9)).unwrap();
    lab.nft(
        "add table inet rules1\nadd chain inet rules1 forward1 { type filter hook forward priority 0; }\n\
         add rule inet rules1 forward1 udp dport 9 counter drop",
    )
    .unwrap();
    node.output("ip", &["route", "add", "unreachable", "203.0.113.9"]).unwrap();
    let sink = UdpSink::start(&server.namespace, at(server.ipv4, 10)).unwrap();
    let from = &client.namespace;
    let mut sent = Vec::new();
    let report = lab
        .measure(&[], || {
            let [ipv4, ipv6] = server.addresses();
            for (to, count) in [(at(ipv4, 9), 40), (at(ipv6, 9), 30), (service, 20), (at([203, 0, 113, 9], 9), 10)] {
                sent.push(send_datagrams(from, to, 100, count)?);
            }
            sent.push(send_datagrams(from, sink.address(), 100, 5)?);
            from.output("ip", &["route", "change", "default", "via", "169.254.1.1", "hoplimit", "1"])?;
            sent.push(send_datagrams(from, at(lab.remote.ipv4, 11), 100, 7)?);
            Ok(())
        })
        .unwrap()
        .report;
    assert_eq!(sink.stop().unwrap().count, 5);
    assert_eq!(counted(node, "inet", "forward1"), 40 + 30 + 20);
    assert_eq!((report.health.drops_unseen.as_deref(), report.health.drops_lost_packets), (None, 0));
    let of = |index: usize| report.flow_from(sent[index]);
    for (index, packets) in [(0, 40), (1, 30), (2, 20)] {
        assert_eq!(verdict(of(index)), UNDELIVERED, "{}", of(index));
        let (reason, place, in_node, seen) = dropped(of(index));
        assert_eq!((reason.as_str(), in_node, seen), ("NETFILTER_DROP", Some(true), packets), "{}", of(index));
        assert!(place.starts_with("nf"), "{place}");
        assert_eq!(of(index).reason_detail.as_deref(), Some(format!("{reason} at {place}").as_str()));
    }
    assert_eq!((verdict(of(3)), dropped(of(3)).3), (UNDELIVERED, 10));
    assert_eq!((of(4).path.as_str(), of(4).drops.len()), ("local", 0), "{}", of(4));
    assert_eq!((verdict(of(5)), dropped(of(5)).3), (UNDELIVERED, 7));
}

/// What a pod's queue drops never came in, and what a pod's rule drops was delivered.
#[test]
fn a_pods_drops_are_the_pods() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    tc(&client.namespace, "qdisc add dev eth0 root tbf rate 100kbit burst 2000 limit 5000").unwrap();
    let rules = "add table inet rules1\nadd chain inet rules1 input1 { type filter hook input priority 0; }\n\
                 add rule inet rules1 input1 udp dport 9 counter drop";
    server.namespace.output("nft", &[rules]).unwrap();
    let mut sent = None;
    let report = lab
        .measure(&[], || {
            sent = Some(send_datagrams(&client.namespace, at(server.ipv4, 9), 1_000, 20)?);
            lab.wait_until_quiet()
        })
        .unwrap()
        .report;
    let flow = report.flow_from(sent.unwrap());
    assert_eq!((flow.path.as_str(), flow.hops.len()), ("local", 2), "{flow}");
    let in_queue = dropped_by_queue(&client.namespace);
    assert_eq!(in_queue, 20 - flow.packets);
    assert_eq!((of_reason(flow, "QDISC"), of_reason(flow, "NETFILTER_DROP")), (in_queue, flow.packets), "{flow}");
    assert_eq!(counted(&server.namespace, "inet", "input1"), flow.packets);
    assert!(flow.drops.iter().all(|one| one.in_node == Some(false)), "{flow}");
}

/// Behind the egress hook: the flow crossed it, and a part of it was dropped in the queue.
#[test]
fn a_full_queues_drops_are_at_the_flow() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    let sink = UdpSink::start(&lab.remote.namespace, at(lab.remote.ipv4, 9)).unwrap();
    tc(node, "qdisc add dev eth0 root tbf rate 100kbit burst 2000 limit 5000").unwrap();
    let mut sent = None;
    let report = lab
        .measure(&[], || {
            sent = Some(send_datagrams(&client.namespace, sink.address(), 1_000, 50)?);
            Ok(())
        })
        .unwrap()
        .report;
    let queue = dropped_by_queue(node);
    let flow = report.flow_from(sent.unwrap());
    assert_eq!((flow.path.as_str(), flow.packets), ("eni", 50), "{flow}");
    let seen = of_reason(flow, "QDISC");
    assert!(queue > 0 && seen == queue, "{seen} of {queue}: {flow}");
}

/// Each drop is in one window and in one only, also while windows are cut.
#[test]
fn the_sum_of_all_windows_is_what_the_rule_counted() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    lab.nft(
        "add table ip rules1\nadd chain ip rules1 forward1 { type filter hook forward priority 0; }\n\
         add rule ip rules1 forward1 udp dport 9 counter drop",
    )
    .unwrap();
    let window = lab.open_window(&["--interval", "100ms"]).unwrap();
    for _ in 0..20 {
        send_datagrams(&client.namespace, at(server.ipv4, 9), 50, 500).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    lab.wait_until_quiet().unwrap();
    let (output, _, _) = window.finish().unwrap();
    let reports: Vec<Report> =
        output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| read(line).unwrap()).collect();
    let flows = || reports.iter().flat_map(|report| &report.flows).filter(|flow| flow.dst == IpAddr::from(server.ipv4));
    let packets: u64 = flows().flat_map(|flow| &flow.drops).map(|one| one.packets).sum();
    assert!(reports.len() > 5);
    assert_eq!((packets, counted(node, "ip", "forward1")), (10_000, 10_000));
    assert!(
        flows().all(|flow| verdict(flow) == UNDELIVERED),
        "{:?}",
        flows().find(|flow| verdict(flow) != UNDELIVERED)
    );
}

/// A packet that waits for a neighbour was not seen to be dropped; its successor's report names the neighbour.
#[test]
fn what_is_not_seen_dropped_is_unresolved() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    // A host in the ENI's subnet that does not exist.
    let nobody = at([10, 0, 0, 200], 9);
    ip(node, "route replace 10.0.0.200/32 dev eth0").unwrap();
    let mut sent = Vec::new();
    let send = |sent: &mut Vec<SocketAddr>| {
        sent.push(send_datagrams(&client.namespace, nobody, 100, 2)?);
        Ok(())
    };
    let report = lab.measure(&[], || send(&mut sent)).unwrap().report;
    let flow = report.flow_from(sent[0]);
    assert_eq!((flow.path.as_str(), flow.drops.len()), ("unresolved", 0), "{flow}");
    let report = lab
        .measure(&[], || {
            send(&mut sent)?;
            std::thread::sleep(Duration::from_secs(4));
            Ok(())
        })
        .unwrap()
        .report;
    let flow = report.flow_from(sent[1]);
    assert_eq!(verdict(flow), UNDELIVERED, "{flow}");
    assert_eq!(dropped(flow).0, "NEIGH_FAILED", "{flow}");
}
