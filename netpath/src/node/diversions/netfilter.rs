//! The rules of nftables that divert packets.
//!
//! In: a rule as the kernel describes it. Out: [`NetfilterRule`]s. Pure. The rule alone is read: conditions of
//! the chains that lead to it are not.

use super::xtables;
use crate::netlink::attributes::{find, lossy};
use crate::node::nftables::conditions::{Conditions, Device, has_ports};
use crate::node::nftables::expression::{Expression, Field, Header, expressions};
use crate::node::nftables::{RULE_CHAIN, RULE_TABLE};
use crate::snapshot::{Diversion, NetfilterRule};

/// linux/netfilter.h: `NFPROTO_*`. The others are ARP and unspecified.
const FAMILIES: [(u8, &str); 5] = [(1, "inet"), (2, "ip"), (NETDEV, "netdev"), (BRIDGE, "bridge"), (10, "ip6")];
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;
/// `NF_QUEUE`, in the lower half of a verdict; the upper half is the queue's number.
const QUEUE: i32 = 3;
const VERDICT_MASK: i32 = 0xffff;
/// `NFT_OBJECT_SYNPROXY`.
const OBJECT_SYNPROXY: u32 = 10;
const TCP: u8 = 6;

/// Each way in which the rule with these attributes diverts packets. `device` finds the name of a device by its index.
pub fn rules(family: u8, attributes: &[u8], device: &dyn Fn(u32) -> Option<String>) -> Vec<NetfilterRule> {
    let mut found: Vec<NetfilterRule> = Vec::new();
    let Some((_, family_name)) = FAMILIES.iter().find(|(number, _)| *number == family) else { return found };
    // Nearly all rules divert nothing, and there may be very many.
    if !expressions(attributes).any(|expression| may_divert(&expression)) {
        return found;
    }
    let mut conditions = Conditions::of_family(family);
    let mut rewritten = false;
    for expression in expressions(attributes) {
        // What is compared behind a write may be what was written.
        if !rewritten {
            conditions.apply(&expression);
        }
        let Some(diversion) = diversion(family, &expression, &conditions) else { continue };
        let mut limits = conditions.clone();
        if diversion == Diversion::Synproxy && limits.proto().is_none() {
            limits.limit_proto(TCP);
        }
        let name = |kind| lossy(find(attributes, kind).unwrap_or_default());
        let place = format!("nft table {family_name} {}, chain {}", name(RULE_TABLE), name(RULE_CHAIN));
        found.extend(rule(diversion, place, &limits, device).filter(|rule| !found.contains(rule)));
        rewritten |= diversion == Diversion::Rewrite;
    }
    found
}

/// Whether `diversion` has to be evaluated.
fn may_divert(expression: &Expression<'_>) -> bool {
    !matches!(
        expression,
        Expression::Meta { .. }
            | Expression::Read { .. }
            | Expression::Mask { .. }
            | Expression::Compare { .. }
            | Expression::Match { .. }
            | Expression::Verdict(..=1)
            | Expression::Other("counter" | "lookup" | "ct" | "range")
    )
}

fn diversion(family: u8, expression: &Expression<'_>, conditions: &Conditions) -> Option<Diversion> {
    match expression {
        Expression::Tproxy { .. } => Some(Diversion::Tproxy),
        Expression::Write { field } => is_address(family, *field, conditions).then_some(Diversion::Rewrite),
        Expression::Target { name } => xtables::diversion(name),
        Expression::Verdict(code) => (code & VERDICT_MASK == QUEUE && *code >= 0).then_some(Diversion::Queue),
        Expression::Object(OBJECT_SYNPROXY) | Expression::Other("synproxy") => Some(Diversion::Synproxy),
        Expression::Other("dup") => Some(Diversion::Copy),
        Expression::Other("fwd") => Some(Diversion::Redirect),
        Expression::Other("queue") => Some(Diversion::Queue),
        _ => None,
    }
}

/// Whether these bytes decide where a packet goes, or which connection it belongs to.
fn is_address(family: u8, field: Field, conditions: &Conditions) -> bool {
    let part = match field.header {
        // The destination; above a bridge it does not matter.
        Header::Link if [NETDEV, BRIDGE].contains(&family) => 0..6,
        Header::Link => return false,
        Header::Network => match conditions.families() {
            (_, false) => 12..20,
            // IPv4's lie within IPv6's.
            (_, true) => 8..40,
        },
        Header::Transport => match conditions.proto() {
            Some(proto) if has_ports(proto) => 0..4,
            // The identifier of an echo.
            _ => 0..6,
        },
    };
    let end = field.offset.saturating_add(field.length);
    field.offset < part.end && part.start < end
}

/// `None` for a rule that no IP packet comes to.
fn rule(
    diversion: Diversion,
    place: String,
    conditions: &Conditions,
    device: &dyn Fn(u32) -> Option<String>,
) -> Option<NetfilterRule> {
    let (ipv4, ipv6) = conditions.families();
    (ipv4 || ipv6).then(|| NetfilterRule {
        diversion,
        place,
        ipv4,
        ipv6,
        input_device: match conditions.input_device() {
            Some(Device::Name(name)) => Some(name.clone()),
            Some(Device::Index(index)) => device(*index),
            None => None,
        },
        proto: conditions.proto(),
        src: conditions.src(),
        dst: conditions.dst(),
        sport: conditions.sport(),
        dport: conditions.dport(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::netlink::answers;
    use crate::netlink::attributes::attribute;

    // Dumps of Linux 6.18, little-endian, while `nft list ruleset` and `iptables-nft-save` showed what is expected below.
    const NATIVE: &[u8] = include_bytes!("../../../fuzz/seeds/answers/nftables");
    const COMPAT: &[u8] = include_bytes!("../../../fuzz/seeds/answers/nftables_compat");

    fn all(datagram: &[u8]) -> Vec<NetfilterRule> {
        let mut found = Vec::new();
        answers(datagram, 1, &mut false, |_, body| {
            let device = |index| (index == 1).then(|| "lo".to_owned());
            if let [family, _, _, _, attributes @ ..] = body {
                found.extend(rules(*family, attributes, &device));
            }
        })
        .unwrap();
        found
    }

    fn unlimited(diversion: Diversion, place: &str) -> NetfilterRule {
        NetfilterRule {
            ipv4: !place.contains("ip6"),
            ipv6: !place.contains("table ip "),
            ..NetfilterRule::new(diversion, place)
        }
    }

    #[test]
    fn native_rules() {
        let expected = [
            // iifname eth0 ip saddr 10.0.0.0/20 ip daddr 10.0.0.21 tcp sport 1000 tcp dport 80 ip daddr set 10.0.0.22
            // ip saddr 9.9.9.9 tcp dport set 8080: what is behind the first write is no limit.
            NetfilterRule {
                input_device: Some("eth0".into()),
                proto: Some(6),
                src: Some("10.0.0.0/20".parse().unwrap()),
                dst: Some("10.0.0.21/32".parse().unwrap()),
                sport: Some(1000),
                dport: Some(80),
                ..unlimited(Diversion::Rewrite, "nft table ip raw, chain pre")
            },
            // ip daddr != 10.0.0.1 tcp dport { 80, 443 } tproxy to 127.0.0.1:15001
            NetfilterRule { proto: Some(6), ..unlimited(Diversion::Tproxy, "nft table ip raw, chain pre") },
            // ip ttl set 4 diverts nothing.
            // ip6 saddr fd00:1::/33 ip6 nexthdr udp udp dport 53-54 ip6 daddr set fd00::9
            NetfilterRule {
                proto: Some(17),
                src: Some("fd00:1::/33".parse().unwrap()),
                ..unlimited(Diversion::Rewrite, "nft table ip6 mangle, chain pre")
            },
            // meta nfproto ipv4 meta l4proto { tcp, udp } th dport 53 tproxy ip to :53
            NetfilterRule { ipv6: false, ..unlimited(Diversion::Tproxy, "nft table inet filter, chain forward") },
            // tcp dport 443 ip6 saddr fd00::/64 synproxy mss 1460 wscale 7
            NetfilterRule {
                ipv4: false,
                proto: Some(6),
                src: Some("fd00::/64".parse().unwrap()),
                dport: Some(443),
                ..unlimited(Diversion::Synproxy, "nft table inet filter, chain forward")
            },
            // iif lo meta l4proto tcp synproxy name web
            NetfilterRule {
                input_device: Some("lo".into()),
                proto: Some(6),
                ..unlimited(Diversion::Synproxy, "nft table inet filter, chain forward")
            },
            // udp dport 514 dup to 10.0.0.9 device lo
            NetfilterRule {
                proto: Some(17),
                dport: Some(514),
                ..unlimited(Diversion::Copy, "nft table ip copies, chain c")
            },
            // ip daddr 10.1.0.0/16 fwd to lo
            NetfilterRule {
                ipv6: false,
                dst: Some("10.1.0.0/16".parse().unwrap()),
                ..unlimited(Diversion::Redirect, "nft table netdev in, chain i")
            },
            // ether daddr set 02:00:00:00:00:01, here and in the bridge. That of ARP and that of a source are none.
            unlimited(Diversion::Rewrite, "nft table netdev in, chain i"),
            unlimited(Diversion::Rewrite, "nft table bridge b, chain c"),
        ];
        assert_eq!(all(NATIVE), expected);
    }

    #[test]
    fn rules_of_iptables() {
        let expected = [
            // -i eth0 -s 10.0.0.0/20 -d 10.0.0.21 -p tcp --sport 1000 --dport 80 -j NFQUEUE
            NetfilterRule {
                input_device: Some("eth0".into()),
                proto: Some(6),
                src: Some("10.0.0.0/20".parse().unwrap()),
                dst: Some("10.0.0.21/32".parse().unwrap()),
                sport: Some(1000),
                dport: Some(80),
                ..unlimited(Diversion::Queue, "nft table ip mangle, chain PREROUTING")
            },
            // -i eth+ ! -s 10.0.0.1 -p udp --dport 53:54 -j TPROXY
            NetfilterRule { proto: Some(17), ..unlimited(Diversion::Tproxy, "nft table ip mangle, chain PREROUTING") },
            // -p tcp -j TEE. The next one, MARK, diverts nothing.
            NetfilterRule { proto: Some(6), ..unlimited(Diversion::Copy, "nft table ip mangle, chain PREROUTING") },
            // -s fd00:1::/64 -j SNPT, and TEE
            NetfilterRule {
                src: Some("fd00:1::/64".parse().unwrap()),
                ..unlimited(Diversion::Rewrite, "nft table ip6 mangle, chain POSTROUTING")
            },
            NetfilterRule {
                src: Some("fd00:1::/64".parse().unwrap()),
                ..unlimited(Diversion::Copy, "nft table ip6 mangle, chain POSTROUTING")
            },
            // -p tcp --dport 443 -j SYNPROXY. The one before, CT, diverts nothing.
            NetfilterRule {
                proto: Some(6),
                dport: Some(443),
                ..unlimited(Diversion::Synproxy, "nft table ip filter, chain INPUT")
            },
        ];
        assert_eq!(all(COMPAT), expected);
    }

    /// An expression: its name and its attributes.
    type Made<'a> = (&'a str, &'a [(u16, &'a [u8])]);

    fn made(family: u8, expressions: &[Made<'_>]) -> Vec<NetfilterRule> {
        let expressions: Vec<u8> = expressions
            .iter()
            .flat_map(|(name, attributes)| {
                let data: Vec<u8> = attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
                attribute(1, &[attribute(1, name.as_bytes()), attribute(2, &data)].concat())
            })
            .collect();
        let message = [attribute(1, b"t\0"), attribute(2, b"c\0"), attribute(4, &expressions)].concat();
        rules(family, &message, &|_| None)
    }

    const fn number(value: u32) -> [u8; 4] {
        value.to_be_bytes()
    }

    /// An expression of `payload` that writes.
    fn write(family: u8, header: u32, offset: u32, length: u32) -> bool {
        let data: &[(u16, &[u8])] =
            &[(2, &number(header)), (3, &number(offset)), (4, &number(length)), (5, &number(1))];
        !made(family, &[("payload", data)]).is_empty()
    }

    #[test]
    fn which_writes_divert() {
        // IPv4: the lifetime's word does not, addresses do, even a byte of them.
        assert!(!write(2, 1, 8, 4) && write(2, 1, 12, 4) && write(2, 1, 19, 1) && !write(2, 1, 20, 4));
        // IPv6: the hop limit's half does not.
        assert!(!write(10, 1, 6, 2) && write(10, 1, 8, 16) && write(10, 1, 39, 1) && !write(10, 1, 40, 2));
        // Either.
        assert!(write(1, 1, 8, 2) && write(1, 1, 16, 4) && !write(1, 1, 0, 8));
        // Ports, and the identifier of an echo.
        assert!(write(2, 2, 0, 2) && write(2, 2, 2, 2) && write(2, 2, 4, 2) && !write(2, 2, 6, 2));
        // The destination of a frame, where it decides.
        assert!(write(7, 0, 0, 6) && write(5, 0, 5, 1) && !write(7, 0, 6, 6) && !write(2, 0, 0, 6));
        // Nothing that overflows.
        assert!(!write(2, 1, u32::MAX, u32::MAX));
        // What reads does not write.
        let data: &[(u16, &[u8])] = &[(1, &number(1)), (2, &number(1)), (3, &number(12)), (4, &number(4))];
        assert_eq!(made(2, &[("payload", data)]), []);
    }

    #[test]
    fn queues() {
        let expected = [unlimited(Diversion::Queue, "nft table ip t, chain c")];
        assert_eq!(made(2, &[("queue", &[])]), expected);
        let verdict = |code: u32| attribute(2, &attribute(1, &number(code)));
        assert_eq!(made(2, &[("immediate", &[(2, &verdict(0x0007_0003))])]), expected, "queue 7");
        // Accept, drop, jump (-3).
        for code in [0, 1, 3u32.wrapping_neg()] {
            assert_eq!(made(2, &[("immediate", &[(2, &verdict(code))])]), []);
        }
    }

    #[test]
    fn what_is_not_certain_is_no_limit() {
        let (one, sixteen) = (number(1), number(16));
        let l4proto: Made<'_> = ("meta", &[(2, &sixteen), (1, &one)]);
        let tcp = attribute(1, &[6]);
        let (equal, unequal, two) = (number(0), number(1), number(2));
        let is = |operation| -> [(u16, &[u8]); 3] { [(1, &one), (2, operation), (3, &tcp)] };
        let proto = |expressions: &[Made<'_>]| {
            let all = [expressions, &[("queue", &[])]].concat();
            made(2, &all)[0].proto
        };
        assert_eq!(proto(&[l4proto, ("cmp", &is(&equal))]), Some(6));
        assert_eq!(proto(&[l4proto, ("cmp", &is(&unequal))]), None);
        // The register has something else by now: another value, or an unknown one.
        assert_eq!(proto(&[l4proto, ("meta", &[(2, &two), (1, &one)]), ("cmp", &is(&equal))]), None);
        assert_eq!(proto(&[l4proto, ("numgen", &[]), ("cmp", &is(&equal))]), None);
        // Register 9 of four bytes is the second part of register 1, 12 the beginning of register 2.
        let at = |register| -> Vec<u8> { number(register).to_vec() };
        assert_eq!(proto(&[l4proto, ("meta", &[(2, &two), (1, &at(9))]), ("cmp", &is(&equal))]), None);
        assert_eq!(proto(&[l4proto, ("meta", &[(2, &two), (1, &at(12))]), ("cmp", &is(&equal))]), Some(6));
    }

    #[test]
    fn matches_of_iptables_limit_ports() {
        let sixteen = number(16);
        let (one, equal, proto) = (number(1), number(0), attribute(1, &[17]));
        let ports = |ports: [u16; 4], inverted: u8| {
            let info = [ports.map(u16::to_ne_bytes).concat(), vec![inverted, 0]].concat();
            let found = made(
                2,
                &[
                    ("meta", &[(2, &sixteen), (1, &one)]),
                    ("cmp", &[(1, &one), (2, &equal), (3, &proto)]),
                    ("match", &[(1, b"udp\0"), (3, &info)]),
                    ("target", &[(1, b"TPROXY\0")]),
                ],
            );
            (found[0].sport, found[0].dport)
        };
        assert_eq!(ports([7, 7, 53, 53], 0), (Some(7), Some(53)));
        assert_eq!(ports([0, 65535, 53, 54], 0), (None, None));
        assert_eq!(ports([7, 7, 53, 53], 1), (None, Some(53)));
        assert_eq!(ports([7, 7, 53, 53], 2), (Some(7), None));
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        for whole in [NATIVE, COMPAT] {
            answers(whole, 1, &mut false, |_, body| {
                for cut in 4..body.len() {
                    for family in [body[0], 1, 5, 7] {
                        let _ = rules(family, &body[4..cut], &|_| None);
                        let _ = rules(family, &body[cut..], &|_| None);
                    }
                }
            })
            .unwrap();
        }
    }
}
