//! Names of pods: from files, from a real container runtime with real pods, and from sources that are broken in every way.
//!
//! Names are held against what the tests themselves called the pods; which veth and address is whose, against the kernel's
//! routes and the CNI plugin's own records.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fake;
mod runtime;
mod runtimes;
mod sandboxes;
mod services;
mod sources;

use std::collections::BTreeMap;

use serde_json::Value;

/// State, count and reason of each source in a report.
fn sources(report: &Value) -> BTreeMap<String, (String, u64, String)> {
    let sources = report["names"]["sources"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |source: &Value| {
        (text(&source["source"]), (text(&source["state"]), source["count"].as_u64().unwrap(), text(&source["reason"])))
    };
    sources.iter().map(of).collect()
}

/// The pod of each device that has one, with how it was named: `("veth1a2b", "default/client by veth_name of pod_logs")`.
fn veths(report: &Value) -> BTreeMap<String, String> {
    let named =
        |device: &Value| Some((device["name"].as_str()?.to_owned(), named(&device["pod"], &device["pod_origin"])?));
    report["devices"].as_array().unwrap().iter().filter_map(named).collect()
}

/// The pods at both ends of each TCP flow. Besides, the kernels of new pods look for neighbours.
fn ends(report: &Value) -> Vec<(Option<String>, Option<String>)> {
    let flow = |flow: &Value| {
        (named(&flow["src_pod"], &flow["src_pod_origin"]), named(&flow["dst_pod"], &flow["dst_pod_origin"]))
    };
    report["flows"].as_array().unwrap().iter().filter(|flow| flow["proto"] == "tcp").map(flow).collect()
}

fn named(pod: &Value, origin: &Value) -> Option<String> {
    let (by, of) = (origin["by"].as_str(), origin["source"].as_str());
    Some(format!("{} by {} of {}", pod.as_str()?, by.unwrap(), of.unwrap()))
}
