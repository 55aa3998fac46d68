//! Devices that come and go by the hundred, change their names, namespaces and indices, and netpath killed at any moment.
//!
//! The witnesses are the devices' counters as the test reads them, and what the kernel says of its hooks. No test here says
//! how long anything may take; those that wait give up after minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::report::Device;
use lab::traffic::{UdpSink, send_datagrams};
use lab::{Counters, Lab, Namespace, counters, ip_batch, netpath_hooks, resident_kb, signal, wait_until};

use crate::random::Random;

/// A frame with 100 bytes in UDP over IPv4.
const FRAME_BYTES: u64 = 14 + 20 + 8 + 100;

/// A lab in which new devices send nothing by themselves.
fn lab() -> Lab {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    for namespace in [&lab.node.namespace, &lab.pod("client").namespace] {
        namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    }
    lab
}

/// The commands that make a veth in the node whose other end is a pod's.
fn veth(name: &str, options: &str, pod: &Namespace) -> String {
    format!("link add {name} {options} type veth peer name {name}p netns {}\n", pod.name())
}

/// The commands that bring it up, with an address and a neighbour of the network `number`.
fn address(name: &str, number: usize) -> String {
    let network = format!("10.99.{number}");
    format!(
        "link set {name} up\naddress add {network}.1/24 dev {name}\n\
         neighbour replace {network}.2 lladdr 02:00:00:00:00:02 dev {name}\n"
    )
}

/// Sends datagrams from the node to the neighbour of the network `number`, by the device `name`, until its counter has them.
fn send(node: &Namespace, name: &str, number: usize, count: u32) {
    let before = counters(node, name).unwrap();
    let socket = node.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for _ in 0..count {
        socket.send_to(&[0; 100], (format!("10.99.{number}.2").as_str(), 9)).unwrap();
    }
    let sent = Counters { tx_packets: count.into(), tx_bytes: u64::from(count) * FRAME_BYTES, ..Counters::default() };
    wait_until("the datagrams have left", || counters(node, name).unwrap().since(before) == sent);
}

fn attached(lab: &Lab) -> usize {
    netpath_hooks(&lab.node.namespace).unwrap()
}

fn start(lab: &Lab) -> Child {
    let mut command = lab.netpath(&["report", "--duration", "1h", "--format", "json", "--eni", "eth*"]).unwrap();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What the hooks counted, and what the kernel did, as the report has them.
fn sent(device: &Device) -> [Option<u64>; 4] {
    let (hook, kernel) = (device.tx, device.kernel);
    [
        hook.map(|hook| hook.packets),
        hook.map(|hook| hook.bytes),
        kernel.map(|kernel| kernel.tx_packets),
        kernel.map(|kernel| kernel.tx_bytes),
    ]
}

fn datagrams(count: u64) -> [Option<u64>; 4] {
    [count, count * FRAME_BYTES, count, count * FRAME_BYTES].map(Some)
}

/// Every device is in the report: counted to the byte, if it stayed; otherwise at least as one that was not counted.
#[test]
fn two_hundred_veths_come_and_go() {
    const VETHS: usize = 200;
    let lab = lab();
    let (node, pod) = (&lab.node.namespace, &lab.pod("client").namespace);
    let window = lab.open_window(&[]).unwrap();
    let mut random = Random::new();
    let (mut alive, mut made) = (Vec::new(), 0);
    while made < VETHS || alive.len() > 20 {
        let mut batch = String::new();
        for _ in 0..=random.below(20) {
            if made < VETHS && (alive.is_empty() || random.below(2) == 0) {
                batch += &veth(&format!("v{made}"), "", pod);
                alive.push(made);
                made += 1;
            } else if alive.len() > 20 {
                writeln!(batch, "link delete v{}", alive.swap_remove(random.below(alive.len()))).unwrap();
            }
        }
        ip_batch(node, &batch).unwrap();
    }
    for (network, number) in alive.iter().enumerate() {
        ip_batch(pod, &format!("link set v{number}p up\n")).unwrap();
        ip_batch(node, &address(&format!("v{number}"), network)).unwrap();
    }
    wait_until("netpath has caught up", || attached(&lab) == 6 + 2 * alive.len());
    let mut count = 0;
    for (network, number) in alive.iter().enumerate() {
        count += 10;
        send(node, &format!("v{number}"), network, count);
    }
    let report = window.report().unwrap();

    let mut count = 0;
    for number in &alive {
        count += 10;
        let devices = report.devices_named(&format!("v{number}"));
        assert_eq!((devices.len(), devices[0].attach.as_str()), (1, "tcx"));
        assert_eq!(sent(devices[0]), datagrams(count), "{}", devices[0]);
    }
    let seen: BTreeSet<&str> = report.devices.iter().map(|device| device.name.as_str()).collect();
    let mut blind = 0;
    for name in (0..VETHS).map(|number| format!("v{number}")) {
        assert!(seen.contains(name.as_str()), "{name} came and went, and the report does not say so");
        let device = report.devices_named(&name)[0];
        if device.attach == "none" {
            assert!(device.blind.is_some() && device.tx.is_none(), "{device}");
            blind += 1;
        }
    }
    println!("{blind} of {VETHS} were gone before netpath could attach to them");
    assert_eq!(report.health.blind_devices, blind);
    wait_until("netpath has left", || attached(&lab) == 0);
}

/// Attaching takes two grace periods a device. The window does not stay open for those that wait for it.
#[test]
fn the_end_does_not_wait_for_hundreds_of_devices() {
    const VETHS: usize = 300;
    let lab = lab();
    let window = lab.open_window(&[]).unwrap();
    let pod = &lab.pod("client").namespace;
    ip_batch(&lab.node.namespace, &(0..VETHS).map(|number| veth(&format!("v{number}"), "", pod)).collect::<String>())
        .unwrap();
    let done = attached(&lab);
    let report = window.report().unwrap();
    let late = (0..VETHS).filter(|number| {
        let devices = report.devices_named(&format!("v{number}"));
        assert_eq!(devices.len(), 1, "v{number}");
        devices[0].blind() == "it appeared when the window was being closed"
    });
    let late = late.count();
    println!("{done} hooks when the window was to end; {late} of {VETHS} devices came too late");
    assert!(late > 0 || done >= 6 + 2 * VETHS - 4, "it attached to all of them first");

    // As they are at the start of a window.
    let child = start(&lab);
    wait_until("some are attached", || attached(&lab) > 6);
    signal(child.id(), libc::SIGINT);
    let output = child.wait_with_output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(messages.contains("interrupted before the window was open"), "{messages}");
    wait_until("netpath has left", || attached(&lab) == 0);
}

/// Renamed; moved away and back, with the index it had; deleted, and its index given to another.
#[test]
fn names_and_counts_go_to_the_right_device() {
    let lab = lab();
    let (node, pod) = (&lab.node.namespace, &lab.pod("client").namespace);
    let mut make = String::new();
    for (number, name) in ["old", "moved", "first"].into_iter().enumerate() {
        make += &veth(name, &format!("index 70{number}"), pod);
        make += &address(name, number);
    }
    ip_batch(node, &make).unwrap();
    ip_batch(pod, "link set oldp up\nlink set movedp up\nlink set firstp up\n").unwrap();
    let window = lab.open_window(&[]).unwrap();
    assert_eq!(attached(&lab), 12);

    send(node, "old", 0, 10);
    ip_batch(node, "link set old down\nlink set old name new\nlink set new up\n").unwrap();
    ip_batch(node, "neighbour replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev new\n").unwrap();
    send(node, "new", 0, 20);

    send(node, "moved", 1, 30);
    ip_batch(node, &format!("link set moved netns {}\n", pod.name())).unwrap();
    wait_until("netpath has let go of it, where it is", || netpath_hooks(pod).unwrap() == 0);
    // What it sends elsewhere is nobody's business.
    ip_batch(pod, &address("moved", 7)).unwrap();
    send(pod, "moved", 7, 5);
    ip_batch(pod, &format!("link set moved netns {}\n", node.name())).unwrap();
    wait_until("it is back", || attached(&lab) == 12);
    assert_eq!(node.ifindex("moved").unwrap(), 701, "the kernel gives it the index it had");
    ip_batch(node, &address("moved", 1)).unwrap();
    send(node, "moved", 1, 40);

    send(node, "first", 2, 50);
    ip_batch(node, "link delete first\n").unwrap();
    wait_until("it is gone", || attached(&lab) == 10);
    ip_batch(node, &veth("second", "index 702", pod)).unwrap();
    wait_until("it is watched", || attached(&lab) == 12);
    ip_batch(pod, "link set secondp up\n").unwrap();
    ip_batch(node, &address("second", 3)).unwrap();
    send(node, "second", 3, 60);

    let report = window.report().unwrap();
    assert!(report.devices_named("old").is_empty());
    let of = |name: &str| report.devices_named(name).into_iter().map(sent).collect::<BTreeSet<_>>();
    assert_eq!(of("new"), [datagrams(30)].into());
    assert_eq!(of("moved"), [datagrams(30), datagrams(40)].into());
    assert_eq!(of("second"), [datagrams(60)].into());
    // Nobody can tell what a deleted veth had received, and so the report gives no counters of the kernel.
    assert_eq!(of("first"), [[Some(50), Some(50 * FRAME_BYTES), None, None]].into());
    let indices: BTreeMap<u32, bool> = report.devices.iter().map(|device| (device.ifindex, device.vanished)).collect();
    assert_eq!(indices.len(), report.devices.len(), "each has an index of its own");
    assert_eq!((indices[&701], indices[&702]), (false, false), "the kernel's is that of the device that has it now");
}

/// A netpath that gets no CPU while the kernel has more to say than fits: it says so, and knows what there is.
#[test]
fn what_nobody_could_read_is_said() {
    const CHANGES: usize = 30_000;
    let lab = lab();
    let (node, pod) = (&lab.node.namespace, &lab.pod("client").namespace);
    let window = lab.open_window(&[]).unwrap();
    window.signal(libc::SIGSTOP);
    ip_batch(node, &veth("missed", "", pod)).unwrap();
    ip_batch(node, "link delete missed\n").unwrap();
    let change = "address add 10.98.0.1/32 dev lo\naddress delete 10.98.0.1/32 dev lo\n";
    ip_batch(node, &change.repeat(CHANGES)).unwrap();
    ip_batch(node, &veth("unseen", "", pod)).unwrap();
    ip_batch(node, "link delete unseen\n").unwrap();
    ip_batch(node, &veth("stays", "", pod)).unwrap();
    ip_batch(pod, "link set staysp up\n").unwrap();
    ip_batch(node, &address("stays", 0)).unwrap();
    window.signal(libc::SIGCONT);
    wait_until("netpath has caught up", || attached(&lab) == 8);
    send(node, "stays", 0, 10);
    let report = window.report().unwrap();
    assert!(report.health.device_overruns > 0, "the kernel had room for all: raise CHANGES");
    assert_eq!(report.devices_named("stays").into_iter().map(sent).collect::<Vec<_>>(), [datagrams(10)]);
    // Its message came before those that were lost; it was gone when netpath got to attach to it.
    assert_eq!((report.devices_named("missed").len(), report.devices_named("unseen").len()), (1, 0));
}

/// A dozen times, while it loads, attaches, measures or leaves: packets go on, and nothing stays.
#[test]
fn killed_at_any_moment() {
    const VETHS: usize = 20;
    const HOOKS: usize = 6 + 2 * VETHS;
    let lab = lab();
    let (client, server) = (&lab.pod("client").namespace, lab.pod("server"));
    ip_batch(
        &lab.node.namespace,
        &(0..VETHS).map(|number| veth(&format!("v{number}"), "", client)).collect::<String>(),
    )
    .unwrap();
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let mut random = Random::new();
    for round in 0..12 {
        let mut child = start(&lab);
        let hooks = match round % 4 {
            0 => 0,
            1 => 1 + random.below(HOOKS),
            _ => HOOKS,
        };
        wait_until("it is so far", || attached(&lab) >= hooks);
        thread::sleep(Duration::from_millis(random.below(200).try_into().unwrap()));
        if round % 4 == 3 {
            signal(child.id(), libc::SIGINT);
            wait_until("it leaves", || attached(&lab) < HOOKS);
        }
        let before = attached(&lab);
        signal(child.id(), libc::SIGKILL);
        send_datagrams(client, sink.address(), 100, 50).unwrap();
        child.wait().unwrap();
        send_datagrams(client, sink.address(), 100, 50).unwrap();
        wait_until("nothing is attached", || attached(&lab) == 0);
        println!("{round}: {before} of {HOOKS} hooks when it was killed");
    }
    assert_eq!(sink.stop().unwrap().count, 12 * 100, "every datagram arrived");
    let measured = lab.measure(&[], || Ok(())).unwrap();
    assert_eq!(measured.report.health.blind_devices, 0);
}

/// Resident memory in kB, and the memory of all maps, of a process.
fn memory(pid: u32) -> (u64, u64) {
    let memlock = |text: String| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix("memlock:")?.split_whitespace().next()?.parse().ok())
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let maps = texts.filter(|text| text.contains("map_id:")).filter_map(memlock).sum();
    (resident_kb(pid).unwrap(), maps)
}

/// Two thousand flows and busy CPUs for 10 seconds, or for as many as `SOAK_SECONDS` says: the sums agree, and memory stays.
#[test]
fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(10, |seconds| seconds.parse().unwrap());
    let lab = lab();
    let server = lab.pod("server");
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let sockets: Vec<UdpSocket> = (lab.pod("client").namespace)
        .run(|| (0..800).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect())
        .unwrap();
    lab.wait_until_quiet().unwrap();
    let veths = [&lab.pod("client").veth, &server.veth];
    let before = veths.map(|veth| counters(&lab.node.namespace, veth).unwrap());
    let window = lab.open_window(&[]).unwrap();

    let stop = &AtomicBool::new(false);
    let (mut sent, mut samples) = (0, Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut sample = Instant::now();
        while Instant::now() < end {
            for socket in &sockets {
                sent += u64::from(socket.send_to(&[0; 100], sink.address()).is_ok());
            }
            if Instant::now() >= sample {
                samples.push(memory(window.id()));
                sample += Duration::from_secs((seconds / 20).max(1));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    lab.wait_until_quiet().unwrap();
    let report = window.report().unwrap();

    println!("{sent} datagrams in {seconds} s; resident memory in kB and bytes of maps: {samples:?}");
    for (veth, before) in veths.into_iter().zip(before) {
        let kernel = counters(&lab.node.namespace, veth).unwrap().since(before);
        let device = report.device(veth);
        assert_eq!(device.hooks(), kernel, "{veth}");
        assert!(kernel.rx_packets + kernel.tx_packets >= sent, "{veth}: {kernel:?}");
    }
    // At a quarter of the time every flow was seen, and every buffer has been used.
    let settled = samples.len() / 4;
    let (first, last) = (samples[settled], samples[samples.len() - 1]);
    assert_eq!(first.1, last.1, "maps");
    assert!(last.0 <= first.0 + 2_000, "resident memory grew from {} kB to {} kB", first.0, last.0);
}
