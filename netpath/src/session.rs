//! A session on a live node: attaches once, follows devices that come and go, and yields a [`Snapshot`] of each window.
//!
//! In: which devices are ENIs, how many flows to make room for. Out: plain data. What closes a window opens the next one: no
//! packet is in none of them, or in two. It must not reason about flows: that is `path`'s work.

mod allowances;
mod attachment;
mod boundary;
mod drainer;
mod drops;
mod foreign;
mod hook_watcher;
mod ledger;
mod node;
mod options;
pub mod trace;
mod tracked;

use std::collections::{BTreeMap, HashSet, VecDeque};

use anyhow::Context as _;
use tokio::task::yield_now;

use self::allowances::{allowances, candidates, name_enis, read_allowances};
use self::attachment::{attach, attached, check_attached, detach};
use self::boundary::Boundary;
use self::drainer::Drainer;
use self::drops::DropNamer;
use self::hook_watcher::HookWatcher;
use self::ledger::Ledger;
use self::node::{default_routes, node_info};
pub use self::options::Options;
use self::tracked::TrackedDevice;
use crate::kernel::attach::Attacher;
use crate::kernel::flow_counts::FlowCounts;
use crate::kernel::load::load;
use crate::kernel::stale_filters;
use crate::model::{Allowances, Blind, DeviceClass, NodeInfo, Skew, Window};
use crate::netlink::counters::CounterReader;
use crate::node::conntrack::statistics::{self, Statistics};
use crate::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use crate::node::devices::{EniChoice, LinkEvent, LinkMonitor};
use crate::node::diversions;
use crate::node::enis::{Answers, PendingQuery};
use crate::node::pods::{HostRoot, PodWatcher};
use crate::privilege::{self, Purpose};
use crate::snapshot::{Diversions, Snapshot};

/// One attach, and the window that is open.
pub struct Session {
    monitor: LinkMonitor,
    attacher: Attacher,
    drainer: Drainer,
    drops: DropNamer,
    conntrack: Result<Tracker, ConntrackError>,
    names: PodWatcher,
    diversions: diversions::Watch,
    ledger: Ledger,
    /// Link events that were read while a window was being closed, and are the next one's.
    backlog: VecDeque<LinkEvent>,
    hook_watcher: HookWatcher,
    /// For devices that appear in a window.
    counters: CounterReader,
    answers: Answers,
    start: WindowStart,
    purpose: Purpose,
}

/// What was read when the window was opened.
struct WindowStart {
    boundary: Boundary,
    /// `None` if the kernel does not tell.
    conntrack: Option<Statistics>,
    /// The devices of default routes, as in the snapshot.
    default_routes: Option<Vec<u32>>,
    /// What the drivers of ENIs had counted against EC2's allowances, by ifindex. Those that come in the window are added.
    allowances: BTreeMap<u32, Allowances>,
}

impl Session {
    /// Attaches to every device that packets of pods or ENIs pass, and opens the first window. Must be called in a tokio
    /// runtime. It is given up when the future is dropped, at the next device at the latest.
    pub async fn attach(options: Options<'_>) -> anyhow::Result<Self> {
        let choice = EniChoice::new(options.eni_globs)?;
        let query = PendingQuery::start(options.endpoints);
        let host = HostRoot::find(options.host_root)?;
        let (mut attacher, drain, frees) = load(options.max_flows)?;
        let drops = DropNamer::new(frees);
        if options.clsact {
            attacher.use_clsact().context("cannot prepare clsact filters; run netpath without --clsact")?;
        }
        if !options.new_qdiscs {
            attacher.make_no_qdisc();
        }
        let mut monitor = LinkMonitor::open(&choice)?;
        if attacher.needs_detach() {
            // Without CAP_SYS_ADMIN it cannot be told what is left over. It harms nobody, and `netpath cleanup` says so.
            let links = monitor.links().into_iter().map(|link| link.ifindex);
            let _ = stale_filters::find(links).and_then(|found| stale_filters::remove(&found));
        }
        let hook_watcher = HookWatcher::new(monitor.links().iter().map(|link| link.ifindex))
            .context("cannot read the devices' hooks; check that 'tc filter show' works")?;
        // Before a thread is started that would inherit them.
        privilege::while_measuring(options.purpose)?;
        // Before anything is counted, so that no connection that is seen is unknown.
        let conntrack = Tracker::start(Limits::default());
        let mut ledger = Ledger::new();
        for link in monitor.links() {
            ledger.insert(attached(&mut attacher, TrackedDevice::new(link)));
            yield_now().await;
        }
        // Its questions are packets on an ENI: they must not be in the window.
        let answers = query.wait();
        for link in monitor.learn(&answers.macs())? {
            match ledger.get_mut(link.ifindex).filter(|device| device.is_attached()) {
                Some(device) => device.changed(link),
                None => ledger.insert(attached(&mut attacher, TrackedDevice::new(link))),
            }
        }
        check_attached(&ledger)?;
        let default_routes = default_routes();
        let names = PodWatcher::start(host);
        let diversions = diversions::Watch::start();
        // What was counted while devices were being attached one by one belongs to no window.
        let (drainer, opened) = Drainer::start(drain)?;
        ledger.open(&opened);
        let start = WindowStart {
            conntrack: conntrack.as_ref().ok().and_then(|_| statistics::read().ok()),
            default_routes,
            allowances: read_allowances(&ledger),
            boundary: opened,
        };
        Ok(Self {
            monitor,
            attacher,
            drainer,
            drops,
            conntrack,
            names,
            diversions,
            ledger,
            backlog: VecDeque::new(),
            hook_watcher,
            counters: CounterReader::open().context("cannot open a netlink socket")?,
            answers,
            start,
            purpose: options.purpose,
        })
    }

    /// How many devices netpath is attached to.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.ledger.iter().filter(|device| device.is_attached()).count()
    }

    /// How many flows were seen so far in this window, at all hooks together.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drainer.flows()
    }

    /// Waits for a change of the devices, or until it is time to look at their hooks, and follows it. Cancel safe. What it does
    /// for a new device blocks for two grace periods: when many come at once, whoever calls this has to look after other things
    /// in between.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        if let Some(event) = self.backlog.pop_front() {
            self.apply(event, When::Open);
            return Ok(());
        }
        let pending = self.ledger.iter().find(|device| device.is_pending()).map(|device| device.link.ifindex);
        if let Some(ifindex) = pending {
            self.attach_to(ifindex);
            return Ok(());
        }
        tokio::select! {
            event = self.monitor.next() => self.apply(event?, When::Open),
            // The next look, or the last one, makes good for one that failed.
            () = self.hook_watcher.due() => drop(self.look()),
        }
        Ok(())
    }

    /// Closes the window and opens the next one. Blocks for the readings of both: some milliseconds, more with many
    /// connections, and some seconds if a source of names does not answer for the first time.
    pub fn cut(&mut self) -> anyhow::Result<Snapshot> {
        self.close(false)
    }

    /// Closes the last window, and detaches from every device.
    pub fn finish(mut self) -> anyhow::Result<Snapshot> {
        let snapshot = self.close(true)?;
        detach(self.attacher, self.purpose)?;
        Ok(snapshot)
    }

    fn close(&mut self, last: bool) -> anyhow::Result<Snapshot> {
        while let Some(event) = self.next_waiting()? {
            self.apply(event, When::Closing);
        }
        if let Ok(tracker) = &self.conntrack {
            tracker.near_boundary();
        }
        let default_routes = default_routes();
        let (mut flow_counts, closed) = self.drainer.cut()?;
        // Are read meanwhile.
        let (names, diversions) = (self.names.cut(last), self.diversions.cut(last));
        let kernel_drops = self.drops.drops(&flow_counts);
        let statistics = self.conntrack.as_ref().ok().and_then(|_| statistics::read().ok());
        self.look_once_more();
        self.apply_late_events(&closed, &mut flow_counts)?;
        let conntrack = match &self.conntrack {
            Ok(tracker) => tracker.cut(last),
            Err(error) => Outcome::unavailable(error),
        };
        let allowances = read_allowances(&self.ledger);
        let candidates = candidates(&self.ledger, &self.start.allowances, &allowances);
        let own_connections = self.answers.own_connections();
        if last {
            self.answers.refresh(&candidates);
        } else {
            self.answers.roll(&candidates);
        }
        let known = self.answers.resolve(&candidates);
        let duration = closed.at - self.start.boundary.at;
        log::info!("a window of {:.1} s is closed: {} flows at hooks", duration.as_secs_f64(), flow_counts.len());
        let mut devices = self.ledger.devices(&self.start.boundary, &closed);
        name_enis(&mut devices, &known.enis);
        let snapshot = Snapshot {
            node: NodeInfo {
                instance_id: known.instance_id,
                zone_id: known.zone_id,
                vpc_cidr_blocks: known.vpc_cidr_blocks,
                ..node_info()
            },
            window: Window {
                started_at: self.start.boundary.time.to_string(),
                duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
                skew_ns: Some(Skew { start: self.start.boundary.skew_ns(), end: closed.skew_ns() }),
                interval_ns: None,
                late_ns: None,
            },
            devices,
            observations: flow_counts.observations().collect(),
            unattributed: flow_counts.unattributed().collect(),
            lost: flow_counts.lost,
            own_connections,
            connections: conntrack.connections,
            conntrack: conntrack.state,
            conntrack_reason: conntrack.reason,
            conntrack_table: self.start.conntrack.zip(statistics).map(|(start, end)| end.since(start)),
            device_overruns: self.ledger.overruns,
            default_routes: self.start.default_routes.take(),
            new_qdiscs: self.attacher.new_qdiscs(),
            enis: known.enis,
            ipam: known.ipam,
            sources: known.sources,
            names: names.wait(),
            diversions: Diversions { local_routes: self.monitor.local_routes(), ..diversions.wait() },
            kernel_drops,
        };
        self.ledger.open(&closed);
        self.monitor.forget_past_routes();
        self.start = WindowStart { boundary: closed, conntrack: statistics, default_routes, allowances };
        Ok(snapshot)
    }

    /// The next link event, if one waits.
    fn next_waiting(&mut self) -> anyhow::Result<Option<LinkEvent>> {
        match self.backlog.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.monitor.try_next(),
        }
    }

    fn apply(&mut self, event: LinkEvent, when: When) {
        log::debug!("{event}");
        match event {
            LinkEvent::Appeared(link) => {
                let (ifindex, class) = (link.ifindex, link.class);
                // Before anything of the new device is counted.
                if let Some(retired) = self.ledger.retire(ifindex) {
                    self.drainer.reindex(ifindex, retired);
                }
                self.ledger.insert(TrackedDevice::appeared(link));
                // Attaching to hundreds of devices would keep the window open for seconds.
                if when == When::Open {
                    self.attach_to(ifindex);
                }
                if let Some(now) = self.ledger.get_mut(ifindex).and_then(|device| allowances(device)) {
                    self.start.allowances.insert(ifindex, now);
                }
                if class == DeviceClass::Veth {
                    self.names.veths_changed();
                }
            }
            LinkEvent::Changed(link) => self.ledger.changed(link),
            LinkEvent::Gone { ifindex, last, .. } => {
                self.attacher.forget(ifindex);
                self.ledger.removed(ifindex, last);
                if self.ledger.get_mut(ifindex).is_some_and(|device| device.link.class == DeviceClass::Veth) {
                    self.names.veths_changed();
                }
            }
            // The monitor reads all devices again, and what changed follows.
            LinkEvent::Lost => self.ledger.overruns += 1,
        }
    }

    /// Attaches to a device that is already in the ledger, in an open window.
    fn attach_to(&mut self, ifindex: u32) {
        if let Some(device) = self.ledger.get_mut(ifindex) {
            attach(&mut self.attacher, device);
            // If it is gone already, the window gets to know soon.
            if let Ok(Some(counted)) = self.counters.read_one(ifindex) {
                device.attach_attempted(counted);
            }
        }
    }

    /// Applies the events that were read after the boundary: to the window that it closes if they are of before, otherwise
    /// they are left to the next one.
    fn apply_late_events(&mut self, closed: &Boundary, flow_counts: &mut FlowCounts) -> anyhow::Result<()> {
        let mut of_next_window = HashSet::new();
        while let Some(event) = self.monitor.try_next()? {
            let (ifindex, is_late) = match &event {
                // A pod that started in the window got its address and route after its device.
                LinkEvent::Changed(link) => (link.ifindex, false),
                // If the index is still another's, that one was there at the boundary, and this one was not.
                LinkEvent::Appeared(link) => {
                    (link.ifindex, !closed.has(link.ifindex) || !self.ledger.lacks(link.ifindex))
                }
                LinkEvent::Gone { ifindex, .. } => (*ifindex, closed.has(*ifindex)),
                LinkEvent::Lost => {
                    self.ledger.overruns += 1;
                    continue;
                }
            };
            // The order of a device's events is kept.
            if is_late || of_next_window.contains(&ifindex) {
                of_next_window.insert(ifindex);
                self.backlog.push_back(event);
                continue;
            }
            if let LinkEvent::Appeared(_) = &event
                && let Some(retired) = self.ledger.retire(ifindex)
            {
                flow_counts.reindex(ifindex, retired);
            }
            self.apply(event, When::Closing);
        }
        Ok(())
    }

    /// Looks at netpath's place on the hooks.
    fn look(&mut self) -> anyhow::Result<()> {
        let own = self.attacher.program_ids();
        let attached = self.ledger.iter_mut().filter(|(_, device)| device.is_attached());
        let states = attached.map(|(ifindex, device)| (ifindex, &mut device.hooks)).collect();
        Ok(self.hook_watcher.look(&own, states)?)
    }

    /// Looks when the window is closed: what is on the hooks now was there all the time, since nobody can put netpath's
    /// programs back.
    fn look_once_more(&mut self) {
        if let Err(error) = self.look() {
            log::warn!("cannot read the hooks: {error:#}");
            let unknown = Blind::Unchecked { reason: format!("{error:#}") };
            for (_, device) in self.ledger.iter_mut().filter(|(_, device)| device.is_attached()) {
                if device.hooks.lost.is_empty() {
                    device.hooks.lost.push(unknown.clone());
                }
            }
        }
    }
}

/// When a link event is applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// While the window is open.
    Open,
    /// While it is being closed.
    Closing,
}
