//! Devices that tell nothing of themselves: what IMDS names is an ENI; without it the report says that it cannot be trusted,
//! and pods' veths are not taken for ENIs though `--eni` matches them.

use std::process::Output;

use lab::report::Diagnosis;

use super::*;

/// A report for which no ENI is named.
fn unnamed(lab: &Lab) -> Report {
    read(text(lab, &["report", "--duration", "100ms", "--format", "json"]).as_bytes()).unwrap()
}

fn class<'a>(report: &'a Report, device: &str) -> &'a str {
    &report.device(device).class
}

fn run(lab: &Lab, arguments: &[&str]) -> Output {
    output_within(&mut lab.netpath(arguments).unwrap(), Duration::from_mins(1)).unwrap()
}

fn set_mac(lab: &Lab, device: &str, mac: &str) {
    on_node(lab, &format!("link set dev {device} address {mac}"));
}

#[test]
fn what_imds_names_is_an_eni() {
    let lab = lab();
    // Others that carry an ENI's address: a veth, and a device that stands on it.
    let primary = mac(&lab, "eth0");
    on_node(&lab, "link add spare0 type veth peer name spare1");
    set_mac(&lab, "spare0", &primary);
    on_node(&lab, &format!("link add above0 link eth1 address {} type macvlan mode passthru", mac(&lab, "eth1")));
    let _imds = imds(&lab, IMDS);

    let report = unnamed(&lab);
    let veth = &lab.pod("client").veth;
    assert_eq!(["eth0", "eth1", veth, "spare0"].map(|device| class(&report, device)), ["eni", "eni", "veth", "veth"]);
    assert_eq!(class(&report, "above0"), "other");
    assert_eq!((&report.eni("eth0").id, &report.eni("eth1").id), (&fact(A, "imds"), &fact(B, "imds")));
    assert_eq!((report.health.eni.as_str(), report.health.eni_reason.as_deref()), ("found", None));

    let devices: Devices = read(text(&lab, &["devices", "--format", "json"]).as_bytes()).unwrap();
    let evidence = |name: &str| devices.device(name).eni_evidence.as_deref();
    assert_eq!(["eth0", "eth1", veth, "spare0"].map(evidence), [Some("imds"), Some("imds"), None, None]);
    let doctor: Diagnosis = read(&run(&lab, &["doctor", "--format", "json"]).stdout).unwrap();
    let found = doctor.finding("devices");
    assert!(found.level == "ok" && found.found.ends_with("including 2 ENIs"), "{found}");

    // What crosses it is said to.
    let window = text(&lab, &["report", "--format", "json", "--", "ping", "-c", "3", "-i", "0.1", "10.0.0.1"]);
    let start = window.find('{').unwrap();
    let report: Report = read(&window.as_bytes()[start..]).unwrap();
    let crossed = report.path("eni").packets;
    assert_eq!(crossed, 6, "three requests and their answers");
}

/// The default route is a bridge's; the ENI is its port.
#[test]
fn the_port_is_the_eni_and_not_the_bridge() {
    let lab = Lab::builder().online().start().unwrap();
    ip(&lab.vpc, "address add 169.254.169.254/32 dev lo").unwrap();
    let primary = mac(&lab, "eth0");
    for command in [
        format!("link add br0 address {primary} type bridge"),
        "link set br0 up".to_owned(),
        "address flush dev eth0".to_owned(),
        "link set eth0 master br0".to_owned(),
        "address add 10.0.0.5/24 dev br0".to_owned(),
        "route add default via 10.0.0.1 dev br0".to_owned(),
    ] {
        on_node(&lab, &command);
    }
    let metadata = Metadata::instance(INSTANCE, &primary).eni(&primary, 0, A, &[("local-ipv4s", "10.0.0.5")]);
    let _imds = Server::start(&lab.vpc, IMDS, move |request| metadata.answer(request));
    let report = unnamed(&lab);
    assert_eq!(["eth0", "br0"].map(|device| class(&report, device)), ["eni", "bridge"]);
    // Without IMDS, the route's device is what can be named.
    let offline = run(&lab, &["report", "--offline", "--duration", "100ms", "--wide"]);
    let table = String::from_utf8(offline.stdout).unwrap();
    assert!(
        table.starts_with("THIS REPORT CANNOT BE TRUSTED: ") && table.lines().next().unwrap().contains("--eni br0"),
        "{table}"
    );
    assert!(run(&lab, &["report", "--offline", "--duration", "100ms", "--eni", "eth0"]).status.success());
}

#[test]
fn without_an_eni_nothing_is_claimed() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let check = |eni: &str, reason: &str, doctor: (i32, &str)| {
        let health = unnamed(&lab).health;
        assert!(health.eni == eni && health.eni_reason.as_deref().unwrap().contains(reason), "{health}");
        let output = run(&lab, &["doctor", "--format", "json"]);
        let diagnosis: Diagnosis = read(&output.stdout).unwrap();
        let found = diagnosis.finding("devices");
        assert_eq!((output.status.code(), found.level.as_str()), (Some(doctor.0), doctor.1), "{found}");
    };
    let table = || text(&lab, &["report", "--duration", "100ms", "--wide"]);
    let named = "the default route leaves by eth0 (a veth device); if that is the node's uplink, name it: --eni eth0";
    check("none", named, (1, "fail"));
    assert_eq!(
        table().lines().next().unwrap(),
        format!("THIS REPORT CANNOT BE TRUSTED: netpath recognised no ENI, so no byte counts as crossing one; {named}")
    );
    // IPv6 alone, policy routing alone, several next hops.
    on_node(&lab, "route del default");
    check("none", named, (1, "fail"));
    on_node(&lab, "-6 route del default");
    on_node(&lab, "route add default via 10.0.0.1 dev eth0 table 77");
    check("none", named, (1, "fail"));
    on_node(&lab, "route del default table 77");
    on_node(&lab, "route add default nexthop via 10.0.0.1 dev eth0 nexthop via 10.0.0.1 dev eth0 weight 2");
    check("none", named, (1, "fail"));
    // No way out.
    on_node(&lab, "route del default");
    on_node(&lab, "route add unreachable default");
    check("no_uplink", "there is no default route", (0, "warn"));
    let table = table();
    assert!(
        !table.contains("CANNOT BE TRUSTED") && table.contains("  netpath recognised no ENI, and there is no"),
        "{table}"
    );
}

#[test]
fn veths_of_pods_are_refused() {
    let lab = Lab::builder().pod("client").pod_on("server", Eni::Secondary).start().unwrap();
    let veth = &lab.pod("client").veth;
    for command in ["report", "devices", "doctor"] {
        for glob in ["eni*", "e*", veth] {
            let output = run(&lab, &[command, "--eni", "eth0", "--eni", glob]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), error.lines().count()), (Some(1), 1), "{error}");
            let why = "the host's end of a pod's veth pair (10.0.0.21 is routed to it)";
            let instead = "the default route leaves by eth0: if that is the ENI, write --eni eth0, or leave --eni out";
            assert!(error.contains(&format!("--eni '{glob}' matches {veth}")), "{error}");
            assert!(error.contains(why) && error.trim_end().ends_with(instead), "{error}");
        }
    }
    for globs in [&["--eni", "eth0"][..], &["--eni", "eth*"]] {
        let arguments = [&["report", "--duration", "100ms", "--format", "json"], globs].concat();
        let report: Report = read(text(&lab, &arguments).as_bytes()).unwrap();
        assert_eq!((class(&report, "eth0"), report.health.eni.as_str()), ("eni", "found"), "{globs:?}");
        assert_eq!(class(&report, veth), "veth");
    }

    // A pod whose veth matches, and that starts in the window.
    let work = || {
        let far = lab.pod("client").namespace.name();
        on_node(&lab, &format!("link add eth7 type veth peer name late netns {far}"));
        on_node(&lab, "link set eth7 up");
        on_node(&lab, "route add 10.0.0.99 dev eth7");
        on_node(&lab, "route del 10.0.0.99 dev eth7");
        Ok(())
    };
    let report = lab.measure(&[], work).unwrap().report;
    assert_eq!((class(&report, "eth7"), class(&report, "eth0")), ("veth", "eni"));
}
