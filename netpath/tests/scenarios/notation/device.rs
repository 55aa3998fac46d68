//! A device of a scenario.

use std::net::IpAddr;

use netpath::model::{
    Attach, Blind, DeviceClass, DeviceFacts, Direction, Drops, KernelCounters, KernelSlack, NameSource, OtherProgram,
    Qdisc, Xdp, XdpMode,
};
use netpath::snapshot::{Device, PodRecord, PortVlans, Vlan};
use serde::Deserialize;

/// What a file says of a device; README.md has the meanings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "keys of a file, most of which are left out")]
pub(super) struct DeviceEntry {
    name: String,
    class: DeviceClass,
    kind: Option<String>,
    #[serde(default)]
    addresses: Vec<String>,
    pod: Option<Pod>,
    vlan: Option<VlanEntry>,
    over: Option<String>,
    peer: Option<String>,
    port_of: Option<String>,
    #[serde(default)]
    vlan_filtering: bool,
    pvid: Option<u16>,
    #[serde(default)]
    untagged: Vec<u16>,
    remote: Option<IpAddr>,
    #[serde(default)]
    blind: bool,
    #[serde(default = "yes")]
    attached: bool,
    #[serde(default)]
    appeared: bool,
    #[serde(default)]
    vanished: bool,
    kernel: Option<Counted>,
    #[serde(default)]
    kernel_unknown: bool,
    below: Option<Moved>,
    above: Option<Moved>,
    drops: Option<Dropped>,
    qdisc: Option<QdiscEntry>,
    filter_drops: Option<u64>,
    #[serde(default)]
    xdp: bool,
    #[serde(default)]
    other_programs: Vec<OtherEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pod {
    address: IpAddr,
    /// `NAMESPACE/NAME`, if it is known.
    name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VlanEntry {
    on: String,
    id: u16,
}

/// What the kernel counted; packets of 1500 bytes if the file does not say how many.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Counted {
    rx_bytes: u64,
    rx_packets: Option<u64>,
    tx_bytes: u64,
    tx_packets: Option<u64>,
}

/// By how much the kernel's counters moved while they were being read.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Moved {
    rx_bytes: u64,
    rx_packets: u64,
    tx_bytes: u64,
    tx_packets: u64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Dropped {
    rx_packets: u64,
    tx_packets: u64,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct QdiscEntry {
    passed_bytes: u64,
    dropped_packets: u64,
    queued_packets: i64,
    queued_bytes: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OtherEntry {
    direction: Direction,
    place: Place,
}

/// Where a program is, as netpath's sees it.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Ahead,
    Behind,
    Offloaded,
}

fn yes() -> bool {
    true
}

impl DeviceEntry {
    /// The device, and what is known of its pod. Those that it names must be among the `others`.
    pub(super) fn read(self, ifindex: u32, others: &[Device]) -> Result<(Device, Option<PodRecord>), String> {
        let index = |name: &String| {
            let found = others.iter().find(|other| other.facts.name == *name);
            found.map(|other| other.facts.ifindex).ok_or_else(|| format!("{}: there is no {name} before it", self.name))
        };
        let port_vlans = PortVlans {
            pvid: self.pvid,
            untagged: self.pvid.into_iter().chain(self.untagged.iter().copied()).collect(),
        };
        let vlan = |vlan: &VlanEntry| Ok::<_, String>(Vlan { lower_ifindex: index(&vlan.on)?, id: vlan.id });
        let kernel = self.kernel.map(Counted::read).unwrap_or_default();
        let device = Device {
            routed: self.pod.iter().map(|pod| pod.address).collect(),
            vlan: self.vlan.as_ref().map(vlan).transpose()?,
            lower: self.over.as_ref().or(self.peer.as_ref()).map(index).transpose()?,
            master: self.port_of.as_ref().map(index).transpose()?,
            vlan_filtering: self.vlan_filtering,
            port_vlans: Some(port_vlans).filter(|vlans| vlans.pvid.is_some() || !vlans.untagged.is_empty()),
            remote: self.remote,
            blind: self
                .blind
                .then(|| Blind::NotAttached { reason: "another program redirects".to_owned() })
                .into_iter()
                .collect(),
            ..Device::new(DeviceFacts {
                kind: self.kind,
                addresses: self.addresses,
                attach: if self.attached { Attach::Tcx } else { Attach::None },
                appeared: self.appeared,
                vanished: self.vanished,
                kernel: (!self.kernel_unknown).then_some(kernel),
                kernel_slack: slack(self.below, self.above),
                drops: self.drops.map(|Dropped { rx_packets, tx_packets }| Drops { rx_packets, tx_packets }),
                qdisc: self.qdisc.map(QdiscEntry::read),
                filter_drops: self.filter_drops,
                xdp: self.xdp.then_some(Xdp { mode: XdpMode::Driver, program_id: Some(7) }),
                other_programs: Some(self.other_programs.iter().map(OtherEntry::read).collect::<Vec<_>>())
                    .filter(|programs| !programs.is_empty()),
                ..DeviceFacts::new(ifindex, &self.name, self.class)
            })
        };
        let pod = self.pod.and_then(|pod| pod.name).map(|name| record(&device, &name)).transpose()?;
        Ok((device, pod))
    }
}

impl Counted {
    fn read(self) -> KernelCounters {
        let packets = |packets: Option<u64>, bytes: u64| packets.unwrap_or_else(|| bytes.div_ceil(1500));
        KernelCounters {
            rx_bytes: self.rx_bytes,
            rx_packets: packets(self.rx_packets, self.rx_bytes),
            tx_bytes: self.tx_bytes,
            tx_packets: packets(self.tx_packets, self.tx_bytes),
        }
    }
}

impl QdiscEntry {
    fn read(self) -> Qdisc {
        let Self { passed_bytes, dropped_packets, queued_packets, queued_bytes } = self;
        Qdisc { kind: "tbf".to_owned(), passed_bytes, dropped_packets, queued_packets, queued_bytes }
    }
}

impl OtherEntry {
    fn read(&self) -> OtherProgram {
        let offloaded = self.place == Place::Offloaded;
        OtherProgram {
            direction: self.direction,
            ahead: self.place == Place::Ahead,
            kind: if offloaded { "flower" } else { "tcx" }.to_owned(),
            program_id: Some(11),
            name: Some("cil_\u{1b}x".to_owned()),
            offloaded,
        }
    }
}

fn slack(below: Option<Moved>, above: Option<Moved>) -> Option<KernelSlack> {
    let moved = |moved: Option<Moved>| {
        let Moved { rx_bytes, rx_packets, tx_bytes, tx_packets } = moved.unwrap_or_default();
        KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets }
    };
    (below.is_some() || above.is_some()).then(|| KernelSlack { below: moved(below), above: moved(above) })
}

/// What the VPC CNI would say of the pod behind the device.
fn record(device: &Device, pod: &str) -> Result<PodRecord, String> {
    let (namespace, name) =
        pod.split_once('/').ok_or_else(|| format!("{}: {pod} has no namespace", device.facts.name))?;
    Ok(PodRecord {
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
