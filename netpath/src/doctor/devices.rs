//! Whether netpath would see all that passes a device, by who is on its hooks.
//!
//! In: a device and its hooks. Out: who is there in order, and a verdict. By TCX netpath goes first, so nobody who is there
//! now can hide packets from it. Legacy filters of one priority run the last added first; what is not eBPF and has the
//! first priority stays ahead. An XDP program is ahead of all of them.

use schemars::JsonSchema;
use serde::Serialize;

use super::facts::{Facts, Inspected};
use super::{Finding, Level};
use crate::kernel::hooks::{DeviceHooks, Hook};
use crate::model::{DeviceClass, Xdp};
use crate::netlink::qdiscs::FilterQdisc;
use crate::path::uplink::{self, Advice};

/// What the kernel's `bpf_mprog_max` says: one less than `BPF_MPROG_MAX`.
const MOST_PROGRAMS: usize = 63;

/// A device and what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Device {
    /// Name.
    pub name: String,
    /// The kernel's index.
    pub ifindex: u32,
    /// What netpath takes it for.
    pub class: DeviceClass,
    /// Whether netpath attaches to devices of that class.
    pub measured: bool,
    /// Whom packets meet that come in, in order: an XDP program, then those on the ingress hook.
    pub rx: Vec<String>,
    /// Who is on its egress hook, in order.
    pub tx: Vec<String>,
    /// How bad it is.
    pub level: Level,
    /// Why netpath would be blind, or may be; `None` if it would see everything.
    pub found: Option<String>,
    /// What to do about it.
    pub todo: Option<String>,
}

/// Judges one device. `tcx`: the kernel has it.
#[must_use]
pub fn judge(device: &Inspected, tcx: bool) -> Device {
    let link = &device.link;
    let measured = is_measured(link.class);
    let (level, found, todo) = match &device.hooks {
        _ if !measured => (Level::Ok, None, None),
        Err(error) => (
            Level::Warn,
            Some(format!("its hooks cannot be read: {error}")),
            Some("check that 'tc filter show' works".to_owned()),
        ),
        Ok(hooks) => {
            let found = obstacle(hooks.qdisc, [&hooks.rx, &hooks.tx], tcx);
            match found.or_else(|| link.xdp.map(|xdp| may_be_blind(&words(xdp)))) {
                Some((level, found, todo)) => (level, Some(found), Some(todo.to_owned())),
                None => (Level::Ok, None, None),
            }
        }
    };
    let on =
        |hook: fn(&DeviceHooks) -> &Hook| device.hooks.as_ref().map(|hooks| hook(hooks).attached()).unwrap_or_default();
    Device {
        name: link.name.clone(),
        ifindex: link.ifindex,
        class: link.class,
        measured,
        rx: link.xdp.map(words).into_iter().chain(on(|hooks| &hooks.rx)).collect(),
        tx: on(|hooks| &hooks.tx),
        level,
        found,
        todo,
    }
}

pub(super) fn is_measured(class: DeviceClass) -> bool {
    !matches!(class, DeviceClass::Loopback | DeviceClass::Other)
}

fn obstacle(qdisc: Option<FilterQdisc>, hooks: [&Hook; 2], tcx: bool) -> Option<(Level, String, &'static str)> {
    if tcx {
        let full = hooks.iter().any(|hook| hook.tcx.as_ref().is_some_and(|all| all.len() >= MOST_PROGRAMS));
        let found = format!("blind: {MOST_PROGRAMS} programs are on a hook, which has room for no more");
        return full.then_some((Level::Fail, found, "find out what attaches so many ('bpftool net')"));
    }
    if qdisc == Some(FilterQdisc::Ingress) {
        let found = "blind: another program's ingress qdisc is in the place of clsact".to_owned();
        return Some((
            Level::Fail,
            found,
            "find out whose it is ('tc filter show'), and remove it, or ignore this device",
        ));
    }
    let ahead = |hook: &&Hook| {
        let first =
            hook.filters.iter().find(|filter| filter.chain == 0 && filter.kind != "bpf" && filter.priority <= 1);
        first.map(ToString::to_string)
    };
    hooks.iter().find_map(ahead).map(|first| may_be_blind(&first))
}

fn may_be_blind(first: &str) -> (Level, String, &'static str) {
    let found = format!("may be blind: {first} runs first, and netpath does not see what it drops or redirects");
    (Level::Warn, found, "compare with the device's own counters (netpath report --devices)")
}

/// "XDP program 47".
fn words(xdp: Xdp) -> String {
    xdp.program_id.map_or_else(|| "an XDP program".to_owned(), |id| format!("XDP program {id}"))
}

/// A report without an ENI is wrong where there is a way out of this network.
fn without_eni(facts: &Facts, measured: usize) -> Finding {
    let routes = facts.default_routes.as_deref().unwrap_or_default();
    let link = |ifindex: &u32| Some(&facts.devices.iter().find(|device| device.link.ifindex == *ifindex)?.link);
    let uplinks: Vec<_> = routes
        .iter()
        .filter_map(link)
        .map(|link| (link.name.as_str(), link.kind.as_deref().or(link.driver.as_deref())))
        .collect();
    let Advice { found, todo } = uplink::without_eni(!routes.is_empty(), &uplinks);
    let found = format!("{measured} to measure; {found}");
    if routes.is_empty() { Finding::warn("devices", found, todo) } else { Finding::fail("devices", found, todo) }
}

/// What can be said of all devices together.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of = |class: DeviceClass| facts.devices.iter().filter(move |device| device.link.class == class).count();
    let measured = facts.devices.iter().filter(|device| is_measured(device.link.class)).count();
    findings.push(match (measured, of(DeviceClass::Eni)) {
        (0, _) => Finding::fail(
            "devices",
            "none to measure",
            "run netpath in the node's own network namespace (hostNetwork, or nsenter -t 1 -n)",
        ),
        (_, 0) => without_eni(facts, measured),
        (_, 1) => Finding::ok("devices", format!("{measured} to measure, including 1 ENI")),
        (_, enis) => Finding::ok("devices", format!("{measured} to measure, including {enis} ENIs")),
    });
    let hidden = |device: &Inspected| device.hooks.as_ref().is_ok_and(|hooks| hooks.rx.tcx.is_none());
    if facts.tcx() && facts.devices.iter().any(hidden) {
        findings.push(Finding::warn(
            "hooks",
            "not known which TCX programs are on the devices: asking needs CAP_NET_ADMIN",
            super::AS_ROOT,
        ));
    }
    findings
}

/// How many names are listed.
const MOST_NAMES: usize = 5;

/// Without TCX: the devices that would get a clsact qdisc, and what that costs.
#[must_use]
pub fn queues(facts: &Facts) -> Option<Finding> {
    if facts.tcx() {
        return None;
    }
    let measured = facts.devices.iter().filter(|device| is_measured(device.link.class));
    let without: Vec<_> = measured
        .filter(|one| one.hooks.as_ref().is_ok_and(|hooks| hooks.qdisc.is_none()))
        .map(|one| &one.link)
        .collect();
    if without.is_empty() {
        return Some(Finding::ok("queues", "no device needs a new clsact qdisc"));
    }
    let names: Vec<_> = without.iter().take(MOST_NAMES).map(|link| link.name.as_str()).collect();
    let more = match without.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let waiting = facts.waiting.as_ref().map_or_else(
        || "it is not known what waits in their queues".to_owned(),
        |waiting| {
            let packets =
                without.iter().filter_map(|link| waiting.get(&link.ifindex)).fold(0u32, |a, b| a.saturating_add(*b));
            format!("{packets} packets wait in their queues now")
        },
    );
    Some(Finding::warn(
        "queues",
        format!(
            "no clsact qdisc yet on {}{more}: netpath adds one when the queue is empty, and what the device sends in that \
             millisecond is lost; {waiting}",
            names.join(", ")
        ),
        "if that does no harm, ignore this; otherwise run netpath report --no-new-qdisc, which measures only the other devices",
    ))
}
