//! ENIs as netpath finds them: altnames that `ip` sets, and IMDS and ipamd as small servers in the lab. IMDS is beyond the
//! node's ENI, as on EC2, so that what netpath asks it are packets like all others. Needs root.
//!
//! Branch ENIs are VLAN devices, which kernels without the module 8021q do not have: see `netpath/src/node/enis/join/tests.rs`.

mod ethtool;
mod evidence;
mod hostile;
pub mod server;
pub mod services;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lab::report::{self, Devices, Fact, PodAddresses, Source, source_state};
use lab::{Eni, Lab, Report, ip, output_within, read, wait_until};
use serde_json::Value;
use server::{Reply, Server};
use services::{Metadata, introspection, managed, metrics};

const A: &str = "eni-0aaaaaaaaaaaaaaaa";
const B: &str = "eni-0bbbbbbbbbbbbbbbb";
const INSTANCE: &str = "i-0123456789abcdef0";
const IMDS: &str = "169.254.169.254:80";
const INTROSPECTION: &str = "127.0.0.1:61679";
const METRICS: &str = "127.0.0.1:61678";

/// A node with two ENIs. The router has IMDS's addresses.
fn lab() -> Lab {
    let lab = Lab::builder().pod_on("client", Eni::Secondary).online().start().unwrap();
    ip(&lab.vpc, "address add 169.254.169.254/32 dev lo").unwrap();
    ip(&lab.vpc, "address add fd00:ec2::254/128 dev lo nodad").unwrap();
    lab
}

fn on_node(lab: &Lab, arguments: &str) {
    ip(&lab.node.namespace, arguments).unwrap();
}

/// A device's hardware address, as `ip` says.
fn mac(lab: &Lab, device: &str) -> String {
    let text = lab.node.namespace.output("ip", &["-json", "link", "show", device]).unwrap();
    let links: Value = serde_json::from_str(&text).unwrap();
    links[0]["address"].as_str().unwrap().to_owned()
}

/// What the node's two ENIs are to IMDS.
fn metadata(lab: &Lab) -> Metadata {
    Metadata::instance(INSTANCE, &mac(lab, "eth0"))
        .eni(
            &mac(lab, "eth0"),
            0,
            A,
            &[
                ("local-ipv4s", "10.0.0.5\n10.0.0.21\n10.0.0.22"),
                ("ipv6s", "2001:db8:a:1::5"),
                ("vpc-ipv4-cidr-blocks", "10.0.0.0/16\n100.64.0.0/16"),
            ],
        )
        .eni(&mac(lab, "eth1"), 1, B, &[("local-ipv4s", "10.0.0.6"), ("ipv4-prefix", "10.0.7.16/28")])
}

fn imds(lab: &Lab, address: &str) -> Server {
    let metadata = metadata(lab);
    Server::start(&lab.vpc, address, move |request| metadata.answer(request))
}

/// A report of a window in which nothing happens.
fn report(lab: &Lab) -> Report {
    lab.measure(&[], || Ok(())).unwrap().report
}

/// What netpath prints.
fn text(lab: &Lab, arguments: &[&str]) -> String {
    let mut command = lab.netpath(arguments).unwrap();
    let output = output_within(&mut command, Duration::from_mins(1)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn list(lab: &Lab) -> Devices {
    read(text(lab, &["devices", "--eni", "eth*", "--format", "json"]).as_bytes()).unwrap()
}

fn states(sources: &[Source]) -> [&str; 4] {
    ["altnames", "imds", "ipamd_enis", "ipamd_metrics"].map(|source| source_state(sources, source))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what may be unknown")]
fn fact<T>(value: impl Into<T>, origin: &str) -> Option<Fact<T>> {
    Some(Fact { value: value.into(), origin: origin.to_owned() })
}

#[test]
fn every_source_at_once() {
    let lab = lab();
    on_node(&lab, &format!("link property add dev eth0 altname {A} altname device-number-0"));
    let metadata_service = imds(&lab, IMDS);
    let _introspection = Server::start(&lab.node.namespace, INTROSPECTION, |request| match request.path.as_str() {
        "/v1/enis" => Reply::ok(introspection(&[managed(A, 0, false), managed(B, 1, true)])),
        _ => Reply::Whole(404, String::new()),
    });
    let _metrics = Server::start(&lab.node.namespace, METRICS, |_| Reply::ok(metrics(0)));

    let report = report(&lab);
    assert_eq!(states(&report.sources), ["ok"; 4]);
    assert_eq!(report.node.instance_id.as_deref(), Some(INSTANCE));
    assert_eq!(report.node.vpc_cidr_blocks, ["10.0.0.0/16", "100.64.0.0/16"]);
    for (device, id) in [("eth0", A), ("eth1", B)] {
        assert_eq!(report.device(device).eni_id.as_deref(), Some(id));
    }
    let (eth0, eth1) = (report.eni("eth0"), report.eni("eth1"));
    assert_eq!((&eth0.id, &eth1.id), (&fact(A, "altname"), &fact(B, "imds")));
    assert_eq!((&eth0.device_index, &eth1.device_index), (&fact(0_u32, "altname"), &fact(1_u32, "imds")));
    assert_eq!((&eth0.role, &eth1.role), (&fact("primary", "ipamd"), &fact("trunk", "ipamd")));
    let addresses = ["10.0.0.5", "10.0.0.21", "10.0.0.22", "2001:db8:a:1::5"].map(str::to_owned);
    assert_eq!(eth0.addresses, fact(addresses, "imds"));
    assert_eq!((&eth0.prefixes, &eth1.prefixes), (&fact([], "imds"), &fact(["10.0.7.16/28".to_owned()], "imds")));
    let pod_addresses = PodAddresses { assigned: 2, total: Some(18), free: Some(16) };
    assert_eq!(eth1.pod_addresses, fact(pod_addresses, "ipamd"));
    assert!(eth0.allowances.is_none(), "a veth's driver has none of ENA's counters");

    let metric = |name: &str| {
        let all = &report.ipam.as_ref().unwrap().metrics;
        all.iter().find(|one| one.helper_name.as_deref() == Some(name)).map(|one| (one.value, one.in_window))
    };
    assert_eq!(metric("eniAllocated"), Some((2, None)));
    assert_eq!(metric("maxIPAddresses"), Some((56, None)));
    assert_eq!(metric("awsAPIErr"), Some((4, Some(0))));
    assert_eq!(metric("ipamdErr"), Some((5, Some(0))));
    assert_eq!(metric("addReqCount"), None, "this ipamd does not have it");

    // What netpath asked: version 2, nothing but what it says, and nothing of it in the window.
    let log = metadata_service.log();
    assert_eq!((log[0].method.as_str(), log[0].path.as_str()), ("PUT", "/latest/api/token"));
    for request in &log[1..] {
        let of_an_eni = request.path.starts_with("/latest/meta-data/network/interfaces/macs/");
        let of_the_instance = ["instance-id", "mac", "placement/availability-zone-id"]
            .contains(&request.path.strip_prefix("/latest/meta-data/").unwrap());
        assert!(of_an_eni || of_the_instance, "{request:?}");
    }
    let flows = &report.flows;
    assert!(flows.iter().all(|flow| flow.scope.as_deref() != Some("imds")), "{flows:#?}");

    let devices = list(&lab);
    assert_eq!((&devices.enis, &devices.sources), (&report.enis, &report.sources));
    assert_eq!(devices.instance_id.as_deref(), Some(INSTANCE));
    for table in [
        text(&lab, &["report", "--enis", "--eni", "eth*", "--duration", "100ms"]),
        text(&lab, &["devices", "--eni", "eth*"]),
    ] {
        for part in [A, B, INSTANCE, "trunk", "2 of 18, 16 free", "eniAllocated", "awscni_eni_allocated"] {
            assert!(table.contains(part), "no {part} in:\n{table}");
        }
        assert!(!table.contains("was asked"), "{table}");
    }
}

#[test]
fn nobody_to_ask_is_no_news() {
    let lab = lab();
    let report = report(&lab);
    assert_eq!(states(&report.sources), ["absent"; 4]);
    assert!(report.node.instance_id.is_none() && report.ipam.is_none());
    let eth0 = report.eni("eth0");
    let (ifindex, mac) = (lab.node.namespace.ifindex("eth0").unwrap(), mac(&lab, "eth0"));
    let device = Some("eth0".to_owned());
    assert_eq!(*eth0, report::Eni { device, ifindex: Some(ifindex), mac: Some(mac), ..Default::default() });
    for table in
        [text(&lab, &["report", "--eni", "eth*", "--duration", "100ms"]), text(&lab, &["devices", "--eni", "eth*"])]
    {
        for part in ["ENIS", "IPAMD", "was asked"] {
            assert!(!table.contains(part), "{part} in:\n{table}");
        }
    }
}

#[test]
fn altnames_alone_also_those_that_come_in_the_window() {
    let lab = lab();
    on_node(&lab, &format!("link property add dev eth0 altname {A} altname device-number-0.1 altname enp0s5"));
    let work = || {
        on_node(&lab, &format!("link property add dev eth1 altname {B} altname device-number-1"));
        Ok(())
    };
    let report = lab.measure(&[], work).unwrap().report;
    assert_eq!(states(&report.sources), ["ok", "absent", "absent", "absent"]);
    let (eth0, eth1) = (report.eni("eth0"), report.eni("eth1"));
    assert_eq!((&eth0.id, &eth1.id), (&fact(A, "altname"), &fact(B, "altname")));
    assert_eq!((&eth0.device_index, &eth0.network_card), (&fact(0_u32, "altname"), &fact(1_u32, "altname")));
    let devices = list(&lab);
    let named = devices.device("eth0");
    assert_eq!(named.altnames, [A, "device-number-0.1", "enp0s5"]);
}

#[test]
fn by_ipv6_where_ipv4_has_nobody() {
    let lab = lab();
    let _imds = imds(&lab, "[fd00:ec2::254]:80");
    let report = report(&lab);
    assert_eq!(source_state(&report.sources, "imds"), "ok");
    assert_eq!(report.eni("eth1").id, fact(B, "imds"));
}

const C: &str = "eni-0cccccccccccccccc";
const MAC_OF_C: &str = "02:00:00:00:cc:02";

/// IMDS, which knows of C once the number is 1.
fn imds_that_learns_of_c(lab: &Lab) -> (Server, Arc<AtomicU64>) {
    let (before, after) = (metadata(lab), metadata(lab).eni(MAC_OF_C, 2, C, &[]));
    let attached = Arc::new(AtomicU64::new(0));
    let seen = attached.clone();
    let imds = Server::start(&lab.vpc, IMDS, move |request| {
        if seen.load(Ordering::SeqCst) == 1 { after.answer(request) } else { before.answer(request) }
    });
    (imds, attached)
}

/// An ENI that is attached in the window: IMDS did not know it at its beginning.
#[test]
fn an_eni_that_comes_in_the_window() {
    let lab = lab();
    let (_imds, attached) = imds_that_learns_of_c(&lab);
    let errors = attached.clone();
    let _metrics =
        Server::start(&lab.node.namespace, METRICS, move |_| Reply::ok(metrics(3 * errors.load(Ordering::SeqCst))));
    let work = || {
        attached.store(1, Ordering::SeqCst);
        on_node(&lab, &format!("link add eth2 address {MAC_OF_C} type veth peer name eth2peer"));
        on_node(&lab, "link set eth2 up");
        Ok(())
    };
    let report = lab.measure(&[], work).unwrap().report;
    assert_eq!(report.eni("eth2").id, fact(C, "imds"));
    let metrics = report.ipam.unwrap().metrics;
    let errors = metrics.iter().find(|one| one.name == "awscni_ipamd_error_count").unwrap();
    assert_eq!((errors.value, errors.in_window), (8, Some(3)));
    let flows = &report.flows;
    assert!(flows.iter().all(|flow| flow.scope.as_deref() != Some("imds")), "{flows:#?}");
}

/// The same in a session of many windows: it is asked about when it has come, in packets that are known as netpath's.
#[test]
fn an_eni_that_comes_in_a_session() {
    let lab = lab();
    let (imds, attached) = imds_that_learns_of_c(&lab);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports");
    let reports = || -> Vec<Report> {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // The last line may not be there as a whole.
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.map(|line| read(line.as_bytes()).unwrap()).collect()
    };
    lab.wait_until_quiet().unwrap();
    let window = lab.open_window(&["--interval", "300ms", "--output", path.to_str().unwrap()]).unwrap();
    let asked_before = imds.log().len();
    wait_until("two windows have passed", || reports().len() >= 2);
    assert_eq!(imds.log().len(), asked_before, "there is nothing to ask");
    attached.store(1, Ordering::SeqCst);
    on_node(&lab, &format!("link add eth2 address {MAC_OF_C} type veth peer name peer2"));
    on_node(&lab, "link set eth2 up");
    let is_named = |report: &Report| {
        report.enis.iter().any(|eni| eni.device.as_deref() == Some("eth2") && eni.id == fact(C, "imds"))
    };
    wait_until("its id is known", || reports().iter().any(is_named));
    let asked = imds.log().len();
    assert!(asked > asked_before, "it was asked");
    let windows = reports().len();
    wait_until("two windows have passed", || reports().len() >= windows + 2);
    window.finish().unwrap();
    assert_eq!(imds.log().len(), asked, "once");
    let (mut own, mut all) = (0, 0);
    for report in reports() {
        for flow in report.flows.iter().filter(|flow| flow.scope.as_deref() == Some("imds")) {
            assert!(flow.own, "{flow}");
            all += flow.bytes;
        }
        own += report.totals.own.bytes;
    }
    assert!(all > 1_000 && own == all, "{all} bytes to IMDS and back, {own} known as netpath's");
}

#[test]
fn sources_that_contradict_each_other() {
    let lab = lab();
    on_node(&lab, &format!("link property add dev eth0 altname {B}"));
    let _imds = imds(&lab, IMDS);
    let report = report(&lab);
    assert!(report.eni("eth0").id.is_none());
    let table = text(&lab, &["devices", "--eni", "eth*"]);
    assert!(table.contains(&format!("eth0 has no ENI id here: its altname says {B}, IMDS says {A}")), "{table}");
}

/// As AWS's own tools obey it.
#[test]
fn the_environment_says_where_imds_is() {
    let lab = lab();
    let usual = imds(&lab, IMDS);
    let other = Server::start(&lab.node.namespace, "127.0.0.1:1338", {
        let metadata = metadata(&lab);
        move |request| metadata.answer(request)
    });
    let list = |name: &str, value: &str| -> Devices {
        let mut command = lab.netpath(&["devices", "--eni", "eth*", "--format", "json"]).unwrap();
        let output = output_within(command.env(name, value), Duration::from_mins(1)).unwrap();
        read(&output.stdout).unwrap()
    };
    let off = list("AWS_EC2_METADATA_DISABLED", "TRUE");
    assert_eq!((source_state(&off.sources, "imds"), usual.log().len()), ("absent", 0));
    let elsewhere = list("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1338/");
    assert_eq!((source_state(&elsewhere.sources, "imds"), usual.log().len()), ("ok", 0));
    assert!(!other.log().is_empty());
    let odd = list("AWS_EC2_METADATA_SERVICE_ENDPOINT", "https://example.com");
    assert_eq!((source_state(&odd.sources, "imds"), usual.log().len()), ("malformed", 0));
}

#[test]
fn offline_nobody_is_asked() {
    let lab = lab();
    let imds = imds(&lab, IMDS);
    let ipamd = [INTROSPECTION, METRICS].map(|address| Server::start(&lab.node.namespace, address, |_| Reply::Silence));
    let report = lab.measure(&["--offline"], || Ok(())).unwrap().report;
    assert_eq!(states(&report.sources), ["absent"; 4]);
    let mut command = lab.netpath(&["devices", "--eni", "eth*"]).unwrap();
    output_within(command.env("NETPATH_OFFLINE", "1"), Duration::from_mins(1)).unwrap();
    assert_eq!(imds.log().len() + ipamd.iter().map(|server| server.log().len()).sum::<usize>(), 0);
}

#[test]
fn ipamd_where_the_options_say() {
    let lab = lab();
    let body = introspection(&[managed(B, 1, false)]);
    let _introspection = Server::start(&lab.node.namespace, "127.0.0.2:7001", move |_| Reply::ok(body.clone()));
    let _metrics = Server::start(&lab.node.namespace, "[::1]:7002", |_| Reply::ok(metrics(0)));
    let options = ["--ipamd-introspection", "127.0.0.2:7001", "--ipamd-metrics", "[::1]:7002"];
    let report = lab.measure(&options, || Ok(())).unwrap().report;
    assert_eq!(states(&report.sources), ["absent", "absent", "ok", "ok"]);
    // Nobody tells which device it is.
    let unplaced = report.enis.iter().find(|eni| eni.id == fact(B, "ipamd")).unwrap();
    assert!(unplaced.device.is_none() && unplaced.pod_addresses.as_ref().unwrap().value.free == Some(16));
}
