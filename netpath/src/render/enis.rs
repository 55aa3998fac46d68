//! ENIs and ipamd's numbers for people, in the report's table and in that of `netpath devices`.
//!
//! In: what is known of them. Out: tables with their headings, and sentences about what is wrong. It prints no string from
//! elsewhere unsanitised.

use super::block::{Block, Column};
use super::labels::counted;
use crate::model::{Allowances, Eni, EniRole, Ipam, PodAddresses, Source, SourceName, SourceState};
use crate::sanitise::sanitise;

/// What is shown also if it is 0.
const ALWAYS: [&str; 7] = [
    "awscni_eni_allocated",
    "awscni_eni_max",
    "awscni_assigned_ip_addresses",
    "awscni_total_ip_addresses",
    "awscni_ip_max",
    "awscni_ipamd_error_count",
    "awscni_aws_api_error_count",
];

/// A table for each thing that there is something to say of, with its heading.
pub fn blocks(enis: &[Eni], ipam: Option<&Ipam>, instance: Option<&str>) -> Vec<Block> {
    let mut blocks = Vec::new();
    if enis.iter().any(is_known) {
        let mut block = interfaces(enis);
        block.notes.extend(instance.map(|id| format!("Instance {}.", sanitise(id))));
        blocks.push(block);
    }
    if let Some(ipam) = ipam {
        blocks.push(metrics(ipam));
    }
    blocks
}

/// Whether anything is known of it that is not among the devices already.
fn is_known(eni: &Eni) -> bool {
    let device = Eni { ifindex: eni.ifindex, device: eni.device.clone(), mac: eni.mac.clone(), ..Eni::default() };
    *eni != device
}

fn interfaces(enis: &[Eni]) -> Block {
    let columns = vec![
        Column::words(""),
        Column::words("ENI"),
        Column::folding("INDEX"),
        Column::words("ROLE"),
        Column::folding("ADDRESSES"),
        Column::folding("POD ADDRESSES"),
        Column::folding("PREFIXES"),
        Column::folding("OVER AN ALLOWANCE"),
    ];
    let mut table = Block { title: "ENIS".to_owned(), columns, ..Block::default() };
    for eni in enis {
        let index = eni.device_index.as_ref().map(|number| match &eni.network_card {
            Some(card) if card.value > 0 => format!("{} on card {}", number.value, card.value),
            _ => number.value.to_string(),
        });
        table.row([
            eni.device.as_deref().map_or_else(|| "not here".to_owned(), |name| sanitise(name).into_owned()),
            eni.id.as_ref().map_or_else(
                || eni.mac.as_deref().map_or_else(unknown, |mac| format!("unknown, {}", sanitise(mac))),
                |id| sanitise(&id.value).into_owned(),
            ),
            index.unwrap_or_else(unknown),
            role(eni),
            eni.addresses.as_ref().map_or_else(unknown, |addresses| addresses.value.len().to_string()),
            eni.pod_addresses.as_ref().map_or_else(unknown, |pods| pod_addresses(pods.value)),
            eni.prefixes.as_ref().map_or_else(unknown, |prefixes| first_of(&prefixes.value)),
            eni.allowances.map_or_else(unknown, allowances),
        ]);
    }
    table
}

fn metrics(ipam: &Ipam) -> Block {
    let columns = vec![
        Column::words(""),
        Column::number("VALUE"),
        Column::number("IN THE WINDOW"),
        Column::folding("IPAMD'S NAME"),
    ];
    let notes = vec!["As the CNI metrics helper shows them, for this node alone.".to_owned()];
    let mut table = Block { title: "IPAMD".to_owned(), columns, notes, ..Block::default() };
    for metric in ipam.metrics.iter().filter(|metric| metric.value > 0 || ALWAYS.contains(&metric.name.as_str())) {
        table.row([
            sanitise(metric.helper_name.as_deref().unwrap_or("-")).into_owned(),
            metric.value.to_string(),
            metric.in_window.map_or_else(unknown, |grown| format!("+{grown}")),
            sanitise(&metric.name).into_owned(),
        ]);
    }
    table
}

/// What an operator has to know, one line each, with what to do.
pub fn warnings(enis: &[Eni], ipam: Option<&Ipam>, sources: &[Source]) -> Vec<String> {
    let mut lines = Vec::new();
    for eni in enis {
        let name = eni.device.as_deref().or(eni.mac.as_deref()).map(sanitise).unwrap_or_default();
        if let Some(disagreement) = &eni.disagreement {
            lines.push(format!("{name} has no ENI id here: {} (ip link shows altnames)", sanitise(disagreement)));
        }
        for (count, meaning, action) in eni.allowances.map(exceeded).into_iter().flatten() {
            if let Some(count) = count.filter(|count| *count > 0) {
                let packets = counted(count, "packet");
                lines.push(format!("{name}: EC2 queued or dropped {packets} over the {meaning} ({action})"));
            }
        }
    }
    let without = ipam.and_then(|ipam| ipam.metrics.iter().find(|one| one.name == "awscni_no_available_ip_addresses"));
    if let Some(count) = without.and_then(|metric| metric.in_window).filter(|count| *count > 0) {
        lines.push(format!(
            "ipamd had no address for {} (check the subnet's free addresses, and maxIPAddresses)",
            counted(count, "pod")
        ));
    }
    for source in sources {
        if matches!(source.state, SourceState::Refused | SourceState::TimedOut | SourceState::Malformed) {
            let missing = match source.name {
                SourceName::Imds => "ENI ids and addresses may be missing",
                SourceName::IpamdEnis => "addresses of pods by ENI may be missing",
                SourceName::IpamdMetrics => "its numbers are missing",
                SourceName::Altnames => "ENI ids may be missing",
            };
            let reason = source.reason.as_deref().unwrap_or("it gave no reason");
            lines.push(format!("{} was asked, but {} ({missing})", source.name, sanitise(reason)));
        }
    }
    lines
}

/// Each counter of packets over an allowance, what it means, and what to do.
fn exceeded(allowances: Allowances) -> [(Option<u64>, &'static str, &'static str); 5] {
    [
        (
            allowances.bw_in_allowance_exceeded,
            "inbound bandwidth allowance, bw_in_allowance_exceeded",
            "move pods away, or use a larger instance type",
        ),
        (
            allowances.bw_out_allowance_exceeded,
            "outbound bandwidth allowance, bw_out_allowance_exceeded",
            "move pods away, or use a larger instance type",
        ),
        (
            allowances.pps_allowance_exceeded,
            "packets-per-second allowance, pps_allowance_exceeded",
            "send larger packets, or use a larger instance type",
        ),
        (
            allowances.conntrack_allowance_exceeded,
            "allowance for tracked connections, conntrack_allowance_exceeded",
            "avoid tracking by security groups, or use a larger instance type",
        ),
        (
            allowances.linklocal_allowance_exceeded,
            "allowance for DNS, IMDS and NTP, linklocal_allowance_exceeded",
            "cache DNS on the node (NodeLocal DNSCache)",
        ),
    ]
}

/// "none", or how many packets of which counters.
fn allowances(allowances: Allowances) -> String {
    const SHORT: [&str; 5] = ["bandwidth in", "bandwidth out", "packets/s", "connections", "link-local"];
    let counts = exceeded(allowances).map(|(count, ..)| count);
    let over = SHORT.iter().zip(counts).filter_map(|(name, count)| Some((name, count.filter(|count| *count > 0)?)));
    let over: Vec<_> = over.map(|(name, count)| format!("{name} {count}")).collect();
    let text = match (over.is_empty(), counts.iter().any(Option::is_some)) {
        (true, true) => "none".to_owned(),
        (true, false) => unknown(),
        (false, _) => over.join(", "),
    };
    match allowances.conntrack_allowance_available {
        Some(left) => format!("{text}, {left} connections left"),
        None => text,
    }
}

fn role(eni: &Eni) -> String {
    let Some(role) = &eni.role else { return unknown() };
    match role.value {
        EniRole::Primary => "primary".to_owned(),
        EniRole::Secondary => "secondary".to_owned(),
        EniRole::Trunk => "trunk".to_owned(),
        EniRole::Branch => match (&eni.trunk, eni.vlan) {
            (Some(trunk), Some(vlan)) => format!("branch, VLAN {vlan} on {}", sanitise(trunk)),
            _ => "branch".to_owned(),
        },
    }
}

fn pod_addresses(pods: PodAddresses) -> String {
    match (pods.total, pods.free) {
        (Some(total), Some(free)) => format!("{} of {total}, {free} free", pods.assigned),
        _ => format!("{} assigned", pods.assigned),
    }
}

/// The devices' table has all addresses; of prefixes there can be dozens.
fn first_of(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [only] => sanitise(only).into_owned(),
        [first, rest @ ..] => format!("{} and {} more", sanitise(first), rest.len()),
    }
}

fn unknown() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests;
