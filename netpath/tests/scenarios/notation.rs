//! Reads the scenario files, and writes flows as they do.
//!
//! In: the text of a file. Out: a snapshot, and expectations. It must not use anything of `path`, which it is to judge.

use std::collections::BTreeMap;

use ipnet::IpNet;
use netpath::model::{
    Conntrack, ConntrackTable, DeviceClass, Direction, KernelCounters, NameSourceReport, NodeInfo, Window,
};
use netpath::snapshot::{Device, Diversions, KernelDrops, LocalRoute, Names, Snapshot};
use serde::Deserialize;

use self::device::DeviceEntry;
use self::diversions::{netfilter_rule, virtual_server, xfrm_policy};
use self::lines::{connection, kernel_drop, observation, service, unattributed};
pub use self::written::{flow_line, path_name, residual_lines};

mod device;
mod diversions;
mod lines;
mod written;

/// A scenario.
pub struct Scenario {
    pub what: String,
    pub snapshot: Snapshot,
    pub expect: Expect,
}

/// What the report must say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Every flow: path, then its hops in order, then the bytes at the first of them, then marks.
    pub flows: Vec<String>,
    pub totals: BTreeMap<String, u64>,
    /// Bytes of the flows that passed a tunnel.
    #[serde(default)]
    pub in_tunnels: u64,
    pub conversations: u64,
    pub node_network_total_bytes: Option<u64>,
    pub ec2: Option<[u64; 2]>,
    /// All terms that are not zero.
    pub terms: Option<BTreeMap<String, i64>>,
    /// Why counters and hooks differ, of every device and direction where they do: `DEVICE rx|tx BYTES: CAUSE BYTES, …`,
    /// with `unexplained` for what has no cause.
    #[serde(default)]
    pub residuals: Vec<String>,
    /// Packets by path, and of `in_tunnels`.
    pub packets: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub ambiguous_flows: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    what: String,
    conntrack: Conntrack,
    conntrack_table: Option<ConntrackTable>,
    devices: Vec<DeviceEntry>,
    seen: Vec<String>,
    #[serde(default)]
    unattributed: Vec<String>,
    #[serde(default)]
    connections: Vec<String>,
    /// What the kernel dropped; without it, drops were not seen.
    drops: Option<Vec<String>>,
    #[serde(default)]
    services: Vec<String>,
    /// Routes of type `local`.
    #[serde(default)]
    local_routes: Vec<IpNet>,
    /// Those that not all packets take.
    #[serde(default)]
    policy_routes: Vec<IpNet>,
    #[serde(default)]
    xfrm_policies: Vec<String>,
    #[serde(default)]
    netfilter_rules: Vec<String>,
    #[serde(default)]
    virtual_servers: Vec<String>,
    /// What could not be read of all these.
    #[serde(default)]
    unread: Vec<String>,
    #[serde(default)]
    sources: Vec<NameSourceReport>,
    expect: Expect,
}

type Result<T> = std::result::Result<T, String>;

impl Scenario {
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let (mut devices, mut names) = (Vec::new(), Names::default());
        for (entry, ifindex) in file.devices.into_iter().zip(2..) {
            let (device, pod) = entry.read(ifindex, &devices)?;
            names.pods.extend(pod);
            // The peer that came first did not know of this one.
            if let (DeviceClass::Veth, Some(peer)) = (device.facts.class, device.lower) {
                let peer: Option<&mut Device> =
                    devices.iter_mut().find(|other: &&mut Device| other.facts.ifindex == peer);
                peer.ok_or("a peer")?.lower = Some(ifindex);
            }
            devices.push(device);
        }
        let read = |line: &String| observation(line, &devices).ok_or_else(|| format!("seen '{line}'"));
        let observations = file.seen.iter().map(read).collect::<Result<Vec<_>>>()?;
        let read = |line: &String| unattributed(line, &devices).ok_or_else(|| format!("unattributed '{line}'"));
        let unattributed = file.unattributed.iter().map(read).collect::<Result<Vec<_>>>()?;
        let read = |line: &String| connection(line).ok_or_else(|| format!("connection '{line}'"));
        let connections = file.connections.iter().map(read).collect::<Result<Vec<_>>>()?;

        // A device counts what its hooks see, unless the file says otherwise.
        for device in devices.iter_mut().filter(|device| device.facts.kernel == Some(KernelCounters::default())) {
            let mut kernel = KernelCounters::default();
            let seen = observations.iter().map(|seen| (seen.ifindex, seen.direction, seen.counts));
            let lost = unattributed.iter().map(|lost| (lost.ifindex, lost.direction, lost.counts));
            for (_, direction, counts) in seen.chain(lost).filter(|(ifindex, ..)| *ifindex == device.facts.ifindex) {
                let (bytes, packets) = match direction {
                    Direction::Rx => (&mut kernel.rx_bytes, &mut kernel.rx_packets),
                    Direction::Tx => (&mut kernel.tx_bytes, &mut kernel.tx_packets),
                };
                *bytes += counts.bytes;
                *packets += counts.packets;
            }
            device.facts.kernel = Some(kernel);
        }
        let read = |line: &String| service(line).ok_or_else(|| format!("service '{line}'"));
        names.services = file.services.iter().map(read).collect::<Result<Vec<_>>>()?;
        names.sources = file.sources;
        let read = |line: &String| xfrm_policy(line).ok_or_else(|| format!("xfrm_policies '{line}'"));
        let xfrm_policies = file.xfrm_policies.iter().map(read).collect::<Result<Vec<_>>>()?;
        let read = |line: &String| netfilter_rule(line).ok_or_else(|| format!("netfilter_rules '{line}'"));
        let netfilter_rules = file.netfilter_rules.iter().map(read).collect::<Result<Vec<_>>>()?;
        let read = |line: &String| virtual_server(line).ok_or_else(|| format!("virtual_servers '{line}'"));
        let virtual_servers = file.virtual_servers.iter().map(read).collect::<Result<Vec<_>>>()?;
        let read = |line: &String| kernel_drop(line).ok_or_else(|| format!("drops '{line}'"));
        let kernel_drops = match &file.drops {
            Some(drops) => KernelDrops {
                watched: true,
                records: drops.iter().map(read).collect::<Result<Vec<_>>>()?,
                ..KernelDrops::default()
            },
            None => KernelDrops::default(),
        };
        let unconditional = |&network: &IpNet| LocalRoute { network, table: 255, unconditional: true };
        let conditional = |&network: &IpNet| LocalRoute { network, table: 100, unconditional: false };
        let local_routes = file.local_routes.iter().map(unconditional);
        let diversions = Diversions {
            local_routes: local_routes.chain(file.policy_routes.iter().map(conditional)).collect(),
            xfrm_policies,
            netfilter_rules,
            virtual_servers,
            unread: file.unread,
        };
        let snapshot = Snapshot {
            devices,
            diversions,
            kernel_drops,
            observations,
            unattributed,
            connections,
            conntrack: file.conntrack,
            conntrack_table: file.conntrack_table,
            names,
            ..Snapshot::new(
                NodeInfo {
                    hostname: "node-1".to_owned(),
                    kernel: "6.1.0".to_owned(),
                    vpc_cidr_blocks: vec!["10.0.0.0/16".to_owned()],
                    ..NodeInfo::default()
                },
                Window {
                    started_at: "2025-01-01T00:00:00Z".to_owned(),
                    duration_ns: 10_000_000_000,
                    ..Window::default()
                },
            )
        };
        Ok(Self { what: file.what, snapshot, expect: file.expect })
    }
}
