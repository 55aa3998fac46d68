//! The metrics: their names, labels and meaning. Out: read by every exporter, so that all use the same.
//!
//! Counters are sums over exact windows, and begin at 0 when netpath does. `sum()` over any label means something. An address,
//! port, index or hardware address is never a label: there would be no end of series.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// By path, each byte once.
    Bytes,
    /// The same in packets.
    Packets,
    /// By pod, path and direction.
    PodBytes,
    /// The same in packets.
    PodPackets,
    /// Between two pods of this node, over an ENI.
    LocalPairEniBytes,
    /// What hooks saw of `node_network_total_bytes`, by term.
    ContainerInsightsBytes,
    /// What they did not see of it, or saw too much, by cause.
    ResidualBytes,
    /// `node_network_total_bytes` as a counter.
    NodeNetworkBytes,
    /// `NetworkIn` and `NetworkOut` as counters.
    Ec2Bytes,
    /// What a device's hooks saw.
    DeviceBytes,
    /// What its own counters have.
    DeviceKernelBytes,
    /// Beyond EC2's allowances.
    EnaAllowanceExceededPackets,
    /// Addresses of ENIs.
    EniIpAddresses,
    /// What an ENI is.
    EniInfo,
    /// Over ENIs, by availability zone.
    ZoneBytes,
    /// In no flow.
    UnattributedPackets,
    /// Flows whose path is unknown.
    UnjoinedFlows,
    /// Flows that conntrack translates in more than one way.
    AmbiguousFlows,
    /// Windows in which messages of conntrack were lost.
    ConntrackOverruns,
    /// Messages about devices that were lost.
    DeviceOverruns,
    /// Devices whose traffic is not (fully) seen.
    BlindDevices,
    /// Flows at hooks.
    FlowMapEntries,
    /// Room for them.
    FlowMapCapacity,
    /// Windows.
    Windows,
    /// Windows without `node_network_total_bytes`.
    IncompleteWindows,
    /// What had no room among the series.
    SeriesDropped,
    /// EMF events that were written.
    EmfEvents,
    /// EMF events that were given up.
    EmfEventsDropped,
    /// In files for a fleet.
    FlowRecordsWritten,
    /// Of those, given up.
    FlowRecordsDropped,
    /// Version.
    BuildInfo,
    /// What an OpenTelemetry collector has taken.
    OtlpSent,
    /// What was to be sent there and is not.
    OtlpDropped,
}

/// What a metric is, for those who read it.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Without prefix, and without the `_total` of counters.
    pub name: &'static str,
    /// One sentence, without the full stop.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Names of its labels, in the order of their values.
    pub labels: &'static [&'static str],
}

/// Whether a metric only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Counter,
    /// It does not.
    Gauge,
}

impl Metric {
    /// What it is.
    #[must_use]
    pub const fn description(self) -> Description {
        use Kind::{Counter, Gauge};
        let (kind, name, labels): (_, _, &'static [&'static str]) = match self {
            Self::Bytes => (Counter, "bytes", &["path"]),
            Self::Packets => (Counter, "packets", &["path"]),
            Self::PodBytes => (Counter, "pod_bytes", &["namespace", "pod", "path", "direction"]),
            Self::PodPackets => (Counter, "pod_packets", &["namespace", "pod", "path", "direction"]),
            Self::LocalPairEniBytes => (Counter, "local_pair_eni_bytes", &[]),
            Self::ContainerInsightsBytes => (Counter, "container_insights_bytes", &["term"]),
            Self::ResidualBytes => (Counter, "residual_bytes", &["cause", "sign"]),
            Self::NodeNetworkBytes => (Counter, "node_network_bytes", &[]),
            Self::Ec2Bytes => (Counter, "ec2_bytes", &["direction"]),
            Self::DeviceBytes => (Counter, "device_bytes", &["device", "class", "direction"]),
            Self::DeviceKernelBytes => (Counter, "device_kernel_bytes", &["device", "class", "direction"]),
            Self::EnaAllowanceExceededPackets => {
                (Counter, "ena_allowance_exceeded_packets", &["device", "eni_id", "allowance"])
            }
            Self::EniIpAddresses => (Gauge, "eni_ip_addresses", &["eni_id", "state"]),
            Self::EniInfo => (Gauge, "eni_info", &["eni_id", "device", "role", "device_index", "zone_id"]),
            Self::ZoneBytes => (Counter, "zone_bytes", &["src_zone", "dst_zone"]),
            Self::UnattributedPackets => (Counter, "unattributed_packets", &["reason"]),
            Self::UnjoinedFlows => (Counter, "unjoined_flows", &[]),
            Self::AmbiguousFlows => (Counter, "ambiguous_flows", &[]),
            Self::ConntrackOverruns => (Counter, "conntrack_overruns", &[]),
            Self::DeviceOverruns => (Counter, "device_overruns", &[]),
            Self::BlindDevices => (Gauge, "blind_devices", &[]),
            Self::FlowMapEntries => (Gauge, "flow_map_entries", &["family"]),
            Self::FlowMapCapacity => (Gauge, "flow_map_capacity", &[]),
            Self::Windows => (Counter, "windows", &[]),
            Self::IncompleteWindows => (Counter, "incomplete_windows", &[]),
            Self::SeriesDropped => (Counter, "series_dropped", &[]),
            Self::EmfEvents => (Counter, "emf_events", &[]),
            Self::EmfEventsDropped => (Counter, "emf_events_dropped", &[]),
            Self::FlowRecordsWritten => (Counter, "flow_records_written", &[]),
            Self::FlowRecordsDropped => (Counter, "flow_records_dropped", &[]),
            Self::BuildInfo => (Gauge, "build_info", &["version"]),
            Self::OtlpSent => (Counter, "otlp_sent", &["signal"]),
            Self::OtlpDropped => (Counter, "otlp_dropped", &["signal", "reason"]),
        };
        Description { name, help: self.help(), kind, labels }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Bytes => "Bytes of all flows, each byte once, by where they went",
            Self::Packets => "Packets of all flows, each once, by where they went",
            Self::PodBytes => {
                "Bytes of pods of this node; what goes from pod to pod is in the series of both; undelivered ones were meant for the pod"
            }
            Self::PodPackets => "Packets of pods of this node; what goes from pod to pod is in the series of both",
            Self::LocalPairEniBytes => "Bytes between pods of this node that crossed an ENI all the same",
            Self::ContainerInsightsBytes => {
                "What netpath's hooks saw of node_network_total_bytes, by where and why it is counted there"
            }
            Self::ResidualBytes => {
                "What device counters and netpath's hooks differ by, by cause; cause residual is without a known one"
            }
            Self::NodeNetworkBytes => {
                "Container Insights' node_network_total_bytes as a counter, from the kernel's own device counters"
            }
            Self::Ec2Bytes => "What EC2 shows as NetworkIn and NetworkOut, from the ENIs' counters",
            Self::DeviceBytes => "Bytes that netpath's hook on a device saw",
            Self::DeviceKernelBytes => "Bytes that a device's own counter has",
            Self::EnaAllowanceExceededPackets => {
                "Packets that EC2 queued or dropped since they exceeded an allowance of the instance, by ENA's counters"
            }
            Self::EniIpAddresses => "Addresses that ipamd holds on an ENI for pods",
            Self::EniInfo => "An ENI of this instance; the value is 1",
            Self::ZoneBytes => "Bytes over ENIs by availability zone id; empty where it is not known",
            Self::UnattributedPackets => "Packets that are in no flow",
            Self::UnjoinedFlows => "Flows whose path is unknown, summed over windows",
            Self::AmbiguousFlows => "Flows that conntrack translates in more than one way, summed over windows",
            Self::ConntrackOverruns => "Windows in which messages of conntrack were lost",
            Self::DeviceOverruns => "Messages about devices that the kernel dropped",
            Self::BlindDevices => "Devices whose traffic was not (fully) seen in the last window",
            Self::FlowMapEntries => "Flows in the last window, each once for each hook that saw it",
            Self::FlowMapCapacity => "Room for them in a window, of both families together",
            Self::Windows => "Windows that the counters are sums of",
            Self::IncompleteWindows => {
                "Windows that are not in node_network, container_insights and residual bytes, since a device's counters began anew"
            }
            Self::SeriesDropped => "Additions to new series that were beyond the limit (--max-series)",
            Self::EmfEvents => "EMF events that were written",
            Self::EmfEventsDropped => "EMF events that were given up, since nobody took them in time",
            Self::FlowRecordsWritten => "Records in finished files of --flows, of flows, ENIs and windows",
            Self::FlowRecordsDropped => "Records that could not be written to files of --flows, and were given up",
            Self::BuildInfo => "The netpath that runs; the value is 1",
            Self::OtlpSent => "Data points and log records that the OpenTelemetry collector has taken",
            Self::OtlpDropped => {
                "Data points and log records that the OpenTelemetry collector was to have and has not; of superseded ones it has newer ones"
            }
        }
    }

    /// Whether its series are of pods, devices or ENIs, which come and go.
    #[must_use]
    pub const fn comes_and_goes(self) -> bool {
        matches!(
            self,
            Self::PodBytes
                | Self::PodPackets
                | Self::DeviceBytes
                | Self::DeviceKernelBytes
                | Self::EnaAllowanceExceededPackets
        )
    }
}
