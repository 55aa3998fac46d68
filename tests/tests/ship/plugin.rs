//! `kubectl netpath`, by a kubectl that has no cluster: the pods that it is asked for are run by the containerd of labs' nodes.
//!
//! The witnesses are what that kubectl was asked, the kernel's counters, and netpath without a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lab::report::Diagnosis;
use lab::terminal::Terminal;
use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{
    Containerd, Lab, Report, Running, Stream, counters, netpath_hooks, output_within, python, read, signal, wait_until,
};
use serde_json::json;
use tempfile::TempDir;

use crate::documented::documented;
use crate::shipped;

const BYTES: u64 = 300_000;
const LONG: Duration = Duration::from_mins(1);

fn plugin() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubectl-netpath").canonicalize().unwrap()
}

/// Nodes by name, and the folder where all is that kubectl has.
struct Cluster(TempDir);

/// A node for which the API server refuses pods, in these words.
const REFUSING: [(&str, &str, &str); 4] = [
    ("no-rights", "pods is forbidden: User \"dev\" cannot create resource \"pods\" in API group", "ask for the rights"),
    ("quota", "pods \"x\" is forbidden: exceeded quota: x, requested: limits.memory=1Gi", "admits no such pod here"),
    ("webhook", "admission webhook \"a\" denied the request: no host network", "admits no such pod here"),
    ("security", "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", "-n kube-system"),
];

impl Cluster {
    fn new(nodes: &[(&str, Option<&Containerd>)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |containerd: &Containerd| json!({"process": containerd.id(), "cgroup": containerd.cgroup()});
        let place = |(name, node): &(&str, Option<&Containerd>)| ((*name).to_owned(), node.map(place));
        let mut nodes: BTreeMap<_, _> = nodes.iter().map(place).collect();
        if nodes.is_empty() {
            nodes.extend(REFUSING.map(|(name, why, _)| (name.to_owned(), Some(json!(why)))));
        }
        fs::write(folder.path().join("nodes.json"), json!(nodes).to_string()).unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let kubectl = folder.path().join("bin/kubectl");
        let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ship/plugin/kubectl.py");
        fs::write(&kubectl, format!("#!/bin/sh\nexec python3 {stand_in} \"$@\"\n")).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The plugin, run by a shell.
    fn command(&self, shell: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(plugin()).args(arguments).current_dir(self.0.path());
        self.equip(&mut command);
        command
    }

    /// Has the plugin find this kubectl, and this kubectl its cluster.
    fn equip(&self, command: &mut Command) {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let packages = python().unwrap().get_envs().find_map(|(_, value)| value.map(ToOwned::to_owned)).unwrap();
        command.env("PATH", path).env("PYTHONPATH", packages).env("NETPATH_CLUSTER", self.0.path());
        command.env("TMPDIR", self.0.path());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        output_within(&mut self.command(&["dash"], arguments), LONG).unwrap()
    }

    /// The calls that begin so.
    fn asked(&self, verb: &str) -> Vec<Vec<String>> {
        let log = fs::read_to_string(self.path("asked")).unwrap_or_default();
        let calls = log.lines().map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
        calls.filter(|call| call.iter().any(|word| word == verb)).collect()
    }

    /// So many pods were made, and none is there any more, nor anything else of the plugin's. This kubectl's `delete` waits until
    /// the container is gone.
    #[track_caller]
    fn assert_pods_gone(&self, made: usize) {
        assert_eq!((self.asked("create").len(), self.asked("delete").len()), (made, made));
        let paths = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_left = |path: &PathBuf| {
            let is_pod = path.extension().is_some_and(|extension| extension == "json");
            let name = path.file_name().unwrap().to_str().unwrap();
            (is_pod && name != "nodes.json") || name.starts_with("netpath.")
        };
        assert_eq!(paths.filter(is_left).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    }
}

/// A node with containerd that has the images of netpath and busybox, and two pods.
fn node() -> (Lab, Containerd) {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let containerd = Containerd::start(&lab.node.namespace, "").unwrap();
    containerd.import(&shipped("netpath-image.tar")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy("/usr/bin/busybox", bin.join("busybox")).unwrap();
    for name in ["sh", "cat", "chmod", "wc"] {
        symlink("busybox", bin.join(name)).unwrap();
    }
    containerd.add_image("busybox:1.36", folder.path(), "/bin/sh").unwrap();
    (lab, containerd)
}

/// As a terminal does: to all of the group.
fn signal_group(leader: &Running, signal: i32) {
    // SAFETY: kill(2) takes no pointers.
    assert_eq!(unsafe { libc::kill(-leader.id().cast_signed(), signal) }, 0);
}

/// Whether a window is open on the lab's node.
fn is_measured(lab: &Lab) -> bool {
    measuring(lab).is_some()
}

/// The process in the node's network that has the thread that drains.
fn measuring(lab: &Lab) -> Option<u32> {
    let namespace = fs::metadata(lab.node.namespace.path()).unwrap();
    let drains = |process: &fs::DirEntry| {
        fs::metadata(process.path().join("ns/net")).is_ok_and(|own| own.ino() == namespace.ino())
            && fs::read_dir(process.path().join("task"))
                .is_ok_and(|tasks| tasks.flatten().any(|task| has_name(&task.path(), "drain\n")))
    };
    let process = fs::read_dir("/proc").unwrap().flatten().find(drains)?;
    process.file_name().to_str()?.parse().ok()
}

fn has_name(task: &Path, name: &str) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|own| own == name)
}

/// Runs the plugin for an hour, moves bytes from pod to pod, and presses Ctrl-C. Out: what it printed, and what crossed the
/// server's veth.
fn interrupted(cluster: &Cluster, lab: &Lab, shell: &[&str], arguments: &[&str]) -> (Output, u64) {
    let file = |name: &str| Stdio::from(fs::File::create(cluster.path(name)).unwrap());
    let mut command = cluster.command(shell, arguments);
    let plugin = Running::spawn(command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"))).unwrap();
    let said = || fs::read_to_string(cluster.path("stderr")).unwrap();
    wait_until("netpath measures", || {
        assert!(!said().contains("kubectl-netpath:"), "{}", said());
        is_measured(lab)
    });
    let (server, veth) = (lab.pod("server"), &lab.pod("server").veth);
    let before = counters(&lab.node.namespace, veth).unwrap();
    let listener = TcpServer::start(&server.namespace, (server.ipv4, 8080).into(), Serve::Send(BYTES)).unwrap();
    download(&lab.pod("client").namespace, listener.address()).unwrap();
    drop(listener);
    lab.wait_until_quiet().unwrap();
    let moved = counters(&lab.node.namespace, veth).unwrap().since(before);
    signal_group(&plugin, libc::SIGINT);
    let status = plugin.wait(LONG).unwrap();
    let stdout = fs::read(cluster.path("stdout")).unwrap();
    (Output { status, stdout, stderr: said().into() }, moved.rx_bytes + moved.tx_bytes)
}

#[test]
fn ctrl_c_ends_the_window_and_the_report_comes() {
    let (lab, containerd) = node();
    for shell in [&["dash"][..], &["busybox", "sh"], &["bash"]] {
        let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
        let arguments = ["report", "--node", "node-a", "-d", "1h", "-f", "json", "--eni", "eth*"];
        let (output, moved) = interrupted(&cluster, &lab, shell, &arguments);
        assert!(output.status.success(), "{shell:?}: {output:?}");
        let report: Report = read(&output.stdout).unwrap();
        assert_eq!(report.path("local").bytes, moved);
        wait_until("the programs are gone", || netpath_hooks(&lab.node.namespace).unwrap() == 0);
        cluster.assert_pods_gone(1);
    }
}

#[test]
fn a_recording_comes_back_and_replays() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let arguments = ["record", "--interval", "1s", "node.rec", "--node=node-a", "-vd", "1h", "--eni", "eth*"];
    let (output, moved) = interrupted(&cluster, &lab, &["dash"], &arguments);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let mut replay = Command::new(shipped("netpath"));
    let replayed = replay.args(["replay", "-f", "json"]).arg(cluster.path("node.rec")).output().unwrap();
    let report: Report = read(&replayed.stdout).unwrap();
    assert_eq!(report.path("local").bytes, moved);
    cluster.assert_pods_gone(1);

    let before = fs::read(cluster.path("node.rec")).unwrap();
    let output = cluster.run(&arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::read(cluster.path("node.rec")).unwrap(), before);
    cluster.assert_pods_gone(1);
}

#[test]
fn stdout_and_exit_status_are_netpaths() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let alone = |arguments: &[&str]| {
        let mut command = lab.node.namespace.command(shipped("netpath")).unwrap();
        command.env("NETPATH_OFFLINE", "1").args(arguments).output().unwrap()
    };
    let output = cluster.run(&["-n", "debug", "--context=prod", "devices", "--node", "node-a", "--eni", "eth*"]);
    let expected = alone(&["devices", "--eni", "eth*"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), String::from_utf8(expected.stdout).unwrap());
    for verb in ["create", "exec", "delete"] {
        assert_eq!(cluster.asked(verb)[0][..3], ["-n", "debug", "--context=prod"]);
    }

    for (arguments, said) in [
        (&["-f=xyz"][..], "invalid value 'xyz' for '--format <FORMAT>'"),
        (&["-o", ""], "-o has no value"),
        (&["--format="], "--format= has no value"),
    ] {
        let output = cluster.run(&[&["report", "--node", "node-a"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }

    // A word that no shell on the way takes apart.
    let wrong = "it's $HOME; `id` \"x\"";
    let output = cluster.run(&["report", "--node", "node-a", "--pod", wrong, "-d", wrong, "-o", "report.txt"]);
    let expected = alone(&["report", "--pod", wrong, "-d", wrong]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let (said, expected) = (String::from_utf8(output.stderr).unwrap(), String::from_utf8(expected.stderr).unwrap());
    assert!(said.starts_with(&expected), "{said}");
    assert!(!cluster.path("report.txt").exists());
    cluster.assert_pods_gone(3);
}

#[test]
fn a_report_goes_where_output_leads() {
    let (_lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    symlink("report.out", cluster.path("link")).unwrap();
    symlink("no/such/folder", cluster.path("nowhere")).unwrap();
    assert!(Command::new("mkfifo").arg(cluster.path("pipe")).status().unwrap().success());
    let mut reader = Command::new("sh");
    reader.args(["-c", "exec cat pipe >read.out"]).current_dir(cluster.0.path());
    let reader = Running::spawn(&mut reader).unwrap();
    let run = |output: &str| cluster.run(&["report", "--node", "node-a", "-d1s", "-fjson", "--eni=eth*", "-o", output]);
    for output in ["link", "pipe"] {
        let output = run(output);
        assert!(output.status.success(), "{output:?}");
    }
    assert!(reader.wait(LONG).unwrap().success());
    for file in ["report.out", "read.out"] {
        let _: Report = read(&fs::read(cluster.path(file)).unwrap()).unwrap();
    }
    assert!(cluster.path("link").is_symlink());
    assert_eq!(run("nowhere").status.code(), Some(1));
    cluster.assert_pods_gone(2);
}

/// `Ctrl-\`, while it runs.
#[test]
fn quit_leaves_no_pod() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let mut command = cluster.command(&["dash"], &["report", "--node", "node-a", "-d", "1h", "-o", "report.txt"]);
    let plugin = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    wait_until("netpath measures", || is_measured(&lab));
    signal_group(&plugin, libc::SIGQUIT);
    plugin.wait(LONG).unwrap();
    cluster.assert_pods_gone(1);
}

#[test]
fn who_killed_netpath_is_said() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let mut command = cluster.command(&["dash"], &["report", "--node", "node-a", "-d", "1h"]);
    let log = Stdio::from(fs::File::create(cluster.path("stderr")).unwrap());
    let plugin = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).unwrap();
    let mut process = None;
    wait_until("netpath measures", || {
        process = measuring(&lab);
        process.is_some()
    });
    signal(process.unwrap(), libc::SIGKILL);
    assert_eq!(plugin.wait(LONG).unwrap().code(), Some(137));
    let said = fs::read_to_string(cluster.path("stderr")).unwrap();
    assert!(said.contains("netpath was killed in its pod: for want of memory"), "{said}");
    cluster.assert_pods_gone(1);
}

#[test]
fn what_the_cluster_refuses_is_no_pod() {
    let cluster = Cluster::new(&[]);
    for (node, why, hint) in REFUSING {
        let output = cluster.run(&["report", "--node", node]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why) && said.contains(hint) && !said.contains("may still be there"), "{said}");
    }
    assert!(cluster.asked("delete").is_empty());
}

/// Each node's pod goes, though the signal comes while they are made.
#[test]
fn ctrl_c_reaches_all_nodes() {
    let (_lab, containerd) = node();
    let nodes = ["node-a", "node-b", "node-c", "node-d"].map(|name| (name, Some(&containerd)));
    for first in ["get", "create"] {
        let cluster = Cluster::new(&nodes);
        let mut command = cluster.command(&["dash"], &["report", "--all-nodes", "-d", "1h", "-o", "reports"]);
        let plugin = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
        // The first question is which nodes there are.
        wait_until("the first nodes are asked", || cluster.asked(first).len() > usize::from(first == "get"));
        signal_group(&plugin, libc::SIGINT);
        plugin.wait(LONG).unwrap();
        cluster.assert_pods_gone(cluster.asked("create").len());
    }
}

#[test]
fn a_packet_is_traced() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let listener = TcpServer::start(&server.namespace, (server.ipv4, 8080).into(), Serve::Send(BYTES)).unwrap();
    let arguments = ["trace", "-n1", "-fpcapng", "--hop=first", "--eni", "eth*", "--node", "node-a", "-d", "1m"];
    let filter = format!("tcp and dst host {} and dst port 8080", server.ipv4);
    let mut command = cluster.command(&["dash"], &[&arguments[..], &[&filter, "-o", "one.pcapng"]].concat());
    let log = Stdio::from(fs::File::create(cluster.path("stderr")).unwrap());
    let plugin = Running::spawn(command.stdin(Stdio::null()).stderr(log)).unwrap();
    let said = || fs::read_to_string(cluster.path("stderr")).unwrap();
    wait_until("a packet is traced", || {
        assert!(!said().contains("kubectl-netpath:"), "{}", said());
        download(&client.namespace, listener.address()).unwrap();
        cluster.path("one.pcapng").exists()
    });
    let said = said();
    assert!(plugin.wait(LONG).unwrap().success(), "{said}");
    let packets = Command::new("tcpdump").args(["-nn", "-r"]).arg(cluster.path("one.pcapng")).output().unwrap();
    let packets = String::from_utf8(packets.stdout).unwrap();
    assert_eq!(packets.lines().count(), 1, "{packets}{said}");
    assert!(packets.contains(&format!(" > {}.8080: Flags [", server.ipv4)), "{packets}");
    cluster.assert_pods_gone(1);
}

#[test]
fn top_has_the_terminal() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let server = lab.pod("server");
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let mut tmux = Command::new("tmux");
    cluster.equip(&mut tmux);
    // tmux' shell is a login shell, which sets its own PATH.
    let path = cluster.path("bin").display().to_string() + ":$PATH";
    let command = format!("PATH={path} dash {} top --node node-a --interval 200ms --eni 'eth*'", plugin().display());
    let top = Terminal::run(tmux, cluster.0.path(), (80, 24), &command).unwrap();
    top.wait_for("1 Pods");
    top.press(&["b"]).unwrap();
    top.wait_for("all since");
    // 42 bytes of headers each.
    send_datagrams(&lab.pod("client").namespace, sink.address(), 958, 100).unwrap();
    let screen = top.wait_for("100.0 kB");
    assert!(screen.lines().any(|line| line.contains("pod to pod") && line.contains("100.0 kB")), "{screen}");
    top.resize(120, 30).unwrap();
    wait_until("it fills the screen", || top.screen(false).unwrap().lines().any(|line| line.chars().count() > 100));
    top.press(&["q"]).unwrap();
    assert_eq!(top.ended(cluster.0.path()).unwrap(), 0);
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
    cluster.assert_pods_gone(1);
}

/// The pod has all rights that a measurement needs.
#[test]
fn a_node_is_diagnosed() {
    let (_lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd))]);
    let output = cluster.run(&["doctor", "--node", "node-a", "-f", "json", "--eni", "eth*"]);
    let diagnosis: Diagnosis = read(&output.stdout).unwrap_or_else(|error| panic!("{error:#}: {output:?}"));
    assert_ne!(diagnosis.level, "fail", "{diagnosis:#}");
    assert_eq!(output.status.code(), Some(0));
    cluster.assert_pods_gone(1);
}

#[test]
fn the_binary_is_sent_where_there_is_no_image() {
    let (_lab, containerd) = node();
    // A name that YAML takes for a number.
    let cluster = Cluster::new(&[("10", Some(&containerd))]);
    let binary = shipped("netpath");
    let binary = binary.to_str().unwrap();
    let output = cluster.run(&["devices", "--node", "10", "--binary", binary, "--eni", "eth*"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("eth0"), "{output:?}");
    let output = cluster.run(&["devices", "--node", "10", "--binary", plugin().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "another architecture: {output:?}");
    cluster.assert_pods_gone(1);
}

/// On nodes of the names that the documents have, all at once, for a second each.
#[test]
fn every_command_of_the_documents_runs() {
    let (_lab, containerd) = node();
    let cluster = Cluster::new(&["NODE", "ip-10-0-0-5.ec2.internal"].map(|name| (name, Some(&containerd))));
    symlink(shipped("netpath"), cluster.path("netpath")).unwrap();
    symlink(shipped("netpath-aarch64"), cluster.path("netpath-aarch64")).unwrap();
    // kubectl finds its plugins on the PATH, and the terminal's `q` ends the live view.
    let commands = documented("kubectl netpath");
    let start = |(number, command): (usize, &String)| {
        let command = command.replace("registry.local/busybox", "busybox:1.36");
        let (command, reader) = command.split_once(" | ").map_or((&*command, None), |(own, other)| (own, Some(other)));
        assert!(reader.is_none_or(|reader| reader.starts_with("tshark ")), "{command}");
        let plugin = command.replacen("kubectl netpath", &format!("sh {}", plugin().display()), 1);
        let line = if plugin.contains(" top ") {
            format!("(sleep 6; printf q) | script --quiet --return --command {plugin:?} top.log")
        } else if plugin.contains(" doctor ") {
            format!("exec {plugin}")
        } else {
            let (before, after) = plugin.split_once(" -d ").unwrap_or((&plugin, ""));
            let after = after.split_once(' ').map_or("", |(_, after)| after);
            format!("exec {before} -d 1s {after}")
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(cluster.0.path()).stdin(Stdio::null());
        cluster.equip(&mut shell);
        let log = |name: &str| Stdio::from(fs::File::create(cluster.path(&format!("{number}.{name}"))).unwrap());
        Running::spawn(shell.stdout(log("out")).stderr(log("err"))).unwrap()
    };
    let running: Vec<_> = commands.iter().enumerate().map(start).collect();
    for (number, (command, shell)) in commands.iter().zip(running).enumerate() {
        let status = shell.wait(LONG).unwrap();
        let said = fs::read_to_string(cluster.path(&format!("{number}.err"))).unwrap();
        // The doctor finds no ENI.
        let expected = i32::from(command.contains(" doctor "));
        assert_eq!(status.code(), Some(expected), "`{command}`: {said}");
    }
}

#[test]
fn all_nodes_are_added_up_and_one_that_fails_is_named() {
    let (lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd)), ("node-b", Some(&containerd)), ("node-c", None)]);
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let _load =
        Stream::start(&server.namespace, 5201, &client.namespace, (server.ipv4, 5201).into(), Some(100)).unwrap();
    let output =
        cluster.run(&["report", "--all-nodes", "--parallel", "2", "-d", "1s", "--eni", "eth*", "-o", "reports"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("node-c: ") && said.contains("--image") && said.contains("no answer from: node-c"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let mut sum = 0;
    for (row, node) in rows[1..].iter().zip(["node-a", "node-b"]) {
        let report: Report = read(&fs::read(cluster.path(&format!("reports/{node}.json"))).unwrap()).unwrap();
        let bytes = report.path("local").bytes;
        assert!(bytes > 0);
        sum += bytes;
        assert_eq!((row[0], row[2]), (node, bytes.to_string().as_str()), "{table}");
    }
    assert_eq!((rows[3][..2].join(" "), rows[3][3]), ("2 nodes".to_owned(), sum.to_string().as_str()), "{table}");
    cluster.assert_pods_gone(3);
    for arguments in [&["record", "new.rec"][..], &["report", "-o", "new.txt"]] {
        let output = cluster.run(&[arguments, &["--node", "node-c"]].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    let mut names = fs::read_dir(cluster.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.any(|name| name.to_str().unwrap().starts_with("new.")), "a file is left");
    cluster.assert_pods_gone(5);
}

#[test]
fn all_nodes_as_json_and_no_answer_of_an_earlier_run() {
    let (_lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd)), ("node-c", None)]);
    fs::create_dir(cluster.path("reports")).unwrap();
    fs::write(cluster.path("reports/node-c.json"), "{}").unwrap();
    let output = cluster.run(&["report", "--all-nodes", "-f", "json", "-d", "1s", "--eni", "eth*", "-o", "reports"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let _: Report = read(&output.stdout).unwrap();
    assert!(!cluster.path("reports/node-c.json").exists(), "an answer of an earlier run is left");
    cluster.assert_pods_gone(2);
}

/// Each shell ends in its own way where it cannot write.
#[test]
fn what_cannot_be_written_is_said_and_no_pod_is_left() {
    let (_lab, containerd) = node();
    let cluster = Cluster::new(&[("node-a", Some(&containerd)), ("node-c", None)]);
    let shells: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash"]];
    for (number, shell) in shells.into_iter().enumerate() {
        let mut command = cluster.command(shell, &["report", "--node", "node-a", "-o", "no/such/folder"]);
        let output = output_within(&mut command, LONG).unwrap();
        assert_eq!(output.status.code(), Some(1), "{shell:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write no/such/folder"), "{output:?}");

        // Nobody reads what it says.
        let plugin = cluster.command(shell, &["record", "new.rec", "--node", "node-c", "--pod-timeout", "1"]);
        let words: Vec<_> = [plugin.get_program()].into_iter().chain(plugin.get_args()).collect();
        let mut piped = Command::new("bash");
        piped.args(["-c", "\"$@\" 2>&1 | true", "bash"]).args(words).current_dir(cluster.0.path());
        piped.envs(plugin.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        output_within(&mut piped, LONG).unwrap();
        cluster.assert_pods_gone(number + 1);
    }
}

#[test]
fn the_script_is_posix_and_has_this_version() {
    let output = Command::new("shellcheck").args(["-s", "sh"]).arg(plugin()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let version = format!("VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(fs::read_to_string(plugin()).unwrap().contains(&version));
    let krew = fs::read_to_string(plugin().with_file_name("krew/netpath.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(krew.contains(&format!("version: v{version}\n")));
    assert!(krew.contains(&format!("/v{version}/netpath-{version}-kubectl.tar.gz\n")));
}
