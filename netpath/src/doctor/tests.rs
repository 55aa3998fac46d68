//! Facts written by hand, and what is made of them.

use aya::util::KernelVersion;

use super::facts::Inspected;
use super::*;
use crate::kernel::hooks::{BpfFilter, DeviceHooks, Filter, Hook, Program, TcxProgram};
use crate::model::DeviceClass;
use crate::netlink::qdiscs::FilterQdisc;
use crate::node::devices::Link;
use crate::render;
use crate::render::block::Screen;

fn device(ifindex: u32, name: &str, class: DeviceClass, hooks: Result<DeviceHooks, String>) -> Inspected {
    Inspected { link: Link::new(ifindex, name, class), hooks }
}

fn filter(kind: &str, priority: u16, name: Option<&str>) -> Filter {
    let program = name.map(|name| Program { id: 5, name: Some(name.to_owned()), tag: None });
    Filter {
        kind: kind.to_owned(),
        parent: 0,
        shared_block: None,
        priority,
        handle: 1,
        protocol: 3,
        chain: 0,
        bpf: program.map(|program| BpfFilter { program: Some(program), ..BpfFilter::default() }),
    }
}

fn tcx(names: &[&str]) -> Vec<TcxProgram> {
    let program = |name: &&str| Program { id: 47, name: Some((*name).to_owned()), tag: None };
    names.iter().map(|name| TcxProgram { program: program(name), link_id: None }).collect()
}

fn hooks(qdisc: Option<FilterQdisc>, rx: Hook, tx: Hook) -> DeviceHooks {
    DeviceHooks { qdisc, rx, tx }
}

fn nobody() -> Hook {
    Hook { tcx: Some(tcx(&[])), filters: Vec::new() }
}

/// A node as it should be.
fn node() -> Facts {
    let agent = || Hook { tcx: Some(tcx(&[])), filters: vec![filter("bpf", 1, Some("handle_ingress"))] };
    let cilium = Hook { tcx: Some(tcx(&["cil_from_netdev", "netpath_rx"])), filters: Vec::new() };
    Facts {
        release: "6.12.40-64.114.amzn2023.x86_64".to_owned(),
        kernel: Some(KernelVersion::new(6, 12, 40)),
        oldest: KernelVersion::new(5, 10, 0),
        has_object: true,
        drops: Ok(Drops { reasons: true, functions: true }),
        missing_capabilities: None,
        lockdown: Some("integrity".to_owned()),
        locked_limit: None,
        cgroup_limit: None,
        available: Some(8_000_000_000),
        cpus: Some(96),
        file_limit: Some(524_288),
        conntrack: Conntrack::There { count: 1200, max: 262_144, events: true },
        namespace: Namespace::Nodes,
        devices: vec![
            device(1, "lo", DeviceClass::Loopback, Ok(hooks(None, nobody(), nobody()))),
            device(2, "ens5", DeviceClass::Eni, Ok(hooks(None, cilium, nobody()))),
            device(3, "eni1a2b3c4d5e6", DeviceClass::Veth, Ok(hooks(Some(FilterQdisc::Clsact), agent(), agent()))),
            device(4, "eni2b3c4d5e6f7", DeviceClass::Veth, Ok(hooks(None, nobody(), nobody()))),
        ],
        default_routes: Some(vec![2]),
        waiting: Some([(2, 0), (4, 3)].into()),
    }
}

/// All that can be wrong at once, without root, on an old kernel.
fn bad() -> Facts {
    let silent = |filters| Hook { tcx: None, filters };
    Facts {
        release: "5.4.0".to_owned(),
        kernel: Some(KernelVersion::new(5, 4, 0)),
        has_object: false,
        drops: Err("the kernel does not describe its types (BTF): no such file".to_owned()),
        missing_capabilities: Some("CAP_NET_ADMIN and CAP_BPF and CAP_PERFMON".to_owned()),
        lockdown: None,
        locked_limit: Some(65_536),
        conntrack: Conntrack::Absent,
        namespace: Namespace::Other,
        devices: vec![
            device(
                2,
                "eth0\u{1b}[2J",
                DeviceClass::Veth,
                Ok(hooks(Some(FilterQdisc::Ingress), silent(vec![]), silent(vec![]))),
            ),
            device(
                3,
                "eth1",
                DeviceClass::Veth,
                Ok(hooks(Some(FilterQdisc::Clsact), silent(vec![filter("flower", 1, None)]), silent(vec![]))),
            ),
            device(4, "eth2", DeviceClass::Veth, Err("Interrupted system call".to_owned())),
        ],
        ..node()
    }
}

fn table(facts: &Facts) -> String {
    on(&Screen::default(), facts)
}

fn on(screen: &Screen, facts: &Facts) -> String {
    let mut text = Vec::new();
    render::doctor::table(&diagnose(facts), &mut text, screen).expect("a Vec takes everything");
    String::from_utf8(text).expect("UTF-8").replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn table_of_a_good_node() {
    insta::assert_snapshot!(table(&node()));
}

#[test]
fn table_of_a_bad_one() {
    insta::assert_snapshot!(table(&bad()));
}

/// Its lines fit, and it is ASCII where that is all there is.
#[test]
fn table_of_80_columns() {
    let screen = Screen { width: Some(80), unicode: false, ..Screen::default() };
    for facts in [node(), bad()] {
        let text = on(&screen, &facts);
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
    }
    insta::assert_snapshot!(on(&screen, &bad()));
}

#[test]
fn table_without_root() {
    let mut facts = Facts {
        missing_capabilities: Some("CAP_NET_ADMIN and CAP_BPF and CAP_PERFMON".to_owned()),
        namespace: Namespace::Unknown,
        ..node()
    };
    for device in &mut facts.devices {
        if let Ok(hooks) = &mut device.hooks {
            (hooks.rx.tcx, hooks.tx.tcx) = (None, None);
        }
    }
    insta::assert_snapshot!(table(&facts));
}

/// The level of the one finding about it, and of all.
fn levels(facts: &Facts, check: &str) -> (Level, Level) {
    let diagnosis = diagnose(facts);
    let mut about = diagnosis.findings.iter().filter(|finding| finding.check == check);
    let finding = about.next().expect("a finding");
    assert_eq!(finding.todo.is_some(), finding.level > Level::Ok, "{finding:?}");
    (finding.level, diagnosis.level)
}

#[test]
fn one_thing_at_a_time() {
    use Level::{Fail, Ok, Warn};
    assert_eq!(diagnose(&node()).level, Ok);
    let there = |count, max, events| Facts { conntrack: Conntrack::There { count, max, events }, ..node() };
    assert_eq!(levels(&there(89, 100, true), "conntrack"), (Ok, Ok));
    assert_eq!(levels(&there(90, 100, true), "conntrack"), (Warn, Warn));
    assert_eq!(levels(&there(1, 100, false), "conntrack"), (Warn, Warn));
    // 44 MB and 96 times half a MB.
    for (limit, level) in [(92_000_000, Ok), (91_999_999, Fail)] {
        assert_eq!(levels(&Facts { cgroup_limit: Some(limit), ..node() }, "memory"), (level, level));
        assert_eq!(levels(&Facts { locked_limit: Some(limit), ..node() }, "memory"), (level, level));
        assert_eq!(levels(&Facts { available: Some(limit), ..node() }, "memory"), (level, level));
    }
    assert_eq!(levels(&Facts { devices: Vec::new(), ..node() }, "devices"), (Fail, Fail));
    assert_eq!(levels(&Facts { cpus: None, ..node() }, "CPUs"), (Fail, Fail));
    // 80, and two links for each of three devices.
    for (limit, level) in [(None, Ok), (Some(86), Ok), (Some(85), Fail)] {
        assert_eq!(levels(&Facts { file_limit: limit, ..node() }, "files"), (level, level), "{limit:?}");
    }
    let old = |major, minor| Facts { kernel: Some(KernelVersion::new(major, minor, 0)), ..node() };
    assert_eq!(levels(&old(5, 10), "kernel").0, Ok);
    assert_eq!(levels(&old(5, 9), "kernel").0, Fail);
}

/// Without an ENI a report would be wrong, unless there is no way out of this network.
#[test]
fn no_eni() {
    use Level::{Fail, Warn};
    let mut facts = node();
    facts.devices[1].link.class = DeviceClass::Veth;
    facts.devices[1].link.kind = Some("veth".to_owned());
    assert_eq!(levels(&facts, "devices"), (Fail, Fail));
    assert!(table(&facts).contains("by ens5 (a veth device)") && table(&facts).contains("name it: --eni ens5"));
    for routes in [None, Some(Vec::new())] {
        facts.default_routes = routes;
        assert_eq!(levels(&facts, "devices"), (Warn, Warn));
    }
}

#[test]
fn a_hook_without_room() {
    let mut facts = node();
    let full = Hook { tcx: Some(tcx(&["other"; 63])), filters: Vec::new() };
    facts.devices.push(device(9, "ens6", DeviceClass::Eni, Ok(hooks(None, nobody(), full))));
    let diagnosis = diagnose(&facts);
    assert_eq!((diagnosis.level, diagnosis.devices[4].level), (Level::Fail, Level::Fail));
}

#[test]
fn which_devices_get_a_new_qdisc() {
    let old = || Facts { kernel: Some(KernelVersion::new(5, 10, 0)), ..node() };
    assert!(!diagnose(&node()).findings.iter().any(|finding| finding.check == "queues"), "TCX needs none");
    assert_eq!(levels(&old(), "queues"), (Level::Warn, Level::Warn));
    let text = table(&old());
    assert!(text.contains("ens5, eni2b3c4d5e6f7: ") && text.contains("3 packets wait"), "{text}");
    assert!(table(&Facts { waiting: None, ..old() }).contains("not known what waits"), "not 0");
    // A link is no file there.
    assert_eq!(levels(&Facts { file_limit: Some(80), ..old() }, "files").0, Level::Ok);
    let mut facts = old();
    let many = (10..17)
        .map(|index| device(index, &format!("eni{index}"), DeviceClass::Veth, Ok(hooks(None, nobody(), nobody()))));
    facts.devices.extend(many);
    assert!(table(&facts).contains("eni10, eni11, eni12 and 4 more: "));
    for device in &mut facts.devices {
        device.hooks.as_mut().expect("hooks").qdisc = Some(FilterQdisc::Clsact);
    }
    assert_eq!(levels(&facts, "queues").0, Level::Ok);
}
