//! Names of pods: which are missing and why, and where they came from.

use super::super::block::{Block, Column};
use super::super::labels::counted;
use crate::model::{NameSource, NameSourceState};
use crate::report::Names;
use crate::sanitise::sanitise;

/// Every source that was asked.
pub(super) fn block(names: &Names) -> Block {
    let columns = vec![Column::words(""), Column::number("NAMES"), Column::folding("STATE")];
    let mut block = Block { title: "SOURCES OF NAMES".to_owned(), columns, ..Block::default() };
    for source in &names.sources {
        let state = match source.state {
            NameSourceState::Ok => "ok",
            NameSourceState::Absent => "not on this node",
            NameSourceState::Incomplete => "incomplete",
            NameSourceState::Malformed => "malformed",
            NameSourceState::Unreadable => "unreadable",
            NameSourceState::Slow => "too slow",
        };
        let reason = source.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", sanitise(reason)));
        block.row([source_name(source.source).to_owned(), source.count.to_string(), format!("{state}{reason}")]);
    }
    block
}

/// What is missing, and why.
pub(super) fn missing(names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    let is_broken = |state| !matches!(state, NameSourceState::Ok | NameSourceState::Absent);
    for source in names.sources.iter().filter(|source| is_broken(source.state)) {
        let reason = source.reason.as_deref().map_or_else(|| "no reason is known".into(), sanitise);
        lines.push(format!("names from {} are missing: {reason}", source_name(source.source)));
    }
    let asked = !names.sources.is_empty();
    if asked && names.unknown_veths > 0 {
        let why = if names.sources.iter().all(|source| source.state == NameSourceState::Absent) {
            "this node keeps no record of pods where netpath looked; name the folder of the host's files with --host-root"
        } else {
            "no source of names knows their pods"
        };
        lines.push(format!("{} without a pod's name ({why})", counted(names.unknown_veths, "veth")));
    }
    for (count, what, why) in [
        (names.disputed_veths, counted(names.disputed_veths, "veth"), "sources disagree on the pod"),
        (
            names.disputed_addresses,
            counted(names.disputed_addresses, "pod address"),
            "several pods had the same one in this window",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{what} without a name, as {why} (measure for a shorter time)"));
        }
    }
    lines
}

fn source_name(source: NameSource) -> &'static str {
    match source {
        NameSource::VpcCni => "the VPC CNI (ipam.json)",
        NameSource::Cri => "the container runtime (CRI)",
        NameSource::Processes => "pods' processes",
        NameSource::PodLogs => "the folders of pods' logs",
        NameSource::KubeProxy => "kube-proxy's rules",
    }
}
