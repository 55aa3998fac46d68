//! The two experiments that were published about Container Insights on EKS, and what netpath says to them.
//!
//! Day one: iperf3 between two pods of one node. `node_network_total_bytes` shows twice what crossed, EC2 next to nothing.
//! Day two: a pod downloads a file from outside through SNAT. The node's devices show each segment twice: on eth0 to the
//! node's address, on the veth to the pod's.
//!
//! The witnesses are /proc/net/dev read by the test, iperf3, the sockets, and tcpdump.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lab::report::Hop;
use lab::traffic::{Serve, TcpServer, download};
use lab::{Capture, Counters, Lab, Load, Packet, Report, device_counters, iperf3};

/// 40.4 GB in 10 s as published; a second is enough here.
const IPERF_SECONDS: u32 = 1;
/// 512 MiB as published; this part of it, so that a test takes a second.
const DOWNLOAD_BYTES: u64 = (512 << 20) / 32;
/// The segment that was published, by its sequence number relative to the connection's first: the 53rd of 1448 bytes.
const PUBLISHED_SEQ: u32 = 75_297;

/// What the devices of the node counted while netpath measured, and netpath's report.
struct Day {
    kernel: BTreeMap<String, Counters>,
    report: Report,
}

impl Day {
    fn measure(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Self {
        let read = || device_counters(&lab.node.namespace).unwrap();
        lab.wait_until_quiet().unwrap();
        let before = read();
        let report = lab.measure(&[], work).unwrap().report;
        let kernel = read().into_iter().map(|(name, now)| (name.clone(), now.since(before[&name]))).collect();
        Self { kernel, report }
    }

    /// `node_network_total_bytes` as cAdvisor and the CloudWatch agent add it up: received and sent bytes of all devices but
    /// those with these prefixes (google/cadvisor, `ignoredDevicePrefixes`).
    fn node_network_total_bytes(&self) -> u64 {
        let ignored = |name: &str| ["lo", "veth", "docker", "nerdctl"].iter().any(|prefix| name.starts_with(prefix));
        let counted = self.kernel.iter().filter(|(name, _)| !ignored(&name.to_lowercase()));
        counted.map(|(_, counters)| counters.rx_bytes + counters.tx_bytes).sum()
    }

    /// The report has the test's own number, and its terms add up to it. The terms that are not 0, by name.
    fn terms(&self) -> BTreeMap<&str, i64> {
        let total = self.node_network_total_bytes();
        assert_eq!(self.report.node_network_total_bytes(), total);
        let terms = self.report.accounting.terms.iter();
        let terms: Vec<_> = terms.map(|term| (term.name.as_str(), term.bytes)).collect();
        assert_eq!(terms.iter().map(|(_, bytes)| bytes).sum::<i64>(), i64::try_from(total).unwrap(), "{terms:?}");
        terms.into_iter().filter(|(_, bytes)| *bytes != 0).collect()
    }

    /// `NetworkIn` and `NetworkOut` of EC2.
    fn ec2(&self) -> [u64; 2] {
        let ec2 = self.report.accounting.ec2;
        [ec2.network_in_bytes.unwrap(), ec2.network_out_bytes.unwrap()]
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap()
}

#[test]
fn day_one_iperf3_between_two_pods_of_one_node() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let mut totals = None;
    let day = Day::measure(&lab, || {
        let target = SocketAddr::new(server.ipv4.into(), 5201);
        let load = Load::TcpSeconds(IPERF_SECONDS);
        totals = Some(iperf3(&server.namespace, 5201, &client.namespace, target, load)?);
        Ok(())
    });

    let (at_client, at_server) = (day.kernel[&client.veth], day.kernel[&server.veth]);
    // What leaves one pod reaches the other.
    assert_eq!(at_client.rx_bytes, at_server.tx_bytes);
    assert_eq!(at_client.tx_bytes, at_server.rx_bytes);
    let crossed = at_client.rx_bytes + at_client.tx_bytes;
    assert!(crossed > totals.unwrap().received_bytes, "{totals:?} of payload in {crossed}");
    assert_eq!(day.kernel["eth0"], Counters::default(), "nothing on the ENI");
    assert_eq!(day.node_network_total_bytes(), 2 * crossed);

    assert_eq!(day.ec2(), [0, 0]);
    assert_eq!(day.terms(), BTreeMap::from([("local", signed(2 * crossed))]));
    assert_eq!(day.report.path("local").bytes, crossed);
    assert_eq!(day.report.path("eni").bytes, 0);
}

#[test]
fn day_two_a_pods_download_from_outside() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let (client, node) = (lab.pod("client"), &lab.node);
    let listen = SocketAddr::new(lab.outside.ipv4.into(), 8080);
    let source = TcpServer::start(&lab.outside.namespace, listen, Serve::Send(DOWNLOAD_BYTES)).unwrap();
    let mut seen = None;
    let mut pod_port = 0;
    let day = Day::measure(&lab, || {
        let captures = ["eth0", &client.veth].map(|device| Capture::start(&node.namespace, device, "tcp"));
        let transfer = download(&client.namespace, source.address())?;
        assert_eq!(transfer.received_bytes, DOWNLOAD_BYTES);
        pod_port = transfer.local.port();
        let [eth0, veth] = captures.map(|capture| capture.and_then(Capture::stop));
        seen = Some([eth0?, veth?]);
        Ok(())
    });
    let node_port = source.stop().unwrap()[0].peer.port();
    assert_ne!(node_port, pod_port, "fully random SNAT; the same once in 60 000 times: run it again");

    // The same segments on both devices: to the node on eth0, to the pod on its veth.
    let node_end = SocketAddr::new(node.ipv4.into(), node_port);
    let pod_end = SocketAddr::new(client.ipv4.into(), pod_port);
    let [eth0, veth] = seen.unwrap();
    let [on_eth0, on_veth] = [(&eth0, node_end), (&veth, pod_end)].map(|(packets, to)| segments(packets, listen, to));
    assert_eq!(on_eth0, on_veth);
    let (_, relative) = &on_eth0;
    assert!(relative.iter().any(|(first, end)| (*first..*end).contains(&PUBLISHED_SEQ)), "{relative:?}");
    // All of the file, in order: each begins where one before it ended, or earlier if it was sent again.
    let arrived =
        relative.iter().fold(1, |arrived, (first, end)| if *first <= arrived { arrived.max(*end) } else { arrived });
    assert_eq!(u64::from(arrived), 1 + DOWNLOAD_BYTES, "{relative:?}");
    // Neither device shows the other one's address of the pod.
    let mentions = |packets: &[Packet], address: IpAddr| {
        packets.iter().any(|packet| packet.text.contains(&format!(" {address}.")))
    };
    assert!(!mentions(&eth0, client.ipv4.into()) && !mentions(&veth, node.ipv4.into()));

    // netpath knows these two to be one flow.
    let flow = day.report.flow(|flow| flow.src == listen.ip());
    assert_eq!(flow.path, "eni");
    let hops: Vec<_> = flow.hops.iter().map(hop).collect();
    assert_eq!(
        hops,
        [("eth0", "rx", listen, node_end), (&*client.veth, "tx", listen, pod_end)],
        "in by the ENI, out to the pod, SNAT undone between them"
    );

    // Each byte is counted twice, and the report says where.
    let (eni, copy) = (day.kernel["eth0"], day.kernel[&client.veth]);
    let on_eni = eni.rx_bytes + eni.tx_bytes;
    assert_eq!((eni.rx_bytes, eni.tx_bytes), (copy.tx_bytes, copy.rx_bytes), "the same bytes on both");
    assert!(eni.rx_bytes > DOWNLOAD_BYTES);
    assert_eq!(day.node_network_total_bytes(), 2 * on_eni);
    assert_eq!(day.ec2(), [eni.rx_bytes, eni.tx_bytes]);
    assert_eq!(day.terms(), BTreeMap::from([("eni", signed(on_eni)), ("eni_copy_on_veth", signed(on_eni))]));
}

/// Sequence numbers between two ends: the first one, and those of each segment with payload (its own and the next one's)
/// counted from there. The devices' packets may be many segments, merged or not yet cut; in the lab both devices have the
/// same ones.
fn segments(packets: &[Packet], from: SocketAddr, to: SocketAddr) -> (u32, BTreeSet<(u32, u32)>) {
    // tcpdump: `198.51.100.7.8080 > 10.0.0.5.31234: Flags [.], seq 75297:76745, ack …`, in that of a SYN no colon
    let ends = format!(" {}.{} > {}.{}: ", from.ip(), from.port(), to.ip(), to.port());
    let of = packets.iter().filter(|packet| packet.text.contains(&ends));
    let numbers: Vec<&str> =
        of.filter_map(|packet| Some(packet.text.split_once(", seq ")?.1.split_once(',')?.0)).collect();
    let (start, rest) = numbers.split_first().unwrap();
    let start: u32 = start.parse().unwrap();
    let relative = |number: &str| number.parse::<u32>().unwrap().wrapping_sub(start);
    let segments = rest.iter().filter_map(|numbers| numbers.split_once(':'));
    (start, segments.map(|(first, end)| (relative(first), relative(end))).collect())
}

fn hop(hop: &Hop) -> (&str, &str, SocketAddr, SocketAddr) {
    let ((device, direction), (src, dst)) = (hop.hook(), hop.ends());
    (device, direction, src, dst)
}
