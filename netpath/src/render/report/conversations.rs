//! Who talked to whom: one row each, most bytes first.

use super::super::block::{Block, Cell, Column, Row};
use super::super::labels::{self, address_and_port, counted};
use super::super::reason;
use super::super::tone::Tone;
use super::super::units::Scale;
use super::{Rows, View};
use crate::path::conversations::{flow, of_report};
use crate::report::{Conversation, End, PathClass, PathReason, PeerKind, Report};
use crate::sanitise::sanitise;

/// From this width on there is room for both directions and ids.
const WIDE: usize = 110;

/// The rows, and what they are. `width`: the screen's, if it is limited.
#[must_use]
pub fn rows(report: &Report, view: &View, width: Option<usize>) -> Rows {
    let scale = view.scale(report);
    let is_wide = view.wide || view.all || width.is_some_and(|width| width >= WIDE);
    let all = of_report(report, view.merge());
    let mut columns = vec![Column::name(""), Column::name("TO"), Column::number(scale.heading())];
    if is_wide {
        columns.extend([Column::number("SENT"), Column::number("RECEIVED")]);
    }
    columns.extend([Column::number("CONNS"), Column::words("PATH"), Column::words("NAT")]);
    if is_wide {
        columns.push(Column::words("FLOWS"));
    }
    let shown = &all[..view.rows(all.len())];
    let rows = shown.iter().map(|one| row(one, report, scale, view.flows, is_wide)).collect();
    let block = Block { columns, rows, ..Block::default() };
    Rows { block, noun: ["CONVERSATION", "CONVERSATIONS"], there: all.len() }
}

fn row(one: &Conversation, report: &Report, scale: Scale, flows: bool, is_wide: bool) -> Row {
    let number = |bytes| Cell::number(scale.bytes(bytes), bytes);
    let amount = |bytes: Option<u64>| bytes.map_or_else(|| Cell::from("-"), number);
    let [from, to] = ends(one, flows);
    let mut cells = vec![Cell::from(from), format!("→ {to}").into(), number(one.bytes)];
    if is_wide {
        cells.extend([amount(one.sent_bytes), amount(one.received_bytes)]);
    }
    let paths = one.paths.iter().map(|path| path.name()).collect::<Vec<_>>().join(", ");
    let tone = one.paths.iter().copied().max().map_or(Tone::Plain, Tone::of);
    let connections = Cell::number(one.connections.to_string(), one.connections);
    cells.extend([connections, Cell::toned(paths, tone), labels::nat(one.nat).into()]);
    if is_wide {
        cells.push(one.flows.iter().map(u64::to_string).collect::<Vec<_>>().join(", ").into());
    }
    let also = [behind(&one.from, one.from.port.filter(|_| flows)), behind(&one.to, one.to.port)].concat().join(" ");
    Row { cells, details: details(one, report, scale), also }
}

/// What an end's name stands for.
fn behind(end: &End, port: Option<u16>) -> Vec<String> {
    let pod = end.pod.as_deref().filter(|_| end.service.is_some()).map(|pod| sanitise(pod).into_owned());
    let is_named = end.service.is_some() || end.pod.is_some() || end.peer_kind == Some(PeerKind::ThisNode);
    let address = end.address.filter(|_| is_named).map(|address| address_and_port(address, port));
    pod.into_iter().chain(address).collect()
}

/// "default/client", "default/web:80"; with `each`, "default/client:51234".
#[must_use]
pub fn ends(one: &Conversation, each: bool) -> [String; 2] {
    // Of a client's port only the connection by itself is of interest.
    [end(&one.from, one.from.port.filter(|_| each)), format!("{}{}", end(&one.to, one.to.port), protocol(one))]
}

/// "/udp" for all but TCP, and what is special about the address.
fn protocol(one: &Conversation) -> String {
    let proto = if one.proto == "tcp" { String::new() } else { format!("/{}", sanitise(&one.proto)) };
    match one.scope {
        Some(scope) => format!("{proto} ({})", labels::scope(scope)),
        None => proto,
    }
}

/// "default/web:80", "198.51.100.7:8080", "this node:53".
fn end(end: &End, port: Option<u16>) -> String {
    let name = end.service.as_deref().or(end.pod.as_deref()).map(|name| sanitise(name).into_owned());
    let this_node = || (end.peer_kind == Some(PeerKind::ThisNode)).then(|| "this node".to_owned());
    // A service's name has its port.
    let port = port.filter(|_| end.service.is_none());
    match (name.or_else(this_node), end.address) {
        (Some(name), _) => port.map_or(name.clone(), |port| format!("{name}:{port}")),
        (None, Some(address)) => address_and_port(address, port),
        (None, None) => port.map_or_else(|| "several".to_owned(), |port| format!("several:{port}")),
    }
}

/// Why it was dropped or is unknown, and what to run next.
fn details(one: &Conversation, report: &Report, scale: Scale) -> Vec<String> {
    let mut details = Vec::new();
    let dropped = || counted(one.dropped_packets, "packet");
    if let Some(reason) = one.reason {
        let flow = one.flows.iter().filter_map(|id| flow(&report.flows, *id)).find(|flow| flow.reason.is_some());
        let packets = if reason == PathReason::Dropped { format!(", {}", dropped()) } else { String::new() };
        details.push(reason::clause(reason, one.reason_detail.as_deref()) + &packets);
        details.extend(flow.map(|flow| format!("next: {}", reason::next(reason, flow))));
    }
    if one.dropped_packets > 0 && one.reason != Some(PathReason::Dropped) {
        details.push(format!("dropped on this node: {} (netpath explain has the reasons)", dropped()));
    }
    // Errors alone are the conversation.
    if one.icmp_error_bytes > 0 && one.icmp_error_bytes < one.bytes {
        details.push(format!("ICMP errors about it: {}", scale.bytes(one.icmp_error_bytes)));
    }
    if one.local_pair_left_node && one.paths.contains(&PathClass::Eni) {
        details
            .push("both ends are pods of this node, yet it crossed an ENI (branch ENIs, a load balancer)".to_owned());
    }
    details
}
