//! Texts that are no filters: the error points at the word, and ends with what to do.

use super::{Node, accepts, is_plain, packet, parse};

fn error(text: &str) -> String {
    let error = accepts(text, &packet(6, ("10.0.0.1", 1), ("10.0.0.2", 2))).expect_err(text);
    assert!(is_plain(&error), "{error:?}");
    error.to_string()
}

#[test]
fn what_is_wrong_and_what_to_do() {
    for (text, expected) in [
        ("tcp prot 80", "\"prot\" (character 5): no word of the filter; did you mean port or proto?"),
        ("TCP", "\"TCP\" (character 1): no word of the filter; did you mean tcp?"),
        (
            "host example.com",
            "\"example.com\" (character 6): netpath asks no DNS: give its address, or use pod NS/NAME, svc NS/NAME",
        ),
        (
            "pod default/clinet",
            "\"default/clinet\" (character 5): no pod that runs on this node; did you mean default/client?",
        ),
        ("pod client", "\"client\" (character 5): no pod that runs on this node; did you mean default/client?"),
        (
            "svc kube-system/dsn:53",
            "\"kube-system/dsn\" (character 5): no service that this node knows an address of; did you mean kube-system/dns?",
        ),
        ("svc default/web:81", "\"default/web:81\" (character 5): it has no such port: use 443 or 80"),
        ("tcp host 10.0.0.1", "\"tcp\" (character 1): it does not go with host: join them, as in tcp and host …"),
        ("tcp src 10.0.0.1", "\"tcp\" (character 1): it does not go with host: join them, as in tcp and host …"),
        ("icmp port 1", "\"icmp\" (character 1): it does not go with port: join them, as in icmp and port …"),
        ("src dev eth0", "\"src\" (character 1): dev has no direction: leave src and dst out"),
        ("net 10.0.0.1/16", "\"10.0.0.1/16\" (character 5): it has bits behind its length: write 10.0.0.0/16"),
        ("(tcp", "\"(\" (character 1): close it with )"),
        ("tcp)", "\")\" (character 4): no parenthesis is open: leave it out"),
        (
            "tcp and",
            "\"end of the filter\" (character 8): what a packet must have, as in host 10.0.0.21, is missing: add it",
        ),
        ("arp", "\"arp\" (character 1): netpath traces IP packets: leave it out, or use tcpdump -e"),
        (
            "tcp[8:4] = 1",
            "\"8:4\" (character 4): not kept of a packet; the fields are tcp[tcpflags], tcp[4:4], icmp[icmptype], icmp6[icmp6type]: use one of them",
        ),
        ("tcp[13] & tcp-snn != 0", "\"tcp-snn\" (character 11): no number; did you mean tcp-syn?"),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
    assert!(error("dev wlan0").ends_with("devices: eth0, host, enia1b2"));
    assert!(error("frobnicate").contains("words: "));
}

#[test]
fn what_is_no_filter() {
    for text in [
        "host",
        "host and tcp",
        "port",
        "port tcp",
        "port 65536",
        "port 080",
        "port 80-90",
        "port 80,443",
        "portrange a-b",
        "80",
        "tcp 80",
        "tcp or 80",
        "(port 80) or 443",
        "tcp udp",
        "tcp port 80 443",
        "10.0.0.1",
        "default/client",
        "and tcp",
        "tcp and or udp",
        "not",
        "!",
        "()",
        "port ()",
        "port (80",
        "net",
        "net 300",
        "net 10.0.0.0/33",
        "net 10.1.1.1 mask 255.0.0.0",
        "net 10.0.0.0 mask 255.0.255.0",
        "net 10.0.0.0 mask",
        "net ::/129",
        "net fe80",
        "host 10.1",
        "host 010.0.0.1",
        "host 10.0.0.0/8",
        "ip6 host 10.0.0.1",
        "ip host ::1",
        "ip6 net 10",
        "host ::1.2.3",
        "proto",
        "proto 256",
        "proto tpc",
        "src proto 6",
        "tcp proto 6",
        "icmp proto 6",
        "ip pod default/web",
        "dev",
        "less",
        "less tcp",
        "greater -1",
        "seq",
        "seq 4294967296",
        "len",
        "len 5",
        "len > ",
        "tcp[13]",
        "tcp[13] & 2",
        "tcp[13] = tcp[13]",
        "2 = 2",
        "tcp[13] & 2|16 != 0",
        "tcp[13] == 2 == 3",
        "tcp[13",
        "tcp]",
        "tcp[]",
        "tcp[99999999999] = 1",
        "ether[0] = 1",
        "udp[0] = 1",
        "icmp[icmpcode] = 4",
        "((tcp[13] & 2) != 0",
        "tcp & udp",
        "tcp | udp",
        "ip host 10.0.0.1 and ip6 host 10.0.0.1",
        "vlan",
        "esp",
        "ifname eth0",
        "inbound",
        "broadcast",
        "svc web",
        "svc default/web:",
        "svc default/web:80:80",
        "ns nothing",
        "pod \u{1b}[2J",
        "\u{202e}",
        "é",
        "\\",
        "tcp \\",
        "\\tcp",
        "host \\",
        "'tcp'",
        "*",
        "port ::1",
    ] {
        error(text);
    }
}

#[test]
fn too_much_is_an_error() {
    assert!(error(&"(".repeat(100_000)).contains("4096"));
    for (open, close) in [("(", ")"), ("not (", ")"), ("!(", ")"), ("(not ", ")")] {
        let deep = |times: usize| format!("{}tcp{}", open.repeat(times), close.repeat(times));
        assert!(parse(&deep(32)).is_ok());
        assert!(error(&deep(33)).contains("at most 32 parentheses"));
    }
    assert!(error(&format!("{}2{} = len", "(".repeat(1000), ")".repeat(1000))).contains("at most 32 parentheses"));
    assert!(error(&format!("port {}2{}", "(".repeat(1000), ")".repeat(1000))).contains("at most 32 parentheses"));
    assert!(parse(&format!("{}tcp", "not ".repeat(1000))).is_ok());
    // As deep as a formula of this length gets.
    let alternating = "ip||ip&&".repeat(511) + "ip";
    assert_eq!(
        error(&alternating),
        "the filter needs 1023 tests, and 64 fit: use net for several addresses, portrange for several ports, ns for several pods"
    );
    let fits = ["ip"; 64].join("||");
    assert!(parse(&fits).expect("a filter").compile(&Node).is_ok());
}

#[test]
fn cut_off_anywhere_nothing_panics() {
    let text = "not (tcp[tcpflags] & (tcp-syn|tcp-ack) != 0 and src or dst net 10.0.0.0 mask 255.0.0.0) or svc default/web:80 \
                || ip6 proto \\udp && portrange 80-90 or dev eth0 and é";
    for (at, _) in text.char_indices() {
        for part in [&text[..at], &text[at..]] {
            if let Err(error) = parse(part).and_then(|expression| expression.compile(&Node)) {
                assert!(is_plain(&error), "{error:?}");
            }
        }
    }
}
