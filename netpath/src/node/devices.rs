//! The node's network devices, by rtnetlink: what there is, what it is, and what changes.
//!
//! In: the network namespace of the calling thread. Out: [`Link`]s and [`LinkEvent`]s. It needs no privilege, and only
//! reads.

mod class;
pub mod counters;
mod link;

use anyhow::Context as _;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use globset::{Glob, GlobSet, GlobSetBuilder};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket as _, SocketAddr};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection};

use self::counters::Counted;
pub use self::link::Link;
use super::ethtool::Ethtool;

/// Which devices are ENIs.
#[derive(Clone, Debug)]
pub struct EniChoice {
    /// Every pattern that was given; none to decide by evidence.
    globs: Vec<Glob>,
    set: GlobSet,
}

impl EniChoice {
    /// Takes the patterns of `--eni`; none to decide by evidence.
    pub fn new(patterns: &[String]) -> anyhow::Result<Self> {
        let mut set = GlobSetBuilder::new();
        let mut globs = Vec::new();
        for pattern in patterns {
            let glob = Glob::new(pattern).map_err(|error| {
                anyhow::anyhow!(
                    "--eni '{}' is no pattern: {}; write it like 'eth*' or 'ens5'",
                    pattern.escape_debug(),
                    error.kind()
                )
            })?;
            set.add(glob.clone());
            globs.push(glob);
        }
        Ok(Self { globs, set: set.build().context("too many --eni patterns")? })
    }

    /// Whether the device is an ENI; `None` if evidence decides.
    fn decides(&self, name: &str) -> Option<bool> {
        (!self.globs.is_empty()).then(|| self.set.is_match(name))
    }

    /// Fails if a pattern matches no device.
    fn check(&self, links: &[Link]) -> anyhow::Result<()> {
        for glob in &self.globs {
            let matcher = glob.compile_matcher();
            if !links.iter().any(|link| matcher.is_match(&link.name)) {
                let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
                anyhow::bail!(
                    "--eni '{}' matches no device; there are: {}",
                    glob.glob().escape_debug(),
                    names.join(", ").escape_debug()
                );
            }
        }
        Ok(())
    }
}

/// A change of the devices.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// A device is new, or has another name or state.
    Changed(Link),
    /// A device was deleted, or left this network namespace.
    Gone {
        /// Its index.
        ifindex: u32,
        /// Its counters when it went, if the kernel told.
        last: Option<Counted>,
    },
    /// The kernel had more to tell than there was room for: ask for all links again.
    Lost,
}

/// Lists the devices once, in order of ifindex.
pub async fn list(choice: EniChoice) -> anyhow::Result<Vec<Link>> {
    let inventory = Inventory::open(choice)?;
    let links = inventory.links().await?;
    inventory.choice.check(&links)?;
    Ok(links)
}

/// Asks for devices.
#[derive(Debug)]
struct Inventory {
    handle: Handle,
    ethtool: Ethtool,
    choice: EniChoice,
}

impl Inventory {
    fn open(choice: EniChoice) -> anyhow::Result<Self> {
        let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
        tokio::spawn(connection);
        Ok(Self { handle, ethtool: Ethtool::open().context("cannot open a socket")?, choice })
    }

    /// All devices, with addresses and routes, in order of ifindex.
    async fn links(&self) -> anyhow::Result<Vec<Link>> {
        let failed = "the kernel does not list its devices (rtnetlink)";
        let mut links = Vec::new();
        let mut messages = self.handle.link().get().execute();
        while let Some(message) = messages.try_next().await.context(failed)? {
            links.push(Link::new(&message, &self.ethtool, &self.choice));
        }
        links.sort_by_key(|link| link.ifindex);
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.context(failed)? {
            if let Ok(at) = links.binary_search_by_key(&message.header.index, |link| link.ifindex) {
                links[at].add_address(&message);
            }
        }
        for family in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut routes = self.handle.route().get(family).execute();
            while let Some(message) = routes.try_next().await.context(failed)? {
                if let Some((ifindex, address)) = link::host_route(&message)
                    && let Ok(at) = links.binary_search_by_key(&ifindex, |link| link.ifindex)
                {
                    links[at].routed.push(address);
                }
            }
        }
        Ok(links)
    }
}

/// Follows the devices.
#[derive(Debug)]
pub struct LinkMonitor {
    inventory: Inventory,
    notifications: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

/// Room for the notifications of some thousand devices at once.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

impl LinkMonitor {
    /// Subscribes to changes, then lists the devices, so that no change is missed in between.
    pub async fn start(choice: EniChoice) -> anyhow::Result<(Self, Vec<Link>)> {
        let (mut connection, _, notifications) =
            new_multicast_connection(&[MulticastGroup::Link]).context("cannot open a netlink socket")?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_rx_buf_sz(RECEIVE_BUFFER_BYTES).context("cannot size a netlink socket")?;
        tokio::spawn(connection);
        let monitor = Self { inventory: Inventory::open(choice)?, notifications };
        let links = monitor.inventory.links().await?;
        monitor.inventory.choice.check(&links)?;
        Ok((monitor, links))
    }

    /// All devices as they are now, in order of ifindex.
    pub async fn links(&self) -> anyhow::Result<Vec<Link>> {
        self.inventory.links().await
    }

    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) -> anyhow::Result<LinkEvent> {
        loop {
            let (message, _) = self.notifications.next().await.context("the kernel closed the netlink socket")?;
            match message.payload {
                // Bridges send messages of a family of their own when a device becomes, or stops being, a port.
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message),
                ) if message.header.interface_family != AddressFamily::Unspec => {}
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                    return Ok(LinkEvent::Changed(Link::new(
                        &message,
                        &self.inventory.ethtool,
                        &self.inventory.choice,
                    )));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                    let last = link::counters(&message);
                    return Ok(LinkEvent::Gone { ifindex: message.header.index, last });
                }
                NetlinkPayload::Overrun(_) => return Ok(LinkEvent::Lost),
                _ => {}
            }
        }
    }
}
