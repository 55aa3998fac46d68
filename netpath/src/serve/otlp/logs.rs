//! The flows of a window as log records, an event each.
//!
//! In: a report. Out: requests of a bounded number of records. Pure. Attributes of which OpenTelemetry's semantic conventions have
//! none are `netpath.` and the report's name for the same.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::nanoseconds;
use super::proto::{INFO, KeyValue, LogRecord, LogsRequest, Resource, ResourceLogs, Scope, ScopeLogs};
use crate::report::{Flow, Nat, Report};
use crate::sanitise::sanitise;

/// In a request.
const MOST_RECORDS: usize = 1000;
/// The name of the event.
const EVENT: &str = "netpath.flow";

/// Requests with all flows, and how many records each has.
pub fn requests<'a>(report: &'a Report, resource: &'a Resource) -> impl Iterator<Item = (LogsRequest, u64)> + 'a {
    report.flows.chunks(MOST_RECORDS).map(|flows| {
        let records = flows.iter().map(|flow| record(flow, report)).collect();
        let scope_logs = vec![ScopeLogs { scope: Some(Scope::own()), records }];
        let resource_logs = vec![ResourceLogs { resource: Some(resource.clone()), scope_logs }];
        (LogsRequest { resource_logs }, flows.len() as u64)
    })
}

/// At the end of the window.
fn record(flow: &Flow, report: &Report) -> LogRecord {
    let window = &report.window;
    let end = window
        .started_at
        .parse::<Timestamp>()
        .and_then(|start| start.checked_add(Duration::from_nanos(window.duration_ns)))
        .map_or(0, nanoseconds);
    let mut attributes = ends(flow);
    attributes.extend(amounts(flow));
    attributes.extend(facts(flow));
    attributes.push(KeyValue::text("netpath.window.started_at", &*window.started_at));
    attributes.push(KeyValue::number("netpath.window.duration_ns", window.duration_ns));
    LogRecord { time: end, observed: end, severity: INFO, attributes, event_name: EVENT.to_owned() }
}

/// Who talked to whom, by the conventions' names.
fn ends(flow: &Flow) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::text("source.address", flow.src.to_string()),
        KeyValue::text("destination.address", flow.dst.to_string()),
        KeyValue::text("network.transport", &*flow.proto),
        KeyValue::text("network.type", if flow.src.is_ipv4() { "ipv4" } else { "ipv6" }),
    ];
    for (key, port) in [("source.port", flow.sport), ("destination.port", flow.dport)] {
        attributes.extend(port.map(|port| KeyValue::number(key, port.into())));
    }
    // As the node's ENIs have it. What crossed none, or went in and out, has no direction.
    attributes.extend(match (flow.eni_rx_bytes, flow.eni_tx_bytes) {
        (1.., 0) => Some(KeyValue::text("network.io.direction", "receive")),
        (0, 1..) => Some(KeyValue::text("network.io.direction", "transmit")),
        _ => None,
    });
    attributes
}

fn amounts(flow: &Flow) -> [KeyValue; 5] {
    [
        ("netpath.bytes", flow.bytes),
        ("netpath.packets", flow.packets),
        ("netpath.wire_bytes", flow.wire_bytes),
        ("netpath.eni_rx_bytes", flow.eni_rx_bytes),
        ("netpath.eni_tx_bytes", flow.eni_tx_bytes),
    ]
    .map(|(key, value)| KeyValue::number(key, value))
}

/// What else there is to a flow, as far as there is.
fn facts(flow: &Flow) -> impl Iterator<Item = KeyValue> {
    let name = |text: &str| sanitise(text).into_owned();
    let texts = [
        ("netpath.path", Some(flow.path.name().to_owned())),
        ("netpath.reason", flow.reason.map(|reason| Serialised(reason).to_string())),
        ("netpath.scope", flow.scope.map(|scope| Serialised(scope).to_string())),
        ("netpath.nat", Some(Serialised(flow.nat).to_string()).filter(|_| flow.nat != Nat::None)),
        ("netpath.service", flow.service.as_deref().map(name)),
        ("netpath.src_pod", flow.src_pod.as_deref().map(name)),
        ("netpath.dst_pod", flow.dst_pod.as_deref().map(name)),
        ("netpath.src_peer_kind", flow.src_peer_kind.map(|kind| kind.name().to_owned())),
        ("netpath.dst_peer_kind", flow.dst_peer_kind.map(|kind| kind.name().to_owned())),
    ];
    let truths = [
        ("netpath.from_initiator", flow.from_initiator),
        ("netpath.local_pair_left_node", flow.local_pair_left_node.then_some(true)),
        ("netpath.own", flow.own.then_some(true)),
    ];
    let dropped = flow.drops.iter().map(|drop| drop.packets).sum::<u64>();
    let texts = texts.into_iter().filter_map(|(key, text)| Some(KeyValue::text(key, text?)));
    let truths = truths.into_iter().filter_map(|(key, truth)| Some(KeyValue::truth(key, truth?)));
    texts.chain(truths).chain((dropped > 0).then(|| KeyValue::number("netpath.dropped_packets", dropped)))
}

/// As the report has it.
struct Serialised<T>(T);

impl<T: Serialize> fmt::Display for Serialised<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.serialize(f)
    }
}
