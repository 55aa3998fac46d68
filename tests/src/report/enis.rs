//! ENIs, who told what of them, and what ipamd counts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::show;

/// All of it, so that two can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eni {
    pub device: Option<String>,
    pub ifindex: Option<u32>,
    pub mac: Option<String>,
    pub id: Option<Fact<String>>,
    pub device_index: Option<Fact<u32>>,
    pub network_card: Option<Fact<u32>>,
    pub role: Option<Fact<String>>,
    pub addresses: Option<Fact<Vec<String>>>,
    pub prefixes: Option<Fact<Vec<String>>>,
    pub pod_addresses: Option<Fact<PodAddresses>>,
    pub trunk: Option<String>,
    pub vlan: Option<u16>,
    pub disagreement: Option<String>,
    pub allowances: Option<BTreeMap<String, Option<u64>>>,
}

/// A fact, and which source told it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Fact<T> {
    pub value: T,
    pub origin: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PodAddresses {
    pub assigned: u64,
    pub total: Option<u64>,
    pub free: Option<u64>,
}

/// Somebody who is asked about ENIs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Source {
    pub name: String,
    pub state: String,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Ipam {
    pub metrics: Vec<IpamMetric>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct IpamMetric {
    pub name: String,
    pub helper_name: Option<String>,
    pub value: u64,
    pub in_window: Option<u64>,
}

show!(Eni, Source);

/// How asking a source went; a reason is given for everything but "ok".
///
/// # Panics
/// When there is no such source, or the reason does not go with the state.
#[must_use]
#[track_caller]
pub fn source_state<'a>(sources: &'a [Source], name: &str) -> &'a str {
    let found = sources.iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name} in {sources:#?}"));
    assert_eq!(found.reason.is_none(), found.state == "ok", "{found}");
    &found.state
}
