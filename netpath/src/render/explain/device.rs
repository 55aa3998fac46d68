//! One device in sentences: what it is, what it moved, who counts it, and why the kernel and netpath differ on it.

use std::collections::BTreeMap;

use super::super::labels::{self, cause};
use super::super::units::Scale;
use super::listed;
use crate::model::{Attach, DeviceClass, Direction};
use crate::report::{Device, PathClass, Report, Residual};
use crate::sanitise::sanitise;

/// Everything that is to be said of a device, ending with a newline.
pub(super) fn explain(device: &Device, report: &Report, scale: Scale) -> String {
    let name = sanitise(&device.facts.name).into_owned();
    let mut sentences = vec![what(device, &name)];
    sentences.push(match device.facts.kernel {
        Some(kernel) => format!(
            "The kernel counted {} received and {} sent.",
            scale.bytes(kernel.rx_bytes),
            scale.bytes(kernel.tx_bytes)
        ),
        None if device.facts.vanished => "It was removed during the window, and its counters with it.".to_owned(),
        None => "Its counters could not be read.".to_owned(),
    });
    sentences.extend(traffic(device, report, scale));
    sentences.push(counted(device, scale));
    sentences.push(ec2(device, scale));
    sentences.push(agreement(device, scale));
    sentences.extend(others(device));
    if let Some(blind) = &device.blind {
        sentences.push(format!("netpath did not (fully) see its traffic: {}.", sanitise(blind)));
    }
    sentences.join(" ") + "\n"
}

fn what(device: &Device, name: &str) -> String {
    let pod = device.pod.as_deref().map(sanitise);
    match (device.facts.class, pod) {
        (DeviceClass::Eni, _) => format!("{name} is an ENI."),
        (DeviceClass::Veth, Some(pod)) => {
            format!("{name} is a veth, the node's end of the link of pod {pod}{}.", not_an_eni(name))
        }
        (DeviceClass::Veth, None) => format!("{name} is a veth, the node's end of a pod's link{}.", not_an_eni(name)),
        (DeviceClass::Vlan, _) => format!("{name} is a VLAN device."),
        (DeviceClass::Bridge, _) => format!("{name} is a bridge."),
        (DeviceClass::Tunnel, _) => format!("{name} is a tunnel."),
        (DeviceClass::Tap, _) => format!("{name} is a tap, the node's end of a virtual machine's link."),
        (DeviceClass::Loopback, _) => format!("{name} is the loopback device."),
        (DeviceClass::Other, _) => format!("{name} is neither an ENI nor a pod's link."),
    }
}

fn not_an_eni(name: &str) -> &'static str {
    if name.starts_with("eni") { ", and not an ENI, whatever its name" } else { "" }
}

/// What of its bytes went where.
fn traffic(device: &Device, report: &Report, scale: Scale) -> Option<String> {
    let mut by_path: BTreeMap<PathClass, u64> = BTreeMap::new();
    for flow in &report.flows {
        for hop in flow.hops.iter().filter(|hop| hop.ifindex == device.facts.ifindex) {
            let sum = by_path.entry(flow.path).or_default();
            *sum = sum.saturating_add(hop.bytes);
        }
    }
    by_path.retain(|_, bytes| *bytes > 0);
    let parts: Vec<_> =
        by_path.into_iter().map(|(path, bytes)| format!("{} {}", scale.bytes(bytes), went(path))).collect();
    (!parts.is_empty() && device.facts.attach != Attach::None).then(|| format!("Of its traffic, {}.", listed(&parts)))
}

fn went(path: PathClass) -> &'static str {
    match path {
        PathClass::Eni => "went across an ENI",
        PathClass::Local => "stayed on this node, pod to pod",
        PathClass::Host => "went between this node and its own pods",
        PathClass::Transit => "passed through this node",
        PathClass::Undelivered => "was dropped on this node",
        PathClass::Unresolved => "took an unknown path",
    }
}

fn counted(device: &Device, scale: Scale) -> String {
    match (device.counted_by_container_insights, device.facts.kernel) {
        (false, _) => {
            "Container Insights skips it because of its name: cAdvisor ignores names that begin with lo, veth, docker or nerdctl.".to_owned()
        }
        (true, Some(kernel)) => {
            let total = kernel.rx_bytes.saturating_add(kernel.tx_bytes);
            let again =
                if device.facts.class == DeviceClass::Veth { ", whether or not they left the node" } else { "" };
            format!("Container Insights adds both ({}) to node_network_total_bytes{again}.", scale.bytes(total))
        }
        (true, None) => "Container Insights adds it to node_network_total_bytes.".to_owned(),
    }
}

fn ec2(device: &Device, scale: Scale) -> String {
    match (device.facts.class, device.facts.kernel) {
        (DeviceClass::Eni, Some(kernel)) => format!(
            "EC2 counts {} of it in NetworkIn and {} in NetworkOut.",
            scale.bytes(kernel.rx_bytes),
            scale.bytes(kernel.tx_bytes)
        ),
        (DeviceClass::Eni, None) => "EC2 counts it in NetworkIn and NetworkOut.".to_owned(),
        _ => "EC2 does not count it: it is not an ENI.".to_owned(),
    }
}

/// Who else may take packets from netpath, or from the device's counter.
fn others(device: &Device) -> Option<String> {
    let number = |id: Option<u32>| id.map_or_else(String::new, |id| format!(" {id}"));
    let xdp = device.facts.xdp.iter().map(|xdp| format!("XDP program{}", number(xdp.program_id)));
    let programs = device.facts.other_programs.iter().flatten().map(|one| {
        let name = one.name.as_deref().map_or_else(String::new, |name| format!(" ({})", sanitise(name)));
        let what = if one.kind == "tcx" { "program".to_owned() } else { format!("{} filter", sanitise(&one.kind)) };
        let place = if one.ahead { "before" } else { "after" };
        let way = if one.direction == Direction::Rx { "in" } else { "out" };
        format!("{what}{}{name} {place} netpath's on the way {way}", number(one.program_id))
    });
    let all: Vec<_> = xdp.chain(programs).collect();
    (!all.is_empty()).then(|| format!("Other programs are on its hooks: {}.", listed(&all)))
}

/// How the kernel's count and netpath's differ.
fn agreement(device: &Device, scale: Scale) -> String {
    let Some(residual) = &device.residual else {
        return "netpath's count cannot be compared with the kernel's.".to_owned();
    };
    if device.facts.attach == Attach::None {
        return "netpath does not watch it.".to_owned();
    }
    let parts: Vec<_> = [("received", &residual.rx), ("sent", &residual.tx)]
        .into_iter()
        .filter(|(_, one)| one.bytes != 0 || !one.causes.is_empty())
        .map(|(word, one)| difference(word, one, scale))
        .collect();
    if parts.is_empty() {
        return "netpath saw the same, to the byte.".to_owned();
    }
    parts.join(" ")
}

fn difference(word: &str, residual: &Residual, scale: Scale) -> String {
    let than = if residual.bytes < 0 { "less" } else { "more" };
    let magnitude = |bytes: i64| scale.bytes(bytes.unsigned_abs());
    let mut parts: Vec<_> = residual
        .causes
        .iter()
        .map(|why| match why.bytes {
            Some(bytes) => format!("{}: {}", cause(why.name), scale.signed(bytes)),
            None => why.packets.map_or_else(
                || format!("{}: an unknown number of bytes", cause(why.name)),
                |packets| format!("{}: {} of unknown size", cause(why.name), labels::counted(packets, "packet")),
            ),
        })
        .collect();
    if residual.unexplained_bytes != 0 {
        parts.push(format!("without a known cause: {}", scale.signed(residual.unexplained_bytes)));
    }
    format!(
        "Of what it {word}, the kernel counted {} {than} than netpath saw ({}).",
        magnitude(residual.bytes),
        parts.join("; ")
    )
}
