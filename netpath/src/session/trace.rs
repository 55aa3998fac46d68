//! A trace on a live node: attaches where the filter needs it, follows devices and names, and hands out packets.
//!
//! In: the options, and a filter. Out: packets with their hops, and what is known of the node. What a packet's trip means is
//! `trace::judge`'s.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use netpath_ebpf::Ports;
use netpath_ebpf::trace::{Account, Ends, Settings};
use rustix::time::{ClockId, clock_gettime};

use super::node::{node_info, own_netns};
use super::tracked::TrackedDevice;
use crate::kernel::attach::Attacher;
use crate::kernel::stale_filters;
use crate::kernel::symbols::{SymbolFile, Symbols};
use crate::kernel::trace::{self, Tracer};
use crate::model::Window;
use crate::node::conntrack::{Limits, Tracker};
use crate::node::devices::{EniChoice, Layer, Link, LinkEvent, LinkMonitor};
use crate::node::pods::{HostRoot, PodWatcher};
use crate::node::source::Pending;
use crate::path::names::{Named, Names};
use crate::path::topology::{Role, Topology};
use crate::privilege::{self, Purpose};
use crate::render::trace::pcapng::Interface;
use crate::snapshot::{self, Device, Diversions, Snapshot, Tuple};
use crate::trace::filter::Filter;
use crate::trace::judge::{Judge, Kernel, Node};
use crate::trace::stitch::Stitcher;
use crate::trace::{Hop, Summary, Trip};

/// What to trace with.
#[derive(Debug)]
pub struct Options<'a> {
    /// Names of ENIs; empty to decide by evidence.
    pub eni_globs: &'a [String],
    /// The folder that is the host's `/`; `None` to find it.
    pub host_root: Option<&'a Path>,
    /// Attach legacy filters, though the kernel has TCX.
    pub clsact: bool,
    /// Make clsact qdiscs where they are needed and there are none.
    pub new_qdiscs: bool,
    /// What the programs decide by.
    pub settings: Settings,
    /// Bytes of the ring buffer.
    pub buffer_bytes: u32,
    /// Have the programs log what they decide in rare cases.
    pub debug: bool,
    /// What the process needs its capabilities for, beside tracing.
    pub purpose: Purpose,
}

/// The programs are loaded; nothing is attached yet.
pub struct TraceSession {
    attacher: Attacher,
    tracer: Tracer,
    monitor: LinkMonitor,
    follower: PodWatcher,
    names: Option<Pending<snapshot::Names>>,
    symbols: Option<Pending<Symbols>>,
    read_symbols: Symbols,
    /// Devices, names, local routes.
    facts: Snapshot,
    attached: BTreeSet<u32>,
    failed: BTreeMap<String, String>,
    /// The pods that every packet of the filter belongs to, if it says so.
    pods: Option<BTreeSet<String>>,
    stitcher: Stitcher,
    judge: Judge,
    received: u64,
    /// Not all events that there were have been read.
    has_more: bool,
    /// Events without room, when packets were last given out.
    no_room: u64,
    /// Connections whose translation the programs know.
    learned: HashSet<(Tuple, Tuple)>,
    clock_offset_ns: i64,
    /// The inode of this network namespace; 0 if it is not known.
    netns: u32,
    started_ns: u64,
    purpose: Purpose,
}

/// Connections of which translations are taught to the programs: as many as their map holds, both ways.
const MOST_LEARNED: usize = 4_096;
/// Events that are read at once, so that packets are given out in between.
const EVENTS_AT_ONCE: usize = 4_096;
/// How long names are waited for, once a device has come.
const NAMES_AFTER: Duration = Duration::from_secs(10);

impl TraceSession {
    /// Loads the programs, and reads the devices. Must be called in a tokio runtime.
    pub fn load(options: &Options) -> anyhow::Result<Self> {
        let choice = EniChoice::new(options.eni_globs)?;
        let host = HostRoot::find(options.host_root)?;
        let trace_options =
            trace::Options { settings: options.settings, buffer_bytes: options.buffer_bytes, debug: options.debug };
        let (mut attacher, tracer) = trace::load(&trace_options)?;
        if options.clsact {
            attacher.use_clsact().context("cannot prepare clsact filters; run netpath without --clsact")?;
        }
        if !options.new_qdiscs {
            attacher.make_no_qdisc();
        }
        let monitor = LinkMonitor::open(&choice)?;
        if attacher.needs_detach() {
            // As when a report begins.
            let links = monitor.links().into_iter().map(|link| link.ifindex);
            let _ = stale_filters::find(links).and_then(|found| stale_filters::remove(&found));
        }
        // Opened with the capabilities that it takes, and read without.
        let symbols = SymbolFile::open();
        privilege::while_measuring(options.purpose)?;
        let symbols = symbols.ok().map(|mut file| {
            Pending::spawn("symbols", NAMES_AFTER, Symbols::default(), move || file.read().unwrap_or_default())
        });
        let follower = PodWatcher::start(host);
        let names = Some(follower.cut(false));
        let window = Window {
            started_at: Timestamp::now().to_string(),
            duration_ns: 0,
            skew_ns: None,
            interval_ns: None,
            late_ns: None,
        };
        let mut session = Self {
            attacher,
            tracer,
            monitor,
            follower,
            names,
            symbols,
            read_symbols: Symbols::default(),
            facts: Snapshot::new(node_info(), window),
            attached: BTreeSet::new(),
            failed: BTreeMap::new(),
            pods: None,
            stitcher: Stitcher::default(),
            judge: Judge::default(),
            received: 0,
            has_more: false,
            no_room: 0,
            learned: HashSet::new(),
            clock_offset_ns: clock_offset_ns(),
            netns: own_netns(),
            started_ns: 0,
            purpose: options.purpose,
        };
        session.read_devices();
        Ok(session)
    }

    /// What is known of the node: devices, names, local routes. With `names`, waits for them.
    pub fn facts(&mut self, names: bool) -> &Snapshot {
        if names && let Some(pending) = self.names.take() {
            self.facts.names = pending.wait();
        }
        &self.facts
    }

    /// Attaches to the devices that the filter needs, and begins. `pods`: those that every packet belongs to.
    pub fn begin(&mut self, filter: &Filter, pods: Option<BTreeSet<String>>) -> anyhow::Result<()> {
        self.pods = pods;
        self.learn_from_conntrack(filter)?;
        let links = self.monitor.links();
        for link in &links {
            self.attach(link);
        }
        if self.attached.is_empty() {
            let why = self.failed.iter().next().map_or_else(
                || {
                    "there is none that packets of pods or ENIs pass; run netpath in the node's own network namespace \
                     (hostNetwork, or nsenter -t 1 -n)"
                        .to_owned()
                },
                |(device, why)| format!("{device}: {why}"),
            );
            anyhow::bail!("netpath is attached to no device: {why}");
        }
        // Until now nothing is accepted: a packet would lack the hops at devices that are not watched yet.
        self.tracer.set_filter(&filter.tests, &filter.members)?;
        self.started_ns = now_ns();
        Ok(())
    }

    /// The devices there are, for a file of packets.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        let devices: Vec<&Device> = self.facts.devices.iter().collect();
        let topology = Topology::new(&devices, &self.facts.diversions.local_routes, false);
        let names = Names::new(&self.facts, &devices, &topology);
        let watched = self.monitor.links().into_iter().filter(|link| self.attached.contains(&link.ifindex));
        let interface = |link: Link| Interface {
            description: names.veth(link.ifindex).map(Named::full),
            ethernet: link.layer == Layer::Ethernet,
            ifindex: link.ifindex,
            name: link.name,
        };
        watched.map(interface).collect()
    }

    /// Names of addresses, pods' and services'.
    #[must_use]
    pub fn addresses(&self) -> Vec<(IpAddr, String)> {
        let names = &self.facts.names;
        let pods = names
            .pods
            .iter()
            .flat_map(|pod| pod.addresses.iter().map(|address| (*address, format!("{}/{}", pod.namespace, pod.name))));
        let services = names.services.iter().map(|one| (one.address, one.name.clone()));
        let all: BTreeMap<IpAddr, String> = services.chain(pods).collect();
        all.into_iter().collect()
    }

    /// How many devices are watched.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.attached.len()
    }

    /// Waits until there is something to do: events, a change of devices, or a packet that is due. Cancel safe.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        // The kernel wakes up who has read everything, and nobody else.
        if self.has_more {
            self.read_events();
            return Ok(());
        }
        let due_ns = self.stitcher.due_ns().map(|due_ns| due_ns.saturating_sub(now_ns()));
        let due = async {
            match due_ns {
                Some(ns) => tokio::time::sleep(Duration::from_nanos(ns)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            readable = self.tracer.readable() => {
                readable.context("cannot wait for events")?;
                self.read_events();
            }
            event = self.monitor.next() => {
                let event = event?;
                self.apply(event);
            }
            () = due => {}
        }
        Ok(())
    }

    /// The trips of which nothing more is to be expected.
    pub fn trips(&mut self) -> anyhow::Result<Vec<Trip>> {
        self.tracer.flush_log();
        // A wake-up may be missing: the kernel gives none while a reader is behind.
        self.read_events();
        self.trips_due(now_ns())
    }

    /// Ends the trace: the last trips, and the accounts of all events.
    pub fn finish(mut self) -> anyhow::Result<(Vec<Trip>, Summary)> {
        self.tracer.close()?;
        let duration_ns = now_ns().saturating_sub(self.started_ns);
        let account = self.tracer.account()?;
        while self.read_events() > 0 {}
        let trips = self.trips_due(u64::MAX)?;
        let Account { matched, sent: _, no_room, over_rate, sampled_out } = account;
        let summary = Summary {
            duration_ns,
            matched,
            received: self.received,
            no_room,
            over_rate,
            sampled_out,
            unwatched: self.failed.iter().map(|(device, why)| format!("{device}: {why}")).collect(),
            drops_unseen: self.tracer.frees.unseen.clone(),
            ..Summary::default()
        };
        super::attachment::detach(self.attacher, self.purpose)?;
        Ok((trips, summary))
    }

    fn read_events(&mut self) -> usize {
        let Self { tracer, stitcher, .. } = self;
        let read = tracer.read(EVENTS_AT_ONCE, |seen| stitcher.take(&seen.event, seen.bytes));
        self.received += read as u64;
        self.has_more = read == EVENTS_AT_ONCE;
        read
    }

    fn trips_due(&mut self, now_ns: u64) -> anyhow::Result<Vec<Trip>> {
        let no_room = self.tracer.account()?.no_room;
        if std::mem::replace(&mut self.no_room, no_room) < no_room {
            self.stitcher.lost();
        }
        let Some(first) = self.stitcher.pop_due(now_ns) else { return Ok(Vec::new()) };
        self.take_names();
        let Self { stitcher, judge, tracer, facts, read_symbols, .. } = self;
        let devices: Vec<&Device> = facts.devices.iter().collect();
        let topology = Topology::new(&devices, &facts.diversions.local_routes, false);
        let names = Names::new(facts, &devices, &topology);
        let function = |address| read_symbols.name(address);
        let kernel = Kernel {
            reasons: &tracer.frees.reasons,
            function: &function,
            drops_unseen: tracer.frees.unseen.as_deref(),
        };
        let node = Node {
            topology: &topology,
            names: &names,
            kernel: &kernel,
            clock_offset_ns: self.clock_offset_ns,
            partly_watched: self.pods.is_some(),
            netns: self.netns,
        };
        let mut packets = vec![first];
        packets.extend(std::iter::from_fn(|| stitcher.pop_due(now_ns)));
        packets.sort_by_key(|packet| packet.hops.first().map(|hop| hop.seen.at_ns));
        let trips: Vec<Trip> = packets.iter().filter_map(|packet| judge.trip(packet, &node)).collect();
        let translations: Vec<(Tuple, Tuple)> = trips.iter().filter_map(translation).collect();
        drop((names, topology));
        self.learn(&translations)?;
        Ok(trips)
    }

    /// Names that have come meanwhile, and the kernel's functions.
    fn take_names(&mut self) {
        if let Some(Ok(names)) = self.names.as_ref().and_then(Pending::poll) {
            self.facts.names = names;
            self.names = None;
        }
        if let Some(pending) = self.symbols.take() {
            self.read_symbols = pending.wait();
        }
    }

    fn apply(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Appeared(link) => {
                self.attach(&link);
                self.read_devices();
                self.follower.veths_changed();
                self.names = Some(self.follower.cut(true));
            }
            LinkEvent::Changed(_) | LinkEvent::Lost => self.read_devices(),
            LinkEvent::Gone { ifindex, .. } => {
                self.attacher.forget(ifindex);
                self.attached.remove(&ifindex);
                // What is known of it stays, for packets that were seen on it.
            }
        }
    }

    /// Reads the devices there are; those that are gone stay as they were.
    fn read_devices(&mut self) {
        let mut devices: BTreeMap<u32, Device> =
            self.facts.devices.drain(..).map(|device| (device.facts.ifindex, device)).collect();
        devices.extend(self.monitor.links().iter().map(|link| (link.ifindex, link.to_device())));
        self.facts.devices = devices.into_values().collect();
        self.facts.diversions = Diversions { local_routes: self.monitor.local_routes(), ..Diversions::default() };
    }

    fn attach(&mut self, link: &Link) {
        if self.attached.contains(&link.ifindex) || !TrackedDevice::new(link.clone()).is_pending() || !self.needs(link)
        {
            return;
        }
        match self.attacher.attach(link.ifindex, &link.name, link.layer) {
            Ok(_) => drop(self.attached.insert(link.ifindex)),
            Err(error) => drop(self.failed.insert(link.name.clone(), error.to_string())),
        }
    }

    /// Whether the filter's packets may pass the device: all but other pods' do where the filter names pods. A device that nothing
    /// is known of may be one of theirs.
    fn needs(&self, link: &Link) -> bool {
        let Some(pods) = &self.pods else { return true };
        let devices: Vec<&Device> = self.facts.devices.iter().collect();
        let topology = Topology::new(&devices, &self.facts.diversions.local_routes, false);
        if topology.role(link.ifindex) != Role::Pod {
            return true;
        }
        let names = Names::new(&self.facts, &devices, &topology);
        names.veth(link.ifindex).is_none_or(|pod| pods.contains(&pod.full()))
    }

    /// Teaches the programs the translations of connections that are there already.
    fn learn_from_conntrack(&mut self, filter: &Filter) -> anyhow::Result<()> {
        if filter.accepts_all() {
            return Ok(());
        }
        let Ok(tracker) = Tracker::start(Limits::default()) else { return Ok(()) };
        let connections = tracker.cut(true).connections;
        let translated = connections.iter().filter(|one| one.original != one.reply.reversed());
        let pairs: Vec<_> = translated.map(|one| (one.original, one.reply.reversed())).collect();
        self.learn(&pairs)
    }

    /// Teaches the programs what the ends of a packet are at its first hop and at its last.
    fn learn(&mut self, translations: &[(Tuple, Tuple)]) -> anyhow::Result<()> {
        for &(first, last) in translations {
            if self.learned.len() >= MOST_LEARNED || !self.learned.insert((first, last)) {
                continue;
            }
            let there_and_back = [
                (first, last),
                (last, first),
                (first.reversed(), last.reversed()),
                (last.reversed(), first.reversed()),
            ];
            self.tracer.learn(&there_and_back.map(|(here, elsewhere)| (ends(here), ends(elsewhere))))?;
        }
        Ok(())
    }
}

/// What NAT made of a trip's ends.
fn translation(trip: &Trip) -> Option<(Tuple, Tuple)> {
    let (first, last) = (trip.hops.first()?, trip.hops.last()?);
    let proto = trip.protocol;
    let tuple = |hop: &Hop| Tuple { proto, src: hop.src, sport: hop.sport, dst: hop.dst, dport: hop.dport };
    let (first, last) = (tuple(first), tuple(last));
    (first != last).then_some((first, last))
}

fn ends(tuple: Tuple) -> Ends {
    let words = |address: IpAddr| match address {
        IpAddr::V4(address) => [u32::from(address).to_be(), 0, 0, 0],
        IpAddr::V6(address) => {
            let [s0, s1, s2, s3, s4, s5, s6, s7] = address.segments().map(u32::from);
            [s0 << 16 | s1, s2 << 16 | s3, s4 << 16 | s5, s6 << 16 | s7].map(u32::to_be)
        }
    };
    Ends {
        src_be: words(tuple.src),
        dst_be: words(tuple.dst),
        ports: Ports { src_be: tuple.sport.to_be(), dst_be: tuple.dport.to_be() },
        protocol: tuple.proto.into(),
    }
}

/// `CLOCK_MONOTONIC`, as the programs have it.
fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).unwrap_or_default()
}

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, in ns: the best of a few readings, each of which has the one clock between two of the
/// other.
fn clock_offset_ns() -> i64 {
    let reading = |_| {
        let before = now_ns();
        let real = nanoseconds(ClockId::Realtime);
        let after = now_ns();
        (after - before, real.wrapping_sub(before + (after - before) / 2).cast_signed())
    };
    (0..8).map(reading).min().map_or(0, |(_, offset)| offset)
}
