//! What a device is, by evidence, never by what it is called; and which devices the user calls ENIs.
//!
//! In: a link's kind, flags, hardware type, driver and place on a bus; `--eni` globs. Out: [`DeviceClass`], [`Layer`],
//! [`EniEvidence`]. Pure.

use anyhow::{Context as _, bail};

use super::message::RawLink;
use super::{EniEvidence, Layer, Link};
use crate::node::ethtool::DriverInfo;
use crate::pattern::Pattern;
use crate::render::text::sanitise;
use crate::report::DeviceClass;

/// Drivers of ENIs: current instances, older ones with enhanced networking, and Xen instances (`vif` is xen-netfront).
const ENI_DRIVERS: [&str; 3] = ["ena", "ixgbevf", "vif"];

// linux/if_arp.h; not in libc.
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_IP6GRE: u16 = 823;

/// The class of a link, and why it is an ENI if it is one.
///
/// - Loopback: `IFF_LOOPBACK`.
/// - A link kind (`IFLA_INFO_KIND`) decides for everything made of software.
/// - ENI: no kind and a driver of [`ENI_DRIVERS`]; or no kind, Ethernet, and a place on a bus (`IFLA_PARENT_DEV_NAME`, or
///   ethtool's `bus-info` before kernel 5.14), which means that it is the machine's own hardware, real or emulated.
pub fn classify(link: &RawLink, driver: &DriverInfo) -> (DeviceClass, Option<EniEvidence>) {
    if link.flags & libc::IFF_LOOPBACK.cast_unsigned() != 0 {
        return (DeviceClass::Loopback, None);
    }
    if let Some(kind) = link.info.kind.as_deref() {
        let class = match kind {
            // Before kernel 4.20 it does not tell; a tun device has no Ethernet header.
            "tun" if link.info.tap.unwrap_or(link.hardware_type == libc::ARPHRD_ETHER) => DeviceClass::Tap,
            "veth" | "netkit" => DeviceClass::Veth,
            "vlan" => DeviceClass::Vlan,
            "bridge" => DeviceClass::Bridge,
            "vxlan" | "geneve" | "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" | "ipip"
            | "sit" | "ip6tnl" | "vti" | "vti6" | "xfrm" | "wireguard" | "tun" | "bareudp" | "gtp" | "amt" => {
                DeviceClass::Tunnel
            }
            _ => DeviceClass::Other,
        };
        return (class, None);
    }
    if driver.driver.as_deref().is_some_and(|driver| ENI_DRIVERS.contains(&driver)) {
        return (DeviceClass::Eni, Some(EniEvidence::Driver));
    }
    let on_a_bus = link.parent.is_some() || driver.bus.is_some();
    if on_a_bus && link.hardware_type == libc::ARPHRD_ETHER {
        return (DeviceClass::Eni, Some(EniEvidence::Hardware));
    }
    (DeviceClass::Other, None)
}

/// How the frames of a device of this hardware type begin.
pub fn layer(hardware_type: u16) -> Layer {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Layer::Ethernet,
        libc::ARPHRD_NONE
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE
        | ARPHRD_IP6GRE
        | ARPHRD_RAWIP => Layer::Ip,
        _ => Layer::Unknown,
    }
}

/// Which devices are ENIs: by evidence, or by name where the user says so.
#[derive(Clone, Debug, Default)]
pub struct EniChoice(Vec<Pattern>);

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
        Ok(Self(patterns.collect::<anyhow::Result<_>>()?))
    }

    /// The final word on a device's class: with globs, the matching devices are the ENIs, and no others.
    pub(super) fn decide(
        &self,
        name: &str,
        class: DeviceClass,
        evidence: Option<EniEvidence>,
    ) -> (DeviceClass, Option<EniEvidence>) {
        if self.0.is_empty() {
            (class, evidence)
        } else if self.0.iter().any(|glob| glob.is_match(name)) {
            (DeviceClass::Eni, Some(EniEvidence::Named))
        } else if class == DeviceClass::Eni {
            (DeviceClass::Other, None)
        } else {
            (class, None)
        }
    }

    /// Fails if a glob matches none of `links`.
    pub(super) fn check(&self, links: &[Link]) -> anyhow::Result<()> {
        for glob in &self.0 {
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
