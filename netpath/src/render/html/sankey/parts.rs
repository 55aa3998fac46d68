//! Which bytes are whose, took which path, and passed which device: each byte once, as in the totals by path.
//!
//! In: a report. Out: parts that add up to these totals, of which the small ones are put together.

use std::cmp::Reverse;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::super::super::labels::{counted, device_class};
use crate::model::{DeviceClass, Direction};
use crate::path::select;
use crate::report::{Flow, Hop, PathClass, PeerKind, Report};
use crate::sanitise::sanitise;

/// Bytes that have all of it in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// A pod, several, this node, or others.
    pub who: String,
    /// Where they went.
    pub path: PathClass,
    /// A device, or several.
    pub device: String,
    /// How many.
    pub bytes: u64,
}

/// At the left, by themselves, and then by namespace.
const PODS: usize = 12;
const NAMESPACES: usize = 4;
/// At the right.
const DEVICES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who<'a> {
    Pod(&'a str),
    Address(IpAddr),
    /// Pods behind veths that lead to no address that is known to be a pod's, as behind a bridge.
    Unnamed,
    Node,
    Others,
}

/// Of an ifindex, since two devices may have had one name.
type Key<'a> = (Who<'a>, PathClass, (&'a str, u32));

/// The parts, most bytes first.
pub fn parts(report: &Report) -> Vec<Part> {
    let mut classes: HashMap<u32, DeviceClass> = HashMap::new();
    for device in &report.devices {
        classes.entry(device.facts.ifindex).or_insert(device.facts.class);
    }
    let mut sums: HashMap<Key, u64> = HashMap::new();
    for flow in &report.flows {
        let who = who(flow, &classes);
        let own = flow.bytes.saturating_sub(flow.carried_bytes).saturating_sub(flow.local_bytes);
        for (path, bytes) in [(flow.path, own), (PathClass::Local, flow.local_bytes)] {
            for (device, bytes) in shares(flow, path, bytes, &classes) {
                let sum = sums.entry((who, path, device)).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
    }
    let names = names(&sums);
    let devices = devices(&sums, &classes);
    let mut merged: HashMap<(&str, PathClass, &str), u64> = HashMap::new();
    for ((who, path, device), bytes) in &sums {
        let sum = merged.entry((&names[who], *path, &devices[device])).or_default();
        *sum = sum.saturating_add(*bytes);
    }
    let part = |((who, path, device), bytes): (&(&str, PathClass, &str), &u64)| Part {
        who: (*who).to_owned(),
        path: *path,
        device: (*device).to_owned(),
        bytes: *bytes,
    };
    let mut parts: Vec<Part> = merged.iter().map(part).collect();
    parts.sort_by(|one, other| {
        let key = |part: &Part| (Reverse(part.bytes), part.path, part.who.clone(), part.device.clone());
        key(one).cmp(&key(other))
    });
    parts
}

/// Whose bytes they are.
fn who<'a>(flow: &'a Flow, classes: &HashMap<u32, DeviceClass>) -> Who<'a> {
    let here = |kind, address| (kind == Some(PeerKind::PodHere)).then_some(Who::Address(address));
    let behind_veth = |hop: Option<&Hop>, direction| {
        hop.filter(|hop| hop.direction == direction && classes.get(&hop.ifindex) == Some(&DeviceClass::Veth))
            .map(|_| Who::Unnamed)
    };
    let (src, dst) = (flow.src_pod.as_deref(), flow.dst_pod.as_deref());
    let is_node = |kind| kind == Some(PeerKind::ThisNode);
    src.map(Who::Pod)
        .or_else(|| here(flow.src_peer_kind, flow.src))
        .or_else(|| behind_veth(flow.hops.first(), Direction::Rx))
        .or_else(|| dst.map(Who::Pod))
        .or_else(|| here(flow.dst_peer_kind, last_address(flow)))
        .or_else(|| behind_veth(flow.hops.last(), Direction::Tx))
        .or_else(|| (flow.path == PathClass::Local).then_some(Who::Unnamed))
        .unwrap_or(if is_node(flow.src_peer_kind) || is_node(flow.dst_peer_kind) { Who::Node } else { Who::Others })
}

/// Where it went, after NAT.
fn last_address(flow: &Flow) -> IpAddr {
    flow.hops.last().map_or(flow.dst, |hop| hop.dst)
}

/// The ENIs that the flow crossed, or the last device it was seen on, and how many of the bytes each has.
fn shares<'a>(
    flow: &'a Flow,
    path: PathClass,
    bytes: u64,
    classes: &HashMap<u32, DeviceClass>,
) -> Vec<((&'a str, u32), u64)> {
    if bytes == 0 {
        return Vec::new();
    }
    let place = |hop: &'a Hop| (&*hop.device, hop.ifindex);
    let is_eni = |hop: &&Hop| classes.get(&hop.ifindex) == Some(&DeviceClass::Eni);
    let mut enis: Vec<((&str, u32), u64)> = Vec::new();
    if matches!(path, PathClass::Eni | PathClass::Transit) {
        for hop in flow.hops.iter().filter(|hop| is_eni(hop) && !hop.shown_again && hop.bytes > 0) {
            match enis.iter_mut().find(|(known, _)| *known == place(hop)) {
                Some((_, sum)) => *sum = sum.saturating_add(hop.bytes),
                None => enis.push((place(hop), hop.bytes)),
            }
        }
    }
    if enis.is_empty() {
        let last = flow.hops.iter().rev().find(|hop| path != PathClass::Local || !is_eni(hop));
        let last = last.or(flow.hops.last());
        return vec![(last.map_or(("not known", 0), place), bytes)];
    }
    let whole: u128 = enis.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
    let mut left = bytes;
    for (_, weight) in enis.iter_mut().skip(1) {
        *weight = u64::try_from(u128::from(bytes) * u128::from(*weight) / whole).unwrap_or(0).min(left);
        left -= *weight;
    }
    enis[0].1 = left;
    enis
}

/// Keys with their sums, most first.
fn ranked<K: Copy + Eq + std::hash::Hash + Ord>(sums: impl Iterator<Item = (K, u64)>) -> Vec<K> {
    let mut by_key: HashMap<K, u64> = HashMap::new();
    for (key, bytes) in sums {
        let sum = by_key.entry(key).or_default();
        *sum = sum.saturating_add(bytes);
    }
    let mut keys: Vec<(K, u64)> = by_key.into_iter().collect();
    keys.sort_unstable_by_key(|(key, bytes)| (Reverse(*bytes), *key));
    keys.into_iter().map(|(key, _)| key).collect()
}

/// What each is called: of more than fit, those of a namespace together.
fn names<'a>(sums: &HashMap<Key<'a>, u64>) -> HashMap<Who<'a>, String> {
    let keys = ranked(sums.iter().map(|((who, ..), bytes)| (*who, *bytes)));
    let is_pod = |who: &Who| matches!(who, Who::Pod(_) | Who::Address(_));
    let rest: Vec<Who> = keys.iter().copied().filter(is_pod).skip(PODS).collect();
    // One more has room, too.
    let rest = if rest.len() > 1 { rest } else { Vec::new() };
    let mut namespaces: Vec<(&str, usize)> = Vec::new();
    for who in &rest {
        let name = namespace(*who);
        match namespaces.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => namespaces.push((name, 1)),
        }
    }
    let others: usize = namespaces.iter().skip(NAMESPACES).map(|(_, count)| count).sum();
    let label = |who: Who| match who {
        who if rest.contains(&who) => {
            match namespaces.iter().take(NAMESPACES).find(|(name, _)| *name == namespace(who)) {
                Some((name, count)) if !name.is_empty() => {
                    format!("{}: {}", sanitise(name), counted(*count as u64, "more pod"))
                }
                Some((_, count)) => counted(*count as u64, "more pod address"),
                None => counted(others as u64, "other pod"),
            }
        }
        Who::Pod(name) => sanitise(name).into_owned(),
        Who::Address(address) => format!("pod {address}"),
        Who::Unnamed => "pods without a known name".to_owned(),
        Who::Node => "this node".to_owned(),
        Who::Others => "other hosts".to_owned(),
    };
    keys.iter().map(|who| (*who, label(*who))).collect()
}

fn namespace(who: Who<'_>) -> &str {
    match who {
        Who::Pod(name) => select::namespace(name),
        _ => "",
    }
}

/// What each is called: of more than fit, the others together.
fn devices<'a>(sums: &HashMap<Key<'a>, u64>, classes: &HashMap<u32, DeviceClass>) -> HashMap<(&'a str, u32), String> {
    let mut keys = ranked(sums.iter().map(|((.., device), bytes)| (*device, *bytes)));
    // No ENI is among the others.
    keys.sort_by_key(|(_, ifindex)| classes.get(ifindex) != Some(&DeviceClass::Eni));
    let (shown, rest) = if keys.len() > DEVICES + 1 { keys.split_at(DEVICES) } else { (&keys[..], &[][..]) };
    let label = |(name, ifindex): &(&str, u32)| {
        let class = classes.get(ifindex).map_or_else(String::new, |class| format!(" ({})", device_class(*class)));
        format!("{}{class}", sanitise(name))
    };
    let others = counted(rest.len() as u64, "other device");
    let shown = shown.iter().map(|key| (*key, label(key)));
    shown.chain(rest.iter().map(|key| (*key, others.clone()))).collect()
}
