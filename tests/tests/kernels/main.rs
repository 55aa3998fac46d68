//! What must be true on every kernel that netpath runs on, from 5.10 on.
//!
//! Here it runs on this machine's kernel; `cargo xtask kernels` runs it in virtual machines, where each test is a line of
//! docs/kernels.md. Where the kernel has TCX, what is about hooks is done twice, with TCX and with legacy filters. The witnesses are
//! /proc/net/dev, sockets, and `tc`. Tests of devices that not every machine's kernel has are ignored there, and say so.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod conntrack;
mod counting;
mod drops;
mod foreign;
mod ipsec;
mod leftovers;
mod seen;
mod topology;
mod trace;
mod tunnels;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use aya::programs::TcAttachType;
use aya::programs::links::Link as _;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use etherparse::PacketBuilder;
use lab::report::Diagnosis;
use lab::traffic::{Serve, TcpServer, UdpSink, download, ping, send_datagrams, send_frames, upload};
use lab::{
    Answer, Counters, Lab, Measured, Namespace, OpenWindow, Report, TcFilter, device_counters, netpath_hooks, read,
    signal, tc_filters, wait_until,
};

/// How netpath attaches.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// As the report calls it.
    name: &'static str,
    arguments: &'static [&'static str],
}

/// What this kernel chooses.
fn chosen_way() -> Way {
    Way { name: if has_tcx() { "tcx" } else { "clsact" }, arguments: &[] }
}

/// Legacy filters, and TCX on the virtual machines' kernels that have it: elsewhere all other tests are about TCX.
fn each_way(check: impl Fn(Way)) {
    if !has_tcx() || std::env::var_os("NETPATH_IN_GUEST").is_some() {
        check(chosen_way());
    }
    if has_tcx() {
        check(Way { name: "clsact", arguments: &["--clsact"] });
    }
}

fn has_drop_reasons() -> bool {
    kernel() >= (5, 17)
}

/// Its version.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn has_tcx() -> bool {
    kernel() >= (6, 6)
}

fn lab() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

/// How many programs of netpath are on the hooks of the node's devices.
fn attached(node: &Namespace) -> usize {
    let tcx = if has_tcx() { netpath_hooks(node).unwrap() } else { 0 };
    tcx + tc_filters(node).unwrap().iter().filter(|filter| filter.name.starts_with("netpath_")).count()
}

/// Opens a window, in which netpath is on as many hooks more than before.
fn open_window(lab: &Lab, way: Way, hooks: usize) -> OpenWindow {
    let expected = attached(&lab.node.namespace) + hooks;
    let window = lab.open_window(way.arguments).unwrap();
    assert_eq!(attached(&lab.node.namespace), expected);
    window
}

/// Waits until netpath's programs are on so many hooks.
fn wait_for_hooks(lab: &Lab, expected: usize) {
    wait_until(&format!("{expected} programs are attached"), || attached(&lab.node.namespace) == expected);
}

/// Measures `work`, and holds every device that netpath is attached to against its own counters. They are read outside of the
/// window and in it; what they differ by passed (a device's first multicast reports) when netpath may not have looked.
fn reconciled(lab: &Lab, way: Way, arguments: &[&str], work: impl FnOnce() -> Result<()>) -> Report {
    let read = || device_counters(&lab.node.namespace).unwrap();
    lab.wait_until_quiet().unwrap();
    let before = read();
    let arguments = [way.arguments, arguments].concat();
    let mut inside = None;
    let work = || {
        let opened = read();
        work()?;
        lab.wait_until_quiet()?;
        inside = Some((opened, read()));
        Ok(())
    };
    let Measured { report, messages, .. } = lab.measure(&arguments, work).unwrap();
    let (opened, closed) = inside.unwrap();
    let after = read();
    assert!(messages.is_empty(), "netpath has nothing to complain of: {messages}");
    let mut hooked = 0;
    for device in report.devices.iter().filter(|device| device.attach == way.name) {
        hooked += 1;
        let name = device.name.as_str();
        let seen = device.hooks();
        let (least, most) = (closed[name].since(opened[name]), after[name].since(before[name]));
        let fields = |of: Counters| [of.rx_bytes, of.rx_packets, of.tx_bytes, of.tx_packets];
        let mut within = fields(least).into_iter().zip(fields(seen)).zip(fields(most));
        assert!(
            within.all(|((least, seen), most)| (least..=most).contains(&seen)),
            "{name}: netpath {seen:?} against /proc/net/dev: {least:?} to {most:?}"
        );
    }
    assert_eq!(hooked, 1 + lab.pods().len(), "eth0 and every pod's veth");
    assert_eq!(report.health.unparsed_packets, 0);
    report
}

/// A datagram that must arrive, or must not.
fn passes(lab: &Lab) -> bool {
    let (client, server) = (&lab.pod("client").namespace, lab.pod("server").ipv4);
    ping(client, server.into(), 7, 1, 100).unwrap() == 1
}

#[test]
fn attaches_to_both_hooks_of_every_device() {
    each_way(|way| {
        let lab = lab();
        // The one without Ethernet header, which takes other programs.
        let tun = lab.node.namespace.command("ip").unwrap().args(["tuntap", "add", "tun0", "mode", "tun"]).status();
        assert!(tun.unwrap().success());
        let report = open_window(&lab, way, 2 * 4).report().unwrap();
        for device in report.devices.iter().filter(|device| device.name != "lo") {
            assert_eq!((device.attach.as_str(), device.blind.as_deref()), (way.name, None), "{device}");
        }
        assert_eq!(attached(&lab.node.namespace), 0, "and leaves none of them");
    });
}

#[test]
fn counts_tcp_udp_and_icmp_to_the_byte() {
    each_way(|way| {
        let lab = lab();
        let (client, server) = (&lab.pod("client").namespace, lab.pod("server"));
        for (target, outside) in server.addresses().into_iter().zip(lab.outside.addresses()) {
            let sink = UdpSink::start(&server.namespace, SocketAddr::new(target, 0)).unwrap();
            let from = TcpServer::start(&lab.outside.namespace, SocketAddr::new(outside, 0), Serve::Send(2_000_000));
            let to = TcpServer::start(&server.namespace, SocketAddr::new(target, 0), Serve::Receive);
            let (from, to) = (from.unwrap(), to.unwrap());
            let report = reconciled(&lab, way, &[], || {
                // One frame; three fragments each.
                send_datagrams(client, sink.address(), 500, 50)?;
                send_datagrams(client, sink.address(), 20_000, 10)?;
                download(client, from.address())?;
                upload(client, to.address(), 2_000_000)?;
                assert_eq!(ping(client, target, 7, 5, 100)?, 5);
                Ok(())
            });
            let arrived = sink.stop().unwrap();
            assert_eq!((arrived.count, arrived.bytes), (60, 50 * 500 + 10 * 20_000));
            let path = |name: &str| report.path(name).bytes;
            assert!((2_000_000..2_400_000).contains(&path("eni")), "2 MB and headers, not {}", path("eni"));
            let local = path("local");
            assert!((2_225_000..2_700_000).contains(&local), "2.2 MB and headers, not {local}");
            assert_eq!(report.health.orphan_fragment_packets, 0);
        }
    });
}

/// Of a packet socket's frame of more than a page, the kernel puts the Ethernet header alone where programs read directly
/// (`net/packet/af_packet.c`, `packet_alloc_skb`).
#[test]
fn headers_behind_the_linear_part_are_read() {
    const FRAMES: usize = 3;
    each_way(|way| {
        let lab = lab();
        let client = lab.pod("client");
        let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let payload = [7; 6_000];
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        ethernet().ipv4(client.ipv4.octets(), [192, 0, 2, 1], 9).udp(7_001, 7_002).write(&mut v4, &payload).unwrap();
        ethernet().ipv6([0xfd; 16], [0xfe; 16], 9).udp(7_003, 7_004).write(&mut v6, &payload).unwrap();
        // Hop-by-hop options, which say that UDP follows.
        v6.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        v6[20] = 0;
        let frames = [&v4, &v6].map(|frame| vec![frame.clone(); FRAMES]).concat();
        let report = reconciled(&lab, way, &[], || send_frames(&client.namespace, "eth0", &frames));
        for (frame, source, ports) in
            [(v4, IpAddr::from(client.ipv4), [7_001, 7_002]), (v6, Ipv6Addr::from([0xfd; 16]).into(), [7_003, 7_004])]
        {
            let flow = report.flow_from(SocketAddr::new(source, ports[0]));
            assert_eq!((flow.proto.as_str(), flow.dport), ("udp", Some(ports[1])), "{flow}");
            let hop = &flow.hops[0];
            let expected = (FRAMES as u64, (FRAMES * frame.len()) as u64);
            assert_eq!((hop.packets, hop.bytes), expected, "{flow}");
        }
    });
}

#[test]
fn follows_flows_through_snat() {
    each_way(|way| {
        let lab = lab();
        lab.snat().unwrap();
        let address = SocketAddr::new(lab.outside.ipv4.into(), 0);
        let server = TcpServer::start(&lab.outside.namespace, address, Serve::Send(100_000)).unwrap();
        let report = reconciled(&lab, way, &[], || download(&lab.pod("client").namespace, server.address()).map(drop));
        let served = server.stop().unwrap();
        assert_eq!(served[0].peer.ip(), lab.node.ipv4, "the lab translates");
        assert_eq!((report.health.conntrack.as_str(), report.health.unjoined_flows), ("ok", 0));
        let flows = &report.flows;
        assert_eq!(flows.len(), 2, "one each way: {flows:?}");
        let out = report.flow(|flow| flow.src == lab.pod("client").ipv4);
        assert_eq!((out.path.as_str(), out.hops.len()), ("eni", 2), "{out}");
        assert_eq!(out.hops[1].sport, Some(served[0].peer.port()), "as the server saw it");
    });
}

/// Sends a datagram from each of these ports of the client: a flow each.
fn send_from(lab: &Lab, ports: Range<u16>, to: SocketAddr) -> Result<()> {
    let client = lab.pod("client");
    let send = || {
        ports.map(|port| UdpSocket::bind((client.ipv4, port))?.send_to(&[0; 10], to)).sum::<std::io::Result<usize>>()
    };
    client.namespace.run(send)??;
    Ok(())
}

/// How many UDP packets the report has in flows, of all hops, and how many in none for want of room.
fn udp_packets(report: &Report) -> (u64, u64) {
    let hops = report.flows_of("udp").flat_map(|flow| &flow.hops);
    (hops.map(|hop| hop.packets).sum(), report.health.map_full_packets)
}

#[test]
fn drains_more_flows_than_the_maps_hold() {
    each_way(|way| {
        let lab = lab();
        let server = lab.pod("server");
        let sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 0)).unwrap();
        let report = reconciled(&lab, way, &["--max-flows", "256"], || {
            for first in (20_000..21_500).step_by(50) {
                send_from(&lab, first..first + 50, sink.address())?;
                thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        });
        assert_eq!(sink.stop().unwrap().count, 1_500);
        let (in_flows, in_none) = udp_packets(&report);
        assert_eq!(in_flows + in_none, 2 * 1_500, "at two hooks");
    });
}

/// Ten times as many flows as there is room for, while netpath gets no CPU to drain.
#[test]
fn what_a_full_map_has_no_room_for_is_in_the_sums() {
    const ROOM: u16 = 1_000;
    each_way(|way| {
        let lab = lab();
        let server = lab.pod("server");
        let sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 0)).unwrap();
        let report = reconciled(&lab, way, &["--max-flows", &ROOM.to_string()], || {
            while_it_stands_still(&lab, || send_from(&lab, 20_000..20_000 + 10 * ROOM, sink.address()))
        });
        let sent = u64::from(10 * ROOM);
        assert_eq!(sink.stop().unwrap().count, sent);
        let (in_flows, in_none) = udp_packets(&report);
        assert!(in_none > 0, "the map was not full");
        assert_eq!(in_flows + in_none, 2 * sent, "at two hooks");
        // Ethernet 14, IPv4 20, UDP 8 and 10 bytes.
        let unattributed = |pod: &str, direction: &str| {
            let hook = report.device(&lab.pod(pod).veth).hook(direction);
            (hook.unattributed_packets, hook.unattributed_bytes)
        };
        let (came, left) = (unattributed("client", "rx"), unattributed("server", "tx"));
        assert_eq!((came.0 + left.0, came.1 + left.1), (in_none, in_none * 52), "as the devices have it");
        assert_eq!(report.term("unattributed").unsigned_abs(), in_none * 52);
        assert_eq!(report.term("residual"), 0);
    });
}

/// The netpath that measures in the lab gets no CPU while `work` runs.
fn while_it_stands_still<T>(lab: &Lab, work: impl FnOnce() -> T) -> T {
    let output = Command::new("ip").args(["netns", "pids", lab.node.namespace.name()]).output().unwrap();
    let processes = String::from_utf8(output.stdout).unwrap();
    let is_it = |id: &&str| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name == "netpath\n");
    let netpath = processes.split_whitespace().find(is_it).unwrap().parse().unwrap();
    signal(netpath, libc::SIGSTOP);
    let done = work();
    signal(netpath, libc::SIGCONT);
    done
}

#[test]
fn two_at_once_count_side_by_side() {
    each_way(|way| {
        let lab = lab();
        let windows = [open_window(&lab, way, 6), open_window(&lab, way, 6)];
        for _ in 0..3 {
            assert!(passes(&lab));
        }
        for (left, window) in [(6, windows)].into_iter().flat_map(|(left, [one, other])| [(left, one), (0, other)]) {
            let report = window.report().unwrap();
            let local = report.path("local");
            // Ethernet 14, IPv4 20, ICMP 8 and 100 bytes; three and their replies.
            assert_eq!((local.packets, local.bytes), (6, 6 * 142));
            wait_for_hooks(&lab, left);
        }
    });
}

/// Before 5.11 maps are counted as locked memory.
#[test]
fn too_little_locked_memory_is_said_in_one_line() {
    let lab = lab();
    let netpath = lab::netpath_binary().unwrap();
    let script = format!(
        "ulimit -l 64; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource {} report --duration 100ms --eni 'eth*'",
        netpath.display()
    );
    let output = lab.node.namespace.command("sh").unwrap().args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if kernel() < (5, 11) {
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains("ulimit -l unlimited"), "{stderr}");
    } else {
        assert!(output.status.success(), "{stderr}");
    }
    assert_eq!(attached(&lab.node.namespace), 0);
}
