//! What there was where a filter matches nothing.
//!
//! In: all flows of a report, and the filter. Out: lines that follow "there were", such as "pods: default/web, default/db": of
//! each option that alone matches nothing what it could have had, most bytes first; of each other option how many flows it
//! matches.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Condition, Filter, Party, Side, Way, namespace};
use crate::path::conversations::is_icmp;
use crate::report::{Flow, Nat, PeerKind, Report};

/// The names that a flow has.
type Names<'a> = &'a dyn Fn(&Flow) -> Vec<String>;

/// How many of a kind are named.
const NAMED: usize = 8;

/// One line an option; none if there was no flow at all.
pub(super) fn there(report: &Report, filter: &Filter) -> Vec<String> {
    if report.flows.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for group in &filter.0 {
        let matching = report.flows.iter().filter(|flow| group.iter().any(|one| one.matches(flow))).count();
        let new = if matching > 0 {
            let options: Vec<_> = group.iter().map(ToString::to_string).collect();
            vec![format!("{} with {} alone", count(matching), options.join(" "))]
        } else {
            group.iter().flat_map(|condition| of_kind(condition, report)).collect()
        };
        for line in new {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// "1 flow", "12 flows", "no flows".
fn count(flows: usize) -> String {
    match flows {
        0 => "no flows".to_owned(),
        1 => "1 flow".to_owned(),
        flows => format!("{flows} flows"),
    }
}

/// What flows have in place of what is asked for.
fn of_kind(condition: &Condition, report: &Report) -> Vec<String> {
    let each = |what, names: Names<'_>| vec![named(report, what, names)];
    match condition {
        Condition::Id(_) => vec![format!("ids: 1 to {}", report.flows.iter().map(|flow| flow.id).max().unwrap_or(0))],
        Condition::Proto(_) => each("protocols", &|flow| vec![flow.proto.to_string()]),
        Condition::Net(_) | Condition::End(_) => {
            each("addresses", &|flow| vec![flow.src.to_string(), flow.dst.to_string()])
        }
        Condition::Between(parties) => between(parties, report),
        Condition::Port(_) | Condition::PortName(_) => {
            each("ports of servers", &|flow| port(flow).iter().map(ToString::to_string).collect())
        }
        Condition::Pod(_) => each("pods", &pods),
        Condition::Namespace(_) => {
            each("namespaces", &|flow| pods(flow).iter().map(|pod| namespace(pod).to_owned()).collect())
        }
        Condition::Service(_) => each("services", &|flow| flow.service.iter().cloned().collect()),
        Condition::Path(way) => paths(*way, report),
        Condition::Nat(_) => each("NAT", &|flow| {
            let name = match flow.nat {
                Nat::None => "none",
                Nat::Snat => "snat",
                Nat::Dnat => "dnat",
                Nat::Both => "both",
            };
            vec![name.to_owned()]
        }),
        Condition::Device(_) => each("devices", &|flow| flow.hops.iter().map(|hop| hop.device.to_string()).collect()),
    }
}

/// Which of the two there is nothing of, and who there is; or that the two are there, but not together.
fn between(parties: &[Party; 2], report: &Report) -> Vec<String> {
    let flows_of = |party: &Party| {
        let is_at = |flow: &&Flow| [Side::Source, Side::Destination].into_iter().any(|side| party.is_at(side, flow));
        report.flows.iter().filter(is_at).count()
    };
    let [one, other] = parties;
    let [of_one, of_other] = [one, other].map(flows_of);
    let first = format!("{} of {one}", count(of_one));
    if of_one > 0 && of_other > 0 {
        return vec![format!("{first}, {of_other} of {other}, and none between the two")];
    }
    let of_other = if of_other > 0 { of_other.to_string() } else { "none".to_owned() };
    let mut lines = vec![format!("{first} and {of_other} of {other}")];
    let services = |flow: &Flow| flow.service.iter().cloned().collect::<Vec<_>>();
    let others = |flow: &Flow| {
        let ends = [(&flow.src_pod, flow.src, flow.src_peer_kind), (&flow.dst_pod, flow.dst, flow.dst_peer_kind)];
        let nameless = ends.into_iter().filter(|(pod, _, kind)| pod.is_none() && *kind != Some(PeerKind::Many));
        let words = nameless.map(|(_, address, kind)| match kind {
            Some(kind) => format!("{address} ({})", kind.name().replace('_', " ")),
            None => address.to_string(),
        });
        words.collect::<Vec<_>>()
    };
    for (what, names) in [("pods", &pods as Names<'_>), ("services", &services), ("others", &others)] {
        if report.flows.iter().any(|flow| !names(flow).is_empty()) {
            lines.push(named(report, what, names));
        }
    }
    lines
}

fn paths(way: Way, report: &Report) -> Vec<String> {
    let mut line = named(report, "paths", &|flow| {
        let ways = [PeerKind::Internet, PeerKind::Vpc];
        let peers = ways.into_iter().filter(|kind| Condition::Path(Way::To(*kind)).matches(flow));
        [flow.path.name()].into_iter().chain(peers.map(PeerKind::name)).map(str::to_owned).collect()
    });
    if way == Way::To(PeerKind::Vpc) && report.node.vpc_cidr_blocks.is_empty() {
        line.push_str(" (what is in the VPC is not known: the instance metadata service gave no CIDR blocks)");
    }
    vec![line]
}

fn pods(flow: &Flow) -> Vec<String> {
    [&flow.src_pod, &flow.dst_pod].into_iter().flatten().map(ToString::to_string).collect()
}

/// The names that flows have, by their bytes: "pods: default/web, default/db and 3 more".
fn named(report: &Report, what: &str, names: Names<'_>) -> String {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for flow in &report.flows {
        for name in names(flow) {
            let sum = bytes.entry(name).or_default();
            *sum = sum.saturating_add(flow.bytes);
        }
    }
    line(what, bytes)
}

/// The server's port; where it is not known who that is, the lower one.
fn port(flow: &Flow) -> Option<u16> {
    if is_icmp(&flow.proto) {
        return None;
    }
    match flow.from_initiator {
        Some(true) => flow.dport,
        Some(false) => flow.sport,
        None => flow.sport.min(flow.dport),
    }
}

fn line(what: &str, bytes: BTreeMap<String, u64>) -> String {
    let mut names: Vec<(String, u64)> = bytes.into_iter().collect();
    // Stable: of equal size, by name.
    names.sort_by_key(|(_, bytes)| Reverse(*bytes));
    let more = names.len().saturating_sub(NAMED);
    let mut names: Vec<String> = names.into_iter().take(NAMED).map(|(name, _)| name).collect();
    if names.is_empty() {
        names.push("none is known".to_owned());
    }
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    format!("{what}: {}", names.join(", "))
}
