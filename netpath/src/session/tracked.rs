//! A device that exists at some time in a window.
//!
//! In: what happens to the device, and its counters at the window's boundaries. Out: the device as a snapshot holds it. Plain
//! bookkeeping: what has to be read or attached, others read and attach.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::boundary::Boundary;
use super::hook_watcher::HookState;
use crate::model::{Attach, Blind, DeviceClass, DeviceFacts, Drops, KernelCounters, KernelSlack};
use crate::netlink::counters::Counted;
use crate::node::devices::Link;
use crate::snapshot::Device;

/// Whether netpath is attached to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Neither packets of pods nor of ENIs pass the device.
    NotWanted,
    /// Not yet.
    Pending,
    /// It is, in this way.
    Attached(Attach),
    /// It could not be, for this reason.
    Failed(String),
}

/// A device that exists at some time in the window.
#[derive(Clone, Debug)]
pub struct TrackedDevice {
    /// As it is now, or was last. Its index is another than the kernel's if the device is gone and its index was reused.
    pub link: Link,
    /// The kernel's index, if `link` has another.
    pub former_ifindex: Option<u32>,
    /// Whether netpath is attached to it, or was to the last.
    pub attachment: Attachment,
    /// What was seen of its hooks.
    pub hooks: HookState,
    /// When the window, or the device, began.
    at_start: Option<KernelCounters>,
    drops_at_start: Option<Drops>,
    /// How far `at_start` is from what passed before netpath counted.
    slack: KernelSlack,
    appeared: bool,
    /// It has gone in the window.
    pub gone: bool,
    /// Addresses that were routed to it at some time in the window.
    formerly_routed: BTreeSet<IpAddr>,
    /// When it went, if that can be told.
    at_going: Option<KernelCounters>,
}

impl TrackedDevice {
    /// A device that netpath is not attached to yet.
    pub fn new(link: Link) -> Self {
        let attachment = if is_watched(link.class) { Attachment::Pending } else { Attachment::NotWanted };
        Self {
            link,
            former_ifindex: None,
            attachment,
            hooks: HookState::default(),
            at_start: None,
            drops_at_start: None,
            slack: KernelSlack::default(),
            appeared: false,
            gone: false,
            formerly_routed: BTreeSet::new(),
            at_going: None,
        }
    }

    /// A device that has come in the window. A new device's counters begin at 0; those of one from another namespace do not.
    pub fn appeared(link: Link) -> Self {
        Self { appeared: true, at_start: Some(link.counters), ..Self::new(link) }
    }

    /// A window begins, in which it exists.
    pub fn open(&mut self, opened: &Boundary) {
        let counted = opened.counted(self.link.ifindex);
        (self.at_start, self.drops_at_start) = (counted.map(|one| one.kernel), counted.map(|one| one.drops));
        let (too_much, too_little) = opened.slack(self.link.ifindex);
        // What a start has too much, the difference lacks.
        self.slack = KernelSlack { below: too_little, above: too_much };
        self.appeared = false;
        self.formerly_routed.clear();
        self.hooks.roll();
    }

    /// Its counters were read after the attempt to attach to it in the window: what they have counted by then may have passed
    /// unseen.
    pub fn attach_attempted(&mut self, counted: Counted) {
        self.drops_at_start = self.drops_at_start.or(Some(counted.drops));
        let unseen = self.at_start.and_then(|start| counted.kernel.since(start));
        self.slack.below = self.slack.below + unseen.unwrap_or_default();
    }

    /// It is another than before in something but its counters.
    pub fn changed(&mut self, link: Link) {
        self.formerly_routed.extend(std::mem::replace(&mut self.link, link).routed);
    }

    /// It has gone, with these counters if that can be told.
    pub fn removed(&mut self, last: Option<KernelCounters>) {
        self.gone = true;
        self.at_going = last;
    }

    /// Whether netpath is attached to it.
    pub fn is_attached(&self) -> bool {
        matches!(self.attachment, Attachment::Attached(_)) && !self.gone
    }

    /// Whether an attempt to attach to it is due.
    pub fn is_pending(&self) -> bool {
        self.attachment == Attachment::Pending && !self.gone
    }

    /// The device in the window between these boundaries.
    pub fn device(&self, opened: &Boundary, closed: &Boundary) -> Device {
        let ifindex = self.link.ifindex;
        let at_end = closed.counted(ifindex).filter(|_| !self.gone);
        let last = if self.gone { self.at_going } else { at_end.map(|end| end.kernel) };
        let kernel = last.zip(self.at_start).and_then(|(end, start)| end.since(start));
        let (too_much, too_little) = if self.gone { Default::default() } else { closed.slack(ifindex) };
        // Those of a device that came in the window were made with it.
        let known = !self.gone && (self.appeared || opened.qdiscs.is_some());
        let qdiscs = closed.qdiscs.as_ref().filter(|_| known);
        let qdiscs_at_start = opened.qdiscs.as_ref().filter(|_| !self.appeared);
        let slack = KernelSlack { below: self.slack.below + too_much, above: self.slack.above + too_little };
        let (attach, blind) = match &self.attachment {
            Attachment::NotWanted => (Attach::None, None),
            Attachment::Pending => (Attach::None, Some(Blind::Late)),
            Attachment::Attached(how) => (*how, None),
            Attachment::Failed(reason) => (Attach::None, Some(Blind::NotAttached { reason: reason.clone() })),
        };
        let device = self.link.to_device();
        let facts = DeviceFacts {
            attach,
            other_programs: self.hooks.foreign(),
            kernel,
            kernel_slack: kernel.map(|_| slack),
            drops: at_end.zip(self.drops_at_start).and_then(|(end, start)| end.drops.since(start)),
            qdisc: qdiscs.and_then(|now| now.root_since(qdiscs_at_start, ifindex)),
            filter_drops: qdiscs.and_then(|now| now.filter_drops_since(qdiscs_at_start, ifindex)),
            appeared: self.appeared,
            vanished: self.gone || !closed.has(ifindex),
            ..device.facts
        };
        Device {
            facts,
            former_ifindex: self.former_ifindex,
            blind: blind.into_iter().chain(self.hooks.lost.clone()).collect(),
            formerly_routed: self.formerly_routed.iter().copied().filter(|it| !self.link.routed.contains(it)).collect(),
            ..device
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
