//! Which devices are ENIs beyond their own evidence: those that IMDS names by their hardware addresses, or
//! those that the user names; and which of the latter are refused.
//!
//! In: `--eni` globs, IMDS's hardware addresses, the devices and [`Uplinks`]. Out: the class of each device, and
//! errors. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, bail};

use super::message::RawLink;
use super::uplink::{self, Uplinks};
use super::{EniEvidence, Layer, Link};
use crate::model::DeviceClass;
use crate::pattern::Pattern;
use crate::sanitise::sanitise;
use crate::shell;

/// Which devices are ENIs: by evidence, or by name if the user gives globs.
#[derive(Clone, Debug, Default)]
pub struct EniChoice {
    globs: Vec<Pattern>,
    /// The hardware addresses of this instance's ENIs, as IMDS has them.
    macs: Vec<String>,
    /// Index and hardware address of the devices that are ENIs since IMDS names that address.
    by_mac: Vec<(u32, String)>,
    /// The devices that were there when the globs were checked; `None` before that.
    checked: Option<BTreeSet<u32>>,
}

/// What distinguishes a pod's veth from an ENI, where both are veths.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The default routes.
    pub uplinks: Uplinks,
    /// The veths whose other end is in another network namespace.
    pub elsewhere: BTreeSet<u32>,
}

impl EniChoice {
    /// From the `--eni` globs; none means by evidence.
    ///
    /// # Errors
    /// If one is not a glob.
    pub fn new(globs: &[String]) -> anyhow::Result<Self> {
        let patterns = globs.iter().map(|glob| {
            let pattern = Pattern::new(glob).map_err(anyhow::Error::msg);
            pattern.with_context(|| format!("--eni '{}' is not a glob; write it like 'eth*' or 'ens5'", sanitise(glob)))
        });
        Ok(Self { globs: patterns.collect::<anyhow::Result<_>>()?, ..Self::default() })
    }

    /// Takes IMDS's interfaces for evidence, too. Globs go before it.
    #[must_use]
    pub fn with_macs(mut self, macs: Vec<String>) -> Self {
        self.macs = macs;
        self
    }

    /// Whether the user names ENIs.
    pub(super) fn is_by_name(&self) -> bool {
        !self.globs.is_empty()
    }

    pub(super) fn macs(&self) -> &[String] {
        &self.macs
    }

    /// The class of a device: with globs, the matching devices are the ENIs, and no others.
    pub(super) fn decide(
        &self,
        name: &str,
        class: DeviceClass,
        evidence: Option<EniEvidence>,
    ) -> (DeviceClass, Option<EniEvidence>) {
        if !self.is_by_name() {
            (class, evidence)
        } else if self.globs.iter().any(|glob| glob.is_match(name)) {
            (DeviceClass::Eni, Some(EniEvidence::Named))
        } else if class == DeviceClass::Eni {
            (DeviceClass::Other, None)
        } else {
            (class, None)
        }
    }

    /// As [`Self::decide`], for a link that was added or changed. A veth into another namespace that came after the
    /// globs were checked is a new pod's, whatever its name is.
    pub(super) fn decide_link(
        &self,
        raw: &RawLink,
        name: &str,
        class: DeviceClass,
        evidence: Option<EniEvidence>,
    ) -> (DeviceClass, Option<EniEvidence>) {
        let came_later = self.checked.as_ref().is_some_and(|all| !all.contains(&raw.ifindex));
        if came_later && class == DeviceClass::Veth && raw.elsewhere.is_some() {
            return (class, evidence);
        }
        let mac = raw.mac.map(super::mac);
        if evidence.is_none()
            && self.by_mac.iter().any(|(ifindex, known)| *ifindex == raw.ifindex && Some(known) == mac.as_ref())
        {
            return (DeviceClass::Eni, Some(EniEvidence::Imds));
        }
        self.decide(name, class, evidence)
    }

    /// Notes which devices are ENIs by IMDS, and returns their indices.
    pub(super) fn learn(&mut self, macs: &[String], links: &[Link], uplinks: &Uplinks) -> BTreeSet<u32> {
        self.by_mac = macs.iter().flat_map(|mac| by_mac(mac, links, uplinks)).collect();
        self.by_mac.iter().map(|(ifindex, _)| *ifindex).collect()
    }

    /// Forgets a device: its index may be another's next.
    pub(super) fn forget(&mut self, ifindex: u32) {
        if let Some(checked) = &mut self.checked {
            checked.remove(&ifindex);
        }
        self.by_mac.retain(|(known, _)| *known != ifindex);
    }

    /// Fails if a glob matches none of `links`.
    pub(super) fn check(&self, links: &[Link]) -> anyhow::Result<()> {
        for glob in &self.globs {
            if !links.iter().any(|link| glob.is_match(&link.name)) {
                bail!(
                    "--eni '{}' matches no device; the devices are: {}; name one of them, or leave --eni out",
                    sanitise(&glob.to_string()),
                    names(links)
                );
            }
        }
        Ok(())
    }

    /// Fails if a glob matches veths of pods, while something else may be the ENI. With these for ENIs, every byte of a pod
    /// would have crossed one.
    pub(super) fn check_veths(&mut self, links: &[Link], around: &Surroundings) -> anyhow::Result<()> {
        let uplinks = around.uplinks.with_lower(links);
        let may_be_eni = |link: &Link| link.kind.is_none() && link.class != DeviceClass::Loopback;
        let has_choice = !uplinks.is_empty() || links.iter().any(may_be_eni);
        for glob in self.globs.iter().filter(|_| has_choice) {
            let of_pods = |link: &&Link| glob.is_match(&link.name) && is_of_a_pod(link, around, &uplinks);
            let matched: Vec<&Link> = links.iter().filter(of_pods).collect();
            let Some(first) = matched.first() else { continue };
            let others = match matched.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more like it"),
            };
            let why = first.routed.first().map_or_else(
                || "its other end is in another network namespace, and it has no address here".to_owned(),
                |address| format!("{address} is routed to it"),
            );
            let uplink = around.uplinks.devices().into_iter().find_map(|uplink| {
                links.iter().find(|link| link.ifindex == uplink && !is_of_a_pod(link, around, &uplinks))
            });
            let instead = uplink.and_then(|link| shell::word(&link.name)).map_or_else(
                || "name the ENIs alone".to_owned(),
                |name| format!("the default route leaves by {name}: if that is the ENI, write --eni {name}"),
            );
            bail!(
                "--eni '{}' matches {}{others}, which is not an ENI but the host's end of a pod's veth pair ({why}); \
                 {instead}, or leave --eni out",
                sanitise(&glob.to_string()),
                sanitise(&first.name),
            );
        }
        self.checked = self.is_by_name().then(|| links.iter().map(|link| link.ifindex).collect());
        Ok(())
    }
}

/// Whether this is the host's end of a pod's veth pair, by what an uplink has and such a veth has not: a default route, or an
/// address with a network. A pod's has routes to the pod's addresses alone, or leads into another namespace without any
/// address here (Cilium's, or the ports of a bridge).
fn is_of_a_pod(link: &Link, around: &Surroundings, uplinks: &BTreeSet<u32>) -> bool {
    let is_veth = matches!(link.kind.as_deref(), Some("veth" | "netkit"));
    let addresses: Vec<_> = link.addresses.iter().filter_map(|text| parse(text)).collect();
    let has_network = addresses.iter().any(|(address, length)| *length < if address.is_ipv4() { 32 } else { 128 });
    if !is_veth || around.uplinks.main.contains(&link.ifindex) || has_network {
        false
    } else if link.routed.is_empty() {
        around.elsewhere.contains(&link.ifindex) && addresses.is_empty() && !uplinks.contains(&link.ifindex)
    } else {
        true
    }
}

/// "10.0.0.5/24"; `None` for an address of the link alone.
fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    (!is_link_local).then_some((address, length.parse().ok()?))
}

/// The devices that are the ENI with this hardware address. Others may carry it, too: those on top of the ENI (a bond, a
/// bridge, a VLAN, a macvlan), and veths that were given it. So:
///
/// - none, if a device is an ENI with this address by its own evidence;
/// - none on top of another device with this address;
/// - of the rest, hardware before what is stacked on something else, that before bridges, and veths last, if there is just
///   one and it does not lead to a pod. Where several are alike, those with a default route.
///
/// Devices that are never ENIs (loopback, tunnels, dummies) are not considered.
fn by_mac(mac: &str, links: &[Link], uplinks: &Uplinks) -> Vec<(u32, String)> {
    let with: Vec<&Link> = links.iter().filter(|link| link.mac.as_deref() == Some(mac)).collect();
    if with.iter().any(|link| link.class == DeviceClass::Eni) {
        return Vec::new();
    }
    let stands_on = |link: &Link, other: &Link| {
        uplinks.masters.get(&other.ifindex) == Some(&link.ifindex) || uplink::lower(link) == Some(other.ifindex)
    };
    let ways = uplinks.devices();
    let mut ranked: BTreeMap<(u8, bool), Vec<u32>> = BTreeMap::new();
    for link in &with {
        let lowest = !with.iter().any(|other| other.ifindex != link.ifindex && stands_on(link, other));
        if let Some(rank) = rank(link, &ways).filter(|_| lowest && link.layer == Layer::Ethernet) {
            ranked.entry((rank, !ways.contains(&link.ifindex))).or_default().push(link.ifindex);
        }
    }
    let Some(((rank, _), best)) = ranked.pop_first() else { return Vec::new() };
    let decided = rank != VETH || best.len() == 1;
    best.into_iter().filter(|_| decided).map(|ifindex| (ifindex, mac.to_owned())).collect()
}

const VETH: u8 = 3;

/// How likely a device of this kind is an ENI, if it has an ENI's hardware address: 0 is best. `ways` have a default route. An
/// ENI's router may have a host route, as a pod has.
fn rank(link: &Link, ways: &[u32]) -> Option<u8> {
    match link.kind.as_deref() {
        None => (link.class != DeviceClass::Loopback).then_some(0),
        Some("bond" | "team" | "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap") => Some(1),
        Some("bridge" | "openvswitch") => Some(2),
        Some("veth" | "netkit") => (link.routed.is_empty() || ways.contains(&link.ifindex)).then_some(VETH),
        Some(_) => None,
    }
}

/// The devices' names for an error message: veths last, since a node can have hundreds.
fn names(links: &[Link]) -> String {
    const SHOWN: usize = 20;
    let mut sorted: Vec<&Link> = links.iter().collect();
    sorted.sort_by_key(|link| (link.class == DeviceClass::Veth, link.ifindex));
    let mut text: Vec<_> = sorted.iter().take(SHOWN).map(|link| sanitise(&link.name)).collect();
    if links.len() > SHOWN {
        text.push(format!("and {} more", links.len() - SHOWN).into());
    }
    text.join(", ")
}

#[cfg(test)]
mod tests;
