//! A device that was there at some time in the window, followed through it.
//!
//! In: the device, whenever something happens to it, and its counters at the window's ends. Out: what a snapshot holds of
//! it. It must not wait for anything to happen: that is for `measure`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::drainer::Boundary;
use super::place::Place;
use crate::kernel::attach::Attacher;
use crate::node::devices::Link;
use crate::node::devices::counters::CounterReader;
use crate::node::devices::qdiscs::Qdiscs;
use crate::node::enis::{self, Candidate};
use crate::report::{Attach, DeviceClass};
use crate::snapshot::enis::Allowances;
use crate::snapshot::{Device, Drops, KernelCounters, KernelSlack};

/// A device that was there at some time in the window.
#[derive(Debug)]
pub struct Followed {
    /// As it is now, or was last.
    pub link: Link,
    attach: Attach,
    /// Why netpath is not attached to it, though it would be.
    pub blind: Option<String>,
    /// What was seen of its hooks.
    pub place: Place,
    /// Before netpath counted.
    at_start: Option<KernelCounters>,
    drops_at_start: Option<Drops>,
    /// How far that is from what passed before netpath counted.
    slack: KernelSlack,
    /// As `at_start`, of an ENI that tells.
    allowances_at_start: Option<Allowances>,
    appeared: bool,
    /// It went away in the window.
    pub gone: bool,
    /// Addresses that were routed to it at some time in the window.
    formerly_routed: BTreeSet<IpAddr>,
    /// When it went, if that can be told.
    at_going: Option<KernelCounters>,
}

impl Followed {
    /// Attaches to the device, if packets of pods or ENIs pass it.
    pub fn attach(attacher: &mut Attacher, link: Link) -> Self {
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

    /// Takes in a device that came too late to be attached to, and yet in the window.
    pub fn too_late(link: Link, counters: &mut CounterReader) -> Self {
        let blind = is_watched(link.class).then(|| "it appeared when the window was being closed".to_owned());
        let mut device = Self::new(link, Attach::None, blind);
        device.appeared(counters);
        device
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
    pub fn opened(&mut self, opened: &Boundary) {
        let counted = opened.counted(self.link.ifindex);
        (self.at_start, self.drops_at_start) = (counted.map(|one| one.kernel), counted.map(|one| one.drops));
        let (too_much, too_little) = opened.slack(self.link.ifindex);
        // What a start has too much, the difference lacks.
        self.slack = KernelSlack { below: too_little, above: too_much };
        self.allowances_at_start = self.allowances();
    }

    /// It has come in the window. A new device's counters begin at 0; those of one from another namespace do not.
    pub fn appeared(&mut self, counters: &mut CounterReader) {
        self.appeared = true;
        self.at_start = Some(self.link.counters);
        // If it is gone already, the window gets to know soon.
        if let Ok(Some(attached)) = counters.read_one(self.link.ifindex) {
            self.drops_at_start = Some(attached.drops);
            self.slack.below = attached.kernel.since(self.link.counters).unwrap_or_default();
        }
        self.allowances_at_start = self.allowances();
    }

    /// It is another than before in something but its counters.
    pub fn changed(&mut self, link: Link) {
        self.formerly_routed.extend(std::mem::replace(&mut self.link, link).routed);
    }

    /// It has gone, with these counters if that can be told.
    pub fn went(&mut self, last: Option<KernelCounters>) {
        self.gone = true;
        self.at_going = last;
    }

    /// Whether netpath is attached to it.
    pub fn is_attached(&self) -> bool {
        self.attach != Attach::None && !self.gone
    }

    /// What its driver has counted so far against EC2's allowances, if it is an ENI.
    fn allowances(&self) -> Option<Allowances> {
        (self.link.class == DeviceClass::Eni && !self.gone).then(|| enis::allowances(&self.link.name))?
    }

    /// What may be said of it as an ENI, when the window is closed.
    pub fn candidate(&self) -> Candidate<'_> {
        let allowances = self.allowances_at_start.and_then(|start| Some(self.allowances()?.since(start)));
        Candidate { link: &self.link, allowances }
    }

    /// What is known of it when the window is closed.
    pub fn into_device(self, closed: &Boundary, qdiscs_at_start: Option<&Qdiscs>) -> Device {
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

/// Whether packets of pods or ENIs pass such devices.
fn is_watched(class: DeviceClass) -> bool {
    use DeviceClass::{Bridge, Eni, Loopback, Other, Tap, Tunnel, Veth, Vlan};
    match class {
        Loopback | Other => false,
        Eni | Veth | Vlan | Bridge | Tunnel | Tap => true,
    }
}

/// The innermost error: what the kernel said.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}
