//! Sources that are broken, slow or hostile: the report is made all the same, and says what it lacks.

use lab::{Measured, Namespace};

use super::*;

/// All three sources behave like this.
fn all(lab: &Lab, reply: fn() -> Reply) -> [Server; 3] {
    let start = |namespace: &Namespace, address| Server::start(namespace, address, move |_| reply());
    [start(&lab.vpc, IMDS), start(&lab.node.namespace, INTROSPECTION), start(&lab.node.namespace, METRICS)]
}

/// Measures, and lists, while all three behave like this, and returns how netpath takes it.
fn taken(lab: &Lab, reply: fn() -> Reply) -> [String; 3] {
    let _servers = all(lab, reply);
    let arguments: [&[&str]; 3] = [
        &["report", "--eni", "eth*", "--duration", "100ms", "--format", "json"],
        &["report", "--eni", "eth*", "--duration", "100ms"],
        &["devices", "--eni", "eth*"],
    ];
    let [json, tables @ ..] = std::thread::scope(|scope| {
        let running = arguments.map(|arguments| scope.spawn(|| text(lab, arguments)));
        running.map(|running| running.join().unwrap())
    });
    let report: Report = read(json.as_bytes()).unwrap();
    assert!(report.ipam.is_none() && report.node.instance_id.is_none(), "{report:#}");
    assert!(report.eni("eth0").id.is_none());
    assert!(!report.devices.is_empty() && report.window.duration_ns > 0);
    let [_, states @ ..] = states(&report.sources).map(str::to_owned);
    for table in tables {
        assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
        for name in ["the instance metadata service", "ipamd's introspection", "ipamd's metrics endpoint"] {
            assert_eq!(table.matches(&format!("{name} was asked, but ")).count(), 1, "{table}");
        }
    }
    states
}

#[test]
fn slow_or_silent() {
    let lab = lab();
    for reply in [
        || Reply::Silence,
        || Reply::Drip(b"HTTP/1.1 200 OK\r\n"),
        || Reply::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"),
    ] as [fn() -> Reply; 3]
    {
        let states = taken(&lab, reply);
        assert!(states.iter().all(|state| state == "timed_out"), "{states:?}");
    }
}

#[test]
fn too_much() {
    let lab = lab();
    for reply in [
        || Reply::Endless(b"HTTP/1.1 200 OK\r\nX: "),
        || Reply::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{"),
        || Reply::Endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n{"),
    ] as [fn() -> Reply; 3]
    {
        // On a slow machine the time may be over before there was too much.
        let states = taken(&lab, reply);
        assert!(states.iter().all(|state| state == "malformed" || state == "timed_out"), "{states:?}");
    }
}

#[test]
fn something_else() {
    let lab = lab();
    for reply in [
        || Reply::Bytes(Vec::new()),
        || Reply::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        || Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbroken".to_vec()),
        || Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd".to_vec()),
        || Reply::ok("<html>\u{1b}[2J</html>"),
        || Reply::ok("token\r\nX-Injected: yes"),
        || Reply::ok(""),
        || Reply::ok("[".repeat(200_000)),
    ] as [fn() -> Reply; 8]
    {
        let states = taken(&lab, reply);
        assert!(states.iter().all(|state| state == "malformed"), "{states:?}");
    }
}

#[test]
fn a_refusal() {
    let lab = lab();
    for reply in
        [|| Reply::Whole(403, String::new()), || Reply::Whole(500, "\u{1b}]0;x\u{7}".to_owned())] as [fn() -> Reply; 2]
    {
        assert_eq!(taken(&lab, reply), ["refused"; 3]);
    }
}

#[test]
fn a_redirect_leads_nowhere() {
    let lab = lab();
    let elsewhere = Server::start(&lab.node.namespace, "127.0.0.1:9999", |_| Reply::ok("here"));
    let states = taken(&lab, || {
        Reply::Bytes(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9999/\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    assert_eq!(states, ["refused"; 3]);
    assert!(elsewhere.log().is_empty(), "{:?}", elsewhere.log());
}

/// Answers of the right form whose contents are not: what is odd is left out, what is sound stays.
#[test]
fn odd_contents() {
    let lab = lab();
    let (eth0, eth1) = (mac(&lab, "eth0"), mac(&lab, "eth1"));
    let metadata = Metadata::instance("i-\u{1b}[31m", &eth0)
        .eni(&eth0, 0, "eni-\u{1b}[2J0aaaaaaaa", &[("local-ipv4s", "10.0.0.5\n999.0.0.1")])
        .eni(&eth1, 1, B, &[("ipv4-prefix", "10.0.7.16/28\u{7}")]);
    let _imds = Server::start(&lab.vpc, IMDS, move |request| metadata.answer(request));
    let enis = [managed("eni-\u{1b}[2J", 0, false), managed(B, 1, false)];
    let _introspection = Server::start(&lab.node.namespace, INTROSPECTION, move |_| Reply::ok(introspection(&enis)));
    let _metrics = Server::start(&lab.node.namespace, METRICS, |_| Reply::ok("awscni_eni_max NaN\nawscni_ip_max 3\n"));
    let Measured { report, json, .. } = lab.measure(&[], || Ok(())).unwrap();
    assert_eq!(states(&report.sources), ["absent", "malformed", "malformed", "malformed"]);
    assert!(report.node.instance_id.is_none() && report.ipam.is_none());
    let (eth0, eth1) = (report.eni("eth0"), report.eni("eth1"));
    assert!(
        eth0.id.is_none()
            && eth0.addresses.is_none()
            && eth1.prefixes.as_ref().is_none_or(|prefixes| prefixes.origin != "imds")
    );
    assert_eq!((&eth0.role, &eth1.id), (&fact("primary", "imds"), &fact(B, "imds")));
    assert_eq!(eth1.pod_addresses.as_ref().unwrap().value.assigned, 2);
    assert!(!json.contains("\\u001b"), "{json}");
}

/// In a container IMDS's answers may not come through: the connection is made, and then there is silence. What other
/// sources tell is told.
#[test]
fn one_of_them_is_silent() {
    let lab = lab();
    let _imds = Server::start(&lab.vpc, IMDS, |_| Reply::Silence);
    let _metrics = Server::start(&lab.node.namespace, METRICS, |_| Reply::ok(metrics(0)));
    let report = report(&lab);
    assert_eq!(states(&report.sources), ["absent", "timed_out", "absent", "ok"]);
    let imds = &report.sources[1];
    assert!(imds.reason.as_deref().unwrap().contains("hop limit"), "{imds}");
}

/// It tells of the instance, then no more.
#[test]
fn what_was_told_before_it_went_silent_stays() {
    let lab = lab();
    let metadata = metadata(&lab);
    let _imds = Server::start(&lab.vpc, IMDS, move |request| {
        if request.path.contains("/macs/") { Reply::Silence } else { metadata.answer(request) }
    });
    let report = report(&lab);
    assert_eq!(
        (source_state(&report.sources, "imds"), report.node.instance_id.as_deref()),
        ("timed_out", Some(INSTANCE))
    );
}
