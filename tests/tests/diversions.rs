//! What diverts packets, read in network namespaces made for the test, against what was made there with `nft`, `iptables` and
//! `ip xfrm`. Needs root.
//!
//! A namespace lives as long as the thread that made it, so nothing is left behind, whatever happens.

mod nftables;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use netpath::node::diversions::{self, Watch};
use netpath::snapshot::{Diversion, Diversions, NetfilterRule, VirtualServer, XfrmDirection, XfrmPolicy, XfrmTemplate};

/// Runs `test` in a thread with a network namespace of its own.
fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: a plain system call; it moves this thread alone to a new network namespace.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "needs root: {}", io::Error::last_os_error());
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run(command: &str) -> String {
    let mut words = command.split_ascii_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft(commands: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft: {}", commands.chars().take(500).collect::<String>());
}

/// What is read, all of it.
fn read() -> Diversions {
    let read = diversions::read();
    assert_eq!(read.unread, [""; 0]);
    read
}

/// A rule that limits itself to nothing, in `chain` of `table` ("ip t").
fn rule(diversion: Diversion, table: &str, chain: &str) -> NetfilterRule {
    NetfilterRule {
        diversion,
        place: format!("nft table {table}, chain {chain}"),
        ipv4: !table.starts_with("ip6 "),
        ipv6: !table.starts_with("ip "),
        input_device: None,
        proto: None,
        src: None,
        dst: None,
        sport: None,
        dport: None,
    }
}

#[test]
fn rules_of_devices_and_bridges() {
    let found = in_namespace(|| {
        nft("table netdev n {
                chain i {
                    type filter hook ingress device lo priority 0
                    ip daddr 10.1.0.0/16 fwd to lo
                    udp dport 514 dup to lo
                    ether type ip6 ip6 daddr fd00::1 ether daddr set 02:00:00:00:00:01
                    ether saddr set 02:00:00:00:00:01
                    arp operation request fwd to lo
                }
            }
            table bridge b {
                chain p {
                    type filter hook prerouting priority 0
                    ip daddr 10.0.0.1 ether daddr set 02:00:00:00:00:01
                    ip daddr set 10.0.0.2
                }
            }
            table arp a {
                chain c {
                    arp operation request accept
                }
            }");
        read().netfilter_rules
    });
    let mut expected = [
        NetfilterRule {
            ipv6: false,
            dst: Some("10.1.0.0/16".parse().unwrap()),
            ..rule(Diversion::Redirect, "netdev n", "i")
        },
        NetfilterRule { proto: Some(17), dport: Some(514), ..rule(Diversion::Copy, "netdev n", "i") },
        NetfilterRule {
            ipv4: false,
            dst: Some("fd00::1/128".parse().unwrap()),
            ..rule(Diversion::Rewrite, "netdev n", "i")
        },
        NetfilterRule {
            ipv6: false,
            dst: Some("10.0.0.1/32".parse().unwrap()),
            ..rule(Diversion::Rewrite, "bridge b", "p")
        },
        NetfilterRule { ipv6: false, ..rule(Diversion::Rewrite, "bridge b", "p") },
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// By nftables and by the legacy tables: the same rules, at other places.
#[test]
fn rules_of_iptables() {
    let rules = [
        ("iptables", "PREROUTING -p tcp -m mark --mark 1 -j TPROXY --on-port 15001"),
        (
            "iptables",
            "PREROUTING -i lo -s 10.0.0.0/20 -d 10.0.0.1 -p tcp --sport 1000 --dport 80 -j NFQUEUE --queue-num 1",
        ),
        ("iptables", "PREROUTING -i l+ ! -s 10.0.0.1 -p udp --dport 53:54 -j TEE --gateway 10.0.0.9"),
        ("iptables", "PREROUTING -p udp -m multiport --dports 53,54 -j NFQUEUE"),
        ("iptables", "PREROUTING -p tcp -j MARK --set-mark 1"),
        ("ip6tables", "POSTROUTING -s fd00:1::/64 -j SNPT --src-pfx fd00:1::/64 --dst-pfx fd00:2::/64"),
        (
            "ip6tables",
            "PREROUTING -d fd00:2::/64 -p udp --dport 53 -j DNPT --src-pfx fd00:2::/64 --dst-pfx fd00:1::/64",
        ),
    ];
    for kind in ["nft", "legacy"] {
        let found = in_namespace(|| {
            for (command, rule) in rules {
                run(&format!("{command}-{kind} -t mangle -A {rule}"));
            }
            read().netfilter_rules
        });
        let rule = |diversion, family: &str, chain, target| {
            let mut rule = rule(diversion, &format!("{family} mangle"), chain);
            if kind == "legacy" {
                rule.place = format!("{family}tables-legacy table mangle, target {target}");
            }
            rule
        };
        let mut expected = [
            NetfilterRule { proto: Some(6), ..rule(Diversion::Tproxy, "ip", "PREROUTING", "TPROXY") },
            NetfilterRule {
                input_device: Some("lo".into()),
                proto: Some(6),
                src: Some("10.0.0.0/20".parse().unwrap()),
                dst: Some("10.0.0.1/32".parse().unwrap()),
                sport: Some(1000),
                dport: Some(80),
                ..rule(Diversion::Queue, "ip", "PREROUTING", "NFQUEUE")
            },
            NetfilterRule { proto: Some(17), ..rule(Diversion::Copy, "ip", "PREROUTING", "TEE") },
            NetfilterRule { proto: Some(17), ..rule(Diversion::Queue, "ip", "PREROUTING", "NFQUEUE") },
            NetfilterRule {
                src: Some("fd00:1::/64".parse().unwrap()),
                ..rule(Diversion::Rewrite, "ip6", "POSTROUTING", "SNPT")
            },
            NetfilterRule {
                dst: Some("fd00:2::/64".parse().unwrap()),
                proto: Some(17),
                dport: Some(53),
                ..rule(Diversion::Rewrite, "ip6", "PREROUTING", "DNPT")
            },
        ];
        expected.sort_unstable();
        assert_eq!(found, expected, "{kind}");
    }
}

#[test]
fn ipsec_policies() {
    let found = in_namespace(|| {
        for policy in [
            "src 10.0.0.0/24 dst 10.1.0.0/24 dir out priority 7 tmpl src 1.1.1.1 dst 2.2.2.2 proto esp mode tunnel",
            "src 10.1.0.0/24 dst 10.0.0.0/24 dir fwd tmpl src 2.2.2.2 dst 1.1.1.1 proto esp mode tunnel",
            "src fd00::1 dst ::/0 proto 6 sport 1000 dport 80 dir in if_id 9 tmpl proto comp mode transport tmpl proto ah",
            "src 0.0.0.0/0 dst 10.2.0.0/16 dir out action block mark 5 mask 255",
            "src 0.0.0.0/0 dst 10.3.0.0/16 proto 1 type 8 code 0 dir out ptype sub",
        ] {
            run(&format!("ip xfrm policy add {policy}"));
        }
        // The witness counts those that netpath is to read.
        assert_eq!(run("ip xfrm policy").lines().filter(|line| line.starts_with("src")).count(), 5);
        read().xfrm_policies
    });
    let template = |proto, tunnel, src: &str, dst: &str| XfrmTemplate {
        proto,
        tunnel,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
    };
    let policy = |direction, src: &str, dst: &str| XfrmPolicy {
        direction,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        proto: None,
        sport: None,
        dport: None,
        blocks: false,
        if_id: 0,
        marked: false,
        templates: vec![],
        priority: 0,
    };
    let mut expected = [
        XfrmPolicy {
            priority: 7,
            templates: vec![template(50, true, "1.1.1.1", "2.2.2.2")],
            ..policy(XfrmDirection::Out, "10.0.0.0/24", "10.1.0.0/24")
        },
        XfrmPolicy {
            templates: vec![template(50, true, "2.2.2.2", "1.1.1.1")],
            ..policy(XfrmDirection::Forward, "10.1.0.0/24", "10.0.0.0/24")
        },
        XfrmPolicy {
            proto: Some(6),
            sport: Some(1000),
            dport: Some(80),
            if_id: 9,
            templates: vec![template(108, false, "::", "::"), template(51, false, "::", "::")],
            ..policy(XfrmDirection::In, "fd00::1/128", "::/0")
        },
        XfrmPolicy { blocks: true, marked: true, ..policy(XfrmDirection::Out, "0.0.0.0/0", "10.2.0.0/16") },
        XfrmPolicy { proto: Some(1), ..policy(XfrmDirection::Out, "0.0.0.0/0", "10.3.0.0/16") },
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// What was there at either end of a window, on a thread that does not keep the caller waiting.
#[test]
fn a_window() {
    let found = in_namespace(|| {
        nft("table ip t {\n chain c {\n udp dport 1 udp dport set 2\n udp dport 3 udp dport set 4\n }\n}");
        run("ip xfrm policy add src 10.0.0.0/24 dst 10.1.0.0/24 dir out");
        let watch = Watch::start();
        // The first reading is over when there is a second one.
        thread::sleep(std::time::Duration::from_millis(500));
        nft(
            "flush chain ip t c\nadd rule ip t c udp dport 3 udp dport set 4\nadd rule ip t c udp dport 5 udp dport set 6",
        );
        run("ip xfrm policy flush");
        watch.cut(true).wait()
    });
    assert_eq!(found.unread, [""; 0]);
    let ports: Vec<_> = found.netfilter_rules.iter().map(|rule| rule.dport).collect();
    assert_eq!(ports, [Some(1), Some(3), Some(5)]);
    assert_eq!(found.xfrm_policies.len(), 1);
}

/// A namespace without any of it is as it was, tables included: legacy ones come into being when they are asked for.
#[test]
fn nothing_is_made_by_reading() {
    in_namespace(|| {
        assert_eq!(read(), Diversions::default());
        for names in ["ip_tables_names", "ip6_tables_names"] {
            assert_eq!(fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default(), "");
        }
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn without_the_capability() {
    let read = in_namespace(|| {
        run("iptables-legacy -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 1");
        // SAFETY: a system call with numbers; without glibc it is for this thread alone.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(result, 0);
        diversions::read()
    });
    let expected = ["IPsec policies", "nftables rules", "rules of legacy iptables"]
        .map(|what| format!("{what} cannot be read without CAP_NET_ADMIN; run as root or add the capability"));
    assert_eq!(read, Diversions { unread: expected.to_vec(), ..Diversions::default() });
}

/// More than a datagram has, by far, and one that diverts at the end.
#[test]
fn thousands_of_rules() {
    let mut commands = String::from("add table ip t\nadd chain ip t c\n");
    for number in 0..5_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        writeln!(commands, "add rule ip t c ip daddr 10.{a}.{b}.{c} tcp dport 80 counter accept").unwrap();
    }
    commands.push_str("add rule ip t c tcp dport 80 tcp dport set 8080\n");
    let found = in_namespace(|| {
        nft(&commands);
        read().netfilter_rules
    });
    let last = NetfilterRule { proto: Some(6), dport: Some(80), ..rule(Diversion::Rewrite, "ip t", "c") };
    assert_eq!(found, [last]);
}

/// IPVS services, where the kernel has IPVS.
#[test]
fn virtual_servers() {
    let found = in_namespace(|| {
        if !fs::exists("/proc/thread-self/net/ip_vs").unwrap() {
            return None;
        }
        // Without a local address IPVS takes every backend's for a broadcast address.
        run("ip link set lo up");
        for arguments in [
            "-A -t 10.0.0.100:80 -s rr",
            "-a -t 10.0.0.100:80 -r 10.0.1.21:8080 -m",
            "-a -t 10.0.0.100:80 -r 10.0.1.22:80 -g",
            "-A -u [fd00::10]:53 -s rr",
            "-a -u [fd00::10]:53 -r [fd00::21]:53 -m",
            "-A -f 10 -s rr",
            "-a -f 10 -r 10.0.1.23 -i",
        ] {
            run(&format!("ipvsadm {arguments}"));
        }
        Some(read().virtual_servers)
    });
    let server = |proto, address: Option<&str>, port, backends: &[(&str, u16)]| VirtualServer {
        proto,
        address: address.map(|address| address.parse().unwrap()),
        port,
        backends: backends.iter().map(|(address, port)| (address.parse().unwrap(), *port)).collect(),
    };
    let mut expected = [
        server(Some(6), Some("10.0.0.100"), 80, &[("10.0.1.21", 8080), ("10.0.1.22", 80)]),
        server(Some(17), Some("fd00::10"), 53, &[("fd00::21", 53)]),
        server(None, None, 0, &[("10.0.1.23", 0)]),
    ];
    expected.sort_unstable();
    match found {
        Some(found) => assert_eq!(found, expected),
        None => println!("this kernel has no IPVS"),
    }
}
