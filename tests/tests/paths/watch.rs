//! A measured window with its witnesses: the devices' counters, and the kernel's table of connections.
//!
//! It must not take a figure from netpath as a witness.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use lab::report::Flow;
use lab::traffic::{Serve, TcpServer, UdpSink, download, ping, send_datagrams};
use lab::{Connection, Counters, Lab, Measured, Namespace, Report, connections, device_counters};

/// Payload of one call over TCP.
pub const BYTES: u64 = 100_000;

/// The VXLAN device, in labs that have one. Its own counters leave out the Ethernet header of what it carries.
pub const VXLAN: &str = "overlay";
const ETHERNET_BYTES: u64 = 14;
/// How bridges' names begin, in labs that have some. Their counters leave out the Ethernet header of what they receive.
const BRIDGE: &str = "br";

/// What netpath and the kernel say of the same time.
pub struct Window {
    pub report: Report,
    /// What each of the node's devices counted.
    pub devices: BTreeMap<String, Counters>,
    /// The kernel's connections at the end.
    pub tracked: Vec<Connection>,
}

/// The ends of a conversation, as the sockets there saw them.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub proto: &'static str,
    /// The initiator's own address.
    pub client: SocketAddr,
    /// Whom it called.
    pub dialled: SocketAddr,
    /// The responder's own address.
    pub server: SocketAddr,
    /// Who it believes called.
    pub peer: SocketAddr,
}

/// Measures `work`, and holds the hops of all flows together against the counters of the devices.
pub fn watch(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Window {
    lab.wait_until_quiet().unwrap();
    let before = device_counters(&lab.node.namespace).unwrap();
    let Measured { report, messages, .. } = lab.measure(&[], work).unwrap();
    assert!(messages.is_empty(), "netpath has nothing to complain of: {messages}");
    let now = device_counters(&lab.node.namespace).unwrap();
    let devices = now.into_iter().map(|(name, now)| (name.clone(), now.since(before[&name]))).collect();
    let window = Window { report, devices, tracked: connections(&lab.node.namespace).unwrap() };
    window.assert_devices_agree();
    window
}

impl Window {
    pub fn flows(&self) -> &[Flow] {
        &self.report.flows
    }

    fn assert_devices_agree(&self) {
        let mut seen: BTreeMap<&str, Counters> = BTreeMap::new();
        for hop in self.flows().iter().flat_map(|flow| &flow.hops) {
            let device = seen.entry(hop.device.as_str()).or_default();
            let (bytes, packets) = match hop.direction.as_str() {
                "rx" => (&mut device.rx_bytes, &mut device.rx_packets),
                "tx" => (&mut device.tx_bytes, &mut device.tx_packets),
                other => panic!("{other} is no direction"),
            };
            *bytes += hop.bytes;
            *packets += hop.packets;
        }
        for (name, own) in &self.devices {
            // lo is not hooked.
            if name != "lo" {
                let mut seen = seen.remove(name.as_str()).unwrap_or_default();
                if name == VXLAN {
                    seen.rx_bytes -= ETHERNET_BYTES * seen.rx_packets;
                    seen.tx_bytes -= ETHERNET_BYTES * seen.tx_packets;
                }
                if name.starts_with(BRIDGE) {
                    seen.rx_bytes -= ETHERNET_BYTES * seen.rx_packets;
                }
                assert_eq!(seen, *own, "{name}: hops against /proc/net/dev");
            }
        }
        assert!(seen.is_empty(), "hops at devices that the node has not: {seen:?}");
        let health = &self.report.health;
        assert_eq!((health.map_full_packets, health.unparsed_packets, health.orphan_fragment_packets), (0, 0, 0));
        assert_eq!((health.ambiguous_flows, health.conntrack.as_str()), (0, "ok"));
    }
}

pub fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// A download of [`BYTES`] over TCP from `dialled`, behind which `listen` serves.
pub fn tcp(
    lab: &Lab,
    client: &Namespace,
    dialled: SocketAddr,
    server: &Namespace,
    listen: SocketAddr,
) -> (Window, Ends) {
    let serving = TcpServer::start(server, listen, Serve::Send(BYTES)).unwrap();
    let mut transfer = None;
    let window = watch(lab, || {
        transfer = Some(download(client, dialled)?);
        Ok(())
    });
    let (transfer, served) = (transfer.unwrap(), serving.stop().unwrap());
    assert_eq!((transfer.received_bytes, served.len()), (BYTES, 1));
    (window, Ends { proto: "tcp", client: transfer.local, dialled, server: listen, peer: served[0].peer })
}

/// Ten datagrams of 1000 bytes to `dialled`, which reach `listen`; they are not answered.
pub fn udp(
    lab: &Lab,
    client: &Namespace,
    dialled: SocketAddr,
    server: &Namespace,
    listen: SocketAddr,
) -> (Window, Ends) {
    let sink = UdpSink::start(server, listen).unwrap();
    let mut local = None;
    let window = watch(lab, || {
        local = Some(send_datagrams(client, dialled, 1000, 10)?);
        Ok(())
    });
    let arrived = sink.stop().unwrap();
    assert_eq!(arrived.count, 10);
    (window, Ends { proto: "udp", client: local.unwrap(), dialled, server: listen, peer: arrived.peer.unwrap() })
}

/// Three echoes with identifier `id`. What identifier the other end saw only the kernel's table of connections tells.
pub fn echoes(lab: &Lab, client: &Namespace, target: IpAddr, id: u16) -> (Window, Ends) {
    let window = watch(lab, || {
        assert_eq!(ping(client, target, id, 3, 500)?, 3);
        Ok(())
    });
    let entry = window.tracked.iter().find(|entry| entry.original.icmp_id == Some(id) && entry.original.dst == target);
    let entry = entry.unwrap_or_else(|| panic!("no echo {id} in {:?}", window.tracked));
    let other = entry.reply.icmp_id.unwrap();
    let proto = if target.is_ipv4() { "icmp" } else { "icmpv6" };
    let ends = Ends {
        proto,
        client: SocketAddr::new(entry.original.src, id),
        dialled: SocketAddr::new(target, id),
        server: SocketAddr::new(entry.reply.src, other),
        peer: SocketAddr::new(entry.reply.dst, other),
    };
    (window, ends)
}

/// Lets the node track connections, as any NAT rule would; translates nothing.
pub fn track(lab: &Lab) {
    let rules =
        "table inet track { chain forward { type filter hook forward priority filter; ct state new counter; }; }";
    lab.node.namespace.output("nft", &[rules]).unwrap();
}
