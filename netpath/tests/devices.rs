//! `netpath devices` as a user runs it: the command on the machine it is tested on, compared with what `/proc` and `/sys`
//! say. Needs no root; reads only.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn netpath(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpath"));
    // The machine may be an EC2 instance; what it would tell of itself is no part of this.
    command.args(arguments).env("NETPATH_OFFLINE", "1").output().unwrap()
}

fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Names in `/proc/net/dev`, which is what cAdvisor reads.
fn names_in_proc() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/dev").unwrap();
    let mut names: Vec<_> =
        text.lines().skip(2).map(|line| line.split(':').next().unwrap().trim().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn json_has_every_device() {
    let output = netpath(&["devices", "--format", "json"]);
    let list: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(list["schema"], "netpath.devices/1");
    let mut names: Vec<_> = list["devices"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, names_in_proc());
}

#[test]
fn devices_agree_with_sysfs() {
    let output = netpath(&["devices", "--format", "json"]);
    let list: Value = serde_json::from_str(stdout(&output)).unwrap();
    let by_name: BTreeMap<_, _> =
        list["devices"].as_array().unwrap().iter().map(|device| (device["name"].as_str().unwrap(), device)).collect();
    for (name, device) in by_name {
        let directory = Path::new("/sys/class/net").join(name);
        let file = |file: &str| fs::read_to_string(directory.join(file)).unwrap().trim().to_owned();
        assert_eq!(device["ifindex"].to_string(), file("ifindex"), "{name}");
        assert_eq!(device["mac"].as_str().unwrap_or_default(), file("address"), "{name}");
        let hardware: Option<PathBuf> = fs::read_link(directory.join("device/driver")).ok();
        if let Some(driver) = &hardware {
            assert_eq!(device["driver"].as_str(), driver.file_name().unwrap().to_str(), "{name}");
        }
        let is_eni = directory.join("device").exists() && file("type") == "1";
        assert_eq!(device["class"] == "eni", is_eni, "{name}: {device}");
    }
}

#[test]
fn table_starts_with_the_answer() {
    let output = netpath(&["devices"]);
    let text = stdout(&output);
    let first = text.lines().next().unwrap();
    assert!(first.contains("ENI") && first.ends_with('.'), "{first}");
    assert!(text.lines().any(|line| line.starts_with("  lo ") && line.ends_with(" no")), "{text}");
}

#[test]
fn eni_by_name() {
    let output = netpath(&["devices", "--eni", "l[o]", "--format", "json"]);
    let list: Value = serde_json::from_str(stdout(&output)).unwrap();
    let enis: Vec<_> = list["devices"].as_array().unwrap().iter().filter(|device| device["class"] == "eni").collect();
    assert_eq!(enis.len(), 1);
    assert_eq!((&enis[0]["name"], &enis[0]["eni_evidence"]), (&Value::from("lo"), &Value::from("named")));
}

#[test]
fn errors_are_one_line_that_says_what_to_do() {
    for (glob, beginning) in [
        ("no-such-device*", "netpath: --eni 'no-such-device*' matches no device; the devices are: "),
        ("eth[", "netpath: --eni 'eth[' is not a glob; write it like 'eth*' or 'ens5': "),
    ] {
        let output = netpath(&["devices", "--eni", "lo", "--eni", glob]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with(beginning) && text.lines().count() == 1, "{text}");
        assert!(output.stdout.is_empty());
    }
}
