//! One window of a live node: attaches, follows devices that come and go, and ends with a [`Snapshot`].
//!
//! In: which devices are ENIs, how many flows to make room for. Out: plain data. It must not reason about flows: that is
//! `path`'s work.

mod drainer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;

use self::drainer::{Boundary, Drainer};
use crate::kernel::attach::Attacher;
use crate::kernel::load::load;
use crate::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use crate::node::devices::counters::{Counted, CounterReader};
use crate::node::devices::{EniChoice, Link, LinkEvent, LinkMonitor};
use crate::report::{Attach, DeviceClass, NodeInfo, Skew, Window};
use crate::snapshot::{Device, KernelCounters, KernelSlack, Snapshot};

/// What to measure.
#[derive(Debug)]
pub struct Options<'a> {
    /// Names of ENIs; empty to decide by evidence.
    pub eni_globs: &'a [String],
    /// Room in the kernel's maps, for IPv4 and IPv6 each.
    pub max_flows: u32,
}

/// A window that is open.
pub struct Measurement {
    monitor: LinkMonitor,
    attacher: Attacher,
    drainer: Drainer,
    conntrack: Result<Tracker, ConntrackError>,
    devices: BTreeMap<u32, Followed>,
    /// For devices that appear in the window.
    counters: CounterReader,
    opened: Instant,
    opened_skew_ns: u64,
    started_at: Timestamp,
}

/// A device that was there at some time in the window.
#[derive(Debug)]
struct Followed {
    link: Link,
    attach: Attach,
    blind: Option<String>,
    /// Before netpath counted.
    at_start: Option<Counted>,
    /// What was counted from then until netpath counted for certain.
    start_slack: KernelCounters,
    appeared: bool,
    gone: bool,
    /// When it went, if the kernel told.
    at_going: Option<Counted>,
}

impl Measurement {
    /// Attaches to every device that packets of pods or ENIs pass, and opens the window.
    pub async fn start(options: &Options<'_>) -> anyhow::Result<Self> {
        let choice = EniChoice::new(options.eni_globs)?;
        let (mut attacher, drain) = load(options.max_flows)?;
        // Before anything is counted, so that no connection that is seen is unknown.
        let conntrack = Tracker::start(Limits::default());
        let (monitor, links) = LinkMonitor::start(choice).await?;
        let mut devices = BTreeMap::new();
        for link in links {
            let followed = Followed::new(&mut attacher, link);
            devices.insert(followed.link.ifindex, followed);
        }
        if !devices.values().any(|device| device.attach == Attach::Tcx) {
            let names: Vec<&str> = devices.values().map(|device| device.link.name.as_str()).collect();
            anyhow::bail!(
                "no device to measure here, only {}; run netpath in the node's own network namespace (hostNetwork, or nsenter -t 1 -n)",
                names.join(", ").escape_debug()
            );
        }
        // What was counted while devices were being attached one by one belongs to no window.
        let (drainer, opened) = Drainer::start(drain)?;
        let started_at = Timestamp::now();
        for (ifindex, device) in &mut devices {
            device.opened(*ifindex, &opened);
        }
        Ok(Self {
            monitor,
            attacher,
            drainer,
            conntrack,
            devices,
            counters: CounterReader::open().context("cannot open a netlink socket")?,
            opened: opened.at,
            opened_skew_ns: opened.skew_ns(),
            started_at,
        })
    }

    /// How many devices netpath is attached to.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.devices.values().filter(|device| device.attach != Attach::None && !device.gone).count()
    }

    /// How many flows were seen so far, at all hooks together.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drainer.flows()
    }

    /// Waits for a change of the devices and follows it. Cancel safe.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        let event = self.monitor.next().await?;
        self.handle(event).await
    }

    async fn handle(&mut self, event: LinkEvent) -> anyhow::Result<()> {
        match event {
            LinkEvent::Changed(link) => self.changed(link),
            LinkEvent::Gone { ifindex, last } => self.gone(ifindex, last),
            LinkEvent::Lost => {
                let links = self.monitor.links().await?;
                let present: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
                let missing: Vec<u32> =
                    self.devices.keys().copied().filter(|ifindex| !present.contains(ifindex)).collect();
                for ifindex in missing {
                    self.gone(ifindex, None);
                }
                for link in links {
                    self.changed(link);
                }
            }
        }
        Ok(())
    }

    fn changed(&mut self, link: Link) {
        match self.devices.get_mut(&link.ifindex) {
            // Its class was decided by evidence that does not change; its name may.
            Some(device) if !device.gone => device.link.name = link.name,
            _ => {
                let at_start = link.counters;
                let mut followed = Followed::new(&mut self.attacher, link);
                followed.appeared(at_start, &mut self.counters);
                self.devices.insert(followed.link.ifindex, followed);
            }
        }
    }

    fn gone(&mut self, ifindex: u32, last: Option<Counted>) {
        self.attacher.forget(ifindex);
        if let Some(device) = self.devices.get_mut(&ifindex).filter(|device| !device.gone) {
            device.gone = true;
            device.at_going = last;
        }
    }

    /// Closes the window: reads what was counted, then lets go of every device.
    pub async fn finish(mut self) -> anyhow::Result<Snapshot> {
        // Changes that wait to be heard of are changes within the window.
        while let Some(event) = self.monitor.next().now_or_never() {
            self.handle(event?).await?;
        }
        let (tally, closed) = self.drainer.finish()?;
        let duration = closed.at - self.opened;
        for link in self.monitor.links().await? {
            if let Some(device) = self.devices.get_mut(&link.ifindex).filter(|device| !device.gone) {
                // Those of the end: a pod that started in the window got its address and route after its device.
                device.link.addresses = link.addresses;
                device.link.routed = link.routed;
            }
        }
        let conntrack: Outcome = match self.conntrack {
            Ok(tracker) => tracker.finish(),
            Err(error) => error.into(),
        };
        Ok(Snapshot {
            node: node_info()?,
            window: Window {
                started_at: self.started_at.to_string(),
                duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
                skew_ns: Some(Skew { start: self.opened_skew_ns, end: closed.skew_ns() }),
            },
            devices: self.devices.into_values().map(|device| device.into_device(&closed)).collect(),
            observations: tally.observations().collect(),
            unattributed: tally.unattributed().collect(),
            lost: tally.lost,
            connections: conntrack.connections,
            conntrack: conntrack.state,
            conntrack_reason: conntrack.reason,
        })
    }
}

impl Followed {
    /// Attaches to the device, if packets of pods or ENIs pass it.
    fn new(attacher: &mut Attacher, link: Link) -> Self {
        use DeviceClass::{Bridge, Eni, Loopback, Other, Tunnel, Veth, Vlan};
        let (attach, blind) = match link.class {
            Loopback | Other => (Attach::None, None),
            Eni | Veth | Vlan | Bridge | Tunnel => match attacher.attach(link.ifindex, &link.name, link.layer) {
                Ok(()) => (Attach::Tcx, None),
                Err(error) => (Attach::None, Some(format!("netpath could not attach to it: {}", root_cause(&error)))),
            },
        };
        Self {
            link,
            attach,
            blind,
            at_start: None,
            start_slack: KernelCounters::default(),
            appeared: false,
            gone: false,
            at_going: None,
        }
    }

    /// It was there when the window was opened.
    fn opened(&mut self, ifindex: u32, opened: &Boundary) {
        self.at_start = opened.before.devices.get(&ifindex).copied();
        if let (Some(before), Some(after)) = (self.at_start, opened.after.devices.get(&ifindex)) {
            self.start_slack = after.kernel.since(before.kernel).unwrap_or_default();
        }
    }

    /// It has come in the window. A new device's counters begin at 0; those of one from another namespace do not.
    fn appeared(&mut self, at_start: Counted, counters: &mut CounterReader) {
        self.appeared = true;
        self.at_start = Some(at_start);
        // If it is gone already, the window gets to know soon.
        if let Ok(Some(attached)) = counters.read_one(self.link.ifindex) {
            self.start_slack = attached.kernel.since(at_start.kernel).unwrap_or_default();
        }
    }

    /// What is known of it when the window is closed.
    fn into_device(self, closed: &Boundary) -> Device {
        let (before, after) =
            (closed.before.devices.get(&self.link.ifindex), closed.after.devices.get(&self.link.ifindex));
        // Whatever went before the second reading took the end of its counters along.
        let vanished = self.gone || after.is_none();
        let at_end =
            if vanished { self.at_going.filter(|_| self.counters_outlive_peer()) } else { before.or(after).copied() };
        let since = |end: Counted| Some((end, self.at_start?));
        let (end, start) = at_end.and_then(since).unzip();
        let kernel = end.zip(start).and_then(|(end, start)| end.kernel.since(start.kernel));
        let drops = end.zip(start).and_then(|(end, start)| end.drops.since(start.drops));
        let end_slack = match (before, after) {
            (Some(before), Some(after)) if !vanished => after.kernel.since(before.kernel).unwrap_or_default(),
            _ => KernelCounters::default(),
        };
        let kernel_slack = kernel.map(|_| KernelSlack { start: self.start_slack, end: end_slack });
        let Link { ifindex, name, class, kind, driver, mac, addresses, routed, vlan, .. } = self.link;
        Device {
            ifindex,
            name,
            class,
            kind,
            driver,
            mac,
            addresses,
            routed,
            attach: self.attach,
            blind: self.blind,
            kernel,
            kernel_slack,
            drops,
            appeared: self.appeared,
            vanished,
            vlan,
            pod: None,
            eni_id: None,
        }
    }
}

impl Followed {
    /// A veth receives what its peer sends, and shows the peer's counter for that. When one of the two is deleted they are
    /// parted first, so that the last word of the kernel is that it received nothing (`drivers/net/veth.c`, `veth_dellink`,
    /// `veth_get_stats64`).
    fn counters_outlive_peer(&self) -> bool {
        self.link.kind.as_deref() != Some("veth")
    }
}

/// The innermost error: what the kernel said.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

fn node_info() -> anyhow::Result<NodeInfo> {
    let read = |name: &str| -> anyhow::Result<String> {
        let path = format!("/proc/sys/kernel/{name}");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is /proc mounted?"))?;
        Ok(text.trim_end().to_owned())
    };
    Ok(NodeInfo { hostname: read("hostname")?, kernel: read("osrelease")?, instance_id: None })
}
