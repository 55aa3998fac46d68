//! The inventory and the monitor in network namespaces made for the test, with `ip` (iproute2) as the witness. Needs root.
//!
//! A namespace lives as long as the thread that made it, so nothing is left behind, whatever happens.

mod monitor;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netpath::model::{DeviceClass, KernelCounters};
use netpath::node::devices::{self, EniChoice, EniEvidence, Layer, Link, LinkEvent, LinkMonitor};
use netpath::node::ethtool;
use serde_json::Value;

/// Runs `test` in a thread with a network namespace of its own, in a tokio runtime.
fn in_namespace<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        unshare();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test())
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn unshare() {
    // SAFETY: a plain system call; it moves this thread alone to a new network namespace.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "needs root: {}", std::io::Error::last_os_error());
}

/// A second namespace, until dropped.
struct Elsewhere {
    thread_id: String,
    _end: mpsc::Sender<()>,
}

impl Elsewhere {
    fn new() -> Self {
        let (send_id, id) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            unshare();
            // SAFETY: a system call without arguments.
            send_id.send(unsafe { libc::gettid() }).unwrap();
            let _ = ended.recv();
        });
        Self { thread_id: id.recv().unwrap().to_string(), _end: end }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn ip_json(arguments: &str) -> Vec<Value> {
    let output = Command::new("ip").arg("-json").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts `ip -batch` with these lines.
fn batch(lines: &[String]) -> Child {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.join("\n") + "\n";
    std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    child
}

fn list() -> BTreeMap<String, Link> {
    let links = devices::list(&EniChoice::default()).unwrap();
    links.into_iter().map(|link| (link.name.clone(), link)).collect()
}

/// Without what changes by itself.
fn still(links: impl IntoIterator<Item = Link>) -> Vec<Link> {
    links.into_iter().map(|link| Link { counters: KernelCounters::default(), ..link }).collect()
}

async fn next(monitor: &mut LinkMonitor) -> LinkEvent {
    let event = tokio::time::timeout(Duration::from_secs(10), monitor.next()).await;
    event.expect("an event within 10 s").unwrap()
}

/// Sends datagrams of 142 bytes (frame) until 5 have left by the device `name`: one that just came up may drop the first.
fn send(name: &str, to: &str) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while list()[name].counters.tx_bytes < 5 * 142 {
        assert!(Instant::now() < end, "{name} sends nothing");
        socket.send_to(&[0; 100], to).unwrap();
    }
}

/// Every event that is waiting.
fn waiting(monitor: &mut LinkMonitor) -> Vec<LinkEvent> {
    std::iter::from_fn(|| monitor.try_next().unwrap()).collect()
}

#[test]
fn inventory_agrees_with_ip() {
    in_namespace(async || {
        let elsewhere = Elsewhere::new();
        for command in [
            "link set lo up",
            "link add one type veth peer name two",
            "link add eni1a2b3c4d5e6 type veth peer name eth0",
            &format!("link set eth0 netns {}", elsewhere.thread_id),
            "link add bridge0 type bridge",
            "link set two master bridge0",
            "link add vxlan0 type vxlan id 7 dev one dstport 4789",
            "tuntap add tun0 mode tun",
            "link add macvlan0 link one type macvlan",
            // Without IPv6 link-local addresses, which come seconds later.
            "link set one up addrgenmode none",
            "link set two up addrgenmode none",
            "link set eni1a2b3c4d5e6 up addrgenmode none",
            "address add 10.0.0.1/24 dev one",
            "address add 10.0.0.2/32 dev one",
            "address add fd00::1/64 dev bridge0 nodad",
            "route add 10.0.0.21/32 dev eni1a2b3c4d5e6",
            "route add 10.0.0.22/32 dev eni1a2b3c4d5e6 table 99",
            "route add 10.0.9.0/24 dev eni1a2b3c4d5e6",
            "route add 10.0.0.99/32 via 10.0.0.7 dev one",
            "-6 route add fd00::21/128 dev eni1a2b3c4d5e6",
        ] {
            ip(command);
        }
        let before = ip_json("-details -statistics link");
        let links = list();
        let after = ip_json("-details -statistics link");
        assert_eq!(links.len(), before.len());
        for (before, after) in before.iter().zip(&after) {
            let name = before["ifname"].as_str().unwrap();
            let link = &links[name];
            assert_eq!(u64::from(link.ifindex), before["ifindex"], "{name}");
            assert_eq!(link.kind.as_deref(), before["linkinfo"]["info_kind"].as_str(), "{name}");
            assert_eq!(link.up, before["flags"].as_array().unwrap().contains(&"UP".into()), "{name}");
            if link.layer == Layer::Ethernet {
                assert_eq!(link.mac.as_deref(), before["address"].as_str(), "{name}");
            }
            // `link` is a name if the other device is in this namespace, otherwise there is a `link_index`.
            let lower = before["link"].as_str().map(|name| links[name].ifindex);
            assert_eq!(link.lower, lower, "{name}");
            for (direction, bytes, packets) in [
                ("rx", link.counters.rx_bytes, link.counters.rx_packets),
                ("tx", link.counters.tx_bytes, link.counters.tx_packets),
            ] {
                for (unit, ours) in [("bytes", bytes), ("packets", packets)] {
                    let of = |list: &Value| list["stats64"][direction][unit].as_u64().unwrap();
                    assert!(of(before) <= ours && ours <= of(after), "{name} {direction} {unit}: {ours}");
                }
            }
        }
        for device in ip_json("address") {
            let theirs = device["addr_info"].as_array().unwrap().iter();
            let mut theirs: Vec<_> =
                theirs.map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"])).collect();
            let mut ours = links[device["ifname"].as_str().unwrap()].addresses.clone();
            theirs.sort();
            ours.sort();
            assert_eq!(ours, theirs);
        }
        let class = |name: &str| links[name].class;
        assert_eq!(class("lo"), DeviceClass::Loopback);
        assert_eq!(class("eni1a2b3c4d5e6"), DeviceClass::Veth);
        assert_eq!(class("bridge0"), DeviceClass::Bridge);
        assert_eq!(class("vxlan0"), DeviceClass::Tunnel);
        assert_eq!(class("tun0"), DeviceClass::Tunnel);
        assert_eq!(class("macvlan0"), DeviceClass::Other);
        assert_eq!(links["tun0"].layer, Layer::Ip);
        assert_eq!(links["lo"].layer, Layer::Ethernet);
        let pod: Vec<std::net::IpAddr> = vec!["10.0.0.21".parse().unwrap(), "fd00::21".parse().unwrap()];
        assert_eq!(links["eni1a2b3c4d5e6"].routed, pod);
        assert!(links.values().all(|link| link.name == "eni1a2b3c4d5e6" || link.routed.is_empty()));

        let driver = |name: &str| ethtool::driver_info(name.as_bytes()).ok();
        assert_eq!(driver("one").unwrap().driver.as_deref(), Some("veth"));
        assert_eq!(driver("bridge0").unwrap().driver.as_deref(), Some("bridge"));
        assert_eq!(driver("tun0").unwrap(), ethtool::DriverInfo { driver: Some("tun".to_owned()), bus: None });
        assert_eq!(driver("eth0"), None, "it is in the other namespace");

        let named = devices::list(&EniChoice::new(&["eni*".to_owned()]).unwrap()).unwrap();
        let enis: Vec<_> = named.iter().filter(|link| link.class == DeviceClass::Eni).collect();
        assert_eq!(enis.len(), 1);
        assert_eq!((enis[0].name.as_str(), enis[0].eni_evidence), ("eni1a2b3c4d5e6", Some(EniEvidence::Named)));
        assert!(devices::list(&EniChoice::new(&["ens*".to_owned()]).unwrap()).is_err());
    });
}

#[test]
fn a_name_need_not_be_text() {
    in_namespace(async || {
        let name = OsStr::from_bytes(b"x\xff\x1b[1m");
        let status = Command::new("ip").args(["link", "add"]).arg(name).args(["type", "bridge"]).status().unwrap();
        assert!(status.success());
        let links = list();
        assert_eq!(links["x\u{fffd}\u{1b}[1m"].class, DeviceClass::Bridge);
        assert_eq!(links.len(), device_count());
    });
}

/// How many devices the kernel has, by `/proc/thread-self/net/dev`.
fn device_count() -> usize {
    let text = std::fs::read("/proc/thread-self/net/dev").unwrap();
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty()).count() - 2
}

#[test]
fn needs_no_privilege() {
    in_namespace(async || {
        ip("link add one type veth peer name two");
        // SAFETY: plain system calls; unlike libc's wrappers they change the user of this thread alone, which ends after
        // the test. With the user go the capabilities.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(result, 0);
        assert!(std::fs::read("/proc/1/environ").is_err(), "still privileged");
        assert_eq!(list().len(), 3);
        let mut monitor = LinkMonitor::open(&EniChoice::default()).unwrap();
        assert_eq!(monitor.links().len(), 3);
        assert_eq!(waiting(&mut monitor), []);
    });
}
