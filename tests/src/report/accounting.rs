//! What Container Insights and EC2 make of a window, and the terms that it is the sum of.

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Accounting {
    pub container_insights: ContainerInsights,
    pub ec2: Ec2,
    pub terms: Vec<Term>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ContainerInsights {
    pub node_network_total_bytes: Option<u64>,
    pub vanished_devices_bytes: u64,
    pub pods: Vec<PodMetrics>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PodMetrics {
    pub device: String,
    pub pod_network_rx_bytes: Traffic,
    pub pod_network_tx_bytes: Traffic,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Traffic {
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Ec2 {
    pub network_in_bytes: Option<u64>,
    pub network_out_bytes: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Term {
    pub name: String,
    pub bytes: i64,
}
