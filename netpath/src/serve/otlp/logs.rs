//! The flows of a window as log records, an event each.
//!
//! In: a report. Out: requests of a bounded number of records. Pure. Attributes of which OpenTelemetry's semantic conventions have
//! none are `netpath.` and the report's name for the same.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::nanoseconds;
use super::proto::{INFO, KeyValue, LogRecord, LogsRequest, Resource, ResourceLogs, Scope, ScopeLogs};
use crate::model::Window;
use crate::report::{Flow, Nat, Report};
use crate::sanitise::sanitise;

/// In a request.
const MOST_RECORDS: usize = 1000;
/// The name of the event.
const EVENT: &str = "netpath.flow";

/// Requests with all flows, and how many records each has.
/// `end`: of the window.
pub fn requests<'a>(
    report: &'a Report,
    end: Timestamp,
    resource: &'a Resource,
) -> impl Iterator<Item = (LogsRequest, u64)> + 'a {
    report.flows.chunks(MOST_RECORDS).map(move |flows| {
        let records = flows.iter().map(|flow| record(flow, &report.window, end)).collect();
        let scope_logs = vec![ScopeLogs { scope: Some(Scope::own()), records }];
        let resource_logs = vec![ResourceLogs { resource: Some(resource.clone()), scope_logs }];
        (LogsRequest { resource_logs }, flows.len() as u64)
    })
}

fn record(flow: &Flow, window: &Window, end: Timestamp) -> LogRecord {
    let mut attributes = ends(flow);
    attributes.extend(amounts(flow));
    attributes.extend(facts(flow));
    attributes.push(KeyValue::text("netpath.window.started_at", &*window.started_at));
    attributes.push(KeyValue::number("netpath.window.duration_ns", window.duration_ns));
    let time = nanoseconds(end);
    LogRecord { time, observed: time, severity: INFO, attributes, event_name: EVENT.to_owned() }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::NodeInfo;
    use crate::path;
    use crate::serve::otlp::proto::Value;
    use crate::snapshot::Snapshot;

    fn flow(more: &serde_json::Value) -> Flow {
        let mut flow = json!({
            "id": 1, "conversation": 1, "proto": "icmp", "src": "10.0.0.21", "sport": null, "dst": "10.0.0.22", "dport": null,
            "path": "local", "scope": null, "local_pair_left_node": false, "from_initiator": null, "bytes": 98, "packets": 1,
            "wire_bytes": 98, "src_pod": null, "dst_pod": null, "hops": [],
        });
        flow.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(flow).expect("a flow")
    }

    fn report(flows: Vec<Flow>) -> Report {
        let started_at = "2026-03-24T13:42:29Z".to_owned();
        let window = Window { started_at, duration_ns: 500_000_000, ..Window::default() };
        Report { flows, ..path::report(&Snapshot::new(NodeInfo::default(), window)) }
    }

    /// Attributes but for those of the window, as `key=value`.
    fn attributes(of: Flow) -> Vec<String> {
        let report = report(vec![of]);
        let record = record(&report.flows[0], &report.window, Timestamp::UNIX_EPOCH);
        let value = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Truth(truth)) => truth.to_string(),
            None => panic!("{one:?}"),
        };
        let is_meant = |one: &&KeyValue| !one.key.starts_with("netpath.window.");
        record.attributes.iter().filter(is_meant).map(|one| format!("{}={}", one.key, value(one))).collect()
    }

    #[test]
    fn requests_of_a_thousand() {
        let report = report(vec![flow(&json!({})); 2001]);
        let end = Timestamp::from_second(5).expect("a time");
        let requests: Vec<_> = requests(&report, end, &Resource::default()).collect();
        assert_eq!(requests.iter().map(|(_, records)| *records).collect::<Vec<_>>(), [1000, 1000, 1]);
        let records = requests.iter().flat_map(|(request, _)| &request.resource_logs[0].scope_logs[0].records);
        let times: Vec<u64> = records.map(|record| record.time).collect();
        assert_eq!(times, vec![5_000_000_000; 2001]);
    }

    #[test]
    fn what_there_is_not_is_left_out() {
        assert_eq!(
            attributes(flow(&json!({}))),
            [
                "source.address=10.0.0.21",
                "destination.address=10.0.0.22",
                "network.transport=icmp",
                "network.type=ipv4",
                "netpath.bytes=98",
                "netpath.packets=1",
                "netpath.wire_bytes=98",
                "netpath.eni_rx_bytes=0",
                "netpath.eni_tx_bytes=0",
                "netpath.path=local",
            ]
        );
    }

    #[test]
    fn what_there_is() {
        let all = flow(&json!({
            "proto": "tcp", "src": "2001:db8::1", "sport": 443, "dst": "2001:db8::2", "dport": 40000, "path": "undelivered",
            "reason": "never_left", "scope": "link_local", "nat": "dnat", "service": "a/b:c", "src_pod": "a/b\u{1b}[2J",
            "dst_pod": "a/c", "src_peer_kind": "internet", "dst_peer_kind": "pod_here", "eni_rx_bytes": 98,
            "from_initiator": false, "local_pair_left_node": true, "own": true,
            "drops": [{"reason": null, "location": null, "in_node": null, "packets": 2},
                      {"reason": "X", "location": null, "in_node": null, "packets": 3}],
        }));
        assert_eq!(
            attributes(all),
            [
                "source.address=2001:db8::1",
                "destination.address=2001:db8::2",
                "network.transport=tcp",
                "network.type=ipv6",
                "source.port=443",
                "destination.port=40000",
                "network.io.direction=receive",
                "netpath.bytes=98",
                "netpath.packets=1",
                "netpath.wire_bytes=98",
                "netpath.eni_rx_bytes=98",
                "netpath.eni_tx_bytes=0",
                "netpath.path=undelivered",
                "netpath.reason=never_left",
                "netpath.scope=link_local",
                "netpath.nat=dnat",
                "netpath.service=a/b:c",
                "netpath.src_pod=a/b\\u{1b}[2J",
                "netpath.dst_pod=a/c",
                "netpath.src_peer_kind=internet",
                "netpath.dst_peer_kind=pod_here",
                "netpath.from_initiator=false",
                "netpath.local_pair_left_node=true",
                "netpath.own=true",
                "netpath.dropped_packets=5",
            ]
        );
    }
}
