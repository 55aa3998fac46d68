//! What a filter accepts, by the chain that the kernel runs; and what is said against texts that are none.

mod errors;
mod properties;

use std::net::IpAddr;

use netpath_ebpf::Ports;
use netpath_ebpf::trace::Sighting;

use super::{FilterError, Named, Names, parse};
use crate::sanitise::sanitise;

/// A small node.
struct Node;

const PODS: [(&str, &[&str]); 5] = [
    ("default/client", &["10.0.0.21", "2001:db8::21"]),
    ("default/web", &["10.0.0.22"]),
    ("default/db", &["10.0.0.23"]),
    // Looks like 10.0.0.22 but for its family.
    ("odd/six", &["a00:16::"]),
    ("tcp/port", &["10.0.0.24"]),
];
const SERVICES: [(&str, u8, &str, u16); 5] = [
    ("default/web", 6, "172.20.0.10", 80),
    ("default/web", 6, "172.20.0.10", 443),
    ("kube-system/dns", 17, "172.20.0.53", 53),
    ("kube-system/dns", 6, "172.20.0.53", 53),
    ("kube-system/dns", 17, "fd00::53", 53),
];
const DEVICES: [(&str, u32); 3] = [("eth0", 2), ("enia1b2", 7), ("host", 9)];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Names for Node {
    fn pod(&self, name: &str) -> Vec<IpAddr> {
        PODS.iter().filter(|(pod, _)| *pod == name).flat_map(|(_, of)| of.iter().map(|text| address(text))).collect()
    }

    fn namespace(&self, name: &str) -> Vec<IpAddr> {
        let is_in = |pod: &str| pod.split_once('/').is_some_and(|(namespace, _)| namespace == name);
        PODS.iter().filter(|(pod, _)| is_in(pod)).flat_map(|(pod, _)| self.pod(pod)).collect()
    }

    fn service(&self, name: &str) -> Vec<(u8, IpAddr, u16)> {
        let of = SERVICES.iter().filter(|(service, ..)| *service == name);
        of.map(|(_, protocol, text, port)| (*protocol, address(text), *port)).collect()
    }

    fn device(&self, name: &str) -> Option<u32> {
        DEVICES.iter().find(|(device, _)| *device == name).map(|(_, index)| *index)
    }

    fn port(&self, name: &str) -> Option<u16> {
        [("smtp", 25), ("x11-1", 6001)].into_iter().find(|(known, _)| *known == name).map(|(_, port)| port)
    }

    fn known(&self, kind: Named) -> Vec<String> {
        match kind {
            Named::Pod => PODS.map(|(pod, _)| pod.to_owned()).to_vec(),
            Named::Namespace => ["default", "odd", "tcp"].map(str::to_owned).to_vec(),
            Named::Service => SERVICES.map(|(service, ..)| service.to_owned()).to_vec(),
            Named::Device => DEVICES.map(|(device, _)| device.to_owned()).to_vec(),
        }
    }
}

/// A packet from `source` to `destination`, as address and port, at eth0.
fn packet(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Sighting {
    let words = |text: &str| match address(text) {
        IpAddr::V4(address) => ([u32::from_ne_bytes(address.octets()), 0, 0, 0], 4),
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let word = |at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            ([0, 4, 8, 12].map(word), 6)
        }
    };
    let ((src_be, family), (dst_be, _)) = (words(source.0), words(destination.0));
    Sighting {
        src_be,
        dst_be,
        family,
        ports: Ports { src_be: source.1.to_be(), dst_be: destination.1.to_be() },
        // The index of eth0, and rx.
        hook: 2 << 1,
        tag: protocol.into(),
        len_bytes: 100,
        ..Sighting::default()
    }
}

fn accepts(text: &str, packet: &Sighting) -> Result<bool, FilterError> {
    Ok(parse(text)?.compile(&Node)?.accepts(packet))
}

/// What of several filters a packet fulfils.
fn check(packet: &Sighting, accepted: &[&str], rejected: &[&str]) {
    for (texts, expected) in [(accepted, true), (rejected, false)] {
        for text in texts {
            assert_eq!(accepts(text, packet), Ok(expected), "{text}");
            assert_eq!(
                accepts(&format!("not ({text})"), packet),
                Ok(!expected || text.trim().is_empty()),
                "not {text}"
            );
        }
    }
}

#[test]
fn addresses_and_ports() {
    let web = packet(6, ("10.0.0.21", 40_000), ("198.51.100.7", 443));
    let accepted = [
        "host 10.0.0.21",
        "src 10.0.0.21",
        "src host 10.0.0.21",
        "ip src host 10.0.0.21 and dst port https",
        "dst net 198.51.100.0/24",
        "net 10",
        "net 10.0 or 192.168",
        "src net 10.0.0.0 mask 255.255.0.0",
        "src or dst 198.51.100.7",
        "dst or src port 443",
        "tcp port (80 or 443)",
        "portrange 440-450",
        "portrange http-https",
        "portrange https-kubelet",
        "src portrange 40001-39999",
        "host (1.2.3.4 or 10.0.0.21)",
        "ip && tcp and !udp",
        "ip proto 6",
        "proto tcp",
        "ip proto \\tcp",
        "less 100 and greater 100",
        "len == 0x64",
        "dev eth0",
        "pod default/client",
        "src pod default/client",
        "src ns default",
        "net 0.0.0.0/0",
        "src and dst net 0.0.0.0/0",
    ];
    let rejected = [
        "dst 10.0.0.21",
        "port 80",
        "src port 443",
        "udp port 443",
        "src and dst 10.0.0.21",
        "ip6",
        "net ::/0",
        "icmp",
        "less 99",
        "greater 101",
        "dev enia1b2",
        "dst ns default",
        "pod odd/six",
        "svc default/web",
        "ip6 proto 6",
        "not not udp",
        "icmp[icmptype] == 0",
    ];
    check(&web, &accepted, &rejected);
    check(
        &web,
        &["port smtp or 443", "port (x11-1 or 443)", "portrange smtp-x11-1"],
        &["port x11-1", "portrange smtp-smtp"],
    );
}

#[test]
fn and_and_or_bind_alike_and_to_the_left() {
    let udp = packet(17, ("10.0.0.21", 1), ("10.0.0.22", 2));
    // (udp or tcp) and port 9, not udp or (tcp and port 9).
    check(
        &udp,
        &["port 9 and tcp or udp", "udp or (tcp and port 9)", "not tcp or udp and port 2"],
        &["udp or tcp and port 9"],
    );
    check(
        &udp,
        &["not port 9 and 1", "port 1 and not 9", "port 9 or not 8 and 2"],
        &["not port 1 or 9 and 3", "not (port 9 or 1)"],
    );
    check(&udp, &["host 10.0.0.99 or 10.0.0.22 and port 7 or 2"], &["host 10.0.0.21 and not 10.0.0.22", "port not 1"]);
}

#[test]
fn names_of_this_node() {
    let service = packet(6, ("172.20.0.10", 443), ("10.0.0.21", 5000));
    check(
        &service,
        &["svc default/web", "svc default/web:443", "src svc default/web:https", "pod default/web or default/client"],
        &["dst svc default/web", "svc default/web:80", "svc kube-system/dns", "pod default/web"],
    );
    let dns = packet(17, ("2001:db8::21", 5000), ("fd00::53", 53));
    check(
        &dns,
        &["svc kube-system/dns", "pod default/client", "ns default", "dst port dns"],
        &["src svc kube-system/dns"],
    );
    // No TCP there in IPv6.
    check(&packet(6, ("2001:db8::21", 5000), ("fd00::53", 53)), &[], &["svc kube-system/dns"]);
    check(&packet(6, ("10.0.0.24", 1), ("1.1.1.1", 2)), &["pod tcp/port", "ns tcp", "not dev host"], &["dev \\host"]);
}

#[test]
fn families_are_not_mixed_up() {
    let four = packet(6, ("10.0.0.22", 1), ("10.0.0.23", 2));
    let six = packet(6, ("a00:16::", 1), ("a00:17::", 2));
    let of_four = ["host 10.0.0.22", "net 10", "pod default/web", "ns default", "src and dst net 10.0.0.0/24"];
    let of_six = ["host a00:16::", "net a00::/16", "pod odd/six", "src and dst net a00::/8"];
    check(&four, &of_four, &of_six);
    check(&six, &of_six, &of_four);
}

#[test]
fn fields() {
    let mut syn = packet(6, ("10.0.0.1", 1), ("10.0.0.2", 2));
    (syn.tcp_flags, syn.seq) = (0x12, 75_297);
    check(
        &syn,
        &[
            "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0",
            "tcp[tcpflags] == tcp-syn|tcp-ack",
            "tcp[13] & 2 == 2",
            "tcp[13:1] = 0x12",
            "(tcp[13] & tcp-syn) != 0",
            "18 == tcp[13]",
            "1 < tcp[13]",
            "tcp[tcpflags] & 0xff <= 18",
            "tcp[4:4] = 75297",
            "seq 75297",
            "tcp[4:4] > 75296 and tcp[4:4] < 75298",
            "tcp[13] & 0 == 0",
        ],
        &[
            "tcp[tcpflags] == tcp-syn",
            "tcp[13] & tcp-rst != 0",
            "tcp[13] > 18",
            "tcp[13] < 0",
            "tcp[13] > 0xffffffff",
            "seq 0",
        ],
    );
    let mut later = syn;
    (later.fragment, later.tcp_flags, later.seq) = (2, 0, 0);
    check(&later, &["tcp"], &["tcp[13] == 0", "tcp[13] != 1", "seq 0", "port 1", "portrange 0-65535"]);
    let mut echo = packet(1, ("10.0.0.1", 7), ("10.0.0.2", 7));
    (echo.icmp_type, echo.seq) = (8, 3);
    check(
        &echo,
        &["icmp[icmptype] == icmp-echo", "icmp[0] != 0", "seq 3", "icmp", "icmp[icmptype] & 8 != 0"],
        &[
            "icmp[icmptype] == icmp-echoreply",
            "icmp6[icmp6type] == 8",
            "port 7",
            "tcp[4:4] == 3",
            "tcp[13] != 1",
            "icmp6",
        ],
    );
    (echo.icmp_type, echo.fragment) = (0, 2);
    check(&echo, &["icmp"], &["icmp[icmptype] == icmp-echoreply", "icmp[icmptype] >= 0"]);
    check(&packet(17, ("10.0.0.1", 7), ("10.0.0.2", 7)), &[], &["seq 0", "icmp[0] == 0"]);
}

#[test]
fn nothing_accepts_everything() {
    for text in ["", "  \n"] {
        for family in ["10.0.0.1", "2001:db8::1"] {
            assert_eq!(accepts(text, &packet(47, (family, 0), (family, 0))), Ok(true));
        }
    }
}

#[test]
fn required_pods() {
    let required = |text: &str| {
        let pods = parse(text).expect(text).required_pods();
        pods.map(|pods| pods.into_iter().collect::<Vec<_>>().join(" "))
    };
    for (text, expected) in [
        ("", None),
        ("tcp", None),
        ("not pod a/a", None),
        ("pod a/a or tcp", None),
        ("pod a/a", Some("a/a")),
        ("not not pod a/a", Some("a/a")),
        ("src pod (a/a or b/b) and tcp", Some("a/a b/b")),
        ("pod a/a and not b/b", Some("a/a")),
        ("pod a/a and b/b", Some("a/a b/b")),
        ("tcp and (pod a/a and port 80 or pod b/b)", Some("a/a b/b")),
    ] {
        assert_eq!(required(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn pods_of_options_are_a_further_condition() {
    let pods = ["default/web".to_owned(), "default/db".to_owned()];
    let limited = parse("port 1 or 2").expect("a filter").with_pods(&pods);
    assert_eq!(limited.required_pods().map(|pods| pods.len()), Some(2));
    let filter = limited.compile(&Node).expect("known pods");
    assert!(filter.accepts(&packet(6, ("10.0.0.22", 9), ("1.1.1.1", 2))));
    assert!(!filter.accepts(&packet(6, ("10.0.0.22", 9), ("1.1.1.1", 3))));
    assert!(!filter.accepts(&packet(6, ("10.0.0.21", 9), ("1.1.1.1", 2))));
    assert!(parse("").expect("a filter").with_pods(&[]).required_pods().is_none());
    let error = parse("").expect("a filter").with_pods(&["default/wep".to_owned()]).compile(&Node).expect_err("no pod");
    assert_eq!(error.to_string(), "--pod default/wep: no pod that runs on this node; did you mean default/web?");
}

#[test]
fn many_addresses_are_few_tests() {
    let hosts = (0..=255).map(|at| format!("192.0.2.{at}")).collect::<Vec<_>>().join(" or ");
    let filter = parse(&format!("tcp and (host {hosts})")).expect("a filter").compile(&Node).expect("it fits");
    assert_eq!(filter.members.len(), 256);
    assert!(filter.accepts(&packet(6, ("10.0.0.1", 1), ("192.0.2.255", 2))));
    assert!(!filter.accepts(&packet(6, ("10.0.0.1", 1), ("192.0.3.1", 2))));
    // Looks like 192.0.2.255 but for its family.
    assert!(!filter.accepts(&packet(6, ("2001:db8::1", 1), ("c000:2ff::", 2))));
}

/// Fit to print on one line.
fn is_plain(error: &FilterError) -> bool {
    let text = error.to_string();
    sanitise(&text) == text
}
