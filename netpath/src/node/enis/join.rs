//! Joins devices, IMDS's interfaces and ipamd's ENIs.
//!
//! In: devices with their altnames, and the facts of the other two. Out: [`Eni`]s. Pure. Devices and IMDS meet at the hardware
//! address, ipamd at the id. Where two sources disagree, the id is unknown.

use std::collections::HashSet;

use super::{Candidate, imds, ipamd, names};
use crate::model::{DeviceClass, Eni, EniRole, Fact, Origin};
use crate::node::devices::Link;

/// The ids in a device's alternative names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Altnames {
    /// EC2's id, if there is exactly one.
    pub id: Option<String>,
    /// Device index, and network card.
    pub number: Option<(u32, Option<u32>)>,
}

impl Altnames {
    /// Whether there is any.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Reads a device's alternative names; those of others than ENIs mean nothing.
#[must_use]
pub fn altnames(link: &Link) -> Altnames {
    if link.class != DeviceClass::Eni {
        return Altnames::default();
    }
    let only = |mut ids: Vec<String>| ids.pop().filter(|_| ids.is_empty());
    Altnames {
        id: only(link.altnames.iter().filter_map(|name| names::eni_id(name)).collect()),
        number: link.altnames.iter().find_map(|name| names::device_number(name)),
    }
}

/// Every ENI: those with a device, then those that another source knows alone.
#[must_use]
pub fn join(candidates: &[Candidate<'_>], imds: Option<&imds::Facts>, ipamd: &[ipamd::Eni]) -> Vec<Eni> {
    let interfaces = imds.map_or(&[][..], |facts| &facts.interfaces);
    let primary = imds.and_then(|facts| facts.primary.as_deref());
    let mut enis = Vec::new();
    for candidate in candidates {
        let link = candidate.link;
        let trunk = trunk_of(link, candidates);
        if link.class != DeviceClass::Eni && trunk.is_none() {
            continue;
        }
        // Two ENIs with one address are none that IMDS could tell apart.
        let same = |other: &&Candidate<'_>| other.link.class == DeviceClass::Eni && other.link.mac == link.mac;
        let alone = candidates.iter().filter(same).count() <= 1;
        let reply = interfaces.iter().find(|interface| alone && Some(&interface.mac) == link.mac.as_ref());
        let mut eni = Eni {
            ifindex: Some(link.ifindex),
            device: Some(link.name.clone()),
            mac: link.mac.clone(),
            allowances: candidate.allowances,
            ..Eni::default()
        };
        let altnames = altnames(link);
        let number = altnames.number;
        eni.device_index = number.map(|(number, _)| fact(number, Origin::Altname));
        eni.network_card = number.and_then(|(_, card)| card).map(|card| fact(card, Origin::Altname));
        eni.role = number.map(|number| {
            let primary = matches!(number, (0, None | Some(0)));
            fact(if primary { EniRole::Primary } else { EniRole::Secondary }, Origin::Altname)
        });
        eni.id = altnames.id.map(|id| fact(id, Origin::Altname));
        if let Some(reply) = reply {
            add_imds(&mut eni, reply, primary);
        }
        if let Some(known) = eni.id.as_ref().and_then(|id| ipamd.iter().find(|known| known.id == id.value)) {
            add_ipamd(&mut eni, known);
        }
        if let Some(trunk) = trunk {
            eni.trunk = Some(trunk.name.clone());
            eni.vlan = link.vlan_id;
            eni.role = Some(fact(EniRole::Branch, Origin::Vlan));
        } else if eni.role.as_ref().is_none_or(|role| role.value == EniRole::Secondary) && carries(link, candidates) {
            eni.role = Some(fact(EniRole::Trunk, Origin::Vlan));
        }
        enis.push(eni);
    }

    let here: HashSet<String> = enis.iter().filter_map(|eni| eni.mac.clone()).collect();
    for reply in interfaces.iter().filter(|reply| !here.contains(&reply.mac)) {
        let mut eni = Eni { mac: Some(reply.mac.clone()), ..Eni::default() };
        add_imds(&mut eni, reply, primary);
        if let Some(known) = eni.id.as_ref().and_then(|id| ipamd.iter().find(|known| known.id == id.value)) {
            add_ipamd(&mut eni, known);
        }
        enis.push(eni);
    }
    let here: HashSet<String> = enis.iter().filter_map(|eni| eni.id.as_ref()).map(|id| id.value.clone()).collect();
    for known in ipamd.iter().filter(|known| !here.contains(&known.id)) {
        let mut eni = Eni { id: Some(fact(known.id.clone(), Origin::Ipamd)), ..Eni::default() };
        add_ipamd(&mut eni, known);
        enis.push(eni);
    }
    enis
}

/// The ENI on which this device is the VPC CNI's VLAN device for a branch ENI: `vlan.eth.` and the VLAN's id
/// (aws/amazon-vpc-cni-k8s, `cmd/routed-eni-cni-plugin/driver`).
fn trunk_of<'a>(link: &Link, candidates: &[Candidate<'a>]) -> Option<&'a Link> {
    let id = link.vlan_id.filter(|id| link.class == DeviceClass::Vlan && link.name == format!("vlan.eth.{id}"))?;
    let lower = |other: &&Candidate<'_>| Some(other.link.ifindex) == link.lower && other.link.class == DeviceClass::Eni;
    candidates.iter().find(lower).filter(|_| id > 0).map(|candidate| candidate.link)
}

fn carries(link: &Link, candidates: &[Candidate<'_>]) -> bool {
    let on_it =
        |other: &Candidate<'_>| trunk_of(other.link, candidates).is_some_and(|trunk| trunk.ifindex == link.ifindex);
    candidates.iter().any(on_it)
}

fn add_imds(eni: &mut Eni, reply: &imds::Interface, primary: Option<&str>) {
    match (eni.id.take(), &reply.id) {
        (Some(altname), Some(id)) if altname.value != *id => {
            eni.disagreement = Some(format!("its altname says {}, IMDS says {id}", altname.value));
        }
        (Some(altname), _) => eni.id = Some(altname),
        (None, id) => eni.id = id.clone().map(|id| fact(id, Origin::Imds)),
    }
    let is_primary = primary.map(|primary| primary == reply.mac);
    // For a while after an ENI is attached, IMDS has 0 for it, whatever its number is.
    let number = reply.device_number.filter(|number| *number != 0 || is_primary == Some(true));
    eni.device_index = eni.device_index.take().or(number.map(|number| fact(number, Origin::Imds)));
    let role = is_primary.map(|is| fact(if is { EniRole::Primary } else { EniRole::Secondary }, Origin::Imds));
    eni.role = role.or(eni.role.take());
    eni.addresses = reply.addresses().map(|addresses| fact(addresses, Origin::Imds));
    eni.prefixes = reply.prefixes().map(|prefixes| fact(prefixes, Origin::Imds));
}

fn add_ipamd(eni: &mut Eni, known: &ipamd::Eni) {
    let role = match (known.is_primary, known.is_trunk) {
        (true, _) => EniRole::Primary,
        (false, true) => EniRole::Trunk,
        (false, false) => EniRole::Secondary,
    };
    eni.role = Some(fact(role, Origin::Ipamd));
    eni.device_index = eni.device_index.take().or(Some(fact(known.device_number, Origin::Ipamd)));
    eni.network_card = eni.network_card.take().or(known.network_card.map(|card| fact(card, Origin::Ipamd)));
    eni.prefixes = eni.prefixes.take().or(Some(fact(known.prefixes.clone(), Origin::Ipamd)));
    eni.pod_addresses = Some(fact(known.pod_addresses, Origin::Ipamd));
}

fn fact<T>(value: T, origin: Origin) -> Fact<T> {
    Fact { value, origin }
}

#[cfg(test)]
mod tests;
