//! The report's conversations, or its devices, or what differs between two, as a table for spreadsheets (RFC 4180).

use std::fmt::Display;
use std::io::{self, Write};

use csv::{Terminator, Writer, WriterBuilder};
use serde_json::Value;

use super::report::View;
use crate::model::DeviceClass;
use crate::path::conversations::{Merge, conversations};
use crate::report::{Amount, Conversation, Device, Diff, End, Report};
use crate::sanitise::sanitise;

/// Writes the devices if the view asks for them, else the conversations; each flow's by itself if the view says so. `heading`: the
/// names of the columns, before the first of many reports.
///
/// # Errors
/// If `out` fails.
pub fn write(report: &Report, out: &mut impl Write, view: &View, heading: bool) -> io::Result<()> {
    let mut table = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    let started = &report.window.started_at;
    if view.devices {
        if heading {
            table.write_record(DEVICES)?;
        }
        for device in &report.devices {
            table.write_record(device_cells(started, device))?;
        }
    } else {
        if heading {
            table.write_record(CONVERSATIONS)?;
        }
        let single = view.flows.then(|| conversations(&report.flows, Merge::Nothing));
        for one in single.as_ref().unwrap_or(&report.conversations) {
            write_conversation(&mut table, started, one)?;
        }
    }
    table.flush()
}

/// Writes what differs, a line for each change of each comparison.
///
/// # Errors
/// If `out` fails.
pub fn write_diff(diff: &Diff, out: &mut impl Write) -> io::Result<()> {
    let mut table = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    table.write_record(CHANGES)?;
    for comparison in &diff.comparisons {
        for change in &comparison.changes {
            let amount = |amount: Option<Amount>| {
                [cell(amount.map(|it| it.bytes)), cell(amount.and_then(|it| it.bytes_per_second))]
            };
            let names = [name(&comparison.by), text(change.name.as_deref()), name(&change.kind)];
            let amounts = [amount(change.before), amount(change.after)].concat();
            table.write_record(names.into_iter().chain(amounts).chain([cell(change.bytes_per_second)]))?;
        }
    }
    table.flush()
}

const CHANGES: [&str; 8] = [
    "by",
    "name",
    "kind",
    "before_bytes",
    "before_bytes_per_second",
    "after_bytes",
    "after_bytes_per_second",
    "change_bytes_per_second",
];

const CONVERSATIONS: [&str; 25] = [
    "window",
    "proto",
    "from_pod",
    "from_address",
    "from_port",
    "from_peer_kind",
    "to_service",
    "to_pod",
    "to_address",
    "to_port",
    "to_peer_kind",
    "path",
    "nat",
    "reason",
    "reason_detail",
    "connections",
    "bytes",
    "packets",
    "sent_bytes",
    "received_bytes",
    "icmp_error_bytes",
    "dropped_packets",
    "eni_tx_bytes",
    "eni_rx_bytes",
    "local_pair_left_node",
];

const DEVICES: [&str; 12] = [
    "window",
    "device",
    "ifindex",
    "class",
    "pod",
    "rx_bytes",
    "tx_bytes",
    "kernel_rx_bytes",
    "kernel_tx_bytes",
    "residual_rx_bytes",
    "residual_tx_bytes",
    "counted_by_container_insights",
];

fn write_conversation<W: Write>(table: &mut Writer<W>, started: &str, one: &Conversation) -> io::Result<()> {
    let end = |end: &End| [text(end.pod.as_deref()), cell(end.address), cell(end.port), name(&end.peer_kind)];
    let paths: Vec<&str> = one.paths.iter().map(|path| path.name()).collect();
    let ends = [
        vec![text(Some(started)), text(Some(&one.proto))],
        end(&one.from).to_vec(),
        vec![text(one.to.service.as_deref())],
        end(&one.to).to_vec(),
        vec![paths.join(" "), name(&one.nat), name(&one.reason), text(one.reason_detail.as_deref())],
    ];
    let numbers = [
        Some(one.connections),
        Some(one.bytes),
        Some(one.packets),
        one.sent_bytes,
        one.received_bytes,
        Some(one.icmp_error_bytes),
        Some(one.dropped_packets),
        Some(one.eni_tx_bytes),
        Some(one.eni_rx_bytes),
    ];
    let cells = ends.into_iter().flatten().chain(numbers.into_iter().map(cell));
    table.write_record(cells.chain([one.local_pair_left_node.to_string()])).map_err(io::Error::from)
}

fn device_cells(started: &str, device: &Device) -> [String; 12] {
    let (facts, residual) = (&device.facts, device.residual.as_ref());
    let class: &DeviceClass = &facts.class;
    [
        text(Some(started)),
        text(Some(&facts.name)),
        facts.ifindex.to_string(),
        name(class),
        text(device.pod.as_deref()),
        cell(device.rx.map(|rx| rx.bytes)),
        cell(device.tx.map(|tx| tx.bytes)),
        cell(facts.kernel.map(|kernel| kernel.rx_bytes)),
        cell(facts.kernel.map(|kernel| kernel.tx_bytes)),
        cell(residual.map(|residual| residual.rx.bytes)),
        cell(residual.map(|residual| residual.tx.bytes)),
        device.counted_by_container_insights.to_string(),
    ]
}

/// Empty where it is not known.
fn cell(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// What comes from elsewhere. A spreadsheet takes what begins so for a formula.
fn text(value: Option<&str>) -> String {
    let text = value.map(sanitise).unwrap_or_default();
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.into_owned() }
}

/// As in the JSON.
fn name(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn nothing_is_a_formula() {
        assert_eq!(text(Some("=cmd()")), "'=cmd()");
        assert_eq!(text(Some("default/web")), "default/web");
        assert_eq!(text(None), "");
        assert!(!text(Some("a\u{1b}[2J\r\n")).contains(['\u{1b}', '\n']));
    }
}
