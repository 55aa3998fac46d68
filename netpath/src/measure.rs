//! One window of a live node: attaches, follows devices that come and go, and ends with a [`Snapshot`].
//!
//! In: which devices are ENIs, how many flows to make room for. Out: plain data. It must not reason about flows: that is
//! `path`'s work.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;

use crate::kernel::attach::Attacher;
use crate::kernel::drain::{Drain, Tally};
use crate::kernel::load::load;
use crate::node::conntrack::{ConntrackError, Limits, Outcome, Tracker};
use crate::node::devices::{EniChoice, Link, LinkEvent, LinkMonitor, list};
use crate::report::{Attach, DeviceClass, NodeInfo, Window};
use crate::snapshot::{Device, KernelCounters, Snapshot};

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
    choice: EniChoice,
    monitor: LinkMonitor,
    attacher: Attacher,
    drainer: Drainer,
    conntrack: Result<Tracker, ConntrackError>,
    devices: BTreeMap<u32, Followed>,
    started: Instant,
    started_at: Timestamp,
}

/// A device that was there at some time in the window.
#[derive(Debug)]
struct Followed {
    link: Link,
    attach: Attach,
    blind: Option<String>,
    at_start: KernelCounters,
    at_end: Option<KernelCounters>,
    gone: bool,
}

impl Measurement {
    /// Attaches to every device that packets of pods or ENIs pass, and opens the window. Must be called in a tokio runtime.
    pub fn start(options: &Options<'_>) -> anyhow::Result<Self> {
        let choice = EniChoice::new(options.eni_globs)?;
        let (mut attacher, mut drain) = load(options.max_flows)?;
        // Before anything is counted, so that no connection that is seen is unknown.
        let conntrack = Tracker::start(Limits::default());
        let monitor = LinkMonitor::open(&choice)?;
        let mut devices = BTreeMap::new();
        for link in monitor.links() {
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
        drain.drain(&mut Tally::default()).context("cannot read the flow maps")?;
        let (started, started_at) = (Instant::now(), Timestamp::now());
        for link in list(&choice)? {
            if let Some(device) = devices.get_mut(&link.ifindex) {
                device.at_start = link.counters;
            }
        }
        Ok(Self { choice, monitor, attacher, drainer: Drainer::start(drain)?, conntrack, devices, started, started_at })
    }

    /// How many devices netpath is attached to.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.devices.values().filter(|device| device.attach != Attach::None && !device.gone).count()
    }

    /// How many flows were seen so far, at all hooks together.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.drainer.flows.load(Ordering::Relaxed)
    }

    /// Waits for a change of the devices and follows it. Cancel safe.
    pub async fn follow(&mut self) -> anyhow::Result<()> {
        let event = self.monitor.next().await?;
        self.take(event);
        Ok(())
    }

    fn take(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Appeared(link) => {
                let followed = Followed::new(&mut self.attacher, link);
                self.devices.insert(followed.link.ifindex, followed);
            }
            LinkEvent::Changed(link) => {
                if let Some(device) = self.devices.get_mut(&link.ifindex) {
                    device.link = link;
                }
            }
            LinkEvent::Gone { ifindex, last, .. } => {
                self.attacher.forget(ifindex);
                if let Some(device) = self.devices.get_mut(&ifindex) {
                    device.gone = true;
                    device.at_end = last;
                }
            }
            // The monitor reads all devices again, and what changed follows.
            LinkEvent::Lost => {}
        }
    }

    /// Closes the window: reads what was counted, then lets go of every device.
    pub fn finish(mut self) -> anyhow::Result<Snapshot> {
        let tally = self.drainer.finish()?;
        let duration = self.started.elapsed();
        for link in list(&self.choice)? {
            if let Some(device) = self.devices.get_mut(&link.ifindex).filter(|device| !device.gone) {
                device.at_end = Some(link.counters);
            }
        }
        // Of what happened last: a pod that started in the window got its address and route after its device.
        while let Some(event) = self.monitor.try_next()? {
            self.take(event);
        }
        let attacher = self.attacher;
        // The kernel takes a grace period for each program that it lets go of, some seconds for hundreds of devices. The
        // report need not wait for that; the end of the process does. Without a thread it happens right here.
        let _ = std::thread::Builder::new().name("detach".into()).spawn(move || drop(attacher));
        let conntrack: Outcome = match self.conntrack {
            Ok(tracker) => tracker.finish(),
            Err(error) => error.into(),
        };
        Ok(Snapshot {
            node: node_info()?,
            window: Window {
                started_at: self.started_at.to_string(),
                duration_ns: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            },
            devices: self.devices.into_values().map(Followed::into_device).collect(),
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
        // A new device's counters begin at 0, within the window; those of one from another namespace do not.
        Self { at_start: link.counters, at_end: None, gone: false, link, attach, blind }
    }

    fn into_device(self) -> Device {
        let kernel = self.at_end.map(|end| KernelCounters {
            rx_bytes: end.rx_bytes.saturating_sub(self.at_start.rx_bytes),
            rx_packets: end.rx_packets.saturating_sub(self.at_start.rx_packets),
            tx_bytes: end.tx_bytes.saturating_sub(self.at_start.tx_bytes),
            tx_packets: end.tx_packets.saturating_sub(self.at_start.tx_packets),
        });
        Device { attach: self.attach, blind: self.blind, kernel, ..self.link.to_device() }
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

/// How often the kernel's maps are drained into memory, so that they need to hold only the flows of so long.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// Drains on a thread of its own, since each drain waits for the kernel, and devices must be attached meanwhile.
struct Drainer {
    thread: Option<JoinHandle<io::Result<Tally>>>,
    stop: mpsc::Sender<()>,
    flows: Arc<AtomicUsize>,
}

impl Drainer {
    fn start(mut drain: Drain) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let flows = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&flows);
        let work = move || {
            let mut tally = Tally::default();
            while stopped.recv_timeout(DRAIN_EVERY) == Err(RecvTimeoutError::Timeout) {
                drain.drain(&mut tally)?;
                seen.store(tally.len(), Ordering::Relaxed);
            }
            drain.drain(&mut tally)?;
            Ok(tally)
        };
        let thread = std::thread::Builder::new().name("drain".into()).spawn(work).context("cannot start a thread")?;
        Ok(Self { thread: Some(thread), stop, flows })
    }

    /// Drains a last time. Blocks for that long.
    fn finish(&mut self) -> anyhow::Result<Tally> {
        // If the thread has failed already, nobody hears this, and its error comes next.
        let _ = self.stop.send(());
        let thread = self.thread.take().context("the flow maps were read before")?;
        let tally = thread.join().map_err(|_| anyhow::anyhow!("the thread that reads the flow maps failed"))?;
        tally.context("cannot read the flow maps")
    }
}
