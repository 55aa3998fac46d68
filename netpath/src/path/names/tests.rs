use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{Attach, DeviceClass, DeviceFacts, Direction, NameLink, NameSource, NodeInfo, Window};
use crate::report::Report;
use crate::snapshot::{Counts, Device, Names, Observation, PodRecord, ServiceRecord, Snapshot, Tuple};

/// `sha1("default.client")` begins so (`printf default.client | sha1sum`).
const CLIENT_VETH: &str = "enia7a3e029a7b";

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn device(ifindex: u32, name: &str, class: DeviceClass, routed: &[&str]) -> Device {
    Device {
        routed: routed.iter().map(|text| address(text)).collect(),
        ..Device::new(DeviceFacts { attach: Attach::Tcx, ..DeviceFacts::new(ifindex, name, class) })
    }
}

fn appeared(mut device: Device) -> Device {
    device.facts.appeared = true;
    device
}

fn vanished(mut device: Device) -> Device {
    device.facts.vanished = true;
    device
}

fn veth(ifindex: u32, name: &str, routed: &[&str]) -> Device {
    device(ifindex, name, DeviceClass::Veth, routed)
}

/// Said throughout the window.
fn says(source: NameSource, pod: &str, addresses: &[&str], veths: &[u32]) -> PodRecord {
    let (namespace, name) = pod.split_once('/').expect("namespace/name");
    PodRecord {
        source,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
        addresses: addresses.iter().map(|text| address(text)).collect(),
        veths: veths.to_vec(),
        at_start: true,
        at_end: true,
    }
}

/// A node with `devices`, and a packet from each of its veths to 198.51.100.7 and back, by the addresses of `flows`:
/// `(ifindex, address of the pod)`.
fn report(devices: Vec<Device>, pods: Vec<PodRecord>, flows: &[(u32, &str)]) -> Report {
    let flows: Vec<_> = flows.iter().zip(40_000..).map(|(&(ifindex, pod), sport)| (ifindex, pod, sport)).collect();
    report_of(devices, pods, &flows)
}

/// The same with the pods' ports.
fn report_of(devices: Vec<Device>, pods: Vec<PodRecord>, flows: &[(u32, &str, u16)]) -> Report {
    let counts = Counts { packets: 1, bytes: 100, wire_bytes: 100 };
    let mut out = device(1, "eth0", DeviceClass::Eni, &[]);
    out.facts.addresses = vec!["10.0.0.5/24".to_owned()];
    let mut observations = Vec::new();
    for &(ifindex, pod, sport) in flows {
        let tuple = Tuple { proto: 6, src: address(pod), sport, dst: address("198.51.100.7"), dport: 443 };
        let seen =
            |ifindex, direction, tuple| Observation { ifindex, direction, vlans: [0, 0], tuple, about: None, counts };
        observations.push(seen(ifindex, Direction::Rx, tuple));
        observations.push(seen(1, Direction::Tx, tuple));
        observations.push(seen(1, Direction::Rx, tuple.reversed()));
        observations.push(seen(ifindex, Direction::Tx, tuple.reversed()));
    }
    crate::path::report(&Snapshot {
        devices: devices.into_iter().chain([out]).collect(),
        observations,
        names: Names { sources: Vec::new(), pods, services: Vec::new() },
        ..Snapshot::new(NodeInfo::default(), Window { duration_ns: 1, ..Window::default() })
    })
}

/// The pod of each veth, and of each flow by its port: the source's, which must be the answer's destination.
fn names(report: &Report) -> (BTreeMap<u32, String>, BTreeMap<u16, String>) {
    let veths = report.devices.iter().filter_map(|device| Some((device.facts.ifindex, device.pod.clone()?)));
    let mut ends = BTreeMap::new();
    for flow in &report.flows {
        let (pod, other, port) = if flow.dport == Some(443) {
            (&flow.src_pod, &flow.dst_pod, flow.sport)
        } else {
            (&flow.dst_pod, &flow.src_pod, flow.dport)
        };
        assert_eq!(*other, None, "198.51.100.7 is no pod's");
        let pod = pod.as_deref().unwrap_or_default().to_owned();
        let port = port.expect("TCP has ports");
        assert_eq!(ends.entry(port).or_insert_with(|| pod.clone()), &pod, "both directions are the pod's");
    }
    (veths.collect(), ends)
}

fn one(ifindex: u32, pod: &str) -> (BTreeMap<u32, String>, BTreeMap<u16, String>) {
    ([(ifindex, pod.to_owned())].into(), [(40_000, pod.to_owned())].into())
}

fn nobody() -> (BTreeMap<u32, String>, BTreeMap<u16, String>) {
    (BTreeMap::new(), [(40_000, String::new())].into())
}

#[test]
fn each_link_names_a_veth_and_its_flows() {
    use NameLink::{Address, NetworkNamespace, VethName};
    use NameSource::{Cri, PodLogs, Processes, VpcCni};
    for (name, routed, record, link) in [
        ("veth1", &[][..], says(Processes, "default/client", &[], &[7]), NetworkNamespace),
        (CLIENT_VETH, &[], says(PodLogs, "default/client", &[], &[]), VethName),
        // A security-group pod's veth has another prefix.
        ("vlana7a3e029a7b", &[], says(PodLogs, "default/client", &[], &[]), VethName),
        ("veth1", &["10.0.0.21"], says(VpcCni, "default/client", &["10.0.0.21"], &[]), Address),
        (CLIENT_VETH, &["10.0.0.21"], says(Cri, "default/client", &["10.0.0.21"], &[7]), NetworkNamespace),
    ] {
        let source = record.source;
        let report = report(vec![veth(7, name, routed)], vec![record], &[(7, "10.0.0.21")]);
        assert_eq!(names(&report), one(7, "default/client"), "{name} {link:?}");
        let origin = report.devices[1].pod_origin.expect("a name has an origin");
        assert_eq!((origin.source, origin.by), (source, link));
        assert_eq!(report.names.unknown_veths, 0);
    }
}

/// `printf default.client.1 | sha1sum`
#[test]
fn a_second_network_card() {
    let devices = vec![veth(7, CLIENT_VETH, &[]), veth(8, "enie4d5e8e033d", &[])];
    let report = report(devices, vec![says(NameSource::PodLogs, "default/client", &[], &[])], &[(8, "10.0.0.21")]);
    assert_eq!(names(&report).0[&8], "default/client");
}

#[test]
fn the_first_source_in_order_is_the_origin() {
    let records = [NameSource::PodLogs, NameSource::Cri, NameSource::VpcCni]
        .map(|source| says(source, "default/client", &["10.0.0.21"], &[]));
    let report = report(vec![veth(7, "veth1", &["10.0.0.21"])], records.to_vec(), &[(7, "10.0.0.21")]);
    assert_eq!(report.devices[1].pod_origin.expect("named").source, NameSource::VpcCni);
    assert_eq!(
        report.flows[0].src_pod_origin.or(report.flows[0].dst_pod_origin).expect("named").source,
        NameSource::VpcCni
    );
}

#[test]
fn who_is_unknown_stays_unnamed() {
    let report = report(vec![veth(7, "veth1", &["10.0.0.21"])], Vec::new(), &[(7, "10.0.0.21")]);
    assert_eq!(names(&report), nobody());
    assert_eq!(report.names.unknown_veths, 1);
}

#[test]
fn sources_that_disagree_name_nothing() {
    let records = vec![
        says(NameSource::VpcCni, "default/one", &["10.0.0.21"], &[]),
        says(NameSource::Cri, "default/two", &["10.0.0.21"], &[]),
    ];
    let by_address = report(vec![veth(7, "veth1", &["10.0.0.21"])], records, &[(7, "10.0.0.21")]);
    assert_eq!(names(&by_address), nobody());
    assert_eq!(by_address.names.disputed_addresses, 1);

    let records =
        vec![says(NameSource::Processes, "default/one", &[], &[7]), says(NameSource::Cri, "default/two", &[], &[7])];
    let by_veth = report(vec![veth(7, "veth1", &[])], records, &[(7, "10.0.0.21")]);
    assert_eq!(names(&by_veth), nobody());
    assert_eq!(by_veth.names.disputed_veths, 1);

    // The veth's name says one thing, the address another.
    let records = vec![
        says(NameSource::PodLogs, "default/client", &[], &[]),
        says(NameSource::VpcCni, "default/two", &["10.0.0.21"], &[]),
    ];
    let both = report(vec![veth(7, CLIENT_VETH, &["10.0.0.21"])], records, &[(7, "10.0.0.21")]);
    assert_eq!(names(&both), nobody());
}

/// The veths tell apart two pods that had one address in the window.
#[test]
fn an_address_that_passed_on_is_split_by_veth() {
    let former = Device { formerly_routed: vec![address("10.0.0.21")], ..vanished(veth(7, CLIENT_VETH, &[])) };
    let later = appeared(veth(8, "veth2", &["10.0.0.21"]));
    let records = vec![
        PodRecord { at_end: false, ..says(NameSource::Cri, "default/client", &["10.0.0.21"], &[]) },
        PodRecord { at_start: false, ..says(NameSource::Cri, "default/two", &["10.0.0.21"], &[8]) },
    ];
    let report = report(vec![former, later], records, &[(7, "10.0.0.21"), (8, "10.0.0.21")]);
    let (veths, flows) = names(&report);
    assert_eq!(veths, [(7, "default/client".to_owned()), (8, "default/two".to_owned())].into());
    assert_eq!(flows, [(40_000, "default/client".to_owned()), (40_001, "default/two".to_owned())].into());
    assert_eq!(report.names.disputed_addresses, 1);
}

/// A pod that no reading caught took over an address: the name of the one before must not stick to it.
#[test]
fn an_address_that_passed_to_an_unknown_pod() {
    let known = || says(NameSource::VpcCni, "default/client", &["10.0.0.21"], &[]);
    let later = || appeared(veth(8, "veth2", &["10.0.0.21"]));
    // The first pod and its veth are gone.
    let gone = Device { formerly_routed: vec![address("10.0.0.21")], ..vanished(veth(7, CLIENT_VETH, &[])) };
    let records = vec![PodRecord { at_end: false, ..known() }];
    let all = report(vec![gone, later()], records.clone(), &[(7, "10.0.0.21"), (8, "10.0.0.21")]);
    assert_eq!(names(&all).0, [(7, "default/client".to_owned())].into());
    assert_eq!(names(&all).1, [(40_000, "default/client".to_owned()), (40_001, String::new())].into());
    // Its veth was gone before the window.
    let late = report(vec![later()], records, &[(8, "10.0.0.21")]);
    assert_eq!(names(&late), nobody());
    // The record is stale throughout.
    let stale = report(vec![later()], vec![known()], &[(8, "10.0.0.21")]);
    assert_eq!(names(&stale), nobody());
}

/// One flow of two pods, with the same address and port one after the other: nobody's.
#[test]
fn one_tuple_of_two_pods() {
    let records = vec![
        PodRecord { at_end: false, ..says(NameSource::Cri, "default/one", &["10.0.0.21"], &[7]) },
        PodRecord { at_start: false, ..says(NameSource::Cri, "default/two", &["10.0.0.21"], &[8]) },
    ];
    let devices = vec![veth(7, "veth1", &[]), veth(8, "veth2", &[])];
    let report = report_of(devices, records, &[(7, "10.0.0.21", 40_000), (8, "10.0.0.21", 40_000)]);
    let (veths, flows) = names(&report);
    assert_eq!(veths, [(7, "default/one".to_owned()), (8, "default/two".to_owned())].into());
    assert_eq!(flows, [(40_000, String::new())].into());
}

/// What is not seen on a veth is named by its address, if that was one pod's throughout; the node's own is nobody's.
#[test]
fn by_address_alone() {
    let flow = |record: PodRecord, pod: &str| {
        let report = report(vec![veth(7, "veth1", &["10.0.0.21"])], vec![record], &[(1, pod)]);
        names(&report).1[&40_000].clone()
    };
    let record = || says(NameSource::VpcCni, "default/client", &["10.0.0.21", "10.0.0.5"], &[]);
    assert_eq!(flow(record(), "10.0.0.21"), "default/client");
    assert_eq!(flow(record(), "10.0.0.5"), "");
    assert_eq!(flow(PodRecord { at_end: false, ..record() }, "10.0.0.21"), "");
    assert_eq!(flow(PodRecord { at_start: false, ..record() }, "10.0.0.21"), "");
}

/// A bridge's port has no routes: its flows have the name of the pod whose address they have, if that had it throughout.
#[test]
fn by_address_on_a_veth_without_routes() {
    let named = |device: Device, record: PodRecord| names(&report(vec![device], vec![record], &[(7, "10.0.0.21")]));
    let record = || says(NameSource::Cri, "default/client", &["10.0.0.21"], &[]);
    let flows = |pod: &str| (BTreeMap::new(), [(40_000, pod.to_owned())].into());
    assert_eq!(named(veth(7, "veth1", &[]), record()), flows("default/client"));
    for (device, record) in [
        (veth(7, "veth1", &[]), PodRecord { at_start: false, ..record() }),
        (veth(7, "veth1", &[]), PodRecord { at_end: false, ..record() }),
        (appeared(veth(7, "veth1", &[])), record()),
        (vanished(veth(7, "veth1", &[])), record()),
        (veth(7, "veth1", &["10.0.0.99"]), record()),
        (veth(7, CLIENT_VETH, &[]), says(NameSource::Cri, "default/client", &[], &[])),
    ] {
        let is_by_veth = device.facts.name == CLIENT_VETH;
        assert_eq!(named(device, record).1[&40_000], if is_by_veth { "default/client" } else { "" });
    }
}

#[test]
fn records_of_devices_that_are_not_there() {
    let records = vec![says(NameSource::Cri, "default/client", &[], &[1, 99])];
    let report = report(vec![veth(7, "veth1", &[])], records, &[(7, "10.0.0.21")]);
    assert_eq!(names(&report), nobody(), "neither an ENI nor a device that is gone has a pod");
}

#[test]
fn services() {
    let record = |name: &str, port| ServiceRecord {
        source: NameSource::KubeProxy,
        name: name.to_owned(),
        proto: 6,
        address: address("198.51.100.7"),
        port,
    };
    for (services, expected) in [
        (vec![record("default/web:http", 443)], Some("default/web:http")),
        (vec![record("default/web:http", 80)], None),
        // The address went from one service to another in the window.
        (vec![record("default/web:http", 443), record("default/other", 443)], None),
    ] {
        let mut snapshot = Snapshot {
            devices: vec![veth(7, "veth1", &[])],
            names: Names { sources: Vec::new(), pods: Vec::new(), services },
            ..Snapshot::new(NodeInfo::default(), Window { duration_ns: 1, ..Window::default() })
        };
        let tuple =
            Tuple { proto: 6, src: address("10.0.0.21"), sport: 40_000, dst: address("198.51.100.7"), dport: 443 };
        let counts = Counts { packets: 1, bytes: 100, wire_bytes: 100 };
        snapshot.observations.push(Observation {
            ifindex: 7,
            direction: Direction::Rx,
            vlans: [0, 0],
            tuple,
            about: None,
            counts,
        });
        assert_eq!(crate::path::report(&snapshot).flows[0].service.as_deref(), expected);
    }
}

/// The pods at the ends of a flow from `src` to `dst` that passed these hooks, and the report.
fn ends(devices: Vec<Device>, pods: Vec<PodRecord>, hooks: &[(u32, Direction)], src: &str, dst: &str) -> [String; 2] {
    let mut out = device(1, "eth0", DeviceClass::Eni, &[]);
    out.facts.addresses = vec!["10.0.0.5/24".to_owned(), "fe80::5/64".to_owned()];
    let tuple = Tuple { proto: 17, src: address(src), sport: 1, dst: address(dst), dport: 2 };
    let counts = Counts { packets: 1, bytes: 100, wire_bytes: 100 };
    let seen = |&(ifindex, direction)| Observation { ifindex, direction, vlans: [0, 0], tuple, about: None, counts };
    let report = crate::path::report(&Snapshot {
        devices: devices.into_iter().chain([out]).collect(),
        observations: hooks.iter().map(seen).collect(),
        names: Names { sources: Vec::new(), pods, services: Vec::new() },
        ..Snapshot::new(NodeInfo::default(), Window { duration_ns: 1, ..Window::default() })
    });
    assert_eq!(report.flows.len(), 1);
    let flow = &report.flows[0];
    [&flow.src_pod, &flow.dst_pod].map(|pod| pod.as_deref().unwrap_or_default().to_owned())
}

/// A pod is no end of what it routes on, nor of what is routed to it for others; it is of what is sent on its link, and of
/// what a record or a route says is its own.
#[test]
fn a_pod_that_routes() {
    use Direction::{Rx, Tx};
    let pod = || veth(7, "veth1", &["10.0.0.21"]);
    let by_veth = || says(NameSource::Cri, "default/client", &[], &[7]);
    let with_addresses = || says(NameSource::Cri, "default/client", &["10.0.0.21", "10.0.0.99"], &[7]);
    let into = [(1, Rx), (7, Tx)];
    let through = [(1, Rx), (7, Tx), (7, Rx), (1, Tx)];
    for (record, hooks, src, dst, expected) in [
        (by_veth(), &through[..], "203.0.113.9", "10.9.0.1", ["", ""]),
        (by_veth(), &into, "203.0.113.9", "10.9.0.1", ["", ""]),
        (by_veth(), &into, "203.0.113.9", "10.0.0.21", ["", "default/client"]),
        (by_veth(), &into, "203.0.113.9", "10.0.0.99", ["", ""]),
        (with_addresses(), &into, "203.0.113.9", "10.0.0.99", ["", "default/client"]),
        (by_veth(), &[(7, Tx)], "fe80::5", "fe80::21", ["", "default/client"]),
        (by_veth(), &[(7, Tx)], "fe80::5", "ff02::1", ["", "default/client"]),
        (by_veth(), &[(7, Tx)], "fe80::5", "fd00::21", ["", ""]),
        // Whatever address a pod sends from: it may be a container's behind it.
        (by_veth(), &[(7, Rx), (1, Tx)], "172.17.0.2", "203.0.113.9", ["default/client", ""]),
    ] {
        assert_eq!(ends(vec![pod()], vec![record], hooks, src, dst), expected, "{src} > {dst} {hooks:?}");
    }
}

/// A veth without traffic is nobody's who matters; an address that was a pod's for a part of the window is counted.
#[test]
fn what_is_counted() {
    let record = PodRecord { at_end: false, ..says(NameSource::Cri, "default/client", &["10.0.0.21"], &[]) };
    let devices = vec![veth(7, "veth1", &[]), veth(8, "veth2", &[])];
    let names = report(devices, vec![record], &[(7, "10.0.0.21")]).names;
    assert_eq!((names.unknown_veths, names.disputed_veths), (1, 0));
    assert_eq!((names.passing_addresses, names.disputed_addresses), (1, 0));
}

/// The records of a pod that tell its address say when it had it; another one, of the pod before it was set up again, does not.
#[test]
fn the_same_pod_set_up_again() {
    let later = appeared(veth(8, "veth2", &["10.0.0.21"]));
    let records = vec![
        PodRecord { at_start: false, ..says(NameSource::VpcCni, "default/client", &["10.0.0.21"], &[]) },
        says(NameSource::PodLogs, "default/client", &[], &[]),
    ];
    let report = report(vec![later], records, &[(8, "10.0.0.21")]);
    assert_eq!(names(&report).0, [(8, "default/client".to_owned())].into());
}

/// What goes out to a pod with the address of another is a copy: neither of the two gets it there.
#[test]
fn a_copy_for_another() {
    let devices = || vec![veth(7, "veth1", &[]), veth(8, "veth2", &["10.0.0.22"])];
    let record = || says(NameSource::Cri, "default/two", &["10.0.0.22"], &[]);
    let hooks = [(1, Direction::Rx), (7, Direction::Tx)];
    assert_eq!(ends(devices(), vec![record()], &hooks, "203.0.113.9", "10.0.0.22"), ["", ""]);
    let unrouted = vec![veth(7, "veth1", &[])];
    assert_eq!(ends(unrouted, vec![record()], &hooks, "203.0.113.9", "10.0.0.22"), ["", "default/two"]);
}
