//! Every kind of nftables rule: what is read of it, and what it limits itself to.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use netpath::snapshot::{Diversion, NetfilterRule};

use super::{in_namespace, nft, read, rule};

/// A rule as nft takes it, the tables that it can be in, and what is to be read: `None` if it diverts nothing.
type Case = (&'static str, &'static [&'static str], Option<(Diversion, fn(&mut NetfilterRule))>);

const UNLIMITED: fn(&mut NetfilterRule) = |_| {};
const IPV4: fn(&mut NetfilterRule) = |rule| rule.ipv6 = false;
const IPV6: fn(&mut NetfilterRule) = |rule| rule.ipv4 = false;
const TCP: fn(&mut NetfilterRule) = |rule| rule.proto = Some(6);

const IP: &[&str] = &["ip", "inet"];
const IP6: &[&str] = &["ip6", "inet"];
const BOTH: &[&str] = &["ip", "ip6", "inet"];

fn cases() -> impl Iterator<Item = Case> {
    what_is_diverted().into_iter().chain(limits())
}

/// What each statement does with packets.
fn what_is_diverted() -> Vec<Case> {
    use Diversion::{Copy, Rewrite, Synproxy, Tproxy};
    vec![
        // Addresses and ports without conntrack.
        ("ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip saddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip6 daddr set fd00::2", IP6, Some((Rewrite, IPV6))),
        ("ip6 saddr set fd00::2", IP6, Some((Rewrite, IPV6))),
        ("udp dport set 53", BOTH, Some((Rewrite, |rule| rule.proto = Some(17)))),
        ("tcp sport set 53", BOTH, Some((Rewrite, TCP))),
        ("icmp id set 7", IP, Some((Rewrite, |rule| (rule.ipv6, rule.proto) = (false, Some(1))))),
        ("@nh,128,32 set 0x0a000002", BOTH, Some((Rewrite, UNLIMITED))),
        // Other bytes.
        ("ip ttl set 4", IP, None),
        ("ip dscp set cs1", IP, None),
        ("ip6 hoplimit set 4", IP6, None),
        ("ip6 flowlabel set 4", IP6, None),
        ("tcp option maxseg size set 1200", BOTH, None),
        ("meta mark set 1", BOTH, None),
        ("ip daddr 10.0.0.2 tcp dport 80 counter accept", IP, None),
        // With conntrack.
        ("notrack", BOTH, None),
        ("ct mark set 1", BOTH, None),
        // Elsewhere.
        ("meta l4proto tcp tproxy to :15001", BOTH, Some((Tproxy, TCP))),
        (
            "udp dport 53 tproxy ip to 127.0.0.1:53",
            &["inet"],
            Some((Tproxy, |rule| {
                (rule.ipv6, rule.proto, rule.dport) = (false, Some(17), Some(53));
            })),
        ),
        (
            "udp dport 53 tproxy ip6 to [::1]:53",
            &["inet"],
            Some((Tproxy, |rule| {
                (rule.ipv4, rule.proto, rule.dport) = (false, Some(17), Some(53));
            })),
        ),
        ("dup to 10.0.0.9", &["ip"], Some((Copy, UNLIMITED))),
        ("dup to fd00::9", &["ip6"], Some((Copy, UNLIMITED))),
        ("synproxy mss 1460", &["ip", "inet"], Some((Synproxy, TCP))),
        (
            "tcp dport 443 synproxy name web",
            &["inet"],
            Some((Synproxy, |rule| {
                (rule.proto, rule.dport) = (Some(6), Some(443));
            })),
        ),
    ]
}

/// What a rule limits itself to, and what is no limit.
fn limits() -> Vec<Case> {
    use Diversion::{Copy, Rewrite};
    vec![
        (
            "ip saddr 10.1.2.3 ip daddr 10.0.0.0/8 dup to 10.0.0.9",
            &["ip"],
            Some((Copy, |rule| {
                rule.src = Some("10.1.2.3/32".parse().unwrap());
                rule.dst = Some("10.0.0.0/8".parse().unwrap());
            })),
        ),
        (
            "ip daddr 10.0.64.0/19 ip daddr set 10.0.0.2",
            IP,
            Some((Rewrite, |rule| {
                rule.ipv6 = false;
                rule.dst = Some("10.0.64.0/19".parse().unwrap());
            })),
        ),
        (
            "ip6 saddr fd00:1::/33 ip6 daddr fd00::1 ip6 daddr set fd00::2",
            IP6,
            Some((Rewrite, |rule| {
                rule.ipv4 = false;
                rule.src = Some("fd00:1::/33".parse().unwrap());
                rule.dst = Some("fd00::1/128".parse().unwrap());
            })),
        ),
        (
            "tcp sport 1000 tcp dport 80 tcp dport set 8080",
            BOTH,
            Some((Rewrite, |rule| {
                (rule.proto, rule.sport, rule.dport) = (Some(6), Some(1000), Some(80));
            })),
        ),
        (
            "ip protocol udp udp sport 53 udp sport set 5353",
            IP,
            Some((Rewrite, |rule| {
                (rule.ipv6, rule.proto, rule.sport) = (false, Some(17), Some(53));
            })),
        ),
        (
            "iifname lo udp dport set 53",
            BOTH,
            Some((Rewrite, |rule| {
                (rule.input_device, rule.proto) = (Some("lo".into()), Some(17));
            })),
        ),
        (
            "iif lo udp dport set 53",
            BOTH,
            Some((Rewrite, |rule| {
                (rule.input_device, rule.proto) = (Some("lo".into()), Some(17));
            })),
        ),
        // Behind what is rewritten, and what is not exact, is no limit.
        ("ip daddr set 10.0.0.2 ip saddr 10.0.0.3 ip daddr 10.0.0.2 counter", IP, Some((Rewrite, IPV4))),
        ("iifname \"l*\" ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("iifname != lo ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("oifname lo ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip daddr != 10.0.0.1 ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip daddr 10.0.0.1-10.0.0.9 ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip daddr { 10.0.0.1, 10.0.0.3 } ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip daddr & 0.0.0.255 == 0.0.0.7 ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("ip saddr . ip daddr { 10.0.0.1 . 10.0.0.2 } ip daddr set 10.0.0.3", IP, Some((Rewrite, IPV4))),
        ("ip daddr set ip saddr map { 10.0.0.1 : 10.0.0.2 }", IP, Some((Rewrite, IPV4))),
        ("meta l4proto { tcp, udp } th dport 53 th dport set 5353", BOTH, Some((Rewrite, UNLIMITED))),
        ("tcp dport 80-81 tcp dport set 8080", BOTH, Some((Rewrite, TCP))),
        ("tcp dport != 80 tcp dport set 8080", BOTH, Some((Rewrite, TCP))),
        ("meta mark 1 ct state new ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
        ("limit rate 1/second ip daddr set 10.0.0.2", IP, Some((Rewrite, IPV4))),
    ]
}

/// Every kind of rule, each in a chain of its own, in every family that takes it.
#[test]
fn nftables_rules() {
    let (mut commands, mut expected) = (String::new(), BTreeSet::new());
    for family in ["ip", "ip6", "inet"] {
        writeln!(commands, "add table {family} t").unwrap();
    }
    writeln!(commands, "add synproxy inet t web {{ mss 1460; wscale 7; }}").unwrap();
    for (number, (text, families, outcome)) in cases().enumerate() {
        for family in families {
            let (table, chain) = (format!("{family} t"), format!("c{number}"));
            writeln!(commands, "add chain {table} {chain}\nadd rule {table} {chain} {text}").unwrap();
            if let Some((diversion, limit)) = outcome {
                let mut rule = rule(diversion, &table, &chain);
                limit(&mut rule);
                expected.insert(rule);
            }
        }
    }
    // Chains that are reached by a jump, and by a map.
    commands.push_str(
        "add chain ip t jumped\nadd chain ip t base { type filter hook prerouting priority raw; }\n\
        add rule ip t base ip daddr 10.0.0.1 jump jumped\nadd rule ip t jumped udp dport set 53\n",
    );
    expected.insert(NetfilterRule { proto: Some(17), ..rule(Diversion::Rewrite, "ip t", "jumped") });
    let found = in_namespace(|| {
        nft(&commands);
        read().netfilter_rules
    });
    let expected: Vec<_> = expected.into_iter().collect();
    for rule in &expected {
        assert!(found.contains(rule), "not found: {rule:#?}");
    }
    for rule in &found {
        assert!(expected.contains(rule), "not expected: {rule:#?}");
    }
    assert!(found.is_sorted());
}
