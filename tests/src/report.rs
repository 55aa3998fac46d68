//! netpath's JSON as the tests read it: types of their own, so that what a reader of the documents relies on is tested, not what
//! netpath's code calls it.
//!
//! In: what netpath wrote to stdout, checked against its schema. Values that are one of several words stay text, and are
//! compared with the words of the schema. It must not use any code of netpath.

#![expect(missing_docs, reason = "fields have the document's names, and its schema says what they are")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

mod accounting;
mod device;
mod devices;
mod doctor;
mod enis;
mod flow;
mod health;
mod names;

pub use accounting::{Accounting, ContainerInsights, Ec2, PodMetrics, Term, Traffic};
pub use device::{Cause, Device, Hook, KernelSlack, OtherProgram, Qdisc, Residual, Residuals, Xdp};
pub use devices::{Devices, ListedDevice};
pub use doctor::{DiagnosedDevice, Diagnosis, Finding};
pub use enis::{Eni, Fact, Ipam, IpamMetric, PodAddresses, Source, source_state};
pub use flow::{Flow, FlowDrop, Hop, QuotedPacket};
pub use health::{ConntrackTable, Health};
pub use names::{NameOrigin, NameSource, Names};

/// How a failed assertion shows it: `{flow}` on one line, `{flow:#}` on many.
macro_rules! show {
    ($($type:ty),*) => {
        $(impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self, f)
            }
        })*
    };
}
pub(crate) use show;

/// `netpath report --format json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    pub schema: String,
    pub window: Window,
    pub node: Node,
    pub devices: Vec<Device>,
    pub flows: Vec<Flow>,
    pub totals: Totals,
    pub accounting: Accounting,
    pub health: Health,
    pub names: Names,
    pub selection: Option<Selection>,
    pub enis: Vec<Eni>,
    pub sources: Vec<Source>,
    pub ipam: Option<Ipam>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Window {
    pub duration_ns: u64,
    pub interval_ns: Option<u64>,
    pub late_ns: Option<u64>,
    pub skew_ns: Option<Skew>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Skew {
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub instance_id: Option<String>,
    pub vpc_cidr_blocks: Vec<String>,
}

/// What `flows` is limited to.
#[derive(Clone, Debug, Deserialize)]
pub struct Selection {
    pub filters: Vec<String>,
    pub there: Vec<String>,
}

/// What crossed what, each byte once.
#[derive(Clone, Debug, Deserialize)]
pub struct Totals {
    pub by_path: BTreeMap<String, Total>,
    pub in_tunnels: Total,
    pub own: Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Total {
    pub flows: u64,
    pub packets: u64,
    pub bytes: u64,
}

show!(Report, Skew, Node, Selection, Totals, Total);

impl Report {
    /// The device of this name.
    ///
    /// # Panics
    /// When there is none, or more than one.
    #[must_use]
    #[track_caller]
    pub fn device(&self, name: &str) -> &Device {
        let named = self.devices_named(name);
        let names = || self.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>();
        let [device] = named[..] else { panic!("{} devices are named {name}, among {:?}", named.len(), names()) };
        device
    }

    /// All devices that had this name in the window.
    #[must_use]
    pub fn devices_named(&self, name: &str) -> Vec<&Device> {
        self.devices.iter().filter(|device| device.name == name).collect()
    }

    /// The flow of which this is true.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn flow(&self, is_it: impl Fn(&Flow) -> bool) -> &Flow {
        self.flows.iter().find(|flow| is_it(flow)).unwrap_or_else(|| panic!("no such flow in {:#?}", self.flows))
    }

    /// The flow from this socket.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn flow_from(&self, socket: SocketAddr) -> &Flow {
        self.flow(|flow| flow.source() == socket)
    }

    /// All flows of this protocol.
    pub fn flows_of(&self, proto: &str) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(move |flow| flow.proto == proto)
    }

    /// What went this path.
    ///
    /// # Panics
    /// When there is no such path.
    #[must_use]
    #[track_caller]
    pub fn path(&self, path: &str) -> Total {
        *self.totals.by_path.get(path).unwrap_or_else(|| panic!("no path {path} in {:?}", self.totals.by_path))
    }

    /// The bytes of a term of the accounting.
    ///
    /// # Panics
    /// When there is no such term.
    #[must_use]
    #[track_caller]
    pub fn term(&self, name: &str) -> i64 {
        let terms = &self.accounting.terms;
        terms.iter().find(|term| term.name == name).unwrap_or_else(|| panic!("no term {name} in {terms:?}")).bytes
    }

    /// All terms, added up.
    #[must_use]
    pub fn sum_of_terms(&self) -> i64 {
        self.accounting.terms.iter().map(|term| term.bytes).sum()
    }

    /// `node_network_total_bytes` of Container Insights.
    ///
    /// # Panics
    /// When the report has none.
    #[must_use]
    #[track_caller]
    pub fn node_network_total_bytes(&self) -> u64 {
        self.accounting.container_insights.node_network_total_bytes.expect("the report has node_network_total_bytes")
    }

    /// The ENI of a device.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    #[track_caller]
    pub fn eni(&self, device: &str) -> &Eni {
        let found = self.enis.iter().find(|eni| eni.device.as_deref() == Some(device));
        found.unwrap_or_else(|| panic!("no {device} in {:#?}", self.enis))
    }
}
