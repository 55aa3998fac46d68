//! The block of conversations: one row each, as its initiator sees it.
//!
//! In: the report's flows. Out: rows with the most bytes first. The initiator is whom conntrack calls so; where that is
//! unknown, the end with the higher port (servers listen on low ones), else the source of the flow with the most bytes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::super::text::sanitise;
use super::super::units::Scale;
use super::{Style, heading, plain_table, write_table};
use crate::report::{Flow, Hop, PathClass, Report, Scope};

/// Writes the conversations with the most bytes.
pub(super) fn write(report: &Report, out: &mut impl Write, style: Style) -> io::Result<()> {
    let mut by_id: HashMap<u64, Vec<&Flow>> = HashMap::new();
    for flow in &report.flows {
        by_id.entry(flow.conversation).or_default().push(flow);
    }
    let mut conversations: Vec<Conversation> = by_id.into_values().map(Conversation::new).collect();
    conversations.sort_by_key(|one| (Reverse(one.sent().saturating_add(one.received())), one.id));

    let shown = conversations.len().min(style.top);
    let rest = format!("   {shown} of {}, by bytes", conversations.len());
    heading(out, style, "CONVERSATIONS", &rest)?;
    let scale = style.scale(report);
    let mut table = plain_table(style, ["PROTO", "FROM", "TO", "SENT", "RECEIVED", "PATH", "DEVICES", "NOTE"], 3..=4);
    for one in &conversations[..shown] {
        table.add_row(one.row(scale));
    }
    if shown > 0 {
        write_table(out, &table)?;
    }
    writeln!(out)
}

/// The flows of one conversation, by direction; at least one in all.
struct Conversation<'a> {
    id: u64,
    from_initiator: Vec<&'a Flow>,
    from_responder: Vec<&'a Flow>,
}

impl<'a> Conversation<'a> {
    /// `flows` are in the order of the report, and not empty.
    fn new(flows: Vec<&'a Flow>) -> Self {
        let told = flows.iter().find(|flow| flow.from_initiator.is_some()).copied();
        let reference = told.unwrap_or(flows[0]);
        let initiates = reference.from_initiator.unwrap_or(reference.sport >= reference.dport);
        let id = reference.conversation;
        let (from_initiator, from_responder) = flows.into_iter().partition(|flow| {
            flow.from_initiator.unwrap_or_else(|| {
                let same = (flow.src, flow.sport, flow.dst, flow.dport)
                    == (reference.src, reference.sport, reference.dst, reference.dport);
                if same { initiates } else { !initiates }
            })
        });
        Self { id, from_initiator, from_responder }
    }

    fn sent(&self) -> u64 {
        self.from_initiator.iter().fold(0, |sum, flow| sum.saturating_add(flow.bytes))
    }

    fn received(&self) -> u64 {
        self.from_responder.iter().fold(0, |sum, flow| sum.saturating_add(flow.bytes))
    }

    fn row(&self, scale: Scale) -> [String; 8] {
        // Without the initiator's flow, the last hop of an answer shows the initiator's addresses best.
        let (flow, from, to) = match (self.from_initiator.first(), self.from_responder.first()) {
            (Some(flow), _) => (*flow, end(flow.src, flow.sport), end(flow.dst, flow.dport)),
            (None, Some(flow)) => {
                let hop = flow.hops.last();
                let (src, sport) = hop.map_or((flow.src, flow.sport), |hop| (hop.src, hop.sport));
                let (dst, dport) = hop.map_or((flow.dst, flow.dport), |hop| (hop.dst, hop.dport));
                (*flow, end(dst, dport), end(src, sport))
            }
            (None, None) => return Default::default(),
        };
        let amount = |flows: &[&Flow], sum: u64| if flows.is_empty() { "-".to_owned() } else { scale.bytes(sum) };
        let devices: Vec<_> = flow.hops.iter().map(|hop| sanitise(&hop.device)).collect();
        let mut paths: Vec<PathClass> = Vec::new();
        for flow in self.from_initiator.iter().chain(&self.from_responder) {
            if !paths.contains(&flow.path) {
                paths.push(flow.path);
            }
        }
        [
            sanitise(&flow.proto).into_owned(),
            from,
            to,
            amount(&self.from_initiator, self.sent()),
            amount(&self.from_responder, self.received()),
            paths.into_iter().map(PathClass::name).collect::<Vec<_>>().join(", "),
            devices.join(" → "),
            notes(flow).join("; "),
        ]
    }
}

/// What is to be said of a flow besides: pods, translation, special addresses.
fn notes(flow: &Flow) -> Vec<String> {
    let mut notes = Vec::new();
    match (flow.src_pod.as_deref().map(sanitise), flow.dst_pod.as_deref().map(sanitise)) {
        (Some(src), Some(dst)) => notes.push(format!("{src} → {dst}")),
        (Some(src), None) => notes.push(format!("from {src}")),
        (None, Some(dst)) => notes.push(format!("to {dst}")),
        (None, None) => {}
    }
    if let Some(last) = flow.hops.last() {
        notes.extend(translation(flow, last));
    }
    notes.extend(flow.scope.map(|scope| scope_name(scope).to_owned()));
    if flow.local_pair_left_node {
        notes.push("pods of this node, by an ENI".to_owned());
    }
    notes
}

/// What NAT made of the addresses, as far as it changed them.
fn translation(flow: &Flow, last: &Hop) -> Option<String> {
    let src = ((last.src, last.sport) != (flow.src, flow.sport)).then(|| format!("src {}", end(last.src, last.sport)));
    let dst = ((last.dst, last.dport) != (flow.dst, flow.dport)).then(|| format!("dst {}", end(last.dst, last.dport)));
    let changed: Vec<_> = src.into_iter().chain(dst).collect();
    (!changed.is_empty()).then(|| format!("NAT: {}", changed.join(" ")))
}

fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Imds => "instance metadata (IMDS)",
        Scope::AmazonDns => "Amazon DNS",
        Scope::AmazonNtp => "Amazon Time Sync",
        Scope::PodIdentity => "EKS Pod Identity agent",
        Scope::LinkLocal => "link-local",
        Scope::Multicast => "multicast",
        Scope::Broadcast => "broadcast",
    }
}
