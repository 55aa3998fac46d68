//! One window of a live node: attaches, follows devices that come and go, and ends with a [`Snapshot`].
//!
//! In: which devices are ENIs, how many flows to make room for. Out: plain data. It must not reason about flows: that is
//! `path`'s work.

mod drainer;
mod followed;
mod others;
mod place;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use jiff::Timestamp;
use rustix::system::uname;
use tokio::task::yield_now;

use self::drainer::{Boundary, Drainer};
use self::followed::Followed;
use self::place::Lookout;
use crate::kernel::attach::Attacher;
use crate::kernel::drain::Tally;
use crate::kernel::leftovers;
use crate::kernel::load::load;
use crate::node::conntrack::statistics::{self, Statistics};
use crate::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use crate::node::devices::counters::CounterReader;
use crate::node::devices::qdiscs::Qdiscs;
use crate::node::devices::uplink::Uplinks;
use crate::node::devices::{EniChoice, LinkEvent, LinkMonitor};
use crate::node::diversions;
use crate::node::enis::{Answers, Inquiry, Places};
use crate::node::pods::{Follower, HostRoot};
use crate::privilege::{self, Purpose};
use crate::report::{DeviceClass, NodeInfo, Skew, Window};
use crate::snapshot::{Device, Diversions, Snapshot};

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
    /// Make clsact qdiscs where they are needed and there are none.
    pub new_qdiscs: bool,
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
    /// When the window was opened; `None` if the kernel does not tell.
    conntrack_at_start: Option<Statistics>,
    names: Follower,
    diversions: diversions::Watch,
    /// By the index that their counts have: the kernel's, but for those that are gone and whose index another has since.
    devices: BTreeMap<u32, Followed>,
    /// What such a device gets next.
    next_aside: u32,
    lookout: Lookout,
    /// How often messages about devices were lost.
    device_overruns: u64,
    /// For devices that appear in the window.
    counters: CounterReader,
    /// About ENIs, when the window was opened.
    answers: Answers,
    /// As in the snapshot.
    default_routes: Option<Vec<u32>>,
    opened: Instant,
    opened_skew_ns: u64,
    /// When the window was opened; `None` if the kernel does not tell.
    qdiscs: Option<Qdiscs>,
    purpose: Purpose,
    started_at: Timestamp,
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
        if !options.new_qdiscs {
            attacher.make_no_qdisc();
        }
        let mut monitor = LinkMonitor::open(&choice)?;
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
        // Its questions are packets on an ENI: they must not be in the window.
        let answers = inquiry.wait();
        for link in monitor.learn(&answers.macs())? {
            match devices.get_mut(&link.ifindex).filter(|device| device.is_attached()) {
                Some(device) => device.changed(link),
                None => drop(devices.insert(link.ifindex, Followed::attach(&mut attacher, link))),
            }
        }
        if !devices.values().any(Followed::is_attached) {
            if let Some((name, reason)) = devices.values().find_map(|one| Some((&one.link.name, one.blind.as_ref()?))) {
                anyhow::bail!("no device to measure here, {} for example: {reason}", name.escape_debug());
            }
            let names: Vec<&str> = devices.values().map(|device| device.link.name.as_str()).collect();
            anyhow::bail!(
                "no device to measure here, only {}; run netpath in the node's own network namespace (hostNetwork, or nsenter -t 1 -n)",
                names.join(", ").escape_debug()
            );
        }
        let default_routes = Uplinks::read().ok().map(|uplinks| uplinks.devices());
        // What was counted while devices were being attached one by one belongs to no window.
        let started_at = Timestamp::now();
        let names = Follower::start(host);
        let diversions = diversions::Watch::start();
        let (drainer, opened) = Drainer::start(drain)?;
        let conntrack_at_start = conntrack.as_ref().ok().and_then(|_| statistics::read().ok());
        for device in devices.values_mut() {
            device.opened(&opened);
        }
        Ok(Self {
            monitor,
            attacher,
            drainer,
            conntrack,
            conntrack_at_start,
            names,
            diversions,
            devices,
            next_aside: FIRST_ASIDE,
            device_overruns: 0,
            answers,
            default_routes,
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
        self.devices.values().filter(|device| device.is_attached()).count()
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
        let attached = self.devices.iter_mut().filter(|(_, device)| device.is_attached());
        let places = attached.map(|(ifindex, device)| (*ifindex, &mut device.place)).collect();
        Ok(self.lookout.look(&own, places)?)
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Appeared(link) => {
                // Before anything of the new device is counted.
                self.make_room(link.ifindex);
                let mut device = Followed::attach(&mut self.attacher, link);
                device.appeared(&mut self.counters);
                if device.link.class == DeviceClass::Veth {
                    self.names.veth_appeared();
                }
                self.insert(device);
            }
            LinkEvent::Changed(link) => {
                if let Some(device) = self.devices.get_mut(&link.ifindex) {
                    device.changed(link);
                }
            }
            LinkEvent::Gone { ifindex, last, .. } => {
                self.attacher.forget(ifindex);
                if let Some(device) = self.devices.get_mut(&ifindex) {
                    device.went(last);
                }
            }
            // The monitor reads all devices again, and what changed follows.
            LinkEvent::Lost => self.device_overruns += 1,
        }
    }

    /// Sets aside the device that had this index before, and what was counted of it.
    fn make_room(&mut self, ifindex: u32) {
        if let Some(aside) = self.set_aside(ifindex) {
            self.drainer.set_aside(ifindex, aside);
        }
    }

    /// Sets aside the device that had this index before, if there was one, and says under which index.
    fn set_aside(&mut self, ifindex: u32) -> Option<u32> {
        let mut former = self.devices.remove(&ifindex)?;
        let aside = self.next_aside;
        self.next_aside -= 1;
        former.link.ifindex = aside;
        self.devices.insert(aside, former);
        Some(aside)
    }

    fn insert(&mut self, device: Followed) {
        self.devices.insert(device.link.ifindex, device);
    }

    /// Closes the window, lets go of every device, and says what was seen.
    pub fn finish(mut self) -> anyhow::Result<Snapshot> {
        let (tally, closed) = self.close()?;
        let conntrack_table = self.conntrack_at_start.and_then(|start| Some(statistics::read().ok()?.since(start)));
        // Are read while ENIs are asked about.
        let names = self.names.finish();
        let diversions = self.diversions.finish();
        let candidates: Vec<_> = self.devices.values().map(Followed::candidate).collect();
        let known = self.answers.again(&candidates).about(&candidates);
        let new_qdiscs = self.attacher.new_qdiscs();
        let_go(self.attacher, self.purpose)?;
        let conntrack: Outcome = match self.conntrack {
            Ok(tracker) => tracker.finish(),
            Err(error) => error.into(),
        };
        let names = names.wait();
        let diversions = Diversions { local_routes: self.monitor.local_routes(), ..diversions.wait() };
        let duration = closed.at - self.opened;
        Ok(Snapshot {
            node: NodeInfo { instance_id: known.instance_id, ..node_info() },
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
            conntrack_table,
            device_overruns: self.device_overruns,
            default_routes: self.default_routes,
            new_qdiscs,
            enis: known.enis,
            ipam: known.ipam,
            sources: known.sources,
            names,
            diversions,
        })
    }

    /// Closes the window, and takes in the devices that came while it was being closed.
    fn close(&mut self) -> anyhow::Result<(Tally, Boundary)> {
        while let Some(event) = self.monitor.try_next()? {
            match event {
                // Attaching to hundreds of devices would keep the window open for seconds.
                LinkEvent::Appeared(link) => {
                    self.make_room(link.ifindex);
                    let device = Followed::too_late(link, &mut self.counters);
                    self.insert(device);
                }
                _ => self.take(event),
            }
        }
        let (mut tally, closed) = self.drainer.finish()?;
        // What is on the hooks now was there all the time: nobody can put netpath's programs back.
        if let Err(error) = self.look() {
            let unknown = format!("it could not be checked that netpath's programs stayed on its hooks: {error:#}");
            for device in self.devices.values_mut().filter(|device| device.is_attached()) {
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
                    if let Some(aside) = self.set_aside(link.ifindex) {
                        tally.set_aside(link.ifindex, aside);
                    }
                    let device = Followed::too_late(link, &mut self.counters);
                    self.insert(device);
                }
                _ => {}
            }
        }
        Ok((tally, closed))
    }
}

/// Takes the programs off the hooks, and gives up what only they were needed for.
fn let_go(attacher: Attacher, purpose: Purpose) -> anyhow::Result<()> {
    if attacher.must_be_dropped() {
        drop(attacher);
        return privilege::after_measuring(purpose);
    }
    // This thread asks the kernel for nothing more. Those that follow conntrack and names have their own, and end.
    privilege::after_measuring(purpose)?;
    // The kernel takes a grace period for each program that it lets go of, some seconds for hundreds of devices. The
    // report need not wait for that; the end of the process does. Without a thread it happens right here.
    let _ = std::thread::Builder::new().name("detach".into()).spawn(move || drop(attacher));
    Ok(())
}

fn node_info() -> NodeInfo {
    let name = uname();
    let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
    NodeInfo { hostname: text(name.nodename()), kernel: text(name.release()), instance_id: None }
}
