//! Devices that leave Ethernet headers out of their counts, and count super-packets as one: tunnels, VLAN devices and bridges.
//!
//! The kernel decides that, not netpath: the witness is /proc/net/dev. What the report finds as the reason of the difference
//! must be all of it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use lab::traffic::{Serve, TcpServer, download, upload};
use lab::{Lab, Namespace, Report, counters, ip_batch};

use super::{each_way, lab};

const ETHERNET_BYTES: u64 = 14;
/// Ethernet, IPv4, TCP with time stamps.
const HEADERS_BYTES: u64 = 14 + 20 + 32;
const TRANSFER_BYTES: u64 = 1_000_000;

/// The Ethernet address of the device with this number in the two namespaces.
fn mac(own: u8) -> String {
    format!("02:00:00:00:77:0{own}")
}

/// A neighbour that is known for good, so that no ARP packet is between the two readings of the counters and outside of the window.
fn neighbour(other: u8, device: &str) -> String {
    format!("neigh replace 192.168.77.{other} lladdr {} dev {device} nud permanent", mac(other))
}

/// Devices of one kind between two namespaces; `false` if the kernel has none.
pub(super) fn between(kind: &str, near: (&Namespace, &str), far: (&Namespace, &str)) -> bool {
    for ((namespace, options), own) in [(near, 1), (far, 2)] {
        // No reports of multicast groups from the new devices.
        namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
        let mut batch = format!("link add name over0 address {} {options}\n", mac(own));
        writeln!(batch, "link set dev over0 up mtu 1300\naddr add 192.168.77.{own}/24 dev over0").unwrap();
        writeln!(batch, "{}", neighbour(3 - own, "over0")).unwrap();
        let made = ip_batch(namespace, &batch);
        if let Err(error) = made {
            let text = format!("{error:#}");
            assert!(text.contains("Unknown device type") || text.contains("not supported"), "{kind}: {text}");
            return false;
        }
    }
    true
}

/// Makes a bridge of what is there, with its address.
fn bridge(namespace: &Namespace, own: u8) {
    let batch = format!(
        "addr flush dev over0\nlink add name br0 type bridge mcast_snooping 0\nlink set dev over0 master br0\n\
         link set dev br0 up mtu 1300\naddr add 192.168.77.{own}/24 dev br0\n{}\n",
        neighbour(3 - own, "br0")
    );
    ip_batch(namespace, &batch).unwrap();
}

/// A device and direction: what the hook saw and what /proc/net/dev says, packets and bytes; and what became of the difference.
fn explained(report: &Report, device: &str, direction: &str, kernel: (u64, u64)) -> u64 {
    let device = report.device(device);
    let hook = device.hook(direction);
    let (packets, bytes) = (hook.packets, hook.bytes);
    let residual = device.residual(direction);
    assert_eq!(residual.unexplained_bytes, 0, "{device}");
    // A busy machine merges packets that the device has counted already, and they lose their headers.
    let merged = kernel.0 - packets;
    let left_out = bytes + merged * HEADERS_BYTES - kernel.1;
    assert!(left_out == 0 || left_out == ETHERNET_BYTES * kernel.0, "{left_out} of {packets} packets: {device}");
    if merged == 0 {
        let expected = [("ethernet_headers", Some(-i64::try_from(left_out).unwrap()))];
        assert_eq!(residual.causes(), if left_out == 0 { &[][..] } else { &expected }, "{device}");
    }
    left_out
}

/// Measures TCP both ways, and explains every difference; returns what the device leaves out of what it received and sent.
fn left_out(lab: &Lab, way: &[&str], far: &Namespace, device: &str) -> (u64, u64) {
    let node = &lab.node.namespace;
    lab.wait_until_quiet().unwrap();
    let before = counters(node, device).unwrap();
    let work = || {
        let address = SocketAddr::from(([192, 168, 77, 2], 0));
        let source = TcpServer::start(far, address, Serve::Send(TRANSFER_BYTES))?;
        download(node, source.address())?;
        let sink = TcpServer::start(far, address, Serve::Receive)?;
        upload(node, sink.address(), TRANSFER_BYTES).map(drop)
    };
    let report = lab.measure(way, work).unwrap().report;
    let kernel = counters(node, device).unwrap().since(before);
    let received = explained(&report, device, "rx", (kernel.rx_packets, kernel.rx_bytes));
    let sent = explained(&report, device, "tx", (kernel.tx_packets, kernel.tx_bytes));
    assert!(kernel.rx_bytes > TRANSFER_BYTES && kernel.tx_bytes > TRANSFER_BYTES, "{kernel:?}");
    assert!(kernel.rx_packets < TRANSFER_BYTES / 1_300, "nothing is merged: {kernel:?}");
    (received, sent)
}

#[test]
fn counts_without_ethernet_headers_are_explained() {
    each_way(|way| {
        for kind in ["vxlan", "geneve", "gretap", "vlan"] {
            let lab = lab();
            let (node, remote) = (&lab.node.namespace, &lab.remote.namespace);
            let (near, far) = (lab.node.addresses()[0], lab.remote.addresses()[0]);
            let (made, other) = if kind == "vlan" {
                let ends = ["link eth0 type vlan id 7", "link node-eth0 type vlan id 7"];
                (between(kind, (node, ends[0]), (&lab.vpc, ends[1])), &lab.vpc)
            } else {
                let end = |local, remote| match kind {
                    "vxlan" => format!("type vxlan id 6 local {local} remote {remote} dstport 4789"),
                    "geneve" => format!("type geneve id 6 remote {remote}"),
                    _ => format!("type gretap local {local} remote {remote}"),
                };
                (between(kind, (node, &end(near, far)), (remote, &end(far, near))), remote)
            };
            if !made {
                continue;
            }
            let (received, sent) = left_out(&lab, way.arguments, other, "over0");
            // What arrives loses its Ethernet header before these count it, and a tunnel sends what it carries.
            assert_eq!((received != 0, sent != 0), (kind != "gretap", kind != "vlan"), "{kind}");
            bridge(node, 1);
            let (received, sent) = left_out(&lab, way.arguments, other, "br0");
            assert_eq!((received != 0, sent != 0), (true, false), "a bridge on {kind}");
        }
    });
}
