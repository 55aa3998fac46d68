//! What a report says of its own completeness.

use serde::Deserialize;

use super::show;

#[derive(Clone, Debug, Deserialize)]
pub struct Health {
    pub ambiguous_flows: u64,
    pub blind_devices: u64,
    pub clsact_lost_packets: Option<u64>,
    pub clsact_new_devices: u64,
    pub conntrack: String,
    pub conntrack_reason: Option<String>,
    pub conntrack_table: Option<ConntrackTable>,
    pub device_overruns: u64,
    pub drops_lost_packets: u64,
    pub drops_unseen: Option<String>,
    pub eni: String,
    pub eni_reason: Option<String>,
    pub map_full_packets: u64,
    pub orphan_fragment_packets: u64,
    pub unjoined_flows: u64,
    pub unparsed_packets: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ConntrackTable {
    pub connections: u64,
    pub limit: Option<u64>,
    pub drop: u64,
    pub early_drop: u64,
}

show!(Health);
