//! Names of services, from rules as kube-proxy makes them in two of its modes.

use std::net::SocketAddr;
use std::time::Duration;

use lab::report::Flow;
use lab::traffic::{Serve, TcpServer, download};
use lab::{Lab, Report, output_within};

use super::sources;

const SERVICE: &str = "172.20.0.10:80";

/// Runs a line of words in the node.
fn run(lab: &Lab, line: &[&str]) {
    lab.node.namespace.output(line[0], &line[1..]).unwrap();
}

/// Services and destinations of the TCP flows of a download through [`SERVICE`].
fn measure(lab: &Lab) -> (Report, Vec<(Option<String>, String)>) {
    let server = lab.pod("server");
    let listen = SocketAddr::new(server.ipv4.into(), 8080);
    let _server = TcpServer::start(&server.namespace, listen, Serve::Send(1_000)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let client = &lab.pod("client").namespace;
    let work = || download(client, SERVICE.parse()?).map(drop);
    let report = lab.measure(&["--host-root", root.path().to_str().unwrap()], work).unwrap().report;
    let flow = |flow: &Flow| {
        let last = flow.hops.last().unwrap();
        (flow.service.clone(), format!("{} -> {}", flow.dst, last.dst))
    };
    let mut flows: Vec<_> = report.flows_of("tcp").map(flow).collect();
    flows.sort();
    (report, flows)
}

fn expect(lab: &Lab, service: Option<&str>, count: u64) {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let (report, flows) = measure(lab);
    let service = service.map(str::to_owned);
    let mut expected = vec![
        (service.clone(), format!("172.20.0.10 -> {}", server.ipv4)),
        (service, format!("{0} -> {0}", client.ipv4)),
    ];
    expected.sort();
    assert_eq!(flows, expected);
    assert_eq!(sources(&report)["kube_proxy"].1, count);
}

#[test]
fn by_iptables() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.cluster_ip(SERVICE.parse().unwrap(), SocketAddr::new(lab.pod("server").ipv4.into(), 8080)).unwrap();
    expect(&lab, None, 0);
    for (iptables, address, proto, port, comment) in [
        ("iptables", "172.20.0.10/32", "tcp", "80", "default/web:http cluster IP"),
        // The same address by another protocol, another port, as a network, and with a name that is none.
        ("iptables", "172.20.0.10/32", "udp", "80", "default/other:dns cluster IP"),
        ("iptables", "172.20.0.10/32", "tcp", "81", "default/metrics cluster IP"),
        ("iptables", "172.20.0.0/16", "tcp", "80", "default/network cluster IP"),
        ("iptables", "172.20.0.10/32", "tcp", "80", "kubernetes service portals"),
        ("ip6tables", "fd00::10/128", "tcp", "80", "default/six:http cluster IP"),
    ] {
        let mut command = lab.node.namespace.command(iptables).unwrap();
        // It is there after the first time.
        output_within(command.args(["-t", "nat", "-N", "KUBE-SERVICES"]), Duration::from_secs(10)).unwrap();
        let rule =
            ["-t", "nat", "-A", "KUBE-SERVICES", "-d", address, "-p", proto, "-m", "comment", "--comment", comment];
        run(&lab, &[&[iptables], &rule[..], &["-m", proto, "--dport", port, "-j", "RETURN"]].concat());
    }
    expect(&lab, Some("default/web:http"), 4);
}

#[test]
fn by_nftables() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.cluster_ip(SERVICE.parse().unwrap(), SocketAddr::new(lab.pod("server").ipv4.into(), 8080)).unwrap();
    let rules = |family: &str, address: &str, elements: &str| {
        format!(
            "table {family} kube-proxy {{
               chain service-ULMVA6XW-default/web/tcp/http {{ }}
               chain external-5OJB2KTY-kube-system/dns/udp/ {{ }}
               chain reject-chain {{ }}
               map service-ips {{
                 type {address} . inet_proto . inet_service : verdict
                 elements = {{ {elements} }}
               }}
             }}"
        )
    };
    let (web, dns) = ("goto service-ULMVA6XW-default/web/tcp/http", "goto external-5OJB2KTY-kube-system/dns/udp/");
    let elements = format!(
        "172.20.0.10 . tcp . 80 : {web}, 172.20.0.10 . udp . 80 : {dns}, 172.20.0.11 . tcp . 80 : goto reject-chain"
    );
    run(&lab, &["nft", &rules("ip", "ipv4_addr", &elements)]);
    run(&lab, &["nft", &rules("ip6", "ipv6_addr", &format!("fd00::10 . tcp . 80 : {web}"))]);
    expect(&lab, Some("default/web:http"), 3);
}
