//! Other programs between netpath's hooks and a device's counters: what they drop is named as theirs. In bytes where the
//! kernel's numbers prove it, otherwise as a possible cause.
//!
//! The witnesses are /proc/net/dev and tc, asked by the test, and the sizes of frames, worked out by hand.

use std::net::SocketAddr;

use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, TcAttachType};
use lab::report::Device;
use lab::traffic::{UdpSink, send_datagrams};
use lab::{Answer, Counters, Lab, Namespace, Xdp, XdpAnswer, XdpRun, counters, ip, tc};
use serde_json::Value;

const PAYLOAD_BYTES: usize = 1_000;
/// Ethernet, IPv4 and UDP headers.
const FRAME_BYTES: i64 = 14 + 20 + 8 + 1_000;

/// A device of the node as netpath saw it while `work` ran, and as /proc/net/dev did.
fn measured(lab: &Lab, device: &str, work: impl FnOnce() -> anyhow::Result<()>) -> (Device, Counters) {
    lab.wait_until_quiet().unwrap();
    let before = counters(&lab.node.namespace, device).unwrap();
    let report = lab.measure(&[], work).unwrap().report;
    let kernel = counters(&lab.node.namespace, device).unwrap().since(before);
    let device = report.device(device);
    (device.clone(), kernel)
}

/// The causes in one direction, with what they explain.
fn causes<'a>(device: &'a Device, direction: &str) -> Vec<(&'a str, Option<i64>)> {
    device.residual(direction).causes()
}

/// Classic BPF that drops UDP to port 9 (in IPv4 without options) and has no opinion on the rest.
const DROP_PORT_9: &str = "4,40 0 0 36,21 0 1 9,6 0 0 2,6 0 0 4294967295,";

fn filter(node: &Namespace, device: &str, hook: &str) {
    let command = format!("filter add dev {device} {hook} protocol all prio 1 bpf direct-action bytecode");
    node.output("tc", &command.split(' ').chain([DROP_PORT_9]).collect::<Vec<_>>()).unwrap();
}

/// Packets that filters dropped on a device, as tc tells.
fn filter_drops(node: &Namespace, device: &str) -> u64 {
    let text = tc(node, &format!("-s -j qdisc show dev {device} clsact")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "clsact").unwrap()["drops"].as_u64().unwrap()
}

/// As a network policy drops what a pod may not receive, or not send.
#[test]
fn what_a_filter_drops() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let sinks =
        [9, 10].map(|port| UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), port)).unwrap());
    for veth in [&client.veth, &server.veth] {
        tc(node, &format!("qdisc add dev {veth} clsact")).unwrap();
    }
    let send = |to: &lab::Pod, from: &lab::Pod, port, count| {
        send_datagrams(&from.namespace, SocketAddr::new(to.ipv4.into(), port), PAYLOAD_BYTES, count).map(drop)
    };
    let work = || {
        send(server, client, 10, 7)?;
        send(server, client, 9, 20)
    };

    // On the way to the server: after netpath's hook, and before the device's counter.
    filter(node, &server.veth, "egress");
    let before = filter_drops(node, &server.veth);
    let (device, kernel) = measured(&lab, &server.veth, work);
    assert_eq!(filter_drops(node, &server.veth) - before, 20);
    assert_eq!((kernel.tx_packets, i64::try_from(kernel.tx_bytes).unwrap()), (7, 7 * FRAME_BYTES));
    assert_eq!((device.filter_drops, device.tx().packets), (Some(20), 27));
    assert_eq!(causes(&device, "tx"), [("dropped_by_filter", Some(-20 * FRAME_BYTES))]);
    assert_eq!(device.residual("tx").unexplained_bytes, 0);

    // On the way from the client: after both.
    filter(node, &client.veth, "ingress");
    let (device, kernel) = measured(&lab, &client.veth, work);
    assert_eq!((kernel.rx_packets, device.rx().packets, device.filter_drops), (27, 27, Some(20)));
    assert_eq!(device.residual("rx").bytes, 0);
    assert_eq!(causes(&device, "rx"), []);
    drop(sinks);
}

#[test]
fn what_an_xdp_program_takes() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    // veth runs XDP in the driver only if its frames fit into a page.
    for (namespace, device) in [(&client.namespace, "eth0"), (node, client.veth.as_str())] {
        ip(namespace, &format!("link set {device} mtu 1500")).unwrap();
    }
    let sink = UdpSink::start(&lab.outside.namespace, SocketAddr::new(lab.outside.ipv4.into(), 0)).unwrap();
    let work = || send_datagrams(&client.namespace, sink.address(), PAYLOAD_BYTES, 20).map(drop);
    for (run, mode) in [(XdpRun::Generic, "generic"), (XdpRun::Driver, "driver")] {
        let attached = Xdp::attach(node, &client.veth, XdpAnswer::Drop, run).unwrap();
        let (device, kernel) = measured(&lab, &client.veth, work);
        let xdp = device.xdp.as_ref().unwrap();
        assert_eq!(xdp.mode, mode);
        assert!(xdp.program_id.unwrap() > 0);
        // The device counted what never came to the hook.
        assert_eq!((kernel.rx_packets, device.rx().packets), (20, 0), "{mode}");
        let residual = device.residual("rx");
        assert_eq!(causes(&device, "rx"), [("xdp_program", None)], "{mode}");
        assert_eq!(residual.unexplained_bytes, kernel.rx_bytes.cast_signed(), "{mode}");
        drop(attached);

        // One that lets all pass is no reason for anything.
        let attached = Xdp::attach(node, &client.veth, XdpAnswer::Pass, run).unwrap();
        let (device, kernel) = measured(&lab, &client.veth, work);
        assert_eq!((kernel.rx_packets, device.rx().packets), (20, 20), "{mode}");
        assert_eq!(device.residual("rx").unexplained_bytes, 0, "{mode}");
        assert!(causes(&device, "rx").iter().all(|(name, _)| *name == "ethernet_headers"), "{mode}: {device:#}");
        drop(attached);
    }
    let (device, _) = measured(&lab, &client.veth, work);
    assert_eq!(device.xdp, None);
}

/// The others on a hook, as the report lists them: id, name, whether it is ahead.
fn others<'a>(device: &'a Device, direction: &str) -> Vec<(u32, &'a str, bool)> {
    let all = device.other_programs.iter().flatten().filter(|one| one.direction == direction);
    all.map(|one| (one.program_id.unwrap_or(0), one.name.as_deref().unwrap_or_default(), one.ahead)).collect()
}

/// A program behind netpath's on the way out drops everything, or sends it elsewhere; TCX or a legacy filter.
#[test]
fn what_a_program_behind_takes() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 9)).unwrap();
    let work = || send_datagrams(&client.namespace, sink.address(), PAYLOAD_BYTES, 20).map(drop);
    let elsewhere = Answer::Redirect { ifindex: node.ifindex("eth0").unwrap() };
    let tcx = || TcAttachOptions::TcxOrder(LinkOrder::default());
    let legacy = || TcAttachOptions::Netlink(NlOptions { priority: 1, handle: TcHandle::new(0, 1), classid: None });
    for (answer, options, cause, proven) in [
        (Answer::Drop, tcx(), "other_program", false),
        (elsewhere, tcx(), "other_program", false),
        (elsewhere, legacy(), "other_program", false),
        // Only this is counted: by the clsact qdisc.
        (Answer::Drop, legacy(), "dropped_by_filter", true),
    ] {
        let is_tcx = matches!(options, TcAttachOptions::TcxOrder(_));
        if !is_tcx {
            tc(node, &format!("qdisc replace dev {} clsact", server.veth)).unwrap();
        }
        let mut program = answer.load("takes_it").unwrap();
        let id = program.info().unwrap().id();
        lab::attach(&mut program, node, &server.veth, TcAttachType::Egress, options).unwrap();
        let (device, kernel) = measured(&lab, &server.veth, work);
        assert_eq!((kernel.tx_packets, device.tx().packets), (0, 20), "{answer:?}");
        assert_eq!(others(&device, "tx"), [(id, "takes_it", false)], "{answer:?}");
        let bytes = proven.then_some(-20 * FRAME_BYTES);
        assert_eq!(causes(&device, "tx"), [(cause, bytes)], "{answer:?}");
        let unexplained = if proven { 0 } else { -20 * FRAME_BYTES };
        assert_eq!(device.residual("tx").unexplained_bytes, unexplained, "{answer:?}");
        drop(program);
        if !is_tcx {
            tc(node, &format!("qdisc del dev {} clsact", server.veth)).unwrap();
        }
    }
    // One that takes nothing is no reason for anything.
    let mut program = Answer::Pass.load("takes_none").unwrap();
    lab::attach(&mut program, node, &server.veth, TcAttachType::Egress, tcx()).unwrap();
    let (device, kernel) = measured(&lab, &server.veth, work);
    assert_eq!((kernel.tx_packets, device.tx().packets), (20, 20));
    assert_eq!((others(&device, "tx").len(), causes(&device, "tx").len()), (1, 0));
}

/// A program comes before netpath's while netpath measures, and lets nothing come to it.
#[test]
fn what_a_program_before_takes() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    let sink = UdpSink::start(&lab.outside.namespace, SocketAddr::new(lab.outside.ipv4.into(), 9)).unwrap();
    let mut program = Answer::Drop.load("comes_first").unwrap();
    let id = program.info().unwrap().id();
    let (device, kernel) = measured(&lab, &client.veth, || {
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        lab::attach(&mut program, node, &client.veth, TcAttachType::Ingress, first).unwrap();
        send_datagrams(&client.namespace, sink.address(), PAYLOAD_BYTES, 20).map(drop)
    });
    assert_eq!((kernel.rx_packets, device.rx().packets), (20, 0));
    // Asking for its name takes a capability that netpath has given up by then.
    assert_eq!(others(&device, "rx"), [(id, "", true)]);
    assert_eq!(causes(&device, "rx"), [("other_program", None)]);
    assert_eq!(device.residual("rx").unexplained_bytes, 20 * FRAME_BYTES);
}
