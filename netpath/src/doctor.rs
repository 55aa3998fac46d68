//! Whether a report would be right here, and what is in the way: purely, from facts.
//!
//! In: [`Facts`]. Out: a [`Diagnosis`]: findings, each with what to do. A finding fails only if a report could not be made or
//! would be wrong; what merely leaves something unknown warns. No I/O: that is [`facts`]'.

pub mod devices;
pub mod facts;

use schemars::JsonSchema;
use serde::Serialize;

use self::facts::{Conntrack, Drops, Facts, Namespace};
use crate::descriptors;
use crate::kernel::error::POSSIBLE_CPUS;
use crate::model::ConntrackTable;

/// The value of `schema` in a diagnosis.
pub const SCHEMA: &str = "netpath.doctor/1";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It could not be looked at, and a report does not depend on it.
    Skipped,
    /// As it should be.
    Ok,
    /// A report would be right, and lack something; or it cannot be told from here.
    Warn,
    /// There would be no report, or a wrong one.
    Fail,
}

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Finding {
    /// About what: "kernel", "capabilities".
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What there is, with what it means.
    pub found: String,
    /// What to do about it; `None` if it is as it should be.
    pub todo: Option<String>,
}

impl Finding {
    fn skipped(check: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Skipped, ..Self::ok(check, found) }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), todo: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, found: found.into(), todo: Some(todo.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, found: found.into(), todo: Some(todo.into()) }
    }
}

/// All that was found out.
#[derive(Clone, Debug, JsonSchema, Serialize)]
pub struct Diagnosis {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// netpath's version.
    pub netpath_version: &'static str,
    /// The worst of all levels.
    pub level: Level,
    /// About the node and this process.
    pub findings: Vec<Finding>,
    /// About each device.
    pub devices: Vec<devices::Device>,
}

const AS_ROOT: &str =
    "run netpath as root (sudo), or in a privileged pod ('kubectl debug node/NODE --profile=sysadmin')";

/// Judges the facts.
#[must_use]
pub fn diagnose(facts: &Facts) -> Diagnosis {
    let devices: Vec<_> = facts.devices.iter().map(|device| devices::judge(device, facts.tcx())).collect();
    let mut findings = vec![
        program(facts),
        kernel(facts),
        btf(facts),
        drops(facts),
        capabilities(facts),
        lockdown(facts),
        cpus(facts),
        memory(facts),
        files(facts),
        conntrack(facts),
        namespace(facts),
    ];
    findings.extend(devices::findings(facts));
    findings.extend(devices::queues(facts));
    let levels = findings.iter().map(|one| one.level).chain(devices.iter().map(|one| one.level));
    let level = levels.max().unwrap_or(Level::Ok);
    Diagnosis { schema: SCHEMA, netpath_version: env!("CARGO_PKG_VERSION"), level, findings, devices }
}

fn program(facts: &Facts) -> Finding {
    if facts.has_object {
        Finding::ok("netpath", format!("version {}, with its eBPF programs", env!("CARGO_PKG_VERSION")))
    } else {
        Finding::fail(
            "netpath",
            "built without its eBPF programs, so it cannot measure",
            "build it with 'cargo xtask setup && cargo build --release -p netpath'",
        )
    }
}

fn kernel(facts: &Facts) -> Finding {
    let release = &facts.release;
    match facts.kernel {
        None => Finding::warn("kernel", format!("Linux {release}: cannot tell how old it is"), "try netpath report"),
        Some(version) if version < facts.oldest => Finding::fail(
            "kernel",
            format!("Linux {release}, and netpath needs {} or newer", facts.oldest),
            "run netpath on a node with a newer kernel",
        ),
        Some(_) if facts.tcx() => Finding::ok(
            "kernel",
            format!("Linux {release}: TCX, so netpath's programs run first and end with the process"),
        ),
        Some(_) => Finding::ok(
            "kernel",
            format!("Linux {release}: no TCX (Linux 6.6), so netpath attaches filters to clsact qdiscs"),
        ),
    }
}

fn btf(facts: &Facts) -> Finding {
    match &facts.drops {
        Ok(_) => Finding::ok("BTF", "there (netpath reads dropped packets by it)"),
        Err(why) => Finding::warn(
            "BTF",
            format!("not there: {why}"),
            "use a kernel with CONFIG_DEBUG_INFO_BTF to see what it drops",
        ),
    }
}

/// What is seen of drops.
fn drops(facts: &Facts) -> Finding {
    match &facts.drops {
        Err(_) => Finding::skipped("drops", "not seen without BTF: a report concludes them from absence"),
        Ok(Drops { reasons: false, .. }) => Finding::ok("drops", "seen with their place; reasons come with Linux 5.17"),
        Ok(Drops { functions: false, .. }) => Finding::warn(
            "drops",
            "seen with their reasons, but without the names of functions: /proc/kallsyms hides addresses",
            "run netpath with CAP_SYSLOG, or set kernel.kptr_restrict to 0 or 1",
        ),
        Ok(_) => Finding::ok("drops", "seen with the kernel's reasons and places"),
    }
}

fn capabilities(facts: &Facts) -> Finding {
    match &facts.missing_capabilities {
        Some(missing) => Finding::fail("capabilities", format!("missing {missing}"), AS_ROOT),
        None => Finding::ok("capabilities", "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or their equivalents"),
    }
}

fn lockdown(facts: &Facts) -> Finding {
    match facts.lockdown.as_deref() {
        None => Finding::skipped("lockdown", "not known: /sys/kernel/security/lockdown is missing or cannot be read"),
        Some("none") => Finding::ok("lockdown", "none"),
        Some("confidentiality") => Finding::ok(
            "lockdown",
            "confidentiality: netpath can count; dropped packets cannot be seen, as they are in the kernel's memory",
        ),
        Some(mode) => Finding::ok("lockdown", format!("{mode}: netpath's programs are allowed")),
    }
}

fn cpus(facts: &Facts) -> Finding {
    match facts.cpus {
        Some(cpus) => Finding::ok("CPUs", format!("{cpus} at most")),
        None => Finding::fail(
            "CPUs",
            format!("not known how many: {POSSIBLE_CPUS} cannot be read"),
            "mount /sys where netpath can read it",
        ),
    }
}

/// Each TCX link is an open file; netpath raises the soft limit itself.
fn files(facts: &Facts) -> Finding {
    let measured = facts.devices.iter().filter(|device| devices::is_measured(device.link.class)).count() as u64;
    let links = if facts.tcx() { measured } else { 0 };
    let need = descriptors::needed(links);
    match facts.file_limit {
        Some(limit) if limit < need => Finding::fail(
            "files",
            format!("netpath needs {need} open files for {measured} devices, but may have only {limit}"),
            format!("raise the hard limit to {need} at least ('ulimit -Hn', LimitNOFILE of systemd)"),
        ),
        _ => Finding::ok("files", format!("netpath report opens at most {need} for the devices below")),
    }
}

fn memory(facts: &Facts) -> Finding {
    let need = facts.map_bytes();
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let cpus = facts.cpus.map_or_else(|| "one CPU, if there is no more".to_owned(), |cpus| format!("{cpus} CPUs"));
    let wants = format!("{} MB of kernel memory on {cpus}", megabytes(need));
    let less = |limit: Option<u64>| limit.filter(|limit| *limit < need);
    if let Some(limit) = less(facts.locked_limit) {
        return Finding::fail(
            "memory",
            format!("netpath needs {wants}, but may lock only {} MB", megabytes(limit)),
            "raise the limit (ulimit -l unlimited), or run netpath as root",
        );
    }
    if let Some(limit) = less(facts.cgroup_limit) {
        return Finding::fail(
            "memory",
            format!("netpath needs {wants}, but its cgroup allows only {} MB", megabytes(limit)),
            "raise the memory limit of the pod, or run netpath report with a smaller --max-flows",
        );
    }
    if let Some(available) = less(facts.available) {
        return Finding::fail(
            "memory",
            format!("netpath needs {wants}, but only {} MB are available", megabytes(available)),
            "run netpath report with a smaller --max-flows",
        );
    }
    Finding::ok("memory", format!("netpath report takes {wants}, whatever the traffic"))
}

fn conntrack(facts: &Facts) -> Finding {
    match facts.conntrack {
        Conntrack::Unknown => {
            Finding::warn("conntrack", "not known: /proc/sys/net cannot be read", "mount /proc, or try netpath report")
        }
        Conntrack::Absent => Finding::warn(
            "conntrack",
            "not loaded: NAT cannot be followed",
            "if this node does no NAT, ignore this; otherwise run 'modprobe nf_conntrack_netlink'",
        ),
        Conntrack::There { events: false, .. } => Finding::warn(
            "conntrack",
            "its events are off: connections that begin and end in the window are not seen",
            "run 'sysctl -w net.netfilter.nf_conntrack_events=1'",
        ),
        Conntrack::There { count, max, .. } if ConntrackTable::nearly_full(count, max) => Finding::warn(
            "conntrack",
            format!(
                "nearly full ({count} of {max} connections): the kernel drops packets of connections that do not fit"
            ),
            "raise net.netfilter.nf_conntrack_max",
        ),
        Conntrack::There { count, max, .. } => Finding::ok("conntrack", format!("{count} of {max} connections")),
    }
}

fn namespace(facts: &Facts) -> Finding {
    let enter = "set hostNetwork: true in the pod ('kubectl debug node/NODE' does), or run 'nsenter -t 1 -n netpath …'";
    match facts.namespace {
        Namespace::Nodes => Finding::ok("namespace", "the node's own network"),
        Namespace::Other => {
            Finding::warn("namespace", "not the node's network: netpath sees only the devices of this one", enter)
        }
        Namespace::Unknown => Finding::warn(
            "namespace",
            "not known whether this is the node's network: the node's process 1 is not visible",
            format!("if the devices below are the node's, ignore this; otherwise {enter}"),
        ),
    }
}

#[cfg(test)]
mod tests;
