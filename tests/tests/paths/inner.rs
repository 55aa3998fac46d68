//! Devices behind which there is a machine, a process or the node itself, and copies that are for nobody.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lab::report::Flow;
use lab::traffic::{UdpSink, mac, send_datagrams};
use lab::{Host, Lab, Namespace, Pod, introduce, ip, ip_batch, open_tun, tc, wait_until};

use super::expected::Expected;
use super::watch::{Ends, Window, at, tcp, track, udp, watch};

fn lladdr(namespace: &Namespace, device: &str) -> String {
    mac(namespace, device).unwrap().map(|byte| format!("{byte:02x}")).join(":")
}

/// A veth pair with both ends on the node joins two bridges (Weave, OpenStack): neither end is a pod's.
#[test]
fn a_veth_pair_within_the_node() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let (node, server) = (&lab.node.namespace, lab.pod("server"));
    let far = server.namespace.name();
    ip_batch(
        node,
        &format!(
            "link add bra type bridge mcast_snooping 0\nlink add brb type bridge mcast_snooping 0\n\
             link add link0 type veth peer name link1\nlink set link0 master bra\nlink set link1 master brb\n\
             link add vetha type veth peer name net1 netns {far}\nlink set vetha master bra\n\
             link set bra up\nlink set brb up\nlink set link0 up\nlink set link1 up\nlink set vetha up\n\
             addr add 10.44.0.1/24 dev brb\n"
        ),
    )
    .unwrap();
    ip_batch(&server.namespace, "link set net1 up\naddr add 10.44.0.2/24 dev net1\n").unwrap();
    introduce((node, "brb", "10.44.0.1"), (&server.namespace, "net1", "10.44.0.2")).unwrap();
    let listen = at([10, 44, 0, 2], 80);
    // The bridges learn where the other is from the first packets, which they send everywhere.
    udp(&lab, node, listen, &server.namespace, listen);
    udp(&lab, &server.namespace, at([10, 44, 0, 1], 80), node, at([10, 44, 0, 1], 80));
    let (window, ends) = tcp(&lab, node, listen, &server.namespace, listen);
    let way = [("brb", "tx"), ("link1", "tx"), ("link0", "rx"), ("vetha", "tx")];
    Expected::of(&window).conversation(&ends, "host", &way, "").assert();
    assert_eq!(window.report.names.unknown_veths, 1, "vetha's, and not the pair's: {}", window.report.names);
}

/// What is at the other end of a tun or tap device: it takes all packets, since the device counts what is taken.
struct Machine {
    datagrams: Arc<AtomicU32>,
    _stop: mpsc::Sender<()>,
}

impl Machine {
    fn start(mut device: File) -> Self {
        let datagrams = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = mpsc::channel::<()>();
        let counter = Arc::clone(&datagrams);
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while stopped.recv_timeout(Duration::from_millis(2)) == Err(mpsc::RecvTimeoutError::Timeout) {
                while let Ok(length) = device.read(&mut packet) {
                    // A payload of 100 bytes, without and with an Ethernet header.
                    counter.fetch_add(u32::from(matches!(length, 128 | 142)), Ordering::Relaxed);
                }
            }
        });
        Self { datagrams, _stop: stop }
    }
}

/// Ten datagrams to an address of a machine.
fn into(lab: &Lab, client: &Pod, dialled: IpAddr, machine: &Machine) -> (Window, Ends) {
    let dialled = at(dialled, 80);
    let mut local = None;
    let window = watch(lab, || {
        local = Some(send_datagrams(&client.namespace, dialled, 100, 10)?);
        wait_until("ten datagrams are there", || machine.datagrams.load(Ordering::Relaxed) == 10);
        Ok(())
    });
    (window, Ends { proto: "udp", client: local.unwrap(), dialled, server: dialled, peer: local.unwrap() })
}

/// A virtual machine is local, on a bridge or without; a process behind a tun device is the node's.
#[test]
fn machines_and_processes() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    let [vnet0, tap0, tun0] = [("vnet0", libc::IFF_TAP), ("tap0", libc::IFF_TAP), ("tun0", libc::IFF_TUN)]
        .map(|(name, kind)| Machine::start(open_tun(node, name, kind).unwrap()));
    ip_batch(
        node,
        "link add brvm type bridge mcast_snooping 0\nlink set vnet0 master brvm\nlink set brvm up\nlink set vnet0 up\n\
         link set tap0 up\nlink set tun0 up\naddr add 192.168.122.1/24 dev brvm\naddr add 172.16.0.1/30 dev tap0\n\
         route add 192.168.255.0/24 dev tun0\n\
         neigh add 192.168.122.77 lladdr 52:54:00:00:00:77 dev brvm nud permanent\n\
         neigh add 172.16.0.2 lladdr 52:54:00:00:00:78 dev tap0 nud permanent\n",
    )
    .unwrap();
    for (address, way, machine) in
        [("192.168.122.77", vec!["brvm", "vnet0"], vnet0), ("172.16.0.2", vec!["tap0"], tap0)]
    {
        let (window, ends) = into(&lab, client, address.parse().unwrap(), &machine);
        let hops: Vec<_> =
            [(client.veth.as_str(), "rx")].into_iter().chain(way.into_iter().map(|it| (it, "tx"))).collect();
        Expected::of(&window).one_way(&ends, "local", &hops, "").assert();
        assert_eq!(window.devices["eth0"].tx_packets, 0);
    }
    let (window, _) = into(&lab, client, [192, 168, 255, 1].into(), &tun0);
    let [flow] = window.flows() else { panic!("one flow: {:?}", window.flows()) };
    let hops: Vec<_> = flow.hops.iter().map(|hop| hop.device.as_str()).collect();
    assert_eq!((flow.path.as_str(), hops), ("host", vec![client.veth.as_str(), "tun0"]));
    assert_eq!(window.devices["eth0"].tx_packets, 0);
}

/// The kernel takes any bytes for a name.
#[test]
fn a_name_that_is_not_text() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let (node, server) = (&lab.node.namespace, lab.pod("server"));
    let name = OsStr::from_bytes(b"eni\xff\xfe");
    let ip_with = |before: &[&str], after: &str| {
        let mut command = node.command("ip").unwrap();
        let status = command.args(before).arg(name).args(after.split_whitespace()).status().unwrap();
        assert!(status.success(), "{before:?} … {after}");
    };
    ip_with(&["link", "add"], &format!("type veth peer name net1 netns {}", server.namespace.name()));
    ip_with(&["link", "set"], "up");
    ip_batch(&server.namespace, "link set net1 up\naddr add 10.0.0.88/32 dev net1\n").unwrap();
    ip_with(&["route", "add", "10.0.0.88", "dev"], "");
    let lladdr = lladdr(&server.namespace, "net1");
    ip_with(&["neigh", "add", "10.0.0.88", "lladdr", &lladdr, "dev"], "nud permanent");
    let listen = at([10, 0, 0, 88], 80);
    let sink = UdpSink::start(&server.namespace, listen).unwrap();
    let measured = lab.measure(&[], || send_datagrams(node, listen, 100, 10).map(drop)).unwrap();
    assert_eq!(sink.stop().unwrap().count, 10);
    let flow = measured.report.flow(|flow| flow.dport == Some(80));
    assert_eq!((flow.path.as_str(), flow.packets), ("host", 10));
    assert_eq!(flow.hops[0].device, "eni\u{fffd}\u{fffd}");
}

/// A tunnel's far end is a pod of this node: what passes it stays on the node.
#[test]
fn a_tunnel_to_a_pod() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (node, client, server) = (&lab.node, lab.pod("client"), lab.pod("server"));
    for (here, local, remote, address) in [
        (&node.namespace, node.ipv4, server.ipv4, "10.244.0.0/32"),
        (&server.namespace, server.ipv4, node.ipv4, "10.244.1.9/32"),
    ] {
        ip(here, &format!("link add overlay type vxlan id 7 local {local} remote {remote} dstport 4789")).unwrap();
        ip(here, "link set overlay up mtu 1400").unwrap();
        ip(here, &format!("addr add {address} dev overlay")).unwrap();
    }
    ip(&node.namespace, "route add 10.244.1.9/32 dev overlay").unwrap();
    ip(&server.namespace, &format!("route add {}/32 dev overlay", client.ipv4)).unwrap();
    let client_ipv4 = client.ipv4.to_string();
    introduce((&node.namespace, "overlay", &client_ipv4), (&server.namespace, "overlay", "10.244.1.9")).unwrap();
    let listen = at([10, 244, 1, 9], 8080);
    let (window, ends) = tcp(&lab, &client.namespace, listen, &server.namespace, listen);
    let outer = |flow: &Flow| flow.proto == "udp" && flow.dport == Some(4789);
    Expected::of(&window)
        .apart_from(&outer)
        .conversation(&ends, "local", &[(&client.veth, "rx"), ("overlay", "tx")], "")
        .assert();
    let carriers: Vec<_> = window.flows().iter().filter(|flow| outer(flow)).map(|flow| flow.path.as_str()).collect();
    assert!(!carriers.is_empty() && carriers.iter().all(|path| *path == "host"), "{carriers:?}");
    assert_eq!(window.devices["eth0"].tx_packets, 0);
}

/// tc copies a pod's packets to another pod, which is no end of them.
#[test]
fn copies_are_for_nobody() {
    let lab = Lab::builder().pod("client").pod("ids").start().unwrap();
    let (node, client, ids) = (&lab.node, lab.pod("client"), lab.pod("ids"));
    tc(&node.namespace, &format!("qdisc add dev {} clsact", client.veth)).unwrap();
    let copy = format!("action mirred egress mirror dev {}", ids.veth);
    tc(&node.namespace, &format!("filter add dev {} ingress protocol ip u32 match u32 0 0 {copy}", client.veth))
        .unwrap();
    let host = |host: &Host| (host.namespace.clone(), at(host.ipv4, 81));
    for ((namespace, listen), path, leaves) in [(host(&lab.outside), "eni", true), (host(node), "host", false)] {
        let sink = UdpSink::start(&namespace, listen).unwrap();
        let (window, ends) = {
            let mut local = None;
            let window = watch(&lab, || {
                local = Some(send_datagrams(&client.namespace, listen, 100, 10)?);
                Ok(())
            });
            (
                window,
                Ends { proto: "udp", client: local.unwrap(), dialled: listen, server: listen, peer: local.unwrap() },
            )
        };
        assert_eq!(sink.stop().unwrap().count, 10);
        assert_eq!(window.devices[&ids.veth].tx_packets, 10, "the copies");
        let mut hops = vec![(client.veth.as_str(), "rx"), (ids.veth.as_str(), "tx")];
        if leaves {
            hops.insert(1, ("eth0", "tx"));
        }
        Expected::of(&window).one_way(&ends, path, &hops, "").assert();
        assert_eq!(window.flows()[0].dst_pod, None);
    }
}

/// A pod of an IPv6 cluster reaches IPv4 by an address of 169.254.0.0/16 and the node's SNAT: it goes to the internet.
#[test]
fn ipv4_of_an_ipv6_cluster() {
    let lab = Lab::builder().pod("client").start().unwrap();
    track(&lab);
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    ip(node, &format!("link add veth1f2e3d4c type veth peer name v4if0 netns {}", client.namespace.name())).unwrap();
    ip_batch(
        node,
        "link set veth1f2e3d4c up\naddr add 169.254.172.1/32 dev veth1f2e3d4c\nroute add 169.254.172.5/32 dev veth1f2e3d4c\n",
    )
    .unwrap();
    ip_batch(
        &client.namespace,
        "link set v4if0 up\naddr flush dev eth0 scope global\naddr add 169.254.172.5/32 dev v4if0\n\
         route add 169.254.172.1 dev v4if0 scope link\nroute replace default via 169.254.172.1\n",
    )
    .unwrap();
    introduce((node, "veth1f2e3d4c", "169.254.172.1"), (&client.namespace, "v4if0", "169.254.172.5")).unwrap();
    lab.nft(
        "table ip v4egress { chain post { type nat hook postrouting priority srcnat; \
         ip saddr 169.254.172.5 oifname \"eth0\" masquerade; }; }",
    )
    .unwrap();
    let listen = at(lab.outside.ipv4, 80);
    let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.outside.namespace, listen);
    assert_eq!(ends.peer.ip(), lab.node.ipv4);
    Expected::of(&window).conversation(&ends, "eni", &[("veth1f2e3d4c", "rx"), ("eth0", "tx")], "").assert();
}
