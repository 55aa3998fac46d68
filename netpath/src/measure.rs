//! One window of a live node: attaches, follows devices that come and go, and ends with a [`Snapshot`].
//!
//! In: which devices are ENIs, how many flows to make room for. Out: plain data. It must not reason about flows: that is
//! `path`'s work.

mod drainer;
mod others;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::task::yield_now;

use self::drainer::{Boundary, Drainer};
use self::place::{Lookout, Place};
use crate::kernel::attach::Attacher;
use crate::kernel::leftovers;
use crate::kernel::load::load;
use crate::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use crate::node::devices::counters::CounterReader;
use crate::node::devices::qdiscs::Qdiscs;
use crate::node::devices::{EniChoice, Link, LinkEvent, LinkMonitor};
use crate::node::enis::{self, Answers, Candidate, Inquiry, Places};
use crate::node::pods::{Follower, HostRoot};
use crate::privilege::{self, Purpose};
use crate::report::{Attach, DeviceClass, NodeInfo, Skew, Window};
use crate::snapshot::enis::Allowances;
use crate::snapshot::{Device, Drops, KernelCounters, KernelSlack, Snapshot};

/// The index under which the first device is that is gone, and whose own index another has since; the next ones count down.
/// The kernel's begin at 1.
const FIRST_ASIDE: u32 = i32::MAX.cast_unsigned();

/// What to measure.
#[derive(Debug)]
pub struct Options<'a> {
    /// Names of ENIs; empty to decide by evidence.
    pub eni_globs: &'a [String],
    /// Room in the kernel's maps, for IPv4 and IPv6 each.
    pub max_flows: u32,
    /// Attach legacy filters, though the kernel has TCX.
    pub clsact: bool,
    /// Whom to ask about ENIs.
    pub places: Places,
    /// The folder that is the host's `/`; `None` to find it.
    pub host_root: Option<&'a Path>,
    /// What the process needs its capabilities for, beside measuring.
    pub purpose: Purpose,
}

/// A window that is open.
pub struct Measurement {
    monitor: LinkMonitor,
    attacher: Attacher,
    drainer: Drainer,
    conntrack: Result<Tracker, ConntrackError>,
    names: Follower,
    /// By the index that their counts have: the kernel's, but for those that are gone and whose index another has since.
    devices: BTreeMap<u32, Followed>,
    lookout: Lookout,
    /// What such a device gets next.
    next_aside: u32,
    /// How often messages about devices were lost.
    device_overruns: u64,
    /// For devices that appear in the window.
    counters: CounterReader,
    /// About ENIs, when the window was opened.
    answers: Answers,
    opened: Instant,
    opened_skew_ns: u64,
    /// When the window was opened; `None` if the kernel does not tell.
    qdiscs: Option<Qdiscs>,
    purpose: Purpose,
    started_at: Timestamp,
}

/// A device that was there at some time in the window.
#[derive(Debug)]
struct Followed {
    link: Link,
    attach: Attach,
    blind: Option<String>,
    place: Place,
    /// Before netpath counted.
    at_start: Option<KernelCounters>,
    drops_at_start: Option<Drops>,
    /// How far that is from what passed before netpath counted.
    slack: KernelSlack,
    /// As `at_start`, of an ENI that tells.
    allowances_at_start: Option<Allowances>,
    appeared: bool,
    gone: bool,
    /// Addresses that were routed to it at some time in the window.
    formerly_routed: BTreeSet<IpAddr>,
    /// When it went, if that can be told.
    at_going: Option<KernelCounters>,
}

impl Measurement {
    /// Attaches to every device that packets of pods or ENIs pass, and opens the window. Must be called in a tokio runtime.
    /// It is given up when the future is dropped, at the next device at the latest.
    pub async fn start(options: Options<'_>) -> anyhow::Result<Self> {
        let choice = EniChoice::new(options.eni_globs)?;
        let inquiry = Inquiry::start(options.places);
        let host = HostRoot::find(options.host_root)?;
        let (mut attacher, drain) = load(options.max_flows)?;
        if options.clsact {
            attacher.use_clsact().context("cannot prepare clsact filters; run netpath without --clsact")?;
        }
        let monitor = LinkMonitor::open(&choice)?;
        if attacher.must_be_dropped() {
            // Without CAP_SYS_ADMIN it cannot be told what is left over. It harms nobody, and `netpath cleanup` says so.
            let links = monitor.links().into_iter().map(|link| link.ifindex);
            let _ = leftovers::find(links).and_then(|found| leftovers::remove(&found));
        }
        let lookout = Lookout::new(monitor.links().iter().map(|link| link.ifindex))
            .context("cannot ask the kernel who is on the devices' hooks; check that tc filter show works")?;
        // Before a thread is started that would inherit them.
        privilege::while_measuring(options.purpose)?;
        // Before anything is counted, so that no connection that is seen is unknown.
        let conntrack = Tracker::start(Limits::default());
        let mut devices = BTreeMap::new();
        for link in monitor.links() {
            let followed = Followed::attach(&mut attacher, link);
            devices.insert(followed.link.ifindex, followed);
            yield_now().await;
        }
        if !devices.values().any(|device| device.attach != Attach::None) {
            let names: Vec<&str> = devices.values().map(|device| device.link.name.as_str()).collect();
            anyhow::bail!(
                "no device to measure here, only {}; run netpath in the node's own network namespace (hostNetwork, or nsenter -t 1 -n)",
                names.join(", ").escape_debug()
            );
        }
        // Its questions are packets on an ENI: they must not be in the window.
        let answers = inquiry.wait();
        // What was counted while devices were being attached one by one belongs to no window.
        let started_at = Timestamp::now();
        let names = Follower::start(host);
        let (drainer, opened) = Drainer::start(drain)?;
        for device in devices.values_mut() {
            device.opened(&opened);
        }
        Ok(Self {
            monitor,
            attacher,
            drainer,
            conntrack,
            names,
            devices,
            next_aside: FIRST_ASIDE,
            device_overruns: 0,
            answers,
            lookout,
            counters: CounterReader::open().context("cannot open a netlink socket")?,
            opened: opened.at,
            opened_skew_ns: opened.skew_ns(),
            qdiscs: opened.qdiscs,
            purpose: options.purpose,
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

    /// Waits for a change of the devices, or until it is time to look at their hooks, and follows it. Cancel safe. What it does
    /// for a new device blocks for two grace periods: when many come at once, whoever calls this has to look after other things
    /// in between.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            event = self.monitor.next() => self.take(event?),
            // The next look, or the last one, makes good for one that failed.
            () = self.lookout.due() => drop(self.look()),
        }
        Ok(())
    }

    /// Looks at netpath's place on the hooks.
    fn look(&mut self) -> anyhow::Result<()> {
        let own = self.attacher.program_ids();
        let places = attached(&mut self.devices).map(|(ifindex, one)| (ifindex, &mut one.place)).collect();
        Ok(self.lookout.look(&own, places)?)
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Appeared(link) => {
                if let Some(aside) = self.make_room(link.ifindex) {
                    // Before anything of the new device is counted.
                    self.drainer.set_aside(link.ifindex, aside);
                }
                let mut followed = Followed::attach(&mut self.attacher, link);
                followed.appeared(&mut self.counters);
                if followed.link.class == DeviceClass::Veth {
                    self.names.veth_appeared();
                }
                self.devices.insert(followed.link.ifindex, followed);
            }
            LinkEvent::Changed(link) => {
                if let Some(device) = self.devices.get_mut(&link.ifindex) {
                    device.formerly_routed.extend(std::mem::replace(&mut device.link, link).routed);
                }
            }
            LinkEvent::Gone { ifindex, last, .. } => {
                self.attacher.forget(ifindex);
                if let Some(device) = self.devices.get_mut(&ifindex) {
                    device.gone = true;
                    device.at_going = last;
                }
            }
            // The monitor reads all devices again, and what changed follows.
            LinkEvent::Lost => self.device_overruns += 1,
        }
    }

    /// Sets aside the device that had this index before, if there was one, and says under which index.
    fn make_room(&mut self, ifindex: u32) -> Option<u32> {
        let former = self.devices.remove(&ifindex)?;
        let aside = self.next_aside;
        self.next_aside -= 1;
        self.devices.insert(aside, Followed { link: Link { ifindex: aside, ..former.link }, ..former });
        Some(aside)
    }

    /// Takes in a device that came too late to be attached to, and yet in the window.
    fn too_late(&mut self, link: Link) {
        let blind = is_watched(link.class).then(|| "it appeared when the window was being closed".to_owned());
        let mut device = Followed::new(link, Attach::None, blind);
        device.appeared(&mut self.counters);
        self.devices.insert(device.link.ifindex, device);
    }

    /// Closes the window: reads what was counted, then lets go of every device.
    pub fn finish(mut self) -> anyhow::Result<Snapshot> {
        while let Some(event) = self.monitor.try_next()? {
            match event {
                // Attaching to hundreds of devices would keep the window open for seconds.
                LinkEvent::Appeared(link) => {
                    if let Some(aside) = self.make_room(link.ifindex) {
                        self.drainer.set_aside(link.ifindex, aside);
                    }
                    self.too_late(link);
                }
                _ => self.take(event),
            }
        }
        let (mut tally, closed) = self.drainer.finish()?;
        let duration = closed.at - self.opened;
        // What is on the hooks now was there all the time: nobody can put netpath's programs back.
        if let Err(error) = self.look() {
            let unknown = format!("it could not be checked that netpath's programs stayed on its hooks: {error:#}");
            for (_, device) in attached(&mut self.devices) {
                device.place.lost.get_or_insert_with(|| unknown.clone());
            }
        }
        while let Some(event) = self.monitor.try_next()? {
            match event {
                // A pod that started in the window got its address and route after its device.
                LinkEvent::Changed(_) => self.take(event),
                // If the index is still another's, that one was there when the window was closed, and this one was not.
                LinkEvent::Appeared(link)
                    if closed.has(link.ifindex) && self.devices.get(&link.ifindex).is_none_or(|former| former.gone) =>
                {
                    if let Some(aside) = self.make_room(link.ifindex) {
                        tally.set_aside(link.ifindex, aside);
                    }
                    self.too_late(link);
                }
                _ => {}
            }
        }
        let candidates: Vec<_> = self.devices.values().map(Followed::candidate).collect();
        let known = self.answers.again(&candidates).about(&candidates);
        let attacher = self.attacher;
        if attacher.must_be_dropped() {
            drop(attacher);
            privilege::after_measuring(self.purpose)?;
        } else {
            // This thread asks the kernel for nothing more. Those that follow conntrack and names have their own, and end.
            privilege::after_measuring(self.purpose)?;
            // The kernel takes a grace period for each program that it lets go of, some seconds for hundreds of devices. The
            // report need not wait for that; the end of the process does. Without a thread it happens right here.
            let _ = std::thread::Builder::new().name("detach".into()).spawn(move || drop(attacher));
        }
        let conntrack: Outcome = match self.conntrack {
            Ok(tracker) => tracker.finish(),
            Err(error) => error.into(),
        };
        let names = self.names.finish();
        Ok(Snapshot {
            node: NodeInfo { instance_id: known.instance_id, ..node_info()? },
            window: Window {
                started_at: self.started_at.to_string(),
                duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
                skew_ns: Some(Skew { start: self.opened_skew_ns, end: closed.skew_ns() }),
            },
            devices: self
                .devices
                .into_values()
                .map(|device| {
                    let eni = known.enis.iter().find(|eni| eni.ifindex == Some(device.link.ifindex));
                    let eni_id = eni.and_then(|eni| eni.id.as_ref()).map(|id| id.value.clone());
                    Device { eni_id, ..device.into_device(&closed, self.qdiscs.as_ref()) }
                })
                .collect(),
            observations: tally.observations().collect(),
            unattributed: tally.unattributed().collect(),
            lost: tally.lost,
            connections: conntrack.connections,
            conntrack: conntrack.state,
            conntrack_reason: conntrack.reason,
            device_overruns: self.device_overruns,
            enis: known.enis,
            ipam: known.ipam,
            sources: known.sources,
            names,
        })
    }
}

/// Whether packets of pods or ENIs pass such devices.
fn is_watched(class: DeviceClass) -> bool {
    use DeviceClass::{Bridge, Eni, Loopback, Other, Tunnel, Veth, Vlan};
    match class {
        Loopback | Other => false,
        Eni | Veth | Vlan | Bridge | Tunnel => true,
    }
}

impl Followed {
    /// Attaches to the device, if packets of pods or ENIs pass it.
    fn attach(attacher: &mut Attacher, link: Link) -> Self {
        let (attach, blind) = if is_watched(link.class) {
            match attacher.attach(link.ifindex, &link.name, link.layer) {
                Ok(how) => (how, None),
                Err(error) => (Attach::None, Some(format!("netpath could not attach to it: {}", root_cause(&error)))),
            }
        } else {
            (Attach::None, None)
        };
        Self::new(link, attach, blind)
    }

    fn new(link: Link, attach: Attach, blind: Option<String>) -> Self {
        Self {
            link,
            attach,
            blind,
            place: Place::default(),
            at_start: None,
            drops_at_start: None,
            slack: KernelSlack::default(),
            allowances_at_start: None,
            appeared: false,
            gone: false,
            formerly_routed: BTreeSet::new(),
            at_going: None,
        }
    }

    /// It was there when the window was opened.
    fn opened(&mut self, opened: &Boundary) {
        let counted = opened.counted(self.link.ifindex);
        (self.at_start, self.drops_at_start) = (counted.map(|one| one.kernel), counted.map(|one| one.drops));
        let (too_much, too_little) = opened.slack(self.link.ifindex);
        // What a start has too much, the difference lacks.
        self.slack = KernelSlack { below: too_little, above: too_much };
        self.allowances_at_start = self.allowances();
    }

    /// It has come in the window. A new device's counters begin at 0; those of one from another namespace do not.
    fn appeared(&mut self, counters: &mut CounterReader) {
        self.appeared = true;
        self.at_start = Some(self.link.counters);
        // If it is gone already, the window gets to know soon.
        if let Ok(Some(attached)) = counters.read_one(self.link.ifindex) {
            self.drops_at_start = Some(attached.drops);
            self.slack.below = attached.kernel.since(self.link.counters).unwrap_or_default();
        }
        self.allowances_at_start = self.allowances();
    }

    /// What its driver has counted so far against EC2's allowances, if it is an ENI.
    fn allowances(&self) -> Option<Allowances> {
        (self.link.class == DeviceClass::Eni && !self.gone).then(|| enis::allowances(&self.link.name))?
    }

    /// What may be said of it as an ENI, when the window is closed.
    fn candidate(&self) -> Candidate<'_> {
        let allowances = self.allowances_at_start.and_then(|start| Some(self.allowances()?.since(start)));
        Candidate { link: &self.link, allowances }
    }

    /// What is known of it when the window is closed.
    fn into_device(self, closed: &Boundary, qdiscs_at_start: Option<&Qdiscs>) -> Device {
        let ifindex = self.link.ifindex;
        let at_end = closed.counted(ifindex).filter(|_| !self.gone);
        let last = if self.gone { self.at_going } else { at_end.map(|end| end.kernel) };
        let kernel = last.zip(self.at_start).and_then(|(end, start)| end.since(start));
        let (too_much, too_little) = if self.gone { Default::default() } else { closed.slack(ifindex) };
        // Those of a device that came in the window were made with it.
        let known = !self.gone && (self.appeared || qdiscs_at_start.is_some());
        let qdiscs = closed.qdiscs.as_ref().filter(|_| known);
        let qdiscs_at_start = qdiscs_at_start.filter(|_| !self.appeared);
        let slack = KernelSlack { below: self.slack.below + too_much, above: self.slack.above + too_little };
        Device {
            attach: self.attach,
            blind: self.blind.or(self.place.lost),
            other_programs: self.place.others,
            kernel,
            kernel_slack: kernel.map(|_| slack),
            drops: at_end.zip(self.drops_at_start).and_then(|(end, start)| end.drops.since(start)),
            qdisc: qdiscs.and_then(|now| now.root_since(qdiscs_at_start, ifindex)),
            filter_drops: qdiscs.and_then(|now| now.filter_drops_since(qdiscs_at_start, ifindex)),
            appeared: self.appeared,
            vanished: self.gone || !closed.has(ifindex),
            formerly_routed: self.formerly_routed.into_iter().filter(|it| !self.link.routed.contains(it)).collect(),
            ..self.link.to_device()
        }
    }
}

/// The devices that netpath is attached to.
fn attached(devices: &mut BTreeMap<u32, Followed>) -> impl Iterator<Item = (u32, &mut Followed)> {
    let is_attached = |device: &Followed| device.attach != Attach::None && !device.gone;
    devices.iter_mut().filter(move |(_, device)| is_attached(device)).map(|(ifindex, device)| (*ifindex, device))
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
