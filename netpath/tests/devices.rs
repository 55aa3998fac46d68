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
    assert!(text.lines().any(|line| line.starts_with("  (lo) ")), "Container Insights does not count it: {text}");
}

/// On the narrowest screen, in a locale that has no more than ASCII. A line is longer only where it is one word, as a name.
#[test]
fn what_is_listed_fits_every_screen() {
    for arguments in [&["devices"][..], &["doctor"], &["devices", "--eni", "lo"], &["doctor", "--eni", "lo"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netpath"));
        command.args(arguments).envs([("NETPATH_OFFLINE", "1"), ("COLUMNS", "80"), ("LC_ALL", "C")]);
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(text.lines().count() > 3 && text.is_ascii(), "{text}");
        let too_long = |line: &&str| line.len() > 80 && line.trim().contains(' ');
        assert_eq!(text.lines().filter(too_long).collect::<Vec<_>>(), Vec::<&str>::new());
    }
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
    let output = netpath(&["devices", "--eni", "lo", "--eni", "no-such-device*"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let beginning = "netpath: --eni 'no-such-device*' matches no device; the devices are: ";
    assert!(text.starts_with(beginning) && text.lines().count() == 1, "{text}");
    assert!(output.stdout.is_empty());
}

/// Exit status 2, whoever finds the mistake.
#[test]
fn usage_errors_have_one_status() {
    for (arguments, part) in [
        (&["devices", "--eni", "eth["][..], "write it like 'eth*' or 'ens5'"),
        (&["report", "--port", "no-such-port"], "no port is named 'no-such-port' in /etc/services; give its number"),
        (&["explain", ":no-such-port"], "no port is named 'no-such-port' in /etc/services; give its number"),
        (&["explain", "tpc"], "'tpc' is no flow id, address"),
        (&["report", "--pod", "web"], "write it like default/web"),
        (&["report", "--pod", "\u{1b}[2J\u{202e}web"], "\\u{202e}web"),
        (&["report", "--no-\u{1b}c\u{202e}"], "\\u{202e}"),
    ] {
        let output = netpath(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.stdout.is_empty() && !text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert!(output.status.code() == Some(2) && text.contains(part), "{arguments:?}: {text}");
    }
}

/// In plain words, where the kernel has but a number for it.
#[test]
fn places_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, expected) in [
        (
            &["man", "/proc/x"][..],
            "cannot write man pages to /proc/x: no file can be made there; name a folder that you may write to",
        ),
        (
            &["man", file],
            &format!(
                "cannot write man pages to {file}: something else has that name; name a folder that you may write to"
            ),
        ),
        (
            &["report", "--from", file, "--output", "/proc/x"],
            "cannot write /proc/x: no file can be made there; choose another --output",
        ),
        (&["report", "--from", "/proc/x"], "cannot read /proc/x: no such file"),
        (&["explain", "1", "--from", "/proc/x"], "cannot read /proc/x: no such file"),
        (
            &["doctor", "--host-root", "/proc/x"],
            "cannot open --host-root /proc/x; name the folder where the host's / is: No such file or directory",
        ),
    ] {
        let output = netpath(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text), (Some(1), format!("netpath: {expected}\n")), "{arguments:?}");
    }
    let full = Command::new(env!("CARGO_BIN_EXE_netpath"))
        .args(["completions", "bash"])
        .stdout(fs::File::create("/dev/full").unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(full.stderr).unwrap();
    let expected = "netpath: cannot write to stdout: no space is left; send it to a file\n";
    assert_eq!((full.status.code(), text.as_str()), (Some(1), expected));
}
