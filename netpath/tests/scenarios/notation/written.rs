//! A report's flows and differences as the files write them.

use netpath::model::Direction;
use netpath::report::{Device, Flow, PathClass};

/// A flow as the files write it: `PATH PROTO HOP > HOP… BYTES B [MARK]…`, a hop being `DEVICE rx|tx`.
pub fn flow_line(flow: &Flow) -> String {
    let direction = |direction| match direction {
        Direction::Rx => "rx",
        Direction::Tx => "tx",
    };
    let hops: Vec<_> = flow.hops.iter().map(|hop| format!("{} {}", hop.device, direction(hop.direction))).collect();
    let mut line = format!("{} {} {} {}B", path_name(flow.path), flow.proto, hops.join(" > "), flow.bytes);
    if let Some(scope) = flow.scope {
        line.push(' ');
        line.push_str(serde_json::to_value(scope).unwrap().as_str().unwrap());
    }
    if flow.local_pair_left_node {
        line.push_str(" local_pair_left_node");
    }
    if let Some(reason) = flow.reason {
        line.push(' ');
        line.push_str(serde_json::to_value(reason).unwrap().as_str().unwrap());
    }
    line
}

/// A device's residuals as the files write them.
pub fn residual_lines(device: &Device) -> Vec<String> {
    let Some(residual) = &device.residual else { return Vec::new() };
    [("rx", &residual.rx), ("tx", &residual.tx)]
        .into_iter()
        .filter(|(_, one)| one.bytes != 0 || !one.causes.is_empty())
        .map(|(direction, one)| {
            let bytes = |bytes: Option<i64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
            let mut parts: Vec<_> =
                one.causes.iter().map(|cause| format!("{} {}", cause.name, bytes(cause.bytes))).collect();
            if one.unexplained_bytes != 0 {
                parts.push(format!("unexplained {}", one.unexplained_bytes));
            }
            format!("{} {direction} {}: {}", device.facts.name, one.bytes, parts.join(", "))
        })
        .collect()
}

pub fn path_name(path: PathClass) -> &'static str {
    match path {
        PathClass::Eni => "eni",
        PathClass::Local => "local",
        PathClass::Host => "host",
        PathClass::Transit => "transit",
        PathClass::Undelivered => "undelivered",
        PathClass::Unresolved => "unresolved",
    }
}
