//! What the kernel tells of devices that come, change and go.

use super::*;

#[test]
fn every_one_of_200_short_lived_veths_is_seen() {
    in_namespace(async || {
        let mut monitor = LinkMonitor::open(&EniChoice::default()).unwrap();
        let mut expected = BTreeSet::new();
        let mut lines = Vec::new();
        for i in 0..200 {
            lines.push(format!("link add v{i} type veth peer name w{i}"));
            lines.push(format!("link delete v{i}"));
            expected.extend([format!("v{i}"), format!("w{i}")]);
        }
        let mut ip = batch(&lines);
        let (mut alive, mut seen) = (BTreeMap::new(), BTreeSet::new());
        while seen.len() < expected.len() {
            match next(&mut monitor).await {
                LinkEvent::Appeared(link) => assert!(alive.insert(link.ifindex, link.name).is_none()),
                LinkEvent::Changed(link) => assert!(alive.contains_key(&link.ifindex)),
                LinkEvent::Gone { ifindex, .. } => {
                    assert!(seen.insert(alive.remove(&ifindex).unwrap()));
                }
                LinkEvent::Lost => panic!("8 MiB were not enough"),
            }
        }
        assert!(ip.wait().unwrap().success());
        assert_eq!(seen, expected);
        assert!(alive.is_empty());
        assert_eq!(waiting(&mut monitor), []);
        assert_eq!(still(monitor.links()), still(list().into_values()));
    });
}

#[test]
fn an_overrun_is_said_and_made_good() {
    in_namespace(async || {
        for i in 0..20 {
            ip(&format!("link add old{i} type veth peer name dlo{i}"));
        }
        let mut monitor = LinkMonitor::with_buffer(&EniChoice::default(), 1).unwrap();
        let mut known: BTreeMap<u32, Link> = monitor.links().into_iter().map(|link| (link.ifindex, link)).collect();
        assert_eq!(known.len(), 41);
        let mut lines: Vec<_> = (0..20).map(|i| format!("link delete old{i}")).collect();
        lines.extend((0..20).map(|i| format!("link add new{i} type veth peer name wen{i}")));
        lines.push("address add 10.0.0.1/24 dev new3".to_owned());
        assert!(batch(&lines).wait().unwrap().success());

        let events = waiting(&mut monitor);
        assert_eq!(events.iter().filter(|&event| *event == LinkEvent::Lost).count(), 1);
        assert!(events.iter().any(|event| matches!(event, LinkEvent::Gone { last: None, .. })));
        for event in events {
            match event {
                LinkEvent::Appeared(link) => assert!(known.insert(link.ifindex, link).is_none()),
                LinkEvent::Changed(link) => assert!(known.insert(link.ifindex, link).is_some()),
                LinkEvent::Gone { ifindex, .. } => assert!(known.remove(&ifindex).is_some()),
                LinkEvent::Lost => {}
            }
        }
        let names: BTreeSet<_> = known.values().map(|link| link.name.clone()).collect();
        let theirs: BTreeSet<_> =
            ip_json("link").iter().map(|device| device["ifname"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, theirs);
        let mut now: Vec<_> = list().into_values().collect();
        now.sort_by_key(|link| link.ifindex);
        assert_eq!(still(known.into_values()), still(now));

        // And it goes on as before.
        ip("link set new3 name newer");
        let LinkEvent::Changed(link) = next(&mut monitor).await else { panic!() };
        assert_eq!(link.name, "newer");
    });
}

#[test]
fn the_last_counters_are_the_last() {
    in_namespace(async || {
        let elsewhere = Elsewhere::new();
        for command in [
            "link add deleted type veth peer name partner",
            "link add moved type veth peer name stays",
            "link add bridge0 type bridge",
            "link add vxlan0 type vxlan id 7 dev moved dstport 4789",
            "address add 10.0.0.1/24 dev deleted",
            "address add 10.0.1.1/24 dev moved",
            "address add 10.0.2.1/24 dev bridge0",
            "link set vxlan0 master bridge0",
            "link set up group default",
            "neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev deleted",
            "neighbour add 10.0.1.2 lladdr 02:00:00:00:00:02 dev moved",
            "neighbour add 10.0.2.2 lladdr 02:00:00:00:00:02 dev bridge0",
        ] {
            ip(command);
        }
        let mut monitor = LinkMonitor::open(&EniChoice::default()).unwrap();
        for (name, to) in [("deleted", "10.0.0.2:9"), ("moved", "10.0.1.2:9"), ("bridge0", "10.0.2.2:9")] {
            send(name, to);
        }
        // Down, so that the counters are at rest: nothing (router solicitations) may come after the witness has looked.
        ip("link set down group default");
        let mut expected = BTreeMap::new();
        for device in ip_json("-statistics link") {
            let of = |direction: &str, unit: &str| device["stats64"][direction][unit].as_u64().unwrap();
            let counters = KernelCounters {
                rx_bytes: of("rx", "bytes"),
                rx_packets: of("rx", "packets"),
                tx_bytes: of("tx", "bytes"),
                tx_packets: of("tx", "packets"),
            };
            expected.insert(device["ifname"].as_str().unwrap().to_owned(), counters);
        }
        let names: BTreeMap<_, _> = list().into_values().map(|link| (link.ifindex, link.name)).collect();
        for name in ["deleted", "moved", "bridge0"] {
            assert!(expected[name].tx_packets >= 5 && expected[name].tx_bytes >= 5 * 142, "{name}: {expected:?}");
        }
        assert!(expected["partner"].rx_packets >= 5);
        waiting(&mut monitor);
        ip(&format!("link set moved netns {}", elsewhere.thread_id));
        ip("link delete deleted");
        // The kernel deletes vxlan0 with the device it sits on.
        ip("link delete bridge0");
        let mut gone = BTreeMap::new();
        for event in waiting(&mut monitor) {
            if let LinkEvent::Gone { ifindex, last, at_least } = event {
                gone.insert(names[&ifindex].as_str(), (last, at_least));
            }
        }
        assert_eq!(gone.keys().copied().collect::<Vec<_>>(), ["bridge0", "deleted", "moved", "partner", "vxlan0"]);
        for name in ["bridge0", "moved", "vxlan0"] {
            assert_eq!(gone[name], (Some(expected[name]), expected[name]), "{name}");
        }
        // The messages about them going down had their last rx. A pair that is deleted while up has no such messages.
        for name in ["deleted", "partner"] {
            assert_eq!(gone[name], (None, expected[name]), "{name}");
        }
    });
}

#[test]
fn a_busy_veth_that_is_deleted_lost_its_rx() {
    in_namespace(async || {
        for command in [
            "link add one type veth peer name two",
            "link set two up addrgenmode none",
            "link set one up addrgenmode none",
            "address add 10.0.0.1/24 dev one",
            "neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev one",
        ] {
            ip(command);
        }
        let mut monitor = LinkMonitor::open(&EniChoice::default()).unwrap();
        send("one", "10.0.0.2:9");
        let before = list();
        let sent = before["one"].counters.tx_bytes;
        assert_eq!(before["two"].counters.rx_bytes, sent);
        ip("link delete one");
        let mut gone = BTreeMap::new();
        for event in waiting(&mut monitor) {
            if let LinkEvent::Gone { ifindex, last, at_least } = event {
                assert_eq!(last, None, "unknown, not 0");
                gone.insert(ifindex, at_least);
            }
        }
        assert_eq!(gone[&before["one"].ifindex].tx_bytes, sent);
        assert!(gone[&before["two"].ifindex].rx_bytes <= sent);
    });
}

#[test]
fn changes_are_told() {
    in_namespace(async || {
        for command in [
            "link add one type veth peer name two",
            "link add bridge0 type bridge",
            // Without IPv6 link-local addresses, which come seconds later.
            "link set one up addrgenmode none",
            "link set two up addrgenmode none",
            "link set two master bridge0",
        ] {
            ip(command);
        }
        let mut monitor = LinkMonitor::open(&EniChoice::default()).unwrap();
        waiting(&mut monitor);
        let names = |events: &[LinkEvent], what: fn(&Link) -> bool| -> Vec<String> {
            let changed = |event: &LinkEvent| match event {
                LinkEvent::Changed(link) if what(link) => Some(link.name.clone()),
                _ => None,
            };
            events.iter().filter_map(changed).collect()
        };
        // A port that leaves its bridge is reported by the bridge as a deleted link.
        ip("link set two nomaster");
        let events = waiting(&mut monitor);
        assert!(events.iter().all(|event| matches!(event, LinkEvent::Changed(_))), "{events:?}");

        ip("address add 10.0.0.1/24 dev one");
        assert_eq!(names(&waiting(&mut monitor), |link| link.addresses.contains(&"10.0.0.1/24".to_owned())), ["one"]);
        let pod = |link: &Link| link.routed == ["10.0.0.21".parse::<std::net::IpAddr>().unwrap()];
        ip("route replace 10.0.0.21/32 dev one");
        assert_eq!(names(&waiting(&mut monitor), pod), ["one"]);
        ip("route replace 10.0.0.21/32 dev two");
        let events = waiting(&mut monitor);
        assert_eq!(names(&events, pod), ["two"]);
        assert_eq!(names(&events, |link| link.routed.is_empty()), ["one"]);
        // The kernel sends no message about this route.
        ip("link set two down");
        assert!(names(&waiting(&mut monitor), |link| link.routed.is_empty()).contains(&"two".to_owned()));
        assert!(ip_json("route show 10.0.0.21").is_empty());

        ip("link set two name eni0");
        assert_eq!(names(&waiting(&mut monitor), |link| link.name == "eni0"), ["eni0"]);
        ip("link set eni0 up");
        let LinkEvent::Changed(link) = next(&mut monitor).await else { panic!() };
        assert!(link.up);
        waiting(&mut monitor);
        assert_eq!(still(monitor.links()), {
            let mut now: Vec<_> = list().into_values().collect();
            now.sort_by_key(|link| link.ifindex);
            still(now)
        });
    });
}
