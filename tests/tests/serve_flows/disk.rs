//! Folders that cannot be written into, and a disk that fills up.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Lab, output_within, wait_until};

use super::fleet::Serving;

/// What netpath says when it does not begin.
fn refusal(lab: &Lab, arguments: &[&str]) -> String {
    let mut command = lab.netpath(&["serve", "--eni", "eth*"]).unwrap();
    let output = output_within(command.args(arguments), Duration::from_mins(1)).unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_written_is_said_at_the_start() {
    let lab = Lab::builder().start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    // root may write there, as long as it has all capabilities: the thread that writes has none.
    let private = folder.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&private, Some(65_534), Some(65_534)).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, why) in [
        (private.join("flows"), "permission denied"),
        (file.join("flows"), "a part of the path is not a directory"),
        ("/proc/flows".into(), "no file can be made there"),
    ] {
        let path = path.to_str().unwrap();
        let expected = format!("netpath: cannot write flow records into {path}: {why}; name another folder\n");
        assert_eq!(refusal(&lab, &["--flows", path]), expected);
    }
    let path = folder.path().to_str().unwrap();
    let said = refusal(&lab, &["--flows", path, "--node-name", &"a".repeat(300)]);
    assert!(said.contains("the node's name is empty or too long for a folder"), "{said}");
    assert!(refusal(&lab, &["--flows-max-age", "1h"]).contains("--flows <DIR>"), "it is for nothing without");
}

/// A metric's value; `None` if there is none.
fn metric(lab: &Lab, name: &str) -> Option<u64> {
    let answer = lab::http::get(&lab.node.namespace, "127.0.0.1:9456".parse().unwrap(), "/metrics", "").unwrap();
    answer.text().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

const WRITTEN: &str = "netpath_flow_records_written_total";
const DROPPED: &str = "netpath_flow_records_dropped_total";

/// Many flows of which no two are alike, so that they do not fit into what a compressor holds back.
fn scatter(lab: &Lab) {
    let send = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 10_000..13_000 {
            socket.send_to(b"x", (lab.remote.ipv4, port)).unwrap();
        }
    };
    lab.node.namespace.run(send).unwrap();
}

#[test]
fn a_full_disk_costs_records_and_no_more() {
    let lab = Lab::builder().start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().display();
    let netpath = lab::netpath_binary().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8M none {disk} && exec {} serve --eni 'eth*' --interval 1s --flows {disk}/flows",
        netpath.display()
    );
    let mut command = lab.node.namespace.command("sh").unwrap();
    command.args(["-c", &script]).env("NETPATH_OFFLINE", "1").stderr(Stdio::piped());
    let serving = Serving::start(command.spawn().unwrap());
    let disk =
        Path::new("/proc").join(serving.id().to_string()).join("root").join(folder.path().strip_prefix("/").unwrap());
    assert_eq!((metric(&lab, WRITTEN), metric(&lab, DROPPED)), (Some(0), Some(0)));

    let filler = disk.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let windows_pass = || {
        let windows = || metric(&lab, "netpath_windows_total").unwrap_or(0);
        let now = windows();
        wait_until("windows have passed", || windows() > now + 1);
    };
    wait_until("records are given up", || {
        scatter(&lab);
        windows_pass();
        metric(&lab, DROPPED).unwrap() >= 3_000
    });
    drop(file);
    fs::remove_file(filler).unwrap();
    windows_pass();
    let dropped = metric(&lab, DROPPED).unwrap();
    scatter(&lab);
    windows_pass();
    assert_eq!(metric(&lab, DROPPED).unwrap(), dropped, "there is room");
    let said = serving.end();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("flow records are given up until they can be written again: No space left"), "{said}");
    assert!(lines[1].contains("flow records are written again; "), "{said}");
}

#[test]
fn without_the_option_there_are_no_metrics_of_it() {
    let lab = Lab::builder().start().unwrap();
    let mut command = lab.netpath(&["serve", "--eni", "eth*"]).unwrap();
    let serving = Serving::start(command.stderr(Stdio::piped()).spawn().unwrap());
    wait_until("it serves", || metric(&lab, "process_open_fds").is_some());
    assert_eq!((metric(&lab, WRITTEN), metric(&lab, DROPPED)), (None, None));
    assert_eq!(serving.end(), "");
}

/// Files of the node that are being written, by name.
fn unfinished(folder: &Path) -> Vec<String> {
    let find = ["-name", ".*.unfinished", "-printf", "%f\n"];
    let output = Command::new("find").arg(folder).args(find).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_a_killed_netpath_did_not_finish_goes_at_the_next_start() {
    let lab = Lab::builder().start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let serve = |node: &str| {
        let mut command = lab.netpath(&["serve", "--eni", "eth*", "--interval", "300ms", "--node-name", node]).unwrap();
        command.arg("--flows").arg(folder.path()).args(["--listen", "127.0.0.1:0"]);
        Serving::start(command.stderr(Stdio::piped()).spawn().unwrap())
    };
    let killed = serve("one");
    wait_until("a file is begun", || !unfinished(folder.path()).is_empty());
    drop(killed);
    let left = unfinished(folder.path());
    assert!(!left.is_empty());
    // Another node has nothing to do with it, nor has a second netpath of the same node with one that lives.
    assert_eq!(serve("two").end(), "");
    assert_eq!(unfinished(folder.path()), left);
    let lives = serve("one");
    assert!(unfinished(folder.path()).iter().all(|name| !left.contains(name)));
    wait_until("a file is begun", || !unfinished(folder.path()).is_empty());
    let begun = unfinished(folder.path());
    assert_eq!(serve("one").end(), "");
    assert!(begun.iter().all(|name| unfinished(folder.path()).contains(name)), "it is being written");
    assert_eq!(lives.end(), "");
    assert_eq!(unfinished(folder.path()), [""; 0]);
}
