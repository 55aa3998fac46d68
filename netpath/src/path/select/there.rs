//! What there was where a filter matches nothing.
//!
//! In: all flows of a report, and the filter. Out: lines such as "pods: default/web, default/db": of each option that alone
//! matches nothing what it could have had, most bytes first; of each other option how many flows it matches.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Condition, Filter, Way, namespace};
use crate::path::conversations::is_icmp;
use crate::report::{Flow, Nat, PeerKind, Report};

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
            let flows = if matching == 1 { "flow" } else { "flows" };
            vec![format!("{} alone: {matching} {flows}", options.join(" "))]
        } else {
            group.iter().map(|condition| of_kind(condition, report)).collect()
        };
        for line in new {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

/// What flows have in place of what is asked for.
fn of_kind(condition: &Condition, report: &Report) -> String {
    let each = |what: &str, names: &dyn Fn(&Flow) -> Vec<String>| {
        let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
        for flow in &report.flows {
            for name in names(flow) {
                let sum = bytes.entry(name).or_default();
                *sum = sum.saturating_add(flow.bytes);
            }
        }
        line(what, bytes)
    };
    let pods = |flow: &Flow| [&flow.src_pod, &flow.dst_pod].into_iter().flatten().cloned().collect::<Vec<_>>();
    match condition {
        Condition::Id(_) => format!("ids: 1 to {}", report.flows.iter().map(|flow| flow.id).max().unwrap_or(0)),
        Condition::Proto(_) => each("protocols", &|flow| vec![flow.proto.clone()]),
        Condition::Net(_) | Condition::End(_) | Condition::Between(_) => {
            each("addresses", &|flow| vec![flow.src.to_string(), flow.dst.to_string()])
        }
        Condition::Port(_) | Condition::PortName(_) => {
            each("ports of servers", &|flow| port(flow).iter().map(ToString::to_string).collect())
        }
        Condition::Pod(_) => each("pods", &pods),
        Condition::Namespace(_) => {
            each("namespaces", &|flow| pods(flow).iter().map(|pod| namespace(pod).to_owned()).collect())
        }
        Condition::Service(_) => each("services", &|flow| flow.service.iter().cloned().collect()),
        Condition::Path(Way::To(PeerKind::Vpc)) if report.node.vpc_cidr_blocks.is_empty() => {
            "paths: vpc is not known, since the instance metadata service did not give its CIDR blocks".to_owned()
        }
        Condition::Path(_) => each("paths", &|flow| {
            let ways = [PeerKind::Internet, PeerKind::Vpc];
            let peers = ways.into_iter().filter(|kind| Condition::Path(Way::To(*kind)).matches(flow));
            [flow.path.name()].into_iter().chain(peers.map(PeerKind::name)).map(str::to_owned).collect()
        }),
        Condition::Nat(_) => each("NAT", &|flow| {
            let name = match flow.nat {
                Nat::None => "none",
                Nat::Snat => "snat",
                Nat::Dnat => "dnat",
                Nat::Both => "both",
            };
            vec![name.to_owned()]
        }),
        Condition::Device(_) => each("devices", &|flow| flow.hops.iter().map(|hop| hop.device.clone()).collect()),
    }
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
