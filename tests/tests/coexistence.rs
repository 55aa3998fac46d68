//! netpath beside other programs on the same hooks: what they do to packets stays what it was while netpath comes, measures
//! and goes, and netpath counts right or says on which device it did not.
//!
//! The witnesses are sockets, /proc/net/dev and tc.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use lab::report::Device;
use lab::traffic::{UdpSink, send_datagrams};
use lab::{Answer, Counters, Lab, Measured, Report, counters, detach_first, device_counters};

const BOTH: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// A node with two pods, the client's veth, and a device for what others redirect.
struct Node {
    lab: Lab,
    veth: String,
    elsewhere: u32,
}

impl Node {
    fn new() -> Self {
        let lab = Lab::builder().pod("client").pod("server").start().unwrap();
        let node = Self { veth: lab.pod("client").veth.clone(), lab, elsewhere: 0 };
        node.sh("ip link add elsewhere type veth peer name beyond");
        for device in ["elsewhere", "beyond"] {
            // A device with IPv6 sends packets of its own.
            node.sh(&format!("echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6; ip link set {device} up"));
        }
        // The first packets wait for the neighbour's answer, and only a few may.
        assert_eq!(node.send(1).unwrap(), 1);
        let elsewhere = node.lab.node.namespace.ifindex("elsewhere").unwrap();
        Self { elsewhere, ..node }
    }

    fn sh(&self, script: &str) -> String {
        let script = script.replace("VETH", &self.veth);
        self.lab.node.namespace.output("sh", &["-ec", &script]).unwrap()
    }

    /// A program on hooks of the client's veth, by TCX for as long as it is kept.
    fn attach(&self, answer: Answer, hooks: &[TcAttachType], options: fn() -> TcAttachOptions) -> SchedClassifier {
        let mut program = answer.load("other").unwrap();
        for hook in hooks {
            lab::attach(&mut program, &self.lab.node.namespace, &self.veth, *hook, options()).unwrap();
        }
        program
    }

    /// Sends datagrams from the client to the server. Returns how many came.
    fn send(&self, count: u32) -> Result<u64> {
        let sink = self.sink();
        send_datagrams(&self.lab.pod("client").namespace, sink.address(), 100, count)?;
        self.lab.wait_until_quiet()?;
        Ok(sink.stop()?.count)
    }

    fn sink(&self) -> UdpSink {
        let server = self.lab.pod("server");
        UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap()
    }

    fn counters(&self) -> Counters {
        counters(&self.lab.node.namespace, &self.veth).unwrap()
    }

    fn sent_elsewhere(&self) -> u64 {
        counters(&self.lab.node.namespace, "elsewhere").unwrap().tx_packets
    }
}

/// Why netpath is blind on each device on which it is.
fn blind(report: &Report) -> Vec<(&str, &str)> {
    let devices = report.devices.iter();
    let blind: Vec<_> = devices.filter_map(|device| Some((device.name.as_str(), device.blind.as_deref()?))).collect();
    assert_eq!(report.health.blind_devices, blind.len() as u64, "{blind:?}");
    blind
}

fn received(device: &Device) -> (u64, u64) {
    (device.rx().packets, device.rx().bytes)
}

fn last() -> TcAttachOptions {
    TcAttachOptions::TcxOrder(LinkOrder::last())
}

fn first() -> TcAttachOptions {
    TcAttachOptions::TcxOrder(LinkOrder::first())
}

/// As aws-network-policy-agent attaches.
fn policy_agent() -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions { priority: 1, handle: TcHandle::new(0, 1), classid: None })
}

/// The four answers, and whether the packet comes to the server.
fn answers(node: &Node) -> [(Answer, bool); 4] {
    let redirect = Answer::Redirect { ifindex: node.elsewhere };
    [(Answer::Next, true), (Answer::Pass, true), (Answer::Drop, false), (redirect, false)]
}

/// Traffic never stops while netpath attaches, measures and detaches. What is delivered is what the other program lets
/// through: all or nothing.
fn effect_is_unchanged(node: &Node, answer: Answer, delivers: bool) {
    let (sink, elsewhere) = (node.sink(), node.sent_elsewhere());
    let stop = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                send_datagrams(&node.lab.pod("client").namespace, sink.address(), 100, 5).unwrap();
                sent += 5;
                thread::sleep(Duration::from_millis(2));
            }
            sent
        });
        let mut netpath = node.lab.netpath(&["report", "--duration", "300ms", "--eni", "eth*"]).unwrap();
        let output = netpath.output();
        assert!(output.as_ref().is_ok_and(|output| output.status.success()), "{output:?}");
        thread::sleep(Duration::from_millis(100));
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert!(sent > 100, "{sent} is no traffic");
    node.lab.wait_until_quiet().unwrap();
    assert_eq!(sink.stop().unwrap().count, if delivers { sent } else { 0 }, "{answer:?}");
    if matches!(answer, Answer::Redirect { .. }) {
        assert_eq!(node.sent_elsewhere() - elsewhere, sent, "{answer:?}");
    }
}

/// netpath sees what the device counts, whatever the program behind it does.
fn counts_are_right(node: &Node, answer: Answer) {
    node.lab.wait_until_quiet().unwrap();
    let before = node.counters();
    let Measured { report, .. } = node.lab.measure(&[], || node.send(200).map(drop)).unwrap();
    let kernel = node.counters().since(before);
    assert!(kernel.rx_packets >= 200, "{kernel:?}");
    assert_eq!(received(report.device(&node.veth)), (kernel.rx_packets, kernel.rx_bytes), "{answer:?}");
    assert_eq!(blind(&report), [], "{answer:?}");
}

#[test]
fn behind_netpath_by_tcx() {
    let node = Node::new();
    for (answer, delivers) in answers(&node) {
        let _other = node.attach(answer, &BOTH, last);
        effect_is_unchanged(&node, answer, delivers);
        counts_are_right(&node, answer);
    }
}

#[test]
fn behind_netpath_as_the_network_policy_agent() {
    let node = Node::new();
    node.sh("tc qdisc add dev VETH clsact");
    for (answer, delivers) in answers(&node) {
        let _other = node.attach(answer, &BOTH, policy_agent);
        let listed = || node.sh("tc filter show dev VETH ingress; tc filter show dev VETH egress; tc qdisc show");
        let before = listed();
        effect_is_unchanged(&node, answer, delivers);
        counts_are_right(&node, answer);
        assert_eq!(listed(), before, "netpath changed nothing of the other's");
        node.sh("tc filter del dev VETH ingress; tc filter del dev VETH egress");
    }
}

/// It comes while netpath measures, and gets ahead of it.
#[test]
fn before_netpath() {
    let node = Node::new();
    for (answer, delivers) in answers(&node) {
        let elsewhere = node.sent_elsewhere();
        node.lab.wait_until_quiet().unwrap();
        let before = node.counters();
        let mut other = None;
        let work = || {
            assert_eq!(node.send(50)?, 50);
            other = Some(node.attach(answer, &[TcAttachType::Ingress], first));
            assert_eq!(node.send(200)?, if delivers { 200 } else { 0 }, "{answer:?}");
            Ok(())
        };
        let Measured { report, .. } = node.lab.measure(&[], work).unwrap();
        let id = other.unwrap().info().unwrap().id();
        let kernel = node.counters().since(before);
        let (packets, bytes) = received(report.device(&node.veth));
        let others = report.device(&node.veth).other_programs.as_deref().unwrap();
        let [other] = others else { panic!("one other: {others:?}") };
        assert_eq!((other.direction.as_str(), other.ahead, other.program_id), ("rx", true, Some(id)));
        let program = format!("program {id}");
        if answer == Answer::Next {
            assert_eq!((packets, bytes), (kernel.rx_packets, kernel.rx_bytes));
            assert_eq!(blind(&report), [], "it only looked on");
            continue;
        }
        let missing = kernel.rx_bytes - bytes;
        assert_eq!(missing, 200 * (14 + 20 + 8 + 100), "{answer:?}: netpath saw the first 50");
        let reasons = blind(&report);
        let [(name, reason)] = reasons[..] else { panic!("{answer:?}: {reasons:?}") };
        assert_eq!(name, node.veth);
        assert!(reason.contains(&program) && reason.contains("ingress"), "{reason}");
        assert!(reason.contains(&format!("{missing} bytes")), "{reason}");
        if matches!(answer, Answer::Redirect { .. }) {
            assert_eq!(node.sent_elsewhere() - elsewhere, 200);
        }
    }
}

/// It comes and goes between the ends of the window.
#[test]
fn before_netpath_for_a_while() {
    let node = Node::new();
    let work = || {
        let other = node.attach(Answer::Drop, &[TcAttachType::Ingress], first);
        node.send(20)?;
        // netpath looks every five seconds.
        thread::sleep(Duration::from_secs(8));
        drop(other);
        node.send(20).map(drop)
    };
    let Measured { report, .. } = node.lab.measure(&[], work).unwrap();
    let reasons = blind(&report);
    assert!(matches!(reasons[..], [(name, _)] if name == node.veth), "{reasons:?}");
}

#[test]
fn taken_off_while_it_measures() {
    let node = Node::new();
    let (ingress, egress) = (TcAttachType::Ingress, TcAttachType::Egress);
    for (hook, name) in [(ingress, "ingress"), (egress, "egress")] {
        let _other = node.attach(Answer::Next, &[hook], last);
        let work = || {
            node.send(50)?;
            detach_first(&node.lab.node.namespace, &node.veth, hook)?;
            node.send(200).map(drop)
        };
        let Measured { report, .. } = node.lab.measure(&[], work).unwrap();
        let reasons = blind(&report);
        let [(device, reason)] = reasons[..] else { panic!("{reasons:?}") };
        assert_eq!(device, node.veth);
        assert!(reason.starts_with(&format!("its {name} hook lost netpath's program")), "{reason}");
        assert!(reason.contains("other (TCX program"), "who is there now: {reason}");
    }
}

#[test]
fn a_bandwidth_limit() {
    let node = Node::new();
    node.sh("tc qdisc add dev VETH root tbf rate 1gbit burst 64kb latency 50ms");
    let before = node.sh("tc qdisc show dev VETH");
    effect_is_unchanged(&node, Answer::Next, true);
    let all = || device_counters(&node.lab.node.namespace).unwrap();
    node.lab.wait_until_quiet().unwrap();
    let start = all();
    let Measured { report, .. } = node.lab.measure(&[], || node.send(200).map(drop)).unwrap();
    let end = all();
    for name in [&node.veth, &node.lab.pod("server").veth] {
        let kernel = end[name].since(start[name]);
        let device = report.device(name);
        assert_eq!(received(device), (kernel.rx_packets, kernel.rx_bytes));
        assert_eq!(device.tx().packets, kernel.tx_packets);
        assert_eq!(device.tx().bytes, kernel.tx_bytes);
    }
    assert_eq!(blind(&report), []);
    assert_eq!(node.sh("tc qdisc show dev VETH"), before);
}
