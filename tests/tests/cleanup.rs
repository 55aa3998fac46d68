//! A lab leaves nothing behind: not when it is dropped, not after a panic, not when its process is killed.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::{Lab, POD_NAMESPACE, Running, namespaces_of, veth_name, wait_until};
use tempfile::TempDir;

/// What must be gone: the inodes of a lab's network namespaces, and the processes that were in them.
struct Traces {
    names: Vec<String>,
    inodes: BTreeSet<u64>,
}

impl Traces {
    fn of(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        assert!(!names.is_empty());
        let inodes = names.iter().map(|name| fs::metadata(format!("/run/netns/{name}")).unwrap().ino()).collect();
        Self { names, inodes }
    }

    fn of_lab(lab: &Lab) -> Self {
        Self::of(lab.namespaces().map(|namespace| namespace.name().to_owned()))
    }

    fn assert_gone(&self) {
        let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        for name in &self.names {
            assert!(!Path::new("/run/netns").join(name).exists(), "/run/netns/{name} is left");
            assert!(!listed.contains(name.as_str()), "`ip netns` lists {name}");
            assert!(!mounts.contains(name.as_str()), "{name} is still mounted");
        }
        let left = self.processes();
        assert!(left.is_empty(), "processes {left:?} are left");
        let devices = fs::read_to_string("/proc/net/dev").unwrap();
        for device in [veth_name(POD_NAMESPACE, "client").as_str(), "node-eth0", "outside0", "remote0"] {
            assert!(!devices.contains(device), "{device} is left in the root namespace: {devices}");
        }
    }

    /// Processes with a thread inside the namespaces.
    fn processes(&self) -> Vec<String> {
        let of = |path: &Path| {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let processes = of(Path::new("/proc")).into_iter().filter(|path| path.join("task").exists());
        let threads = processes.flat_map(|path| of(&path.join("task")));
        threads
            .filter(|thread| fs::metadata(thread.join("ns/net")).is_ok_and(|file| self.inodes.contains(&file.ino())))
            .map(|thread| thread.display().to_string())
            .collect()
    }
}

/// Starts one more process that does not die with its parent.
const SLEEPERS: &str = "setsid sleep 1000 >/dev/null 2>&1 & exec sleep 1000";

fn sleepers(lab: &Lab) -> Running {
    Running::spawn(lab.node.namespace.command("sh").unwrap().args(["-c", SLEEPERS])).unwrap()
}

#[test]
fn dropping_a_lab_leaves_nothing() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let traces = Traces::of_lab(&lab);
    let _sleepers = sleepers(&lab);
    wait_until("the sleepers run", || traces.processes().len() == 2);
    drop(lab);
    traces.assert_gone();
}

#[test]
fn a_panic_leaves_nothing() {
    let mut traces = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::builder().pod("client").start().unwrap();
        let traces = traces.insert(Traces::of_lab(&lab));
        let _sleepers = sleepers(&lab);
        wait_until("the sleepers run", || traces.processes().len() == 2);
        panic!("as a failing test does");
    }));
    assert!(panicked.is_err());
    traces.unwrap().assert_gone();
}

#[test]
fn a_failed_start_leaves_nothing() {
    // Too long for the directory entry that stands for the namespace: the ones before it exist by then.
    let error = Lab::builder().pod(&"x".repeat(300)).start().unwrap_err();
    assert!(format!("{error:#}").contains("netns add"), "{error:#}");
    assert!(namespaces_of(std::process::id()).iter().all(|name| !name.contains("xxx")));
}

#[test]
fn labs_of_one_process_do_not_meet() {
    let labs = [0; 3].map(|_| Lab::builder().pod("client").start().unwrap());
    let names: BTreeSet<_> = labs.iter().flat_map(Lab::namespaces).map(lab::Namespace::name).collect();
    assert_eq!(names.len(), 3 * 5);
}

/// The demonstration, with a stand-in for netpath that sleeps in the node.
fn demonstration() -> (Running, Traces, TempDir) {
    let files = tempfile::tempdir().unwrap();
    let netpath = files.path().join("netpath");
    fs::write(&netpath, format!("#!/bin/sh\n{SLEEPERS}\n")).unwrap();
    fs::set_permissions(&netpath, Permissions::from_mode(0o755)).unwrap();
    let demo = Running::spawn(Command::new(env!("CARGO_BIN_EXE_demo")).env("NETPATH_BIN", &netpath)).unwrap();
    let namespaces = || namespaces_of(demo.id());
    wait_until("the sleepers of the demonstration run", || {
        !namespaces().is_empty() && Traces::of(namespaces()).processes().len() == 2
    });
    let traces = Traces::of(namespaces());
    (demo, traces, files)
}

#[test]
fn an_interrupted_demonstration_leaves_nothing() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let (demo, traces, _files) = demonstration();
        demo.signal(signal);
        let status = demo.wait(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(128 + signal));
        traces.assert_gone();
    }
}

#[test]
fn the_next_start_removes_what_a_killed_process_left() {
    let (demo, traces, _files) = demonstration();
    let id = demo.id();
    // While its process lives, nobody touches it.
    drop(Lab::builder().start().unwrap());
    assert_eq!(namespaces_of(id).len(), traces.names.len());

    demo.signal(libc::SIGKILL);
    demo.wait(Duration::from_secs(10)).unwrap();
    // What it started died with it. What that started did not, but goes with the next lab, here or in another test.
    wait_until("netpath's stand-in is dead", || traces.processes().len() <= 1);
    drop(Lab::builder().start().unwrap());
    traces.assert_gone();
}
