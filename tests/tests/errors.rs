//! Every error that a user will meet: one line on stderr that ends with what to do, exit status 1 (2 for usage), and
//! nothing on stdout.

use std::process::{Command, Output};

use lab::{Lab, attached_programs, netpath_binary};

fn lab() -> Lab {
    Lab::builder().pod("client").start().unwrap()
}

/// Runs netpath in the node.
fn netpath(lab: &Lab, arguments: &[&str]) -> Output {
    lab.netpath(arguments).unwrap().output().unwrap()
}

/// One line on stderr that has all `parts`.
fn assert_one_line(output: &Output, status: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("netpath: "), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in: {stderr}");
    }
}

#[test]
fn without_capabilities_it_says_which_are_missing() {
    let lab = lab();
    let output = with_capabilities(&lab, "-all");
    assert_one_line(&output, 1, &["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON", "sudo"]);
}

#[test]
fn a_single_missing_capability_is_named_alone() {
    let lab = lab();
    for (drop, name) in
        [("-net_admin", "CAP_NET_ADMIN"), ("-bpf,-sys_admin", "CAP_BPF"), ("-perfmon,-sys_admin", "CAP_PERFMON")]
    {
        let output = with_capabilities(&lab, drop);
        assert_one_line(&output, 1, &[&format!("missing {name};")]);
    }
}

/// Runs netpath as root, but without these capabilities.
fn with_capabilities(lab: &Lab, drop: &str) -> Output {
    let mut command = lab.node.namespace.command("setpriv").unwrap();
    command.args(["--bounding-set", drop, "--inh-caps", drop]).arg(netpath_binary().unwrap());
    command.args(["report", "--duration", "1s", "--eni", "eth*"]).output().unwrap()
}

/// Too few files that may be open, at each step of a start: never blamed on memory, and the limit that must be raised is named.
#[test]
fn too_few_files_are_called_that() {
    let lab = lab();
    for limit in [12, 20, 24, 28, 40, 64] {
        let mut command = lab.node.namespace.command("prlimit").unwrap();
        command.arg(format!("--nofile={limit}:{limit}")).arg(netpath_binary().unwrap());
        let output = command.args(["report", "--duration", "100ms", "--eni", "eth*", "--offline"]).output().unwrap();
        assert_one_line(&output, 1, &[&format!("no file descriptor is left, of {limit}"), "ulimit -Hn"]);
    }
}

/// Runs netpath in the node, where an empty folder is in the place of `folder`.
fn without_folder(lab: &Lab, folder: &str, arguments: &[&str]) -> Output {
    let mut command = lab.node.namespace.command("unshare").unwrap();
    let script = format!("mount -t tmpfs none {folder} && exec \"$@\"");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(netpath_binary().unwrap()).args(arguments);
    command.output().unwrap()
}

#[test]
fn without_proc_or_sys_it_names_them() {
    let lab = lab();
    let report = ["report", "--duration", "100ms", "--eni", "eth*", "--offline"];
    assert_one_line(
        &without_folder(&lab, "/sys", &report),
        1,
        &["/sys/devices/system/cpu/possible", "check that /sys"],
    );
    let to_a_file = [&report[..], &["--output", "/tmp/netpath-without-proc"]].concat();
    assert_one_line(&without_folder(&lab, "/proc", &to_a_file), 1, &["without /proc; mount it"]);
    let output = without_folder(&lab, "/proc", &report);
    assert!(output.status.success(), "the report itself needs none: {}", String::from_utf8_lossy(&output.stderr));
    let doctor = without_folder(&lab, "/sys", &["doctor", "--eni", "eth*"]);
    assert_eq!(doctor.status.code(), Some(1), "it agrees");
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("FAIL     CPUs "));
}

#[test]
fn a_namespace_without_devices() {
    let lab = lab();
    // The one kind of namespace that has nothing but lo.
    let mut command = Command::new("unshare");
    let output =
        command.arg("--net").arg(netpath_binary().unwrap()).args(["report", "--duration", "1s"]).output().unwrap();
    assert_one_line(&output, 1, &["no device to measure", "lo", "nsenter -t 1 -n"]);
    drop(lab);
}

#[test]
fn an_eni_pattern_that_matches_nothing() {
    let lab = lab();
    for command in ["report", "devices"] {
        let output = netpath(&lab, &[command, "--eni", "ens*"]);
        assert_one_line(&output, 1, &["--eni 'ens*'", "eth0", &lab.pod("client").veth]);
    }
}

#[test]
fn an_eni_pattern_that_is_none() {
    let lab = lab();
    for command in ["report", "devices"] {
        let output = netpath(&lab, &[command, "--eni", "eth[0"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("write it like 'eth*' or 'ens5'"), "{stderr}");
    }
}

#[test]
fn an_unknown_format_lists_those_there_are() {
    let lab = lab();
    let output = netpath(&lab, &["report", "--format", "xml"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("'xml'") && stderr.contains("table, markdown, json"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_measuring() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none/report.json");
    for path in [missing.to_str().unwrap(), folder.path().to_str().unwrap()] {
        let started = std::time::Instant::now();
        // An hour's window: an error that comes after it would never come.
        let output = netpath(&lab, &["report", "--duration", "1h", "--eni", "eth*", "--output", path]);
        assert_one_line(&output, 1, &[path, "choose another --output"]);
        assert!(started.elapsed().as_secs() < 60);
    }
}

#[test]
fn a_time_that_is_none() {
    let lab = lab();
    for bad in ["0", "10x", "soon"] {
        let output = netpath(&lab, &["report", "--duration", bad]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("write it like 10 (seconds), 500ms, 1.5s, 1m30s or 1h")
        );
    }
}

/// Before anything is measured.
#[test]
fn filters_that_can_never_match() {
    let lab = lab();
    for (option, value, part) in [
        ("--proto", "tpc", "known are icmp, igmp"),
        ("--namespace", "default/web", "--pod default/web"),
        ("--ip", "10.0.0.0/255.255.0.0", "10.0.0.0/16"),
        ("--port", "65536", "up to 65535"),
        ("--device", "a-name-too-long-for-it", "1 to 15 characters"),
        ("--service", "web", "default/web:http"),
        ("--nat", "masquerade", "snat, dnat, both, any, none"),
    ] {
        let output = netpath(&lab, &["report", "-d", "1h", option, value]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{option} {value}: {stderr}");
    }
    let output = netpath(&lab, &["report", "-d", "1h", "--port", "no-such-port"]);
    assert_one_line(&output, 2, &["no port is named 'no-such-port' in /etc/services"]);
}

/// What was attached before the error is not left behind.
#[test]
fn errors_leave_no_program_attached() {
    let lab = lab();
    let _ = netpath(&lab, &["report", "--eni", "eth*", "--", "/no/such/command"]);
    assert_eq!(attached_programs(&lab.node.namespace).unwrap(), Vec::<String>::new());
}
