//! One flow in sentences: what it moved, where it went, who counted it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::labels::{address_and_port, counted};
use super::super::reason::reason;
use super::super::units::Scale;
use super::{direction, listed, times};
use crate::model::{DeviceClass, Direction};
use crate::path::conversations::is_icmp;
use crate::report::{Device, Flow, FlowDrop, Hop, PathClass, Report};
use crate::sanitise::sanitise;

/// "tcp 10.0.0.21:34756 → 10.0.0.22:5201".
pub(in crate::render) fn ends(flow: &Flow) -> String {
    let identifier = flow.sport.filter(|_| is_icmp(&flow.proto)).map(|id| format!(" (echo id {id})"));
    format!(
        "{} {} → {}{}",
        sanitise(&flow.proto),
        end(flow, flow.src, flow.sport),
        end(flow, flow.dst, flow.dport),
        identifier.unwrap_or_default()
    )
}

/// An address, with its port if it is one and no identifier of an echo.
fn end(flow: &Flow, address: IpAddr, port: Option<u16>) -> String {
    address_and_port(address, port.filter(|_| !is_icmp(&flow.proto)))
}

/// Everything that is to be said of a flow, ending with a newline.
pub(in crate::render) fn explain(flow: &Flow, report: &Report, scale: Scale) -> String {
    // Of two devices with one ifindex the first is the one that was watched.
    let mut devices: HashMap<u32, &Device> = HashMap::new();
    for device in &report.devices {
        devices.entry(device.facts.ifindex).or_insert(device);
    }
    let mut sentences = vec![format!("{} moved {} {}.", ends(flow), scale.bytes(flow.bytes), went(flow))];
    if flow.local_bytes > 0 {
        let local = scale.bytes(flow.local_bytes);
        sentences.push(format!(
            "{local} of that stayed between pods of this node: several connections with these addresses share the flow."
        ));
    }
    sentences.extend(pods(flow));
    sentences.extend(flow.service.as_deref().map(|name| format!("It belongs to service {}.", sanitise(name))));
    sentences.extend(translated(flow));
    sentences.extend(reason(flow).map(|reason| format!("Why: {reason}.")));
    sentences.extend(flow.drops.iter().map(dropped));
    sentences.extend(quoted(flow));
    sentences.push(container_insights(flow, &devices, scale));
    sentences.push(ec2(flow, &devices, scale));
    sentences.join(" ") + "\n"
}

/// Where it went, as the end of a sentence.
fn went(flow: &Flow) -> &'static str {
    match flow.path {
        PathClass::Eni if flow.local_pair_left_node => "between two pods of this node, but across an ENI",
        PathClass::Eni if flow.carried_bytes > 0 => "between this node and others, inside a tunnel's packets",
        PathClass::Eni => "across an ENI",
        PathClass::Local => "between two pods of this node",
        PathClass::Host => "between this node itself and one of its pods",
        PathClass::Transit => "through this node, in by an ENI and out by an ENI",
        PathClass::Undelivered => "into this node, where it was dropped",
        PathClass::Unresolved => "on a path that netpath saw only in part",
    }
}

fn pods(flow: &Flow) -> Option<String> {
    let (src, dst) = (flow.src_pod.as_deref().map(sanitise), flow.dst_pod.as_deref().map(sanitise));
    match (src, dst) {
        (Some(src), Some(dst)) => Some(format!("It is from pod {src} to pod {dst}.")),
        (Some(src), None) => Some(format!("It is from pod {src}.")),
        (None, Some(dst)) => Some(format!("It is to pod {dst}.")),
        (None, None) => None,
    }
}

/// Packets that the kernel dropped, and where.
fn dropped(one: &FlowDrop) -> String {
    let place = match one.in_node {
        Some(true) => "in this node's own network namespace",
        Some(false) => "in another network namespace, such as a pod's",
        None => "in a network namespace that is not known",
    };
    let why = match (&one.reason, &one.location) {
        (Some(reason), Some(location)) => format!("{} at {}", sanitise(reason), sanitise(location)),
        (Some(reason), None) => sanitise(reason).into_owned(),
        (None, Some(location)) => format!("no reason given, at {}", sanitise(location)),
        (None, None) => "no reason given".to_owned(),
    };
    format!("The kernel dropped {} of it {place}: {why}.", counted(one.packets, "packet"))
}

/// What an ICMP error is about.
fn quoted(flow: &Flow) -> Option<String> {
    let about = flow.about.as_ref()?;
    let (src, dst) = (address_and_port(about.src, about.sport), address_and_port(about.dst, about.dport));
    Some(format!("It is about {} {src} → {dst}.", sanitise(&about.proto)))
}

/// Where its addresses were others than at the start.
fn translated(flow: &Flow) -> Option<String> {
    let other = |hop: &&Hop| (hop.src, hop.sport, hop.dst, hop.dport) != (flow.src, flow.sport, flow.dst, flow.dport);
    // Errors of several routers have several sources, without NAT.
    let hop = flow.hops.iter().filter(|_| flow.about.is_none()).find(other)?;
    Some(format!(
        "NAT makes it {} → {} on {}.",
        end(flow, hop.src, hop.sport),
        end(flow, hop.dst, hop.dport),
        sanitise(&hop.device)
    ))
}

fn container_insights(flow: &Flow, devices: &HashMap<u32, &Device>, scale: Scale) -> String {
    let counted = |hop: &&Hop| devices.get(&hop.ifindex).is_some_and(|device| device.counted_by_container_insights);
    let (counted, skipped): (Vec<&Hop>, Vec<&Hop>) = flow.hops.iter().filter(|hop| !hop.shown_again).partition(counted);
    let places = |hops: &[&Hop]| listed(&hops.iter().map(|hop| place(hop, devices)).collect::<Vec<_>>());
    let sum = counted.iter().fold(0u64, |sum, hop| sum.saturating_add(hop.bytes));
    let mut text = match counted.len() {
        0 => "Container Insights did not count it".to_owned(),
        1 => format!("Container Insights counted it once ({}): on {}", scale.bytes(sum), places(&counted)),
        // Each byte at one of them.
        _ if sum <= flow.bytes => {
            format!("Container Insights counted it once ({}): split over {}", scale.bytes(sum), places(&counted))
        }
        count => {
            let by = if count == 2 && counted[0].ifindex != counted[1].ifindex { "once each on" } else { "on" };
            format!("Container Insights counted it {} ({}): {by} {}", times(count), scale.bytes(sum), places(&counted))
        }
    };
    if !skipped.is_empty() {
        text = format!("{text}; it skips devices with names like {}", names(&skipped));
    }
    text + "."
}

fn names(hops: &[&Hop]) -> String {
    let mut names: Vec<_> = hops.iter().map(|hop| sanitise(&hop.device).into_owned()).collect();
    names.dedup();
    listed(&names)
}

/// "eni1a2b (a pod's veth, received)".
fn place(hop: &Hop, devices: &HashMap<u32, &Device>) -> String {
    let what = match devices.get(&hop.ifindex).map(|device| device.facts.class) {
        Some(DeviceClass::Eni) => "an ENI",
        Some(DeviceClass::Veth) => "a pod's veth",
        Some(DeviceClass::Vlan) => "a VLAN device",
        Some(DeviceClass::Bridge) => "a bridge",
        Some(DeviceClass::Tunnel) => "a tunnel",
        Some(DeviceClass::Tap) => "a virtual machine's tap",
        Some(DeviceClass::Loopback) => "the loopback device",
        Some(DeviceClass::Other) | None => "another device",
    };
    format!("{} ({what}, {})", sanitise(&hop.device), direction(hop.direction))
}

fn ec2(flow: &Flow, devices: &HashMap<u32, &Device>, scale: Scale) -> String {
    let on_eni = |hop: &&Hop| {
        devices.get(&hop.ifindex).is_some_and(|device| device.facts.class == DeviceClass::Eni && !hop.shown_again)
    };
    let hops: Vec<&Hop> = flow.hops.iter().filter(on_eni).collect();
    if hops.is_empty() {
        return if flow.carried_bytes > 0 {
            "EC2 counted the tunnel's own packets, which are another flow."
        } else if flow.path == PathClass::Unresolved {
            "EC2 did not count the part that netpath saw: it crossed no ENI."
        } else {
            "EC2 did not count it: it crossed no ENI."
        }
        .to_owned();
    }
    let metric = |direction| match direction {
        Direction::Rx => "NetworkIn",
        Direction::Tx => "NetworkOut",
    };
    let parts: Vec<_> = hops
        .iter()
        .map(|hop| format!("{} in {} ({})", scale.bytes(hop.bytes), metric(hop.direction), sanitise(&hop.device)))
        .collect();
    let sum = hops.iter().fold(0u64, |sum, hop| sum.saturating_add(hop.bytes));
    let often = if sum <= flow.bytes { times(1) } else { times(hops.len()) };
    format!("EC2 counted it {often}: {}.", listed(&parts))
}
