//! Super-packets: netpath's `wire_bytes` are the bytes of the frames that a device counts, `bytes` those of the packets that
//! its hooks see.
//!
//! Which of the two a device's own counter shows depends on where the kernel merges (GRO) and cuts (GSO). TC ingress is
//! after merging, TC egress before cutting. As seen on Linux 6.18, and asserted below:
//!
//! | device | its counter of received bytes | of sent bytes |
//! |---|---|---|
//! | network card (here: TAP with NAPI) | every frame: `wire_bytes` | every frame: `wire_bytes` |
//! | the same with GRO off, or for frames that do not merge | `bytes`, which are `wire_bytes` then | |
//! | veth, TSO on (the default) | a super-packet as one: `bytes` | a super-packet as one: `bytes` |
//! | veth whose sender has TSO off | frames, and does not merge them: both | frames: `wire_bytes` |
//! | veth that merges (GRO on, sender's TSO off) | frames without their Ethernet header: `wire_bytes` − 14 each | its sender's counter: the same |
//! | any, VLAN tag | `wire_bytes`, since the kernel takes the tag out before TC ingress | `wire_bytes` |
//! | veth, VLAN tag beside the packet | without the tag | without the tag, or `wire_bytes` with tx-vlan-offload off |
//!
//! Linux's ENA driver counts a super-packet that it sends as one (it cuts in hardware): `bytes`. That cannot be had here,
//! and is veth's case. Not tested either, as this kernel has no 8021q: merging of frames whose tag is not beside the
//! packet. It has no Geneve, GRE or IP in IP either: `programs.rs` makes the kernel run netpath's programs over their packets.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lab::report::{Hook, Report};
use lab::traffic::{
    Cut, Serve, TcpServer, UdpSink, download, mac, send_datagrams, send_frames, send_segmented, send_super_packet,
    upload,
};
use lab::{Counters, Lab, Namespace, counters, ip_batch, set_offload};

/// A device in one direction: what its hook saw, and what the test read from /proc/net/dev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    packets: u64,
    bytes: u64,
    wire_bytes: u64,
    kernel_packets: u64,
    kernel_bytes: u64,
}

impl Side {
    /// The kernel counted the same packets as the hook saw.
    fn as_seen(self) {
        assert_eq!((self.bytes, self.packets), (self.kernel_bytes, self.kernel_packets), "{self:?}");
    }

    /// The kernel counted frames, of which the hook saw several as one.
    fn as_frames(self) {
        assert_eq!(self.wire_bytes, self.kernel_bytes, "{self:?}");
        assert!(self.bytes < self.kernel_bytes && self.packets < self.kernel_packets, "{self:?}");
    }
}

/// Received and sent.
type Sides = (Side, Side);

/// A device of the node, while netpath measures `work`.
fn measured(lab: &Lab, device: &str, work: impl FnOnce() -> Result<()>) -> Sides {
    lab.wait_until_quiet().unwrap();
    let before = counters(&lab.node.namespace, device).unwrap();
    let report = lab.measure(&[], work).unwrap().report;
    let kernel = counters(&lab.node.namespace, device).unwrap().since(before);
    assert_eq!(report.health.unparsed_packets, 0);
    sides(&report, device, kernel)
}

fn sides(report: &Report, device: &str, kernel: Counters) -> Sides {
    let device = report.device(device);
    let side = |direction: &str, kernel_packets, kernel_bytes| {
        let Hook { packets, bytes, wire_bytes, .. } = device.hook(direction);
        Side { packets, bytes, wire_bytes, kernel_packets, kernel_bytes }
    };
    (side("rx", kernel.rx_packets, kernel.rx_bytes), side("tx", kernel.tx_packets, kernel.tx_bytes))
}

/// The card, while netpath measures `work`, in which it merged some of what it received. It merges what comes at one time,
/// and on a busy machine nothing does; then it is all done again.
fn merged(lab: &Lab, work: impl Fn() -> Result<()>) -> Sides {
    for _ in 0..5 {
        let (rx, tx) = measured(lab, "eth0", &work);
        if rx.packets < rx.kernel_packets {
            return (rx, tx);
        }
        rx.as_seen();
        assert_eq!(rx.wire_bytes, rx.bytes, "{rx:?}");
    }
    panic!("the card merges nothing");
}

const ETHERNET_BYTES: u64 = 14;
const TAG_BYTES: u64 = 4;
const TRANSFER_BYTES: u64 = 2_000_000;

/// A pod's download from, and upload to, each of the addresses of a host.
fn transfers(lab: &Lab, host: &lab::Host) -> Result<()> {
    let pod = &lab.pod("client").namespace;
    for address in host.addresses() {
        let source = TcpServer::start(&host.namespace, SocketAddr::new(address, 0), Serve::Send(TRANSFER_BYTES))?;
        ensure!(download(pod, source.address())?.received_bytes == TRANSFER_BYTES, "it is not all there");
        let sink = TcpServer::start(&host.namespace, SocketAddr::new(address, 0), Serve::Receive)?;
        upload(pod, sink.address(), TRANSFER_BYTES)?;
    }
    Ok(())
}

#[test]
fn a_card_counts_frames_of_tcp() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    // A header of 32 bytes with timestamps, of 20 without. Frames of 1514 and of 9015 bytes.
    for (timestamps, host) in [("1", &lab.outside), ("0", &lab.remote)] {
        lab.pod("client").namespace.write_sysctls(&[("net/ipv4/tcp_timestamps", timestamps)]).unwrap();
        let (rx, tx) = merged(&lab, || transfers(&lab, host));
        rx.as_frames();
        tx.as_frames();
        // Half of the payload each way.
        assert!(rx.bytes > 2 * TRANSFER_BYTES && tx.bytes > 2 * TRANSFER_BYTES, "{rx:?} {tx:?}");
    }
    set_offload(&lab.node.namespace, "eth0", "gro", false).unwrap();
    let (rx, tx) = measured(&lab, "eth0", || transfers(&lab, &lab.outside));
    rx.as_seen();
    assert_eq!(rx.wire_bytes, rx.bytes);
    tx.as_frames();
}

/// Each sink gets so many datagrams. A card's cable takes its time.
fn all_arrive(lab: &Lab, sinks: Vec<UdpSink>, datagrams: u64) -> Result<()> {
    lab.wait_until_quiet()?;
    for sink in sinks {
        let arrived = sink.stop()?;
        ensure!(arrived.count == datagrams, "{} of {datagrams} datagrams arrived", arrived.count);
    }
    Ok(())
}

#[test]
fn a_card_counts_frames_of_udp() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    let pod = lab.pod("client");
    // Of what is forwarded, UDP is merged only if told so.
    set_offload(&lab.node.namespace, "eth0", "rx-udp-gro-forwarding", true).unwrap();
    for feature in ["rx-udp-gro-forwarding", "rx-gro-list"] {
        set_offload(&lab.node.namespace, "eth0", feature, true).unwrap();
        let (rx, tx) = merged(&lab, || {
            let mut sinks = Vec::new();
            for (from, to, addresses) in [
                (&pod.namespace, &lab.outside.namespace, lab.outside.addresses()),
                (&lab.outside.namespace, &pod.namespace, pod.addresses()),
            ] {
                for address in addresses {
                    let sink = UdpSink::start(to, SocketAddr::new(address, 0))?;
                    send_segmented(from, sink.address(), 1_000, 30, 20)?;
                    sinks.push(sink);
                }
            }
            all_arrive(&lab, sinks, 31 * 20)
        });
        rx.as_frames();
        tx.as_frames();
    }
}

#[test]
fn a_card_counts_fragments_as_they_are() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    let pod = lab.pod("client");
    let (rx, tx) = measured(&lab, "eth0", || {
        let mut sinks = Vec::new();
        for (from, to, addresses) in [
            (&pod.namespace, &lab.remote.namespace, lab.remote.addresses()),
            (&lab.remote.namespace, &pod.namespace, pod.addresses()),
        ] {
            for address in addresses {
                let sink = UdpSink::start(to, SocketAddr::new(address, 0))?;
                send_datagrams(from, sink.address(), 60_000, 10)?;
                sinks.push(sink);
            }
        }
        all_arrive(&lab, sinks, 10)
    });
    assert!(rx.packets > 2 * 10 * 6 && tx.packets > 2 * 10 * 6, "fragments: {rx:?} {tx:?}");
    rx.as_seen();
    tx.as_seen();
    assert_eq!((rx.wire_bytes, tx.wire_bytes), (rx.bytes, tx.bytes));
}

#[test]
fn a_card_counts_frames_in_a_tunnel() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    // VXLAN between node and remote host, over IPv4 and over IPv6; the inner addresses are of both families too.
    for (number, [near, far], port) in [
        (1, [lab.node.addresses()[0], lab.remote.addresses()[0]], 4789),
        (2, [lab.node.addresses()[1], lab.remote.addresses()[1]], 8472),
    ] {
        for (namespace, local, remote, own, other) in
            [(&lab.node.namespace, near, far, 1, 2), (&lab.remote.namespace, far, near, 2, 1)]
        {
            let device = format!("vxlan{number}");
            let mut batch = format!(
                "link add name {device} address 02:7e:00:00:0{number}:0{own} mtu 8900 type vxlan id {number} \
                 local {local} remote {remote} dstport {port} nolearning\nlink set dev {device} up\n"
            );
            for prefix in [format!("192.168.{number}."), format!("fd00:{number}::")] {
                let length = if prefix.contains(':') { 64 } else { 24 };
                writeln!(
                    batch,
                    "addr add {prefix}{own}/{length} dev {device}\n\
                     neigh add {prefix}{other} lladdr 02:7e:00:00:0{number}:0{other} dev {device} nud permanent"
                )
                .unwrap();
            }
            ip_batch(namespace, &batch).unwrap();
        }
        let work = || {
            for server in [format!("192.168.{number}.2"), format!("fd00:{number}::2")] {
                let server = SocketAddr::new(server.parse()?, 0);
                let source = TcpServer::start(&lab.remote.namespace, server, Serve::Send(TRANSFER_BYTES))?;
                download(&lab.node.namespace, source.address())?;
                let sink = TcpServer::start(&lab.remote.namespace, server, Serve::Receive)?;
                upload(&lab.node.namespace, sink.address(), TRANSFER_BYTES)?;
            }
            Ok(())
        };
        // On a busy machine not even what is sent is merged.
        let mut sides = (0..5).map(|_| merged(&lab, work));
        let (rx, tx) = sides.find(|(_, tx)| tx.packets < tx.kernel_packets).unwrap();
        rx.as_frames();
        tx.as_frames();
    }
}

#[test]
fn a_card_counts_tags() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    let near = mac(&lab.vpc, "node-eth0").unwrap();
    let (rx, _) = measured(&lab, "eth0", || {
        // One tag, and two: the outer one is taken out, the inner one stays.
        for tags in [&[42][..], &[42, 43]] {
            let frames: Vec<_> = (0..10).map(|_| segment(near, tags, false, 1_000)).collect();
            send_frames(&lab.vpc, "node-eth0", &frames)?;
        }
        Ok(())
    });
    assert_eq!((rx.packets, rx.kernel_packets), (20, 20));
    assert_eq!(rx.wire_bytes, rx.kernel_bytes);
    assert_eq!(rx.bytes, rx.kernel_bytes - 20 * TAG_BYTES);
}

#[test]
fn a_super_packet_that_does_not_say_of_how_many_frames() {
    let lab = Lab::builder().card().pod("client").start().unwrap();
    let own = mac(&lab.node.namespace, "eth0").unwrap();
    let (_, tx) = measured(&lab, "eth0", || {
        for ipv6 in [false, true] {
            for payload in [2_000, 3_001, 20_000] {
                send_super_packet(&lab.node.namespace, "eth0", &segment(own, &[], ipv6, payload), cut(&[], ipv6))?;
                let tagged = segment(own, &[42], ipv6, payload);
                send_super_packet(&lab.node.namespace, "eth0", &tagged, cut(&[42], ipv6))?;
            }
        }
        Ok(())
    });
    assert_eq!((tx.packets, tx.kernel_packets), (12, 4 * (2 + 4 + 20)));
    tx.as_frames();
}

#[test]
fn a_veth_counts_super_packets_if_it_has_tso() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (rx, tx) = measured(&lab, "eth0", || transfers(&lab, &lab.outside));
    for side in [rx, tx] {
        side.as_seen();
        assert!(side.wire_bytes > side.bytes, "{side:?}");
    }
    // Without it, the sender's device counts frames, and so does the receiver's, which does not merge them.
    set_offload(&lab.node.namespace, "eth0", "tso", false).unwrap();
    set_offload(&lab.vpc, "node-eth0", "tso", false).unwrap();
    let (rx, tx) = measured(&lab, "eth0", || transfers(&lab, &lab.outside));
    rx.as_seen();
    assert_eq!(rx.wire_bytes, rx.bytes);
    tx.as_frames();
}

#[test]
fn a_veth_that_merges_counts_frames_without_their_ethernet_headers() {
    let lab = Lab::builder().pod("client").start().unwrap();
    set_offload(&lab.vpc, "node-eth0", "tso", false).unwrap();
    set_offload(&lab.node.namespace, "eth0", "gro", true).unwrap();
    let (rx, _) = measured(&lab, "eth0", || transfers(&lab, &lab.outside));
    assert!(rx.packets < rx.kernel_packets, "they were merged: {rx:?}");
    assert_eq!(rx.wire_bytes, rx.kernel_bytes + ETHERNET_BYTES * rx.kernel_packets, "{rx:?}");
}

#[test]
fn a_veth_and_tags_beside_the_packet() {
    const FRAMES: u64 = 3 * 20;
    let lab = Lab::builder().pod("client").start().unwrap();
    let node = &lab.node.namespace;
    bridge(node, &lab.vpc, &lab.vpc);
    let send = || send_tagged(&lab.vpc);
    let (rx, _) = measured(&lab, "p0", send);
    assert_eq!((rx.packets, rx.kernel_packets), (3, 3), "super-packets: {rx:?}");
    assert_eq!(rx.bytes, rx.kernel_bytes - 3 * TAG_BYTES, "the kernel took the tags out: {rx:?}");

    // The kernel leaves tags to veth pairs, and with TSO the cutting too.
    let (_, tx) = measured(&lab, "p1", send);
    tx.as_seen();
    set_offload(node, "p1", "tso", false).unwrap();
    let (_, tx) = measured(&lab, "p1", send);
    assert_eq!((tx.packets, tx.kernel_packets), (3, FRAMES), "{tx:?}");
    assert_eq!(tx.wire_bytes, tx.kernel_bytes + TAG_BYTES * FRAMES, "{tx:?}");
    set_offload(node, "p1", "tx-vlan-offload", false).unwrap();
    let (_, tx) = measured(&lab, "p1", send);
    tx.as_frames();
}

#[test]
fn a_veth_that_merges_frames_with_tags_beside_them() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let node = &lab.node.namespace;
    bridge(&lab.vpc, &lab.remote.namespace, node);
    set_offload(&lab.vpc, "p1", "tso", false).unwrap();
    set_offload(node, "far1", "gro", true).unwrap();
    let (rx, _) = measured(&lab, "far1", || send_tagged(&lab.remote.namespace));
    assert!(rx.packets < 60 && rx.kernel_packets == 60, "they were merged: {rx:?}");
    assert_eq!(rx.wire_bytes, rx.kernel_bytes + (ETHERNET_BYTES + TAG_BYTES) * rx.kernel_packets, "{rx:?}");
}

/// A bridge between two veth pairs, whose other ends are elsewhere: far0 and far1. A tag in a frame becomes a tag beside the
/// packet where the kernel receives it, and stays so on the bridge.
fn bridge(namespace: &Namespace, far0: &Namespace, far1: &Namespace) {
    for namespace in [namespace, far0, far1] {
        // No reports of multicast groups from the new devices.
        namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    }
    let mut batch = "link add name br0 type bridge mcast_snooping 0\nlink set dev br0 up\n".to_owned();
    for (number, far) in [far0, far1].into_iter().enumerate() {
        writeln!(
            batch,
            "link add name p{number} type veth peer name far{number} netns {}\nlink set dev p{number} master br0 up",
            far.name()
        )
        .unwrap();
    }
    ip_batch(namespace, &batch).unwrap();
    ip_batch(far0, "link set dev far0 up\n").unwrap();
    ip_batch(far1, "link set dev far1 up\n").unwrap();
}

/// Three super-packets of 20 frames each, with a tag in the frame.
fn send_tagged(namespace: &Namespace) -> Result<()> {
    let source = mac(namespace, "far0")?;
    for ipv6 in [false, true, false] {
        send_super_packet(namespace, "far0", &segment(source, &[42], ipv6, 20_000), cut(&[42], ipv6))?;
    }
    Ok(())
}

const CUT_BYTES: u16 = 1_000;

/// How [`segment`] shall be cut: by 1000 bytes of payload.
fn cut(tags: &[u16], ipv6: bool) -> Cut {
    let transport_offset = 14 + 4 * u16::try_from(tags.len()).unwrap() + if ipv6 { 40 } else { 20 };
    Cut { headers_bytes: transport_offset + 20, transport_offset, payload_bytes: CUT_BYTES, ipv6 }
}

/// A TCP segment from a device to somewhere, with VLAN tags, outermost first; to be sent as it is, or cut.
fn segment(source: [u8; 6], tags: &[u16], ipv6: bool, payload: u16) -> Vec<u8> {
    let mut frame = vec![2, 0x7f, 0, 0, 0, 1];
    frame.extend(source);
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    let tcp_bytes = 20 + payload;
    if ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(tcp_bytes.to_be_bytes());
        frame.extend([6, 64]);
        for last in [1, 2] {
            frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
    } else {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((20 + tcp_bytes).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    }
    // Ports 7000 to 7001, ACK.
    frame.extend([0x1b, 0x58, 0x1b, 0x59, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(frame.len() + usize::from(payload), b'n');
    frame
}
