//! Follows changes of devices.
//!
//! In: rtnetlink's multicast messages. Out: [`LinkEvent`]s in order. The subscription is made before the first reading, so
//! that nothing falls between the two. Needs tokio, no privilege; one socket, no task of its own. It must not change
//! anything on the node.

use std::collections::VecDeque;

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::inventory::Inventory;
use super::message::Message;
use super::{EniChoice, Link, LinkEvent};
use super::{dump, message};
use crate::netlink::{Received, Subscription};
use crate::snapshot::LocalRoute;

/// How much may wait to be read. A message about a link takes about 2 KiB of it.
const BUFFER_BYTES: usize = 8 << 20;

/// Watches the devices of the network namespace it was opened in.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: AsyncFd<Subscription>,
    inventory: Inventory,
    events: VecDeque<LinkEvent>,
    /// Messages were lost: everything is read again once the queued ones are.
    lost: bool,
}

impl LinkMonitor {
    /// Subscribes to changes, then reads the devices there are (see [`Self::links`]). Must be called in a tokio runtime.
    ///
    /// # Errors
    /// If netlink refuses, or if one of the `--eni` globs matches no device or a pod's.
    pub fn open(eni: &EniChoice) -> anyhow::Result<Self> {
        Self::with_buffer(eni, BUFFER_BYTES)
    }

    /// Like [`Self::open`], with room for `buffer_bytes` of unread messages (the kernel doubles it; without
    /// `CAP_NET_ADMIN`, `net.core.rmem_max` is the limit).
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_buffer(eni: &EniChoice, buffer_bytes: usize) -> anyhow::Result<Self> {
        let subscription = dump::subscribe(buffer_bytes).context("cannot watch the network devices")?;
        // SAFETY: the subscription owns an open descriptor, and nothing closes or replaces it while the AsyncFd lives.
        let socket = unsafe { AsyncFd::register_with_interest(subscription, Interest::READABLE) };
        let socket = socket.map_err(std::io::Error::from).context("cannot watch the network devices")?;
        let mut inventory = Inventory::new(eni.clone());
        inventory.read().context("cannot list the network devices")?;
        inventory.check()?;
        Ok(Self { socket, inventory, events: VecDeque::new(), lost: false })
    }

    /// The devices, in order of ifindex, as of the last event read. Counters are those of the last message about each
    /// device, which can be old: for current ones, [`super::list`].
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.inventory.links()
    }

    /// Every route of any table that delivered packets to this node at some time since the monitor was opened, or since
    /// [`Self::forget_past_routes`].
    #[must_use]
    pub fn local_routes(&self) -> Vec<LocalRoute> {
        self.inventory.local_routes()
    }

    /// Forgets the routes that do not deliver to this node any more.
    pub fn forget_past_routes(&mut self) {
        self.inventory.forget_past_routes();
    }

    /// Takes IMDS's hardware addresses of ENIs for evidence, unless the user names ENIs. Returns the devices that are ENIs by
    /// it, and by nothing else.
    ///
    /// # Errors
    /// If netlink refuses.
    pub fn learn(&mut self, macs: &[String]) -> anyhow::Result<Vec<Link>> {
        self.inventory.learn(macs).context("cannot list the network devices")
    }

    /// Waits for the next event. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If netlink fails; then the monitor is of no more use.
    pub async fn next(&mut self) -> anyhow::Result<LinkEvent> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // `try_next` saw the socket empty, so that readiness from before is void.
            self.socket.readable_mut().await.context("cannot watch the network devices")?.clear_ready();
        }
    }

    /// The next event of those that wait, without waiting: `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> anyhow::Result<Option<LinkEvent>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.socket.get_mut().receive().context("cannot watch the network devices")? {
                Received::Datagram(datagram) => {
                    for message in message::messages(datagram) {
                        self.lost |= message == Message::Malformed;
                        self.events.extend(self.inventory.apply(message));
                    }
                }
                Received::Truncated | Received::Overrun => self.lost = true,
                // The messages that were sent before the loss are read; they were in order.
                Received::Empty if self.lost => {
                    self.lost = false;
                    self.events.push_back(LinkEvent::Lost);
                    self.events.extend(self.inventory.reread().context("cannot list the network devices")?);
                }
                Received::Empty => return Ok(None),
            }
        }
    }
}
