//! Names of pods: from files, from a real container runtime with real pods, and from sources that are broken in every way.
//!
//! Names are held against what the tests themselves called the pods; which veth and address is whose, against the kernel's
//! routes and the CNI plugin's own records.

mod fake;
mod runtime;
mod runtimes;
mod sandboxes;
mod services;
mod sources;

use std::collections::BTreeMap;

use lab::Report;
use lab::report::{Device, Flow, NameOrigin, NameSource};

/// State, count and reason of each source in a report.
fn sources(report: &Report) -> BTreeMap<String, (String, u64, String)> {
    let of = |source: &NameSource| {
        let NameSource { source, state, count, reason } = source.clone();
        (source, (state, count, reason.unwrap_or_default()))
    };
    report.names.sources.iter().map(of).collect()
}

/// The pod of each device that has one, with how it was named: `("veth1a2b", "default/client by veth_name of pod_logs")`.
fn veths(report: &Report) -> BTreeMap<String, String> {
    let named =
        |device: &Device| Some((device.name.clone(), named(device.pod.as_deref(), device.pod_origin.as_ref())?));
    report.devices.iter().filter_map(named).collect()
}

/// The pods at both ends of each TCP flow. Besides, the kernels of new pods look for neighbours.
fn ends(report: &Report) -> Vec<(Option<String>, Option<String>)> {
    let flow = |flow: &Flow| {
        let [src, dst] = [(&flow.src_pod, &flow.src_pod_origin), (&flow.dst_pod, &flow.dst_pod_origin)];
        (named(src.0.as_deref(), src.1.as_ref()), named(dst.0.as_deref(), dst.1.as_ref()))
    };
    report.flows_of("tcp").map(flow).collect()
}

fn named(pod: Option<&str>, origin: Option<&NameOrigin>) -> Option<String> {
    let pod = pod?;
    let NameOrigin { by, source } = origin.unwrap();
    Some(format!("{pod} by {by} of {source}"))
}
