//! Which programs are on the hooks of a namespace's devices, as the kernel and `tc` tell, and a way to take one off.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::Value;

use crate::bpf::{bpf, descriptor};
use crate::{Namespace, device_counters, tc};

/// Names of the programs on every device's TCX hooks, each as often as it is attached.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel has no TCX (Linux 6.6).
pub fn attached_programs(namespace: &Namespace) -> Result<Vec<String>> {
    let devices: Vec<String> = device_counters(namespace)?.into_keys().collect();
    let query = || {
        let mut names = Vec::new();
        for device in &devices {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let (_revision, programs) = SchedClassifier::query_tcx(device, hook)?;
                names.extend(programs.iter().filter_map(|program| program.name_as_str().map(str::to_owned)));
            }
        }
        Ok::<_, aya::programs::ProgramError>(names)
    };
    namespace.run(query)?.context("cannot ask what is attached")
}

/// On how many TCX hooks of a namespace's devices netpath's programs are.
///
/// # Errors
/// As [`attached_programs`].
pub fn netpath_hooks(namespace: &Namespace) -> Result<usize> {
    Ok(attached_programs(namespace)?.iter().filter(|name| name.starts_with("netpath_")).count())
}

const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `union bpf_attr`, member for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_ifindex: u32,
    attach_type: u32,
    flags: [u32; 2],
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Takes the first TCX program off a hook, whosever it is, as `bpftool link detach` does.
///
/// # Errors
/// When there is none, or the kernel refuses.
pub fn detach_first(namespace: &Namespace, device: &str, hook: TcAttachType) -> Result<()> {
    let (mut programs, mut links) = ([0u32; 64], [0u32; 64]);
    let mut query = QueryAttr {
        target_ifindex: namespace.ifindex(device)?,
        attach_type: if matches!(hook, TcAttachType::Ingress) { 46 } else { 47 },
        prog_ids: programs.as_mut_ptr() as u64,
        count: 64,
        link_ids: links.as_mut_ptr() as u64,
        ..QueryAttr::default()
    };
    namespace.run(|| bpf(BPF_PROG_QUERY, &mut query))?.context("cannot ask what is attached")?;
    ensure!(query.count > 0, "no program is on {device}");
    let link = descriptor(bpf(BPF_LINK_GET_FD_BY_ID, &mut [links[0], 0, 0])?)?;
    bpf(BPF_LINK_DETACH, &mut [link.as_raw_fd()]).map(drop).context("cannot detach")
}

/// A legacy eBPF filter, as `tc` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcFilter {
    /// The device.
    pub device: String,
    /// "ingress" or "egress".
    pub hook: &'static str,
    /// The name that its loader gave it.
    pub name: String,
    /// The priority.
    pub priority: u64,
    /// The handle, in hexadecimal.
    pub handle: String,
}

/// The legacy eBPF filters of every device of a namespace, each hook's in the order in which they run.
///
/// # Errors
/// When the namespace cannot be entered, or `tc` fails.
pub fn tc_filters(namespace: &Namespace) -> Result<Vec<TcFilter>> {
    let mut filters = Vec::new();
    for device in device_counters(namespace)?.into_keys() {
        for hook in ["ingress", "egress"] {
            let text = tc(namespace, &format!("-json filter show dev {device} {hook}"))?;
            let listed: Vec<Value> = serde_json::from_str(&text).context("tc wrote no JSON")?;
            for filter in listed.iter().filter(|filter| filter["options"].is_object()) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let options = &filter["options"];
                filters.push(TcFilter {
                    device: device.clone(),
                    hook,
                    name: text(&options["bpf_name"]),
                    priority: filter["pref"].as_u64().context("a filter has a priority")?,
                    handle: text(&options["handle"]),
                });
            }
        }
    }
    Ok(filters)
}
