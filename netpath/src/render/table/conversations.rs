//! The block of conversations: one row each, as its initiator sees it.
//!
//! In: the report's flows. Out: rows with the most bytes first. The initiator is whom conntrack calls so; where that is
//! unknown, the end with the higher port (servers listen on low ones), else the source of the flow with the most bytes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use super::super::reason::reason;
use super::super::units::Scale;
use super::{Style, heading, plain_table, write_table};
use crate::model::Direction;
use crate::report::{Flow, Hop, PathClass, Report, Scope};
use crate::sanitise::sanitise;

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
        let (flow, initiator) = match (self.from_initiator.first(), self.from_responder.first()) {
            (Some(flow), _) => (*flow, true),
            (None, Some(flow)) => (*flow, false),
            (None, None) => return Default::default(),
        };
        let ends = Ends::of(flow, initiator);
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
            ends.from.shown(),
            ends.to.shown(),
            amount(&self.from_initiator, self.sent()),
            amount(&self.from_responder, self.received()),
            paths.into_iter().map(PathClass::name).collect::<Vec<_>>().join(", "),
            devices.join(" → "),
            notes(flow, &ends).join("; "),
        ]
    }
}

/// The ends of a conversation, as its initiator sees them.
struct Ends<'a> {
    from: End<'a>,
    to: End<'a>,
}

/// One end.
struct End<'a> {
    address: String,
    /// What to call it instead.
    name: Option<Cow<'a, str>>,
    /// The pod that is there under another address, or perhaps under another.
    behind: Option<Cow<'a, str>>,
}

impl<'a> End<'a> {
    /// `own`: the address is the pod's own.
    fn new((address, port): (IpAddr, Option<u16>), pod: Option<&'a str>, own: bool) -> Self {
        let pod = pod.map(sanitise);
        let with_port = |pod: Cow<'a, str>| port.map_or(pod.clone(), |port| format!("{pod}:{port}").into());
        let (name, behind) = if own { (pod.map(with_port), None) } else { (None, pod) };
        Self { address: end(address, port), name, behind }
    }

    fn shown(&self) -> String {
        self.name.as_deref().unwrap_or(&self.address).to_owned()
    }
}

impl<'a> Ends<'a> {
    fn of(flow: &'a Flow, initiator: bool) -> Self {
        let (src, dst) = ((flow.src, flow.sport), (flow.dst, flow.dport));
        let (src_pod, dst_pod) = (flow.src_pod.as_deref(), flow.dst_pod.as_deref());
        let last = flow.hops.last();
        let (last_src, last_dst) = last.map_or((src, dst), |hop| ((hop.src, hop.sport), (hop.dst, hop.dport)));
        // A packet has its sender's own address where it comes in, before NAT, and its receiver's own where it goes out.
        let came_in = flow.hops.first().is_some_and(|hop| hop.direction == Direction::Rx);
        let went_out = last.is_some_and(|hop| hop.direction == Direction::Tx);
        let (from, mut to) = if initiator {
            (End::new(src, src_pod, came_in), End::new(dst, dst_pod, went_out && last_dst == dst))
        } else {
            // Without the initiator's flow, the last hop of an answer shows the initiator's addresses best.
            (End::new(last_dst, dst_pod, went_out), End::new(last_src, src_pod, came_in && last_src == src))
        };
        if let Some(service) = flow.service.as_deref() {
            to.name = Some(sanitise(service));
        }
        Self { from, to }
    }
}

/// What is to be said of a flow besides: addresses where names stand for them, pods behind others' addresses, translation,
/// special addresses.
fn notes(flow: &Flow, ends: &Ends) -> Vec<String> {
    let mut notes = Vec::new();
    let (from, to) = (&ends.from, &ends.to);
    match (from.name.is_some(), to.name.is_some()) {
        (true, true) => notes.push(format!("{} → {}", from.address, to.address)),
        (true, false) => notes.push(format!("from {}", from.address)),
        (false, true) => notes.push(format!("to {}", to.address)),
        (false, false) => {}
    }
    notes.extend(from.behind.iter().map(|pod| format!("from pod {pod}")));
    notes.extend(to.behind.iter().map(|pod| format!("to pod {pod}")));
    if let Some(last) = flow.hops.last() {
        notes.extend(translation(flow, last));
    }
    notes.extend(reason(flow));
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
