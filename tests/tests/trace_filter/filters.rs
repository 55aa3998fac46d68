//! Filters in the language that tcpdump and netpath have in common.

use super::packets::{ADDRESSES_V4, ADDRESSES_V6, FLAGS, PORTS, SEQUENCES};
use crate::random::Random;

/// As people write them.
pub const PUBLISHED: [&str; 40] = [
    "ip",
    "ip6",
    "not ip6",
    "icmp or icmp6",
    "tcp port 80",
    "tcp src port 443 or udp dst port 53",
    "udp port 53 or 443",
    "port 80 or 443 and host 10.0.0.21",
    "host 10.0.0.21 and (10.0.0.22 or 192.0.2.1)",
    "host 10.0.0.21 and not 10.0.0.22",
    "ip host 10.0.0.21 and not 198.51.100.7",
    "not host 10.0.0.21 and not port 22",
    "src net 10 and not dst net 10.0",
    "net 10.0.0.0/24 or 192.0.2.0/24",
    "net 10.0.0.0 mask 255.255.254.0",
    "src or dst net 10.1",
    "src and dst net 10",
    "net 2001:db8::/32",
    "ip6 net 2001:db8::/48 and not src host 2001:db8::21",
    "net 0.0.0.0/1 or ::/1",
    "portrange 80-443",
    "tcp dst portrange 8080-8000",
    "sctp or udp portrange 1-100",
    "src and dst port 80",
    "port 0",
    "ip proto 50 or 47",
    "ip6 proto 132",
    "proto 58",
    "ip proto \\tcp",
    "less 100",
    "greater 1000 and tcp",
    "len > 60 and len <= 1000",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and ip and not src and dst net 10",
    "ip and tcp[13] & 0x12 == 18",
    "ip and tcp[13] = 2",
    "ip and (tcp[tcpflags] & tcp-ack) == 0",
    "ip and tcp[4:4] = 75297",
    "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
    "icmp[0] == 0",
    "icmp6[icmp6type] == icmp6-neighborsolicit or icmp6[0] < 3",
];

/// What neither takes.
pub const REFUSED: [&str; 24] = [
    "tcp host 10.0.0.1",
    "icmp port 80",
    "ip port 80",
    "tcp or 80",
    "(port 80) or 443",
    "tcp udp",
    "port 65536",
    "port 080",
    "net 10.0.0.1/8",
    "net 10.0.0.0/33",
    "host 10.0.0.0/8",
    "ip6 host 10.0.0.1",
    "ip host ::1",
    "net fe80",
    "src proto 6",
    "icmp proto 1",
    "tcp[13]",
    "tcp[13] == 2 and 3",
    "(tcp",
    "tcp)",
    "tcp and",
    "and tcp",
    "frobnicate",
    "less 10 or 20",
];

/// A filter.
pub fn filter(random: &mut Random) -> String {
    expression(random, 3)
}

fn expression(random: &mut Random, depth: usize) -> String {
    let mut text = operand(random, depth);
    for _ in 0..random.below(4) {
        let joint = joint(random);
        text = format!("{text} {joint} {}", operand(random, depth));
    }
    text
}

fn joint(random: &mut Random) -> &'static str {
    random.of(&["and", "or", "&&", "||"])
}

fn operand(random: &mut Random, depth: usize) -> String {
    let not = if random.once_in(4) { random.of(&["not ", "!", "! ", "not not ", "not !"]) } else { "" };
    if depth > 0 && random.once_in(4) {
        return format!("{not}({})", expression(random, depth - 1));
    }
    format!("{not}{}", primitive(random))
}

fn primitive(random: &mut Random) -> String {
    let end = random.of(&["", "", "src ", "dst ", "src or dst ", "src and dst ", "dst or src "]);
    match random.below(12) {
        0 => random.of(&["ip", "ip6", "tcp", "udp", "icmp", "icmp6", "sctp"]).to_owned(),
        1 | 2 => {
            let kind = if end.is_empty() { "host " } else { random.of(&["", "host "]) };
            let family = random.of(&["", "", "ip ", "ip6 "]);
            let of = |random: &mut Random| host(random, family);
            format!("{family}{end}{kind}{}", values(random, of))
        }
        3 => format!("{end}net {}", values(random, net)),
        4 | 5 => {
            let protocol = random.of(&["", "", "tcp ", "udp ", "sctp "]);
            format!("{protocol}{end}port {}", values(random, |random| random.of(&PORTS).to_string()))
        }
        6 => {
            let protocol = random.of(&["", "tcp ", "udp "]);
            let range = |random: &mut Random| format!("{}-{}", random.of(&PORTS), random.of(&PORTS));
            format!("{protocol}{end}portrange {}", values(random, range))
        }
        7 => {
            let number = |random: &mut Random| random.of(&[1, 2, 6, 17, 47, 58, 132, 200]).to_string();
            format!("{}proto {}", random.of(&["", "ip ", "ip6 "]), values(random, number))
        }
        8 => format!("{} {}", random.of(&["less", "greater"]), random.of(&[54, 60, 100, 134, 1_000, 1_400])),
        9 => format!("len {} {}", compared(random), random.of(&[54, 60, 94, 134, 1_054])),
        10 => format!("(ip and {})", tcp(random)),
        _ => icmp(random),
    }
}

/// One value, several after each other, or several in parentheses. `not` belongs to the next one alone.
fn values(random: &mut Random, value: impl Fn(&mut Random) -> String) -> String {
    let mut text = value(random);
    if random.once_in(3) {
        for _ in 0..=random.below(3) {
            let joint = joint(random);
            let not = if random.once_in(4) { "not " } else { "" };
            text = format!("{text} {joint} {not}{}", value(random));
        }
        if random.once_in(2) {
            return format!("({text})");
        }
    }
    text
}

fn host(random: &mut Random, family: &str) -> String {
    let is_v6 = family == "ip6 " || family.is_empty() && random.once_in(3);
    if is_v6 { random.of(&ADDRESSES_V6).to_owned() } else { random.of(&ADDRESSES_V4).to_owned() }
}

fn net(random: &mut Random) -> String {
    let nets = [
        "10",
        "10.0",
        "10.0.0",
        "10.0.0.0/8",
        "10.0.0.0/23",
        "10.1/16",
        "32.0.0.0/5",
        "192.0.2.1",
        "198.51.100.7/32",
        "0.0.0.0/0",
        "10.0.0.0 mask 255.255.0.0",
        "2001:db8::/32",
        "2001:db8::/47",
        "2001:db8::21",
        "a00::/8",
        "::/0",
        "fe80::/10",
    ];
    random.of(&nets).to_owned()
}

fn compared(random: &mut Random) -> &'static str {
    random.of(&["==", "=", "!=", "<", "<=", ">", ">="])
}

fn tcp(random: &mut Random) -> String {
    let sign = compared(random);
    if random.once_in(3) {
        return format!("tcp[4:4] {sign} {}", random.of(&SEQUENCES));
    }
    let field = random.of(&["tcp[tcpflags]", "tcp[13]", "tcp[13:1]"]);
    let mask = random.of(&["tcp-syn", "(tcp-syn|tcp-ack)", "0x12", "(tcp-fin | 4)", "tcp-push", "0", "255"]);
    let value = random.of(&["0", "tcp-syn", "(tcp-syn|tcp-ack)", "0x10", "256"]);
    match random.below(4) {
        0 => format!("{field} {sign} {}", random.of(&FLAGS)),
        1 => format!("({field} & {mask}) {sign} {value}"),
        2 => format!("{value} {sign} {field} & {mask}"),
        _ => format!("{field} & {mask} {sign} {value}"),
    }
}

fn icmp(random: &mut Random) -> String {
    let sign = compared(random);
    if random.once_in(2) {
        let field = random.of(&["icmp6[icmp6type]", "icmp6[0]"]);
        return format!("{field} {sign} {}", random.of(&["icmp6-echo", "128", "icmp6-echoreply", "135", "0"]));
    }
    let field = random.of(&["icmp[icmptype]", "icmp[0]", "icmp[0] & 8"]);
    format!("{field} {sign} {}", random.of(&["icmp-echo", "icmp-echoreply", "icmp-unreach", "0", "8", "11"]))
}
