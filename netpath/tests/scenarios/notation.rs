//! Reads the notation of the scenario files, and writes flows in it.
//!
//! In: the text of a file. Out: a snapshot, and expectations. It must not use anything of `path`, which it is to judge.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use netpath::model::{
    Attach, Blind, Conntrack, ConntrackTable, DeviceClass, DeviceFacts, Direction, Drops, KernelCounters, NameSource,
    NameSourceReport, NodeInfo, OtherProgram, Qdisc, Window, Xdp, XdpMode,
};
use netpath::report::{Flow, PathClass};
use netpath::snapshot::{
    Connection, Counts, Device, Diversion, Diversions, LocalRoute, Names, NetfilterRule, Observation, PodRecord,
    PortVlans, Reason, ServiceRecord, Snapshot, Tuple, Unattributed, VirtualServer, Vlan, XfrmDirection, XfrmPolicy,
    XfrmTemplate,
};
use serde::Deserialize;

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
    devices: Vec<String>,
    seen: Vec<String>,
    #[serde(default)]
    unattributed: Vec<String>,
    #[serde(default)]
    connections: Vec<String>,
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
        for (line, ifindex) in file.devices.iter().zip(2..) {
            let (device, pod) = device(line, ifindex, &devices).ok_or_else(|| format!("device '{line}'"))?;
            names.pods.extend(pod.and_then(|pod| record(&device, &pod)));
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
                    instance_id: None,
                    vpc_cidr_blocks: vec!["10.0.0.0/16".to_owned()],
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

/// `NAME CLASS [ADDRESS/PREFIX]… [pod ADDRESS [NAMESPACE/NAME]] [on DEVICE vlan ID] [over DEVICE] [peer DEVICE] [port DEVICE]
/// [kind KIND] [filtering] [pvid ID] [untagged ID]… [remote ADDRESS] [blind] [unattached]
/// [kernel RX TX [packets RX TX] | kernel unknown] [below RX TX [packets RX TX]] [above RX TX [packets RX TX]] [dropped RX TX]
/// [qdisc PASSED DROPPED QUEUED_PACKETS QUEUED_BYTES] [filtered PACKETS] [xdp] [other rx|tx ahead|behind|offloaded]… [appeared] [vanished]`
fn device(line: &str, ifindex: u32, others: &[Device]) -> Option<(Device, Option<String>)> {
    let mut words = line.split_whitespace().peekable();
    let name = words.next()?;
    let class = match words.next()? {
        "eni" => DeviceClass::Eni,
        "veth" => DeviceClass::Veth,
        "vlan" => DeviceClass::Vlan,
        "bridge" => DeviceClass::Bridge,
        "tunnel" => DeviceClass::Tunnel,
        "tap" => DeviceClass::Tap,
        "loopback" => DeviceClass::Loopback,
        "other" => DeviceClass::Other,
        _ => return None,
    };
    let mut device = Device::new(DeviceFacts {
        attach: Attach::Tcx,
        kernel: Some(KernelCounters::default()),
        ..DeviceFacts::new(ifindex, name, class)
    });
    let mut pod = None;
    let index = |name: &str| others.iter().find(|other| other.facts.name == name).map(|other| other.facts.ifindex);
    while let Some(word) = words.next() {
        match word {
            "pod" => {
                device.routed.push(words.next()?.parse().ok()?);
                pod = words.next_if(|word| word.contains('/')).map(str::to_owned);
            }
            "on" => {
                let lower = words.next()?;
                let lower_ifindex = others.iter().find(|other| other.facts.name == lower)?.facts.ifindex;
                (words.next()? == "vlan").then_some(())?;
                device.vlan = Some(Vlan { lower_ifindex, id: words.next()?.parse().ok()? });
            }
            "kind" => device.facts.kind = Some(words.next()?.to_owned()),
            "over" | "peer" => device.lower = Some(index(words.next()?)?),
            "remote" => device.remote = Some(words.next()?.parse().ok()?),
            "port" => device.master = Some(index(words.next()?)?),
            "filtering" => device.vlan_filtering = true,
            "pvid" => {
                let pvid = words.next()?.parse().ok()?;
                device.port_vlans = Some(PortVlans { pvid: Some(pvid), untagged: vec![pvid] });
            }
            "untagged" => device.port_vlans.get_or_insert_default().untagged.push(words.next()?.parse().ok()?),
            "blind" => device.blind = vec![Blind::NotAttached { reason: "another program redirects".to_owned() }],
            "unattached" => device.facts.attach = Attach::None,
            "appeared" => device.facts.appeared = true,
            "vanished" => device.facts.vanished = true,
            "dropped" => {
                device.facts.drops =
                    Some(Drops { rx_packets: words.next()?.parse().ok()?, tx_packets: words.next()?.parse().ok()? });
            }
            "qdisc" => {
                let mut number = || words.next()?.parse().ok();
                device.facts.qdisc = Some(Qdisc {
                    kind: "tbf".to_owned(),
                    passed_bytes: u64::try_from(number()?).ok()?,
                    dropped_packets: u64::try_from(number()?).ok()?,
                    queued_packets: number()?,
                    queued_bytes: number()?,
                });
            }
            "filtered" => device.facts.filter_drops = Some(words.next()?.parse().ok()?),
            "other" => {
                let (direction, place) = (words.next()?, words.next()?);
                device.facts.other_programs.get_or_insert_default().push(OtherProgram {
                    direction: if direction == "rx" { Direction::Rx } else { Direction::Tx },
                    ahead: place == "ahead",
                    kind: if place == "offloaded" { "flower" } else { "tcx" }.to_owned(),
                    program_id: Some(11),
                    name: Some("cil_\u{1b}x".to_owned()),
                    offloaded: place == "offloaded",
                });
            }
            "xdp" => device.facts.xdp = Some(Xdp { mode: XdpMode::Driver, program_id: Some(7) }),
            "below" => device.facts.kernel_slack.get_or_insert_default().below = moved(&mut words)?,
            "above" => device.facts.kernel_slack.get_or_insert_default().above = moved(&mut words)?,
            "kernel" => {
                device.facts.kernel = match words.next()? {
                    "unknown" => None,
                    rx => {
                        let (rx_bytes, tx_bytes) = (rx.parse().ok()?, words.next()?.parse().ok()?);
                        let packets = |bytes: u64| bytes.div_ceil(1500);
                        let (rx_packets, tx_packets) = match words.next_if_eq(&"packets") {
                            Some(_) => (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
                            None => (packets(rx_bytes), packets(tx_bytes)),
                        };
                        Some(KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets })
                    }
                }
            }
            address if address.contains('/') => device.facts.addresses.push(address.to_owned()),
            _ => return None,
        }
    }
    Some((device, pod))
}

/// What the VPC CNI would say of the pod behind the device.
fn record(device: &Device, pod: &str) -> Option<PodRecord> {
    let (namespace, name) = pod.split_once('/')?;
    Some(PodRecord {
        source: NameSource::VpcCni,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: None,
        addresses: device.routed.clone(),
        veths: Vec::new(),
        at_start: !device.facts.appeared,
        at_end: !device.facts.vanished,
    })
}

/// `RX TX [packets RX TX]`: bytes by which the counters moved while they were being read.
fn moved<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<KernelCounters> {
    let (rx_bytes, tx_bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (rx_packets, tx_packets) = match words.next_if_eq(&"packets") {
        Some(_) => (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
        None => (0, 0),
    };
    Some(KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets })
}

/// `DEVICE rx|tx [vlan ID] PROTO END > END [about PROTO END > END] PACKETS p BYTES B [WIRE W]`
fn observation(line: &str, devices: &[Device]) -> Option<Observation> {
    let mut words = line.split_whitespace().peekable();
    let (ifindex, direction) = hook(&mut words, devices)?;
    let mut vlans = [0; 2];
    if words.next_if_eq(&"vlan").is_some() {
        vlans[0] = words.next()?.parse().ok()?;
    }
    let tuple = tuple(words.next()?, words.next()?, words.next()?, words.next()?)?;
    let about = match words.next_if_eq(&"about") {
        Some(_) => Some(self::tuple(words.next()?, words.next()?, words.next()?, words.next()?)?),
        None => None,
    };
    Some(Observation { ifindex, direction, vlans, tuple, about, counts: counts(&mut words)? })
}

/// `in|out|forward NETWORK > NETWORK [PROTO] [sport PORT] [dport PORT] [priority N] [interface N] [marked] [block]
/// [esp [tunnel ADDRESS > ADDRESS]]`
fn xfrm_policy(line: &str) -> Option<XfrmPolicy> {
    let mut words = line.split_whitespace().peekable();
    let direction = match words.next()? {
        "in" => XfrmDirection::In,
        "out" => XfrmDirection::Out,
        "forward" => XfrmDirection::Forward,
        _ => return None,
    };
    let src: IpNet = words.next()?.parse().ok()?;
    (words.next()? == ">").then_some(())?;
    let dst: IpNet = words.next()?.parse().ok()?;
    let mut policy = XfrmPolicy {
        direction,
        src,
        dst,
        proto: None,
        sport: None,
        dport: None,
        blocks: false,
        if_id: 0,
        marked: false,
        templates: Vec::new(),
        priority: 0,
    };
    while let Some(word) = words.next() {
        match word {
            "sport" => policy.sport = Some(words.next()?.parse().ok()?),
            "dport" => policy.dport = Some(words.next()?.parse().ok()?),
            "priority" => policy.priority = words.next()?.parse().ok()?,
            "interface" => policy.if_id = words.next()?.parse().ok()?,
            "marked" => policy.marked = true,
            "block" => policy.blocks = true,
            "esp" if policy.templates.is_empty() => {
                let tunnel = words.next_if_eq(&"tunnel").is_some();
                let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let (src, dst) = if tunnel {
                    let src = words.next()?.parse().ok()?;
                    (words.next()? == ">").then_some(())?;
                    (src, words.next()?.parse().ok()?)
                } else {
                    (any, any)
                };
                policy.templates.push(XfrmTemplate { proto: 50, tunnel, src, dst });
            }
            proto => policy.proto = Some(protocol(proto)?),
        }
    }
    Some(policy)
}

/// `tproxy|rewrite|copy|redirect|queue|synproxy [PROTO] [from NETWORK] [to NETWORK] [sport PORT] [dport PORT] [by DEVICE]
/// [ipv4|ipv6]`, of both families without one.
fn netfilter_rule(line: &str) -> Option<NetfilterRule> {
    let mut words = line.split_whitespace();
    let diversion = match words.next()? {
        "tproxy" => Diversion::Tproxy,
        "rewrite" => Diversion::Rewrite,
        "copy" => Diversion::Copy,
        "redirect" => Diversion::Redirect,
        "queue" => Diversion::Queue,
        "synproxy" => Diversion::Synproxy,
        _ => return None,
    };
    let mut rule = NetfilterRule::new(diversion, "nft table ip raw, chain pre");
    while let Some(word) = words.next() {
        match word {
            "from" => rule.src = Some(words.next()?.parse().ok()?),
            "to" => rule.dst = Some(words.next()?.parse().ok()?),
            "sport" => rule.sport = Some(words.next()?.parse().ok()?),
            "dport" => rule.dport = Some(words.next()?.parse().ok()?),
            "by" => rule.input_device = Some(words.next()?.to_owned()),
            "ipv4" => rule.ipv6 = false,
            "ipv6" => rule.ipv4 = false,
            proto => rule.proto = Some(protocol(proto)?),
        }
    }
    Some(rule)
}

/// `PROTO END > END…`, or `marked > END…`: an IPVS service, of an address or of marked packets, and its backends.
fn virtual_server(line: &str) -> Option<VirtualServer> {
    let mut words = line.split_whitespace();
    let (proto, address, port) = match words.next()? {
        "marked" => (None, None, 0),
        proto => {
            let (address, port) = end(words.next()?)?;
            (Some(protocol(proto)?), Some(address), port)
        }
    };
    (words.next()? == ">").then_some(())?;
    Some(VirtualServer { proto, address, port, backends: words.map(end).collect::<Option<_>>()? })
}

/// `DEVICE rx|tx REASON PACKETS p BYTES B`
fn unattributed(line: &str, devices: &[Device]) -> Option<Unattributed> {
    let mut words = line.split_whitespace();
    let (ifindex, direction) = hook(&mut words, devices)?;
    let reason = match words.next()? {
        "non_ip" => Reason::NonIp,
        "unparsed" => Reason::Unparsed,
        "orphan_fragment" => Reason::OrphanFragment,
        "map_full" => Reason::MapFull,
        _ => return None,
    };
    Some(Unattributed { ifindex, direction, reason, counts: counts(&mut words)? })
}

/// `[zone N] PROTO END > END | END > END`: the original tuple, and the reply's.
fn connection(line: &str) -> Option<Connection> {
    let mut words = line.split_whitespace().peekable();
    let zone = match words.next_if_eq(&"zone") {
        Some(_) => words.next()?.parse().ok()?,
        None => 0,
    };
    let proto = words.next()?;
    let original = tuple(proto, words.next()?, words.next()?, words.next()?)?;
    (words.next()? == "|").then_some(())?;
    Some(Connection { zone, original, reply: tuple(proto, words.next()?, words.next()?, words.next()?)? })
}

/// `PROTO ADDRESS:PORT NAME`, as kube-proxy's rules say.
fn service(line: &str) -> Option<ServiceRecord> {
    let mut words = line.split_whitespace();
    let proto = protocol(words.next()?)?;
    let (address, port) = end(words.next()?)?;
    Some(ServiceRecord { source: NameSource::KubeProxy, name: words.next()?.to_owned(), proto, address, port })
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "rx" => Some(Direction::Rx),
        "tx" => Some(Direction::Tx),
        _ => None,
    }
}

fn hook<'a>(words: &mut impl Iterator<Item = &'a str>, devices: &[Device]) -> Option<(u32, Direction)> {
    let name = words.next()?;
    let direction = direction(words.next()?)?;
    Some((devices.iter().find(|device| device.facts.name == name)?.facts.ifindex, direction))
}

fn counts<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Counts> {
    let packets = words.next()?.strip_suffix('p')?.parse().ok()?;
    let bytes = words.next()?.strip_suffix('B')?.parse().ok()?;
    let wire_bytes = words.next().map_or(Some(bytes), |word| word.strip_suffix('W')?.parse().ok())?;
    words.next().is_none().then_some(Counts { packets, bytes, wire_bytes })
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "esp" => 50,
        "icmpv6" => 58,
        _ => return None,
    })
}

fn tuple(proto: &str, from: &str, arrow: &str, to: &str) -> Option<Tuple> {
    let proto = protocol(proto)?;
    (arrow == ">").then_some(())?;
    let (src, sport) = end(from)?;
    let (dst, dport) = end(to)?;
    Some(Tuple { proto, src, sport, dst, dport })
}

fn end(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(end) = text.parse::<SocketAddr>() { Some((end.ip(), end.port())) } else { Some((text.parse().ok()?, 0)) }
}

/// A flow as the files write it: `PATH PROTO HOP > HOP… BYTES B [MARK]…`, a hop being `DEVICE rx|tx`.
pub fn flow_line(flow: &Flow) -> String {
    let direction = |direction| match direction {
        Direction::Rx => "rx",
        Direction::Tx => "tx",
    };
    let hops: Vec<_> = flow.hops.iter().map(|hop| format!("{} {}", hop.device, direction(hop.direction))).collect();
    let mut line = format!("{} {} {} {}B", path_name(flow.path), flow.proto, hops.join(" > "), flow.bytes);
    if let Some(scope) = flow.scope {
        line.push(' ');
        line.push_str(serde_json::to_value(scope).unwrap().as_str().unwrap());
    }
    if flow.local_pair_left_node {
        line.push_str(" local_pair_left_node");
    }
    if let Some(reason) = flow.reason {
        line.push(' ');
        line.push_str(serde_json::to_value(reason).unwrap().as_str().unwrap());
    }
    line
}

/// A device's residuals as the files write them.
pub fn residual_lines(device: &netpath::report::Device) -> Vec<String> {
    let Some(residual) = &device.residual else { return Vec::new() };
    [("rx", &residual.rx), ("tx", &residual.tx)]
        .into_iter()
        .filter(|(_, one)| one.bytes != 0 || !one.causes.is_empty())
        .map(|(direction, one)| {
            let bytes = |bytes: Option<i64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
            let mut parts: Vec<_> =
                one.causes.iter().map(|cause| format!("{} {}", cause.name, bytes(cause.bytes))).collect();
            if one.unexplained_bytes != 0 {
                parts.push(format!("unexplained {}", one.unexplained_bytes));
            }
            format!("{} {direction} {}: {}", device.facts.name, one.bytes, parts.join(", "))
        })
        .collect()
}

pub fn path_name(path: PathClass) -> &'static str {
    match path {
        PathClass::Eni => "eni",
        PathClass::Local => "local",
        PathClass::Host => "host",
        PathClass::Transit => "transit",
        PathClass::Undelivered => "undelivered",
        PathClass::Unresolved => "unresolved",
    }
}
