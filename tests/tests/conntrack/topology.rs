//! A client, a router and a server in network namespaces, traffic between them, and the kernel's own list of connections.
//!
//! Nothing here uses netpath: what the ends of a connection see is what the tracker is compared with.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use netpath::snapshot::{Connection, Tuple};

pub const CLIENT: &str = "10.9.1.2";
pub const SERVER: &str = "10.9.2.2";
pub const ROUTER: &str = "10.9.2.1";
pub const CLIENT6: &str = "fd09:1::2";
pub const SERVER6: &str = "fd09:2::2";
pub const ROUTER6: &str = "fd09:2::1";

/// A network namespace, deleted when dropped.
pub struct Namespace(String);

impl Namespace {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("npct-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name], "");
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    pub fn ip(&self, arguments: &str) {
        let mut all = vec!["-n", &self.0];
        all.extend(arguments.split(' '));
        run("ip", &all, "");
    }

    pub fn nft(&self, ruleset: &str) {
        run("ip", &["netns", "exec", &self.0, "nft", "-f", "-"], ruleset);
    }

    /// Deletes every connection.
    pub fn flush(&self) {
        run("ip", &["netns", "exec", &self.0, "conntrack", "-F"], "");
    }

    /// Writes `/proc/sys/net/netfilter/nf_conntrack_{name}`.
    pub fn set(&self, name: &str, value: &str) {
        self.enter(|| fs::write(format!("/proc/sys/net/netfilter/nf_conntrack_{name}"), value).unwrap());
    }

    /// Runs `body` on a thread of its own in this namespace.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
                // SAFETY: the descriptor is open; only this thread, which ends with `body`, changes its namespace.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The connections by `/proc/net/nf_conntrack`.
    pub fn table(&self) -> BTreeSet<Connection> {
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
        text.lines().map(entry).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A failure here must not hide the test's.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// `client` and `server` with `router` between them.
pub struct Topology {
    pub client: Namespace,
    pub router: Namespace,
    pub server: Namespace,
    /// One test at a time: they measure time and load.
    _serial: MutexGuard<'static, ()>,
}

pub fn serial() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topology {
    /// `ruleset` is nft's, for the router. With an empty one nothing is tracked.
    pub fn new(ruleset: &str) -> Self {
        let serial = serial();
        let topology =
            Self { client: Namespace::new(), router: Namespace::new(), server: Namespace::new(), _serial: serial };
        let Self { client, router, server, .. } = &topology;
        router.ip(&format!("link add rc type veth peer name eth0 netns {}", client.0));
        router.ip(&format!("link add rs type veth peer name eth0 netns {}", server.0));
        for (namespace, device, address, address6) in [
            (client, "eth0", CLIENT, CLIENT6),
            (router, "rc", "10.9.1.1", "fd09:1::1"),
            (router, "rs", ROUTER, ROUTER6),
            (server, "eth0", SERVER, SERVER6),
        ] {
            namespace.ip(&format!("address add {address}/24 dev {device}"));
            namespace.ip(&format!("address add {address6}/64 dev {device} nodad"));
            namespace.ip(&format!("link set {device} up"));
        }
        client.ip("route add default via 10.9.1.1");
        client.ip("-6 route add default via fd09:1::1");
        server.ip("route add default via 10.9.2.1");
        server.ip("-6 route add default via fd09:2::1");
        router.enter(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        router.nft(ruleset);
        topology
    }

    /// A raw socket in the client: `send_to` sends a payload of `protocol`, the kernel adds the IP header.
    pub fn raw(&self, family: i32, protocol: u8) -> UdpSocket {
        self.client.enter(|| {
            // SAFETY: no pointers are passed.
            let descriptor = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol)) };
            assert!(descriptor >= 0, "socket: {}", std::io::Error::last_os_error());
            // SAFETY: the descriptor was just opened and belongs to nobody else. `UdpSocket` only serves for its `sendto`.
            unsafe { UdpSocket::from_raw_fd(descriptor) }
        })
    }
}

/// A UDP datagram without checksum; the payload is the source port.
pub fn udp(sport: u16, dport: u16) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0..2].copy_from_slice(&sport.to_be_bytes());
    bytes[2..4].copy_from_slice(&dport.to_be_bytes());
    bytes[4..6].copy_from_slice(&10_u16.to_be_bytes());
    bytes[8..10].copy_from_slice(&sport.to_be_bytes());
    bytes
}

/// An ICMP echo request of eight bytes.
pub fn echo(id: u16) -> [u8; 8] {
    let mut bytes = [8, 0, 0, 0, 0, 0, 0, 0];
    let (sum, carry) = 0x0800_u16.overflowing_add(id);
    bytes[2..4].copy_from_slice(&(!(sum + u16::from(carry))).to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes
}

pub fn tuple(proto: u8, src: SocketAddr, dst: SocketAddr) -> Tuple {
    Tuple { proto, src: src.ip(), sport: src.port(), dst: dst.ip(), dport: dst.port() }
}

pub fn address(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// One line of `/proc/net/nf_conntrack`.
fn entry(line: &str) -> Connection {
    let proto: u8 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    let value = |key: &str, occurrence: usize| {
        line.split_whitespace().filter_map(|word| word.split_once('=')).filter(|(k, _)| *k == key).nth(occurrence)
    };
    let number = |key, occurrence| value(key, occurrence).map(|(_, number)| number.parse::<u16>().unwrap());
    let ip = |key, occurrence| -> IpAddr { value(key, occurrence).unwrap().1.parse().unwrap() };
    let side = |n| Tuple {
        proto,
        src: ip("src", n),
        sport: number("sport", n).or(number("id", n)).unwrap_or(0),
        dst: ip("dst", n),
        dport: number("dport", n).or(number("id", n)).unwrap_or(0),
    };
    let zone = number("zone", 0).or(number("zone-orig", 0)).or(number("zone-reply", 0)).unwrap_or(0);
    Connection { zone, original: side(0), reply: side(1) }
}

fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
