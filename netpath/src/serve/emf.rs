//! Windows as `CloudWatch` takes them: Embedded Metric Format, one event a line.
//!
//! In: a report of each window, and what the node is called. Out: JSON, by the EMF specification of the Amazon `CloudWatch` user
//! guide. The fields have the names that Container Insights' performance log events have, and the CNI metrics helper's metrics, so that
//! queries of those work; namespace and dimensions are others, so that no one's metrics get second samples. Pure.

mod sink;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::sink::{Queue, Sink, Target, open};
use crate::model::{Drops, IpamMetric, KernelCounters};
use crate::report::{Device, Report};
use crate::serve::names::Names;
use crate::serve::state::window_end;

const NAMESPACE: &str = "netpath";
const BYTES: &str = "Bytes/Second";
const COUNT_RATE: &str = "Count/Second";
const COUNT: &str = "Count";

/// Makes events of windows.
#[derive(Debug)]
pub struct Events {
    names: Names,
    /// Where the `CloudWatch` agent writes events to.
    log_group: String,
    /// ipamd's counters after the window before.
    counters: BTreeMap<String, u64>,
}

/// An event under construction.
struct Event {
    fields: Map<String, Value>,
    dimensions: Vec<&'static str>,
    metrics: Vec<Value>,
}

impl Events {
    /// Of a node with these names, for this log group of the `CloudWatch` agent.
    #[must_use]
    pub fn new(names: Names, log_group: String) -> Self {
        Self { names, log_group, counters: BTreeMap::new() }
    }

    /// The events of a window, each a line.
    pub fn of(&mut self, report: &Report) -> Vec<String> {
        let seconds = std::time::Duration::from_nanos(report.window.duration_ns).as_secs_f64();
        let Some(end) = window_end(&report.window).filter(|_| seconds > 0.0) else { return Vec::new() };
        let mut events = vec![self.node(report, seconds)];
        let counted = |device: &&Device| device.counted_by_container_insights && device.facts.kernel.is_some();
        events.extend(report.devices.iter().filter(counted).map(|device| self.interface(report, device, seconds)));
        events.extend(self.pods(report, seconds));
        events.extend(self.ipam(report));
        events.into_iter().map(|event| event.line(end, &self.log_group)).collect()
    }

    fn event(&self, report: &Report, kind: &'static str) -> Event {
        let mut event = Event { fields: Map::new(), dimensions: Vec::new(), metrics: Vec::new() };
        event.field("Type", kind);
        event.dimension("ClusterName", &self.names.cluster);
        event.dimension("InstanceId", report.node.instance_id.as_deref().unwrap_or_default());
        event.dimension("NodeName", &self.names.node);
        event.fields.insert("window_duration_ns".to_owned(), report.window.duration_ns.into());
        event
    }

    fn node(&self, report: &Report, seconds: f64) -> Event {
        let mut event = self.event(report, "Node");
        let mut sum = Counted::default();
        for device in report.devices.iter().filter(|device| device.counted_by_container_insights) {
            sum.add(device);
        }
        // The total has devices that went away, too.
        let total = report.accounting.container_insights.node_network_total_bytes;
        event.traffic("node_network", sum, total, seconds, true);
        for (direction, bytes) in
            [("in", report.accounting.ec2.network_in_bytes), ("out", report.accounting.ec2.network_out_bytes)]
        {
            if let Some(bytes) = bytes {
                event.metric(&format!("ec2_network_{direction}_bytes"), per_second(bytes, seconds).into(), BYTES);
            }
        }
        for (path, total) in &report.totals.by_path {
            event.metric(&format!("{}_bytes", path.name()), per_second(total.bytes, seconds).into(), BYTES);
        }
        event
    }

    fn interface(&self, report: &Report, device: &Device, seconds: f64) -> Event {
        let mut event = self.event(report, "NodeNet");
        event.field("interface", &device.facts.name);
        let counted = Counted::of(device);
        event.traffic("node_interface_network", counted, Some(counted.total()), seconds, false);
        event
    }

    /// Of each pod one `Pod` with the sum of its devices, and of each device one `PodNet`.
    fn pods(&self, report: &Report, seconds: f64) -> Vec<Event> {
        let mut by_pod: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
        for device in report.devices.iter().filter(|device| device.facts.kernel.is_some()) {
            if let Some(pod) = &device.pod {
                by_pod.entry(pod).or_default().push(device);
            }
        }
        let mut events = Vec::new();
        for (pod, devices) in by_pod {
            let (namespace, name) = pod.split_once('/').unwrap_or_default();
            let event = |kind| {
                let mut event = self.event(report, kind);
                event.dimension("Namespace", namespace);
                event.dimension("PodName", name);
                event
            };
            let (mut of_pod, mut sum) = (event("Pod"), Counted::default());
            for device in devices {
                let counted = Counted::of(device);
                let mut net = event("PodNet");
                net.field("interface", &device.facts.name);
                net.traffic("pod_interface_network", counted.turned(), Some(counted.total()), seconds, false);
                events.push(net);
                sum.add(device);
            }
            of_pod.traffic("pod_network", sum.turned(), Some(sum.total()), seconds, true);
            events.push(of_pod);
        }
        events
    }

    /// What the CNI metrics helper publishes: gauges as they are, counters by what they grew since the window before.
    fn ipam(&mut self, report: &Report) -> Option<Event> {
        let ipam = report.ipam.as_ref()?;
        let mut event = self.event(report, "CNI");
        for IpamMetric { name, helper_name, value, counter, .. } in &ipam.metrics {
            let grown = counter
                .then(|| self.counters.insert(name.clone(), *value).and_then(|before| value.checked_sub(before)));
            if let (Some(helper_name), Some(value)) = (helper_name, grown.unwrap_or(Some(*value))) {
                event.metric(helper_name, value.into(), COUNT);
            }
        }
        Some(event)
    }
}

/// Counters of devices, as the host sees them.
#[derive(Clone, Copy, Default)]
struct Counted {
    kernel: KernelCounters,
    dropped: Option<Drops>,
}

impl Counted {
    fn of(device: &Device) -> Self {
        Self { kernel: device.facts.kernel.unwrap_or_default(), dropped: device.facts.drops }
    }

    fn add(&mut self, device: &Device) {
        let Self { kernel, dropped } = Self::of(device);
        self.kernel = self.kernel + kernel;
        if let Some(dropped) = dropped {
            self.dropped = Some(self.dropped.unwrap_or_default() + dropped);
        }
    }

    /// Bytes of both directions.
    fn total(self) -> u64 {
        self.kernel.rx_bytes.saturating_add(self.kernel.tx_bytes)
    }

    /// As the pod sees it: it receives what the host's end sends.
    fn turned(self) -> Self {
        let KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets } = self.kernel;
        Self {
            kernel: KernelCounters {
                rx_bytes: tx_bytes,
                rx_packets: tx_packets,
                tx_bytes: rx_bytes,
                tx_packets: rx_packets,
            },
            dropped: self
                .dropped
                .map(|Drops { rx_packets, tx_packets }| Drops { rx_packets: tx_packets, tx_packets: rx_packets }),
        }
    }
}

impl Event {
    fn field(&mut self, name: &str, value: &str) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// `CloudWatch` takes no empty dimension.
    fn dimension(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.field(name, value);
            self.dimensions.push(name);
        }
    }

    fn metric(&mut self, name: &str, value: Value, unit: &str) {
        self.fields.insert(name.to_owned(), value);
        self.metrics.push(json!({"Name": name, "Unit": unit}));
    }

    /// What Container Insights logs of traffic. Of nodes and pods it makes metrics, of single devices it does not.
    fn traffic(&mut self, prefix: &str, of: Counted, total: Option<u64>, seconds: f64, as_metrics: bool) {
        let KernelCounters { rx_bytes, rx_packets, tx_bytes, tx_packets } = of.kernel;
        let dropped = |which: fn(Drops) -> u64| of.dropped.map(which);
        let all = [
            ("rx_bytes", Some(rx_bytes), BYTES),
            ("tx_bytes", Some(tx_bytes), BYTES),
            ("total_bytes", total, BYTES),
            ("rx_packets", Some(rx_packets), COUNT_RATE),
            ("tx_packets", Some(tx_packets), COUNT_RATE),
            ("rx_dropped", dropped(|drops| drops.rx_packets), COUNT_RATE),
            ("tx_dropped", dropped(|drops| drops.tx_packets), COUNT_RATE),
        ];
        for (name, value, unit) in all {
            let name = format!("{prefix}_{name}");
            match value.map(|value| per_second(value, seconds)) {
                Some(value) if as_metrics => self.metric(&name, value.into(), unit),
                Some(value) => drop(self.fields.insert(name, value.into())),
                None => {}
            }
        }
    }

    fn line(mut self, end: Timestamp, log_group: &str) -> String {
        let directives = if self.metrics.is_empty() {
            json!([])
        } else {
            json!([{"Namespace": NAMESPACE, "Dimensions": [self.dimensions], "Metrics": self.metrics}])
        };
        let about =
            json!({"Timestamp": end.as_millisecond(), "LogGroupName": log_group, "CloudWatchMetrics": directives});
        self.fields.insert("_aws".to_owned(), about);
        Value::Object(self.fields).to_string()
    }
}

#[expect(clippy::cast_precision_loss, reason = "CloudWatch's values are doubles")]
fn per_second(value: u64, seconds: f64) -> f64 {
    value as f64 / seconds
}

#[cfg(test)]
mod tests;
