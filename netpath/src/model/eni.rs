//! ENIs, what the VPC CNI's address management says of them, and which sources answered: the same in a snapshot and in a
//! report. Plain data. Every fact names its origin; what no source told is `None`.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An ENI of this instance, or a device that netpath takes for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Eni {
    /// Index of its device; `null` if there is none in this network namespace.
    pub ifindex: Option<u32>,
    /// Name of its device.
    pub device: Option<String>,
    /// Hardware address, lower-case hex with colons.
    pub mac: Option<String>,
    /// EC2's id of it: `eni-` and hex digits.
    pub id: Option<Fact<String>>,
    /// Device index of the attachment: 0 is the primary ENI's (on its network card).
    pub device_index: Option<Fact<u32>>,
    /// Network card of the attachment; `null` also where the instance type has no more than one.
    pub network_card: Option<Fact<u32>>,
    /// What it is for.
    pub role: Option<Fact<EniRole>>,
    /// Of a branch ENI, the name of the trunk's device.
    pub trunk: Option<String>,
    /// Of a branch ENI, the VLAN id.
    pub vlan: Option<u16>,
    /// Its private addresses, IPv4 first, without those of `prefixes`.
    pub addresses: Option<Fact<Vec<IpAddr>>>,
    /// The prefixes that EC2 delegated to it, as `10.0.0.16/28`.
    pub prefixes: Option<Fact<Vec<String>>>,
    /// How many of its addresses pods have.
    pub pod_addresses: Option<Fact<PodAddresses>>,
    /// What ENA counted against the instance's allowances in the window; `null` if its driver does not tell.
    pub allowances: Option<Allowances>,
    /// Sources that contradict each other about its id, which is `null` then.
    pub disagreement: Option<String>,
}

/// A value, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Fact<T> {
    /// What is said.
    pub value: T,
    /// Who says it.
    pub origin: Origin,
}

/// Where a fact is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An alternative name of the device, as amazon-ec2-net-utils sets them.
    Altname,
    /// EC2's instance metadata service.
    Imds,
    /// The VPC CNI's ipamd, by its introspection endpoint.
    Ipamd,
    /// The VLAN device that the VPC CNI makes on a trunk.
    Vlan,
}

/// What an ENI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EniRole {
    /// The instance's first one: device index 0.
    Primary,
    /// Any other for addresses of pods or of the node.
    Secondary,
    /// Carries branch ENIs.
    Trunk,
    /// One pod's own, as a VLAN on a trunk.
    Branch,
}

/// As it is serialised.
impl fmt::Display for EniRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How many of the addresses that ipamd holds on an ENI pods have. The ENI's own primary address is not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct PodAddresses {
    /// Those of pods.
    pub assigned: u64,
    /// All, those of prefixes included; `null` with an IPv6 prefix, which has more than can matter.
    pub total: Option<u64>,
    /// The others, also those that were a pod's until some seconds ago; `null` if `total` is.
    pub free: Option<u64>,
}

/// ENA's counters of allowances (`ethtool -S`, ENA's `ena_ethtool.c`). An allowance is the instance's, and yet each ENI
/// counts. Those that end in `exceeded` are packets that EC2 queued or dropped in the window. `None`: the driver, or its
/// version, has no such counter, or it was not read at both ends of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Allowances {
    /// Bandwidth, inbound.
    pub bw_in_allowance_exceeded: Option<u64>,
    /// Bandwidth, outbound.
    pub bw_out_allowance_exceeded: Option<u64>,
    /// Packets a second, both directions together.
    pub pps_allowance_exceeded: Option<u64>,
    /// Connections that security groups track.
    pub conntrack_allowance_exceeded: Option<u64>,
    /// Packets a second to link-local services: DNS, IMDS, time.
    pub linklocal_allowance_exceeded: Option<u64>,
    /// How many more connections could be tracked, at the end of the window.
    pub conntrack_allowance_available: Option<u64>,
}

impl Allowances {
    /// What was counted since `earlier`. A counter that ran backwards is unknown: the driver has begun anew.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let grown =
            |now: Option<u64>, before: Option<u64>| now.zip(before).and_then(|(now, before)| now.checked_sub(before));
        Self {
            bw_in_allowance_exceeded: grown(self.bw_in_allowance_exceeded, earlier.bw_in_allowance_exceeded),
            bw_out_allowance_exceeded: grown(self.bw_out_allowance_exceeded, earlier.bw_out_allowance_exceeded),
            pps_allowance_exceeded: grown(self.pps_allowance_exceeded, earlier.pps_allowance_exceeded),
            conntrack_allowance_exceeded: grown(
                self.conntrack_allowance_exceeded,
                earlier.conntrack_allowance_exceeded,
            ),
            linklocal_allowance_exceeded: grown(
                self.linklocal_allowance_exceeded,
                earlier.linklocal_allowance_exceeded,
            ),
            ..self
        }
    }
}

/// What ipamd's metrics say: for one node what the CNI metrics helper publishes for a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Ipam {
    /// In the order of netpath's list, only those that ipamd has.
    pub metrics: Vec<IpamMetric>,
}

/// One of ipamd's metrics, summed over its labels as the CNI metrics helper does it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct IpamMetric {
    /// ipamd's name for it (`awscni_eni_allocated`).
    pub name: String,
    /// The CNI metrics helper's name for it (`eniAllocated`); `null` if the helper does not publish it.
    pub helper_name: Option<String>,
    /// The last value that was read; of a counter, since ipamd started.
    pub value: u64,
    /// Whether it is a counter, which begins at 0 when ipamd starts.
    #[serde(default)]
    pub counter: bool,
    /// Of a counter, what it grew by in the window; `null` if it was not read at both ends, or ipamd was started anew.
    pub in_window: Option<u64>,
}

/// Something that netpath asked about ENIs.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Source {
    /// Which.
    pub name: SourceName,
    /// How it went.
    pub state: SourceState,
    /// Unless it is `ok`: why, in one line.
    pub reason: Option<String>,
}

/// What netpath asks about ENIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceName {
    /// Alternative names of devices.
    Altnames,
    /// EC2's instance metadata service.
    Imds,
    /// ipamd's introspection endpoint.
    IpamdEnis,
    /// ipamd's metrics endpoint.
    IpamdMetrics,
}

/// In words: what is asked.
impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Altnames => "the devices' alternative names",
            Self::Imds => "the instance metadata service",
            Self::IpamdEnis => "ipamd's introspection",
            Self::IpamdMetrics => "ipamd's metrics endpoint",
        })
    }
}

/// How asking a source went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It told what it has.
    Ok,
    /// It is not there, which is as it should be on many nodes.
    Absent,
    /// It is there and refuses to tell.
    Refused,
    /// It is there and took too long.
    TimedOut,
    /// It told something that it should not, if anything at all.
    Malformed,
}
