//! Writes the list of devices: a table for people, JSON (schema `netpath.devices/1`) for programs.
//!
//! In: the devices. Out: text. The table sanitises what it prints; JSON escapes it, so that it reads the same.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;

use super::block::{Block, Column, Screen, write_wrapped};
use super::{enis, labels};
use crate::model::{DeviceClass, Eni, Ipam, Source};
use crate::node::devices::{EniEvidence, Link};
use crate::node::enis::Known;
use crate::path::container_insights;
use crate::sanitise::sanitise;

/// The value of `schema` in the JSON list.
pub const SCHEMA: &str = "netpath.devices/1";

/// How many addresses the table shows of one device: `kube-ipvs0` has one for every service.
const SHOWN_ADDRESSES: usize = 3;

/// The list as JSON, schema `netpath.devices/1`.
#[derive(JsonSchema, Serialize)]
pub struct List<'a> {
    /// Always [`SCHEMA`].
    schema: &'a str,
    /// Version of the netpath that made the list.
    netpath_version: &'a str,
    /// EC2 instance id.
    instance_id: Option<&'a str>,
    /// Every device, in order of ifindex.
    devices: Vec<Device<'a>>,
    /// As in a report.
    enis: &'a [Eni],
    /// As in a report.
    ipam: Option<&'a Ipam>,
    /// As in a report.
    sources: &'a [Source],
}

#[derive(JsonSchema, Serialize)]
struct Device<'a> {
    #[serde(flatten)]
    link: &'a Link,
    /// Whether `node_network_total_bytes` has its bytes.
    counted_by_container_insights: bool,
}

/// Writes the list as JSON: [`Link`]'s fields, and `counted_by_container_insights`; and what is known of ENIs, as in a
/// report.
///
/// # Errors
/// If `out` fails.
pub fn json(links: &[Link], known: &Known, out: &mut impl Write) -> io::Result<()> {
    let device = |link| Device { link, counted_by_container_insights: counted(link) };
    let devices = links.iter().map(device).collect();
    let list = List {
        schema: SCHEMA,
        netpath_version: env!("CARGO_PKG_VERSION"),
        instance_id: known.instance_id.as_deref(),
        devices,
        enis: &known.enis,
        ipam: known.ipam.as_ref(),
        sources: &known.sources,
    };
    super::json::write(&list, out)
}

/// Writes the list as a table, with what matters in words above it.
///
/// # Errors
/// If `out` fails.
pub fn table(links: &[Link], known: &Known, out: &mut impl Write, screen: &Screen) -> io::Result<()> {
    for sentence in [sum(links)].into_iter().chain(enis(links)).chain(misleading(links)) {
        write_wrapped(out, screen, &sentence, 0)?;
    }
    let enis = enis::blocks(&known.enis, known.ipam.as_ref(), known.instance_id.as_deref());
    for block in [devices(links)].iter().chain(&enis) {
        writeln!(out)?;
        block.write(out, screen)?;
    }
    let warnings = enis::warnings(&known.enis, known.ipam.as_ref(), &known.sources);
    if !warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in warnings {
        write_wrapped(out, screen, &format!("{warning}."), 0)?;
    }
    Ok(())
}

fn devices(links: &[Link]) -> Block {
    let columns = vec![
        Column::words(""),
        Column::number("INDEX"),
        Column::words("CLASS"),
        Column::words("KIND/DRIVER"),
        Column::folding("MAC"),
        Column::folding("ADDRESSES"),
        Column::folding("POD ADDRESS"),
    ];
    let mut block = Block { title: "DEVICES".to_owned(), columns, ..Block::default() };
    for link in links {
        let name = sanitise(&link.name);
        block.row([
            if counted(link) { name.into_owned() } else { format!("({name})") },
            link.ifindex.to_string(),
            class(link.class, 1).to_owned(),
            sanitise(link.kind.as_deref().or(link.driver.as_deref()).unwrap_or("-")).into_owned(),
            sanitise(link.mac.as_deref().unwrap_or("-")).into_owned(),
            some_of(&link.addresses),
            if link.class == DeviceClass::Veth { some_of(&link.routed) } else { "-".to_owned() },
        ]);
    }
    if !links.iter().all(counted) {
        block.notes.push(labels::IN_PARENTHESES.to_owned());
    }
    block
}

fn counted(link: &Link) -> bool {
    container_insights::counted(&link.name)
}

/// "1 ENI, 12 veths, 1 loopback device."
fn sum(links: &[Link]) -> String {
    const ORDER: [DeviceClass; 8] = [
        DeviceClass::Eni,
        DeviceClass::Veth,
        DeviceClass::Vlan,
        DeviceClass::Bridge,
        DeviceClass::Tunnel,
        DeviceClass::Tap,
        DeviceClass::Loopback,
        DeviceClass::Other,
    ];
    let parts = ORDER.map(|each| (each, links.iter().filter(|link| link.class == each).count()));
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|&(each, count)| count > 0 || each == DeviceClass::Eni)
        .map(|(each, count)| {
            let noun = if matches!(each, DeviceClass::Loopback | DeviceClass::Other) {
                if count == 1 { " device" } else { " devices" }
            } else {
                ""
            };
            format!("{} {}{noun}", if count == 0 { "no".to_owned() } else { count.to_string() }, class(each, count))
        })
        .collect();
    let mut text = parts.join(", ") + ".";
    text[..1].make_ascii_uppercase();
    text
}

fn class(class: DeviceClass, count: usize) -> &'static str {
    match (class, count) {
        (DeviceClass::Eni, 1) => "ENI",
        (DeviceClass::Eni, _) => "ENIs",
        (DeviceClass::Veth, 1) => "veth",
        (DeviceClass::Veth, _) => "veths",
        (DeviceClass::Vlan, 1) => "VLAN",
        (DeviceClass::Vlan, _) => "VLANs",
        (DeviceClass::Bridge, 1) => "bridge",
        (DeviceClass::Bridge, _) => "bridges",
        (DeviceClass::Tunnel, 1) => "tunnel",
        (DeviceClass::Tunnel, _) => "tunnels",
        (DeviceClass::Tap, 1) => "tap",
        (DeviceClass::Tap, _) => "taps",
        (DeviceClass::Loopback, _) => "loopback",
        (DeviceClass::Other, _) => "other",
    }
}

/// Which devices are taken for ENIs, and why: one sentence for each reason.
fn enis(links: &[Link]) -> Vec<String> {
    let mut reasons: Vec<(String, Vec<&Link>)> = Vec::new();
    for link in links {
        let driver = link.driver.as_deref().map(sanitise);
        let reason = match (link.eni_evidence, driver) {
            (None, _) => continue,
            (Some(EniEvidence::Named), _) => "--eni names it".to_owned(),
            (Some(EniEvidence::Imds), _) => "the instance metadata service names its hardware address".to_owned(),
            (Some(EniEvidence::Driver), driver) => format!("the driver is {}", driver.unwrap_or_default()),
            (Some(EniEvidence::Hardware), Some(driver)) => {
                format!("it is Ethernet hardware of this machine (driver {driver})")
            }
            (Some(EniEvidence::Hardware), None) => "it is Ethernet hardware of this machine".to_owned(),
        };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, links)) => links.push(link),
            None => reasons.push((reason, vec![link])),
        }
    }
    if reasons.is_empty() {
        return vec![
            "netpath recognised no ENI: no device has an ENI's driver or is Ethernet hardware. \
             If one is an ENI, name it: --eni 'eth*'"
                .to_owned(),
        ];
    }
    let sentence = |(reason, links): (String, Vec<&Link>)| {
        format!(
            "netpath treats {} as {}, because {reason}.",
            names(&links),
            if links.len() == 1 { "an ENI" } else { "ENIs" }
        )
    };
    reasons.into_iter().map(sentence).collect()
}

/// Warns of veths that are called like ENIs.
fn misleading(links: &[Link]) -> Option<String> {
    let links: Vec<_> =
        links.iter().filter(|link| link.class == DeviceClass::Veth && link.name.starts_with("eni")).collect();
    match links.len() {
        0 => None,
        1 => Some(format!(
            "{} is a veth, the node's end of a pod's link, and not an ENI, whatever its name.",
            names(&links)
        )),
        _ => Some(format!(
            "{} are veths, the node's ends of pods' links, and not ENIs, whatever their names.",
            names(&links)
        )),
    }
}

/// The first few names: "ens5, ens6, ens7 and 3 more".
fn names(links: &[&Link]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<_> = links.iter().take(SHOWN).map(|link| sanitise(&link.name)).collect();
    if links.len() > SHOWN {
        shown.push(format!("{} more", links.len() - SHOWN).into());
    }
    match shown.split_last() {
        Some((last, [])) => last.to_string(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn some_of(items: &[impl ToString]) -> String {
    let mut text: Vec<_> =
        items.iter().take(SHOWN_ADDRESSES).map(|item| sanitise(&item.to_string()).into_owned()).collect();
    if items.is_empty() {
        text.push("-".to_owned());
    } else if items.len() > SHOWN_ADDRESSES {
        text.push(format!("and {} more", items.len() - SHOWN_ADDRESSES));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests;
