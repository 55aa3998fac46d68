//! Queues between netpath's egress hook and a device's counter: what they drop and what waits in them is named, in bytes.
//!
//! The witnesses are tc, asked by the test, and /proc/net/dev; the sizes of frames are worked out by hand.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use lab::report::{Device, Health};
use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{Counters, Lab, Pod, Report, RootQdisc, counters, ip, ip_batch, output_within, read, root_qdisc, tc};
use serde_json::Value;

const PAYLOAD_BYTES: usize = 1_400;
/// Ethernet, IPv4 and UDP headers.
const FRAME_BYTES: i64 = 14 + 20 + 8 + 1_400;

/// One device of a report, in the direction of its queue, and what the witnesses counted meanwhile.
struct Seen {
    device: Device,
    kernel: Counters,
    before: RootQdisc,
    after: RootQdisc,
}

impl Seen {
    /// `lab`'s node measures its device while `work` runs.
    fn of(lab: &Lab, device: &str, work: impl FnOnce() -> anyhow::Result<()>) -> Self {
        let node = &lab.node.namespace;
        lab.wait_until_quiet().unwrap();
        let (counted, before) = (counters(node, device).unwrap(), root_qdisc(node, device).unwrap());
        let report = lab.measure(&[], work).unwrap().report;
        let (kernel, after) = (counters(node, device).unwrap().since(counted), root_qdisc(node, device).unwrap());
        let device = report.device(device).clone();
        let seen = Self { device, kernel, before, after };
        // What netpath read is what tc tells.
        let qdisc = seen.device.qdisc.as_ref().unwrap();
        assert_eq!(qdisc.passed_bytes, after.bytes - before.bytes);
        assert_eq!(qdisc.dropped_packets.cast_signed(), seen.drops());
        assert_eq!(qdisc.queued_packets, after.qlen.cast_signed() - before.qlen.cast_signed());
        assert_eq!(qdisc.queued_bytes, seen.queued());
        assert_eq!(seen.device.kernel().tx_bytes, kernel.tx_bytes);
        assert_eq!(seen.device.residual("tx").unexplained_bytes, 0, "{:#}", seen.device);
        seen
    }

    fn drops(&self) -> i64 {
        i64::try_from(self.after.drops - self.before.drops).unwrap()
    }

    fn queued(&self) -> i64 {
        self.after.backlog.cast_signed() - self.before.backlog.cast_signed()
    }

    fn hook_bytes(&self) -> i64 {
        self.device.tx().bytes.cast_signed()
    }

    fn wire_bytes(&self) -> i64 {
        self.device.tx().wire_bytes.cast_signed()
    }

    /// The causes with their bytes.
    fn causes(&self) -> Vec<(&str, i64)> {
        let causes = &self.device.residual("tx").causes;
        causes.iter().map(|cause| (cause.name.as_str(), cause.bytes.unwrap())).collect()
    }
}

/// Datagrams from one pod to another, more than the other's queue takes.
fn flood(from: &Pod, to: &Pod, count: u32) -> anyhow::Result<()> {
    send_datagrams(&from.namespace, SocketAddr::new(to.ipv4.into(), 9), PAYLOAD_BYTES, count).map(drop)
}

#[test]
fn what_each_kind_of_queue_drops() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    // Pods answer that nobody listens, at a limited rate; this one does.
    let _sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 9)).unwrap();
    let veth = &server.veth;
    let queues: [&[&str]; 4] = [
        &["root tbf rate 50mbit burst 5k limit 30k"],
        &["root pfifo limit 5", "root handle 1: tbf rate 50mbit burst 5k limit 30k"],
        // The drops of a class's own queue.
        &[
            "root handle 1: htb default 10",
            "parent 1: classid 1:10 htb rate 50mbit burst 5k",
            "parent 1:10 handle 10: pfifo limit 5",
        ],
        &[
            "root handle 1: htb default 10",
            "parent 1: classid 1:10 htb rate 50mbit burst 5k",
            "parent 1:10 bfifo limit 10000",
        ],
    ];
    for commands in queues {
        for command in commands {
            let object = if command.contains("classid") { "class" } else { "qdisc" };
            let add = if command.contains("root") { "replace" } else { "add" };
            tc(node, &format!("{object} {add} dev {veth} {command}")).unwrap();
        }
        let seen = Seen::of(&lab, veth, || flood(client, server, 300));
        assert!(seen.drops() > 50, "{commands:?}: {:?}", seen.after);
        assert_eq!(seen.causes(), [("dropped_by_qdisc", -seen.drops() * FRAME_BYTES)], "{commands:?}");
        tc(node, &format!("qdisc del dev {veth} root")).unwrap();
    }
}

/// A root qdisc with a queue for each of the device's own, which adds up what they say when it is asked.
#[test]
fn what_the_queues_of_a_device_with_several_drop() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    let far = client.namespace.name();
    let commands = format!(
        "link add name enimany numtxqueues 2 numrxqueues 2 type veth peer name eth9 numtxqueues 2 numrxqueues 2 netns {far}\n\
         addr add 10.0.77.1/24 dev enimany\nlink set enimany up\nneigh add 10.0.77.2 dev enimany lladdr 02:00:00:00:00:01\n"
    );
    ip_batch(node, &commands).unwrap();
    ip(&client.namespace, "link set eth9 up").unwrap();
    tc(node, "qdisc add dev enimany root handle 1: mq").unwrap();
    for queue in [1, 2] {
        tc(node, &format!("qdisc add dev enimany parent 1:{queue} tbf rate 50mbit burst 5k limit 30k")).unwrap();
    }
    let seen = Seen::of(&lab, "enimany", || {
        let target = "10.0.77.2:9".parse()?;
        send_datagrams(node, target, PAYLOAD_BYTES, 300).map(drop)
    });
    assert!(seen.drops() > 50, "{:?}", seen.after);
    assert_eq!(seen.causes(), [("dropped_by_qdisc", -seen.drops() * FRAME_BYTES)]);
}

/// What waits at the end of the window is not lost; in the next window it arrives.
#[test]
fn what_waits_in_a_queue() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let _sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 9)).unwrap();
    // It lets one or two packets through, and then next to nothing.
    let set = |rate, limit| {
        tc(node, &format!("qdisc replace dev {} root handle 1: tbf rate {rate} burst 3k limit {limit}", server.veth))
    };
    set("8bit", "60k").unwrap();
    let seen = Seen::of(&lab, &server.veth, || flood(client, server, 20));
    assert!(seen.queued() > 15 * FRAME_BYTES && seen.drops() == 0, "{:?}", seen.after);
    assert_eq!(seen.causes(), [("queued", -seen.queued())]);

    let seen = Seen::of(&lab, &server.veth, || flood(client, server, 50));
    assert!(seen.queued() > 5 * FRAME_BYTES && seen.drops() > 5, "{:?}", seen.after);
    assert_eq!(seen.causes(), [("dropped_by_qdisc", -seen.drops() * FRAME_BYTES), ("queued", -seen.queued())]);

    let seen = Seen::of(&lab, &server.veth, || {
        set("100mbit", "90k")?;
        // It looks at the new rate when the next packet comes.
        flood(client, server, 1)
    });
    assert_eq!((seen.after.backlog, seen.hook_bytes()), (0, FRAME_BYTES));
    assert!(seen.queued() < -30 * FRAME_BYTES, "{:?}", seen.before);
    assert_eq!(seen.causes(), [("queued", -seen.queued())]);
}

/// The queue drops some, and the other end of the veth refuses the rest, which is larger than its MTU.
#[test]
fn what_a_queue_drops_and_what_the_device_drops() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    ip(&server.namespace, "link set eth0 mtu 1300").unwrap();
    tc(node, &format!("qdisc add dev {} root tbf rate 50mbit burst 5k limit 30k", server.veth)).unwrap();
    let seen = Seen::of(&lab, &server.veth, || flood(client, server, 300));
    let refused = 300 - seen.drops();
    assert!(seen.drops() > 50 && refused > 5, "{:?}", seen.after);
    assert_eq!(
        seen.causes(),
        [("dropped_by_qdisc", -seen.drops() * FRAME_BYTES), ("dropped_after_hook", -refused * FRAME_BYTES)]
    );
}

/// TCP in super-packets. The queue drops them whole, or cuts them and drops frames; the device counts what is left of them.
#[test]
fn super_packets_in_a_queue() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node.namespace);
    // Its slow start ends with a loss; CUBIC's may end before.
    lab.outside.namespace.write_sysctls(&[("net/ipv4/tcp_congestion_control", "reno")]).unwrap();
    let source =
        TcpServer::start(&lab.outside.namespace, SocketAddr::new(lab.outside.ipv4.into(), 0), Serve::Send(3_000_000))
            .unwrap();
    for (queue, cut) in [("burst 5k limit 40k", true), ("burst 100k limit 200k", false)] {
        tc(node, &format!("qdisc replace dev {} root tbf rate 200mbit {queue}", client.veth)).unwrap();
        let seen = Seen::of(&lab, &client.veth, || download(&client.namespace, source.address()).map(drop));
        assert!(seen.drops() > 0, "{queue}: {:?}", seen.after);
        let headers = seen.wire_bytes() - seen.hook_bytes();
        assert!(headers > 0, "no super-packets: {:#}", seen.device);
        let passed = i64::try_from(seen.after.bytes - seen.before.bytes).unwrap();
        let kernel = i64::try_from(seen.kernel.tx_bytes).unwrap();
        let causes = seen.causes();
        if cut {
            // Those of two or three frames fit through as they are.
            let whole = passed - kernel;
            let dropped = seen.wire_bytes() - passed;
            assert!((0..headers / 2).contains(&whole), "the device counts what the queue cut: {:#}", seen.device);
            assert_eq!(causes, [("gro_gso_headers", headers - whole), ("dropped_by_qdisc", -dropped)]);
        } else {
            assert_eq!(causes, [("dropped_by_qdisc", kernel - seen.hook_bytes())]);
            assert_eq!(seen.device.residual("tx").packets, -seen.drops());
        }
    }
}

/// Both ends of the window are in the middle of a load that the queue cannot take.
#[test]
fn under_load_at_both_ends() {
    const LIMIT_BYTES: i64 = 30_000;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let _sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 9)).unwrap();
    tc(node, &format!("qdisc add dev {} root tbf rate 50mbit burst 5k limit {LIMIT_BYTES}", server.veth)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                flood(client, server, 100).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        for _ in 0..3 {
            let arguments = ["report", "--format", "json", "--eni", "eth*", "--duration", "500ms"];
            let output = output_within(&mut lab.netpath(&arguments).unwrap(), Duration::from_secs(30)).unwrap();
            let report: Report = read(&output.stdout).unwrap();
            let device = report.device(&server.veth);
            let residual = device.residual("tx");
            eprintln!("{residual} {} {}", device.kernel_slack(), device.qdisc.as_ref().unwrap());
            let dropped = residual.cause("dropped_by_qdisc").and_then(|cause| cause.bytes);
            assert!(-dropped.unwrap() > 100 * FRAME_BYTES, "{residual:#}");
            // The queue was read some time before the flip, and may have become longer or shorter by then.
            assert!(residual.unexplained_bytes.abs() <= 2 * LIMIT_BYTES, "{residual:#}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        load.join().unwrap();
    });
}

/// One run of netpath with legacy filters, and what its report says of a device.
fn with_clsact(lab: &Lab, device: &str, arguments: &[&str]) -> (Device, Health) {
    let all = [&["report", "--clsact", "--duration", "100ms", "--format", "json", "--eni", "eth*"], arguments].concat();
    let output = lab.netpath(&all).unwrap().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = read(&output.stdout).unwrap();
    let device = report.device(device).clone();
    (device, report.health.clone())
}

/// For a new clsact qdisc the kernel empties the device's queues. The queues: of one device, of its classes, of several of its
/// own, and one whose sizes are not those of packets.
#[test]
fn what_waits_in_a_queue_is_not_thrown_away() {
    const PACKETS: u32 = 60;
    // Half a minute for all of them, which no netpath waits.
    const SLOW: &str = "rate 30kbit burst 3000";
    const FAST: &str = "rate 100mbit burst 30000";
    let queues: [&[&str]; 4] = [
        &["qdisc add dev DEV root tbf rate 30kbit burst 3000 limit 1000000"],
        &[
            "qdisc add dev DEV root handle 1: htb default 10",
            "class add dev DEV parent 1: classid 1:10 htb rate 30kbit burst 3000",
        ],
        &[
            "qdisc add dev DEV root handle 1: mq",
            "qdisc add dev DEV parent 1:1 tbf rate 30kbit burst 3000 limit 1000000",
            "qdisc add dev DEV parent 1:2 tbf rate 30kbit burst 3000 limit 1000000",
        ],
        &["qdisc add dev DEV stab overhead 24 root tbf rate 30kbit burst 3000 limit 1000000"],
    ];
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, far) = (&lab.node.namespace, &lab.pod("client").namespace);
    let commands = format!(
        "link add name enimany numtxqueues 2 numrxqueues 2 type veth peer name eth9 numtxqueues 2 numrxqueues 2 netns {}\n\
         addr add 10.0.77.1/24 dev enimany\nlink set enimany up\nneigh add 10.0.77.2 dev enimany lladdr 02:00:00:00:00:01\n",
        far.name()
    );
    ip_batch(node, &commands).unwrap();
    ip(far, "link set eth9 up").unwrap();
    for commands in queues {
        for command in commands {
            tc(node, &command.replace("DEV", "enimany")).unwrap();
        }
        let before = counters(far, "eth9").unwrap();
        let to: SocketAddr = "10.0.77.2:9".parse().unwrap();
        send_datagrams(node, to, PAYLOAD_BYTES, PACKETS).unwrap();
        let set = |rate: &str| {
            for command in commands.iter().filter(|command| command.contains(SLOW)) {
                let command = command.replace("DEV", "enimany").replace(" add ", " change ").replace(SLOW, rate);
                tc(node, &command).unwrap();
            }
        };
        let (device, _) = with_clsact(&lab, "enimany", &[]);
        assert_eq!(device.attach, "none", "{commands:?}");
        assert!(device.blind().contains("packets wait in its queue"), "{commands:?}: {device:#}");
        set(FAST);
        let arrived = || counters(far, "eth9").unwrap().since(before).rx_packets >= u64::from(PACKETS);
        lab::wait_until(&format!("all {PACKETS} packets arrive through {commands:?}"), arrived);
        // Now that it is empty.
        let (device, _) = with_clsact(&lab, "enimany", &[]);
        assert_eq!((device.attach.as_str(), device.blind.as_deref()), ("clsact", None), "{commands:?}");
        // And with the qdisc there, it does not matter what waits.
        let before = counters(far, "eth9").unwrap();
        set(SLOW);
        send_datagrams(node, to, PAYLOAD_BYTES, 20).unwrap();
        let (device, health) = with_clsact(&lab, "enimany", &["--no-new-qdisc"]);
        assert_eq!((device.attach.as_str(), health.clsact_new_devices), ("clsact", 0), "{commands:?}");
        set(FAST);
        lab::wait_until("the rest arrives", || counters(far, "eth9").unwrap().since(before).rx_packets >= 20);
        tc(node, "qdisc del dev enimany clsact").unwrap();
        tc(node, "qdisc del dev enimany root").unwrap();
    }
}

/// What a device sends while it gets its qdisc is lost, and counted as the device does.
#[test]
fn what_a_new_qdisc_costs_is_counted() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, veth) = (&lab.node.namespace, lab.pod("client").veth.clone());
    let target = SocketAddr::new(lab.pod("client").ipv4.into(), 9);
    let _sink = UdpSink::start(&lab.pod("client").namespace, target).unwrap();
    let dropped = || -> u64 {
        let devices = [veth.as_str(), "eth0"].map(|name| {
            let text = node.output("ip", &["-s", "-j", "link", "show", "dev", name]).unwrap();
            let shown: Value = serde_json::from_str(&text).unwrap();
            shown[0]["stats64"]["tx"]["dropped"].as_u64().unwrap()
        });
        devices.iter().sum()
    };
    // Nobody has a qdisc yet.
    let arguments = ["report", "--clsact", "--no-new-qdisc", "--duration", "100ms", "--eni", "eth*"];
    let output = lab.netpath(&arguments).unwrap().output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("--no-new-qdisc forbids"), "{error}");

    let before = dropped();
    let sending = std::sync::atomic::AtomicBool::new(true);
    let health = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while sending.load(std::sync::atomic::Ordering::Relaxed) {
                // What is lost may be an error here.
                let _ = send_datagrams(node, target, 100, 1_000);
            }
        });
        thread::sleep(Duration::from_millis(100));
        let (device, health) = with_clsact(&lab, &veth, &[]);
        sending.store(false, std::sync::atomic::Ordering::Relaxed);
        sender.join().unwrap();
        assert_eq!(device.attach, "clsact");
        health
    });
    // The kernel counts them from Linux 6.11 on.
    let counts = counts_lost(&node.output("uname", &["-r"]).unwrap());
    let lost = counts.then(|| dropped() - before);
    assert_eq!((health.clsact_new_devices, health.clsact_lost_packets), (2, lost));
    // The second time nothing is made, and nothing lost.
    let (_, health) = with_clsact(&lab, &veth, &["--no-new-qdisc"]);
    assert_eq!((health.clsact_new_devices, health.clsact_lost_packets), (0, None));
}

fn counts_lost(release: &str) -> bool {
    let numbers: Vec<u32> = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect();
    numbers.as_slice() >= &[6, 11][..]
}
