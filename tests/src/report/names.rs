//! Names of pods: what gave them, and what is not known.

use serde::Deserialize;

use super::show;

#[derive(Clone, Debug, Deserialize)]
pub struct Names {
    pub disputed_addresses: u64,
    pub unknown_veths: u64,
    pub sources: Vec<NameSource>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct NameSource {
    pub source: String,
    pub state: String,
    pub count: u64,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NameOrigin {
    pub by: String,
    pub source: String,
}

show!(Names);
