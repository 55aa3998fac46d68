//! `netpath doctor` as a user runs it, against what was attached, what files say, and what `netpath report` then does.

use std::fs;
use std::process::Output;

use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, TcAttachType};
use lab::report::Diagnosis;
use lab::{Answer, Lab, Report, Xdp, XdpAnswer, XdpRun, netpath_binary, read};
use serde_json::Value;

fn lab() -> Lab {
    Lab::builder().pod("client").start().unwrap()
}

fn doctor(lab: &Lab, arguments: &[&str]) -> Output {
    let arguments = [&["doctor", "--eni", "eth*"], arguments].concat();
    lab.netpath(&arguments).unwrap().output().unwrap()
}

fn json(output: &Output) -> Diagnosis {
    let diagnosis: Diagnosis = read(&output.stdout).unwrap();
    assert_eq!(diagnosis.schema, "netpath.doctor/1");
    let is_failure = diagnosis.level == "fail";
    assert_eq!(output.status.code(), Some(i32::from(is_failure)), "{diagnosis}");
    diagnosis
}

#[test]
fn it_says_who_is_on_the_hooks_in_order() {
    let lab = lab();
    let (node, veth) = (&lab.node.namespace, lab.pod("client").veth.clone());
    let qdisc = node.command("tc").unwrap().args(["qdisc", "add", "dev", &veth, "clsact"]).status().unwrap();
    assert!(qdisc.success());
    let mut programs = Vec::new();
    let legacy = NlOptions { priority: 1, handle: TcHandle::new(0, 1), classid: None };
    for (name, options) in [
        ("second", TcAttachOptions::TcxOrder(LinkOrder::first())),
        ("first", TcAttachOptions::TcxOrder(LinkOrder::first())),
        ("handle_ingress", TcAttachOptions::Netlink(legacy)),
    ] {
        let mut program = Answer::Next.load(name).unwrap();
        lab::attach(&mut program, node, &veth, TcAttachType::Ingress, options).unwrap();
        programs.push(program);
    }
    let id = |index: usize| programs[index].info().unwrap().id();
    let expected = [
        format!("first (TCX program {})", id(1)),
        format!("second (TCX program {})", id(0)),
        format!("handle_ingress (filter of priority 1, program {})", id(2)),
    ];
    let diagnosis = json(&doctor(&lab, &["--format", "json"]));
    let found = diagnosis.device(&veth);
    assert_eq!((&found.rx[..], &found.tx[..]), (&expected[..], &[][..]));
    assert_eq!((found.level.as_str(), found.class.as_str()), ("ok", "veth"), "netpath goes first");
    assert_eq!(diagnosis.device("eth0").class, "eni");

    let table = String::from_utf8(doctor(&lab, &[]).stdout).unwrap();
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("ingress {}", expected.join(" "))), "{table}");
}

/// XDP comes before every hook of tc: what such a program drops, netpath does not see.
#[test]
fn an_xdp_program_is_ahead_and_may_hide_packets() {
    let lab = lab();
    let veth = &lab.pod("client").veth;
    assert_eq!(json(&doctor(&lab, &["--format", "json"])).device(veth).level, "ok");
    let _xdp = Xdp::attach(&lab.node.namespace, veth, XdpAnswer::Pass, XdpRun::Generic).unwrap();
    let show = lab.node.namespace.command("ip").unwrap().args(["-json", "link", "show", "dev", veth]).output().unwrap();
    let shown: Value = serde_json::from_slice(&show.stdout).unwrap();
    let program = format!("XDP program {}", shown[0]["xdp"]["prog"]["id"]);
    let diagnosis = json(&doctor(&lab, &["--format", "json"]));
    let found = diagnosis.device(veth);
    assert_eq!((&found.rx, &found.tx), (&vec![program.clone()], &vec![]));
    assert_eq!((found.level.as_str(), diagnosis.level.as_str()), ("warn", "warn"), "exit status 0");
    assert!(found.found.as_deref().unwrap().starts_with(&format!("may be blind: {program} ")), "{found}");
}

/// A hook takes 63 programs.
#[test]
fn it_fails_where_a_report_would_be_blind() {
    let lab = lab();
    let (node, veth) = (&lab.node.namespace, lab.pod("client").veth.clone());
    let attach = || {
        let mut program = Answer::Next.load("other").unwrap();
        let order = TcAttachOptions::TcxOrder(LinkOrder::last());
        lab::attach(&mut program, node, &veth, TcAttachType::Egress, order).unwrap();
        program
    };
    let _most: Vec<_> = (0..62).map(|_| attach()).collect();
    let blind_in_report = || lab.measure(&[], || Ok(())).unwrap().report.device(&veth).blind.clone();
    let diagnosis = json(&doctor(&lab, &["--format", "json"]));
    assert_eq!((diagnosis.device(&veth).level.as_str(), blind_in_report()), ("ok", None), "room for one");

    let _last = attach();
    let diagnosis = json(&doctor(&lab, &["--format", "json"]));
    assert_eq!((diagnosis.device(&veth).level.as_str(), diagnosis.level.as_str()), ("fail", "fail"));
    assert!(blind_in_report().unwrap().starts_with("netpath could not attach to it"));
}

#[test]
fn what_it_says_of_this_machine() {
    let lab = lab();
    let diagnosis = json(&doctor(&lab, &["--format", "json"]));
    assert_ne!(diagnosis.level, "fail", "netpath can measure in a lab: {diagnosis}");
    let found = |check| diagnosis.finding(check).found.as_str();
    assert!(found("kernel").contains(fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim()));
    assert!(found("BTF").starts_with(if fs::exists("/sys/kernel/btf/vmlinux").unwrap() { "there" } else { "not" }));
    let max =
        lab.node.namespace.run(|| fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap()).unwrap();
    assert!(found("conntrack").contains(&format!("of {} connections", max.trim())), "{diagnosis}");
    assert!(found("devices").starts_with("2 to measure, including 1 ENI"), "{diagnosis}");
    // The lab's node is not this machine's network; where this test runs in a container, that cannot be told.
    assert_eq!(diagnosis.finding("namespace").level, "warn", "{diagnosis}");
}

#[test]
fn without_root_it_says_what_it_could_not_see() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let netpath = folder.path().join("netpath");
    fs::copy(netpath_binary().unwrap(), &netpath).unwrap();
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"];
    let mut command = lab.node.namespace.command("setpriv").unwrap();
    command.args(user).arg(&netpath).args(["doctor", "--eni", "eth*", "--format", "json"]);
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let diagnosis = json(&output);
    assert_eq!(diagnosis.level, "fail");
    assert_eq!(diagnosis.finding("capabilities").level, "fail");
    assert_eq!(diagnosis.finding("hooks").level, "warn");
    assert!(diagnosis.finding("namespace").found.starts_with("not known"));

    let mut command = lab.node.namespace.command("setpriv").unwrap();
    let report = command.args(user).arg(&netpath).args(["report", "--eni", "eth*"]).output().unwrap();
    assert_eq!(report.status.code(), Some(1), "and so it is");
}

/// The number of files that doctor names is enough, and one for a device less is not.
#[test]
fn the_files_that_a_report_needs() {
    let lab = lab();
    let run = |limit: u64, arguments: &[&str]| {
        let mut command = lab.node.namespace.command("prlimit").unwrap();
        // The soft limit is as low as shells have it, or lower.
        command.arg(format!("--nofile=60:{limit}")).arg(netpath_binary().unwrap());
        command.args(arguments).args(["--eni", "eth*", "--format", "json"]).output().unwrap()
    };
    let diagnosis = json(&run(1_000, &["doctor"]));
    assert_eq!(diagnosis.finding("files").level, "ok");
    let said = diagnosis.finding("files").found.as_str();
    let needed: u64 = said.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let blind = |limit| {
        let report = run(limit, &["report", "--offline", "--duration", "100ms"]);
        let report: Report = read(&report.stdout).unwrap();
        report.health.blind_devices
    };
    assert_eq!((json(&run(needed, &["doctor"])).level == "fail", blind(needed)), (false, 0));
    let diagnosis = json(&run(needed - 1, &["doctor"]));
    assert_eq!((diagnosis.level.as_str(), diagnosis.finding("files").level.as_str()), ("fail", "fail"));
    assert!(diagnosis.finding("files").todo.as_deref().unwrap().contains(&format!("to {needed} at least")));
}

#[test]
fn nothing_to_measure() {
    let output =
        std::process::Command::new("unshare").arg("--net").arg(netpath_binary().unwrap()).arg("doctor").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("FAIL     devices       none to measure"), "{table}");
}
