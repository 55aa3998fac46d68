//! The container image, as skopeo, umoci and a real containerd have it.
//!
//! Its digests are held against sha256sum's, its binaries against those that dist made, the SBOM against CycloneDX' own schema,
//! what netpath reports in a container against the node's device counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::report::Diagnosis;
use lab::traffic::{Serve, TcpServer, download};
use lab::{Containerd, Counters, Lab, Report, counters, http, netpath_hooks, output_within, read, signal};
use serde_json::Value;

use super::cri::Container;
use super::documented::{documented, the_documented};
use super::shipped;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const NAME: &str = concat!("ghcr.io/netpath/netpath:", env!("CARGO_PKG_VERSION"));
/// Those of the manifests.
const CAPABILITIES: [&str; 4] = ["BPF", "PERFMON", "NET_ADMIN", "SYS_PTRACE"];
const BYTES: u64 = 300_000;

/// What a command prints, which must not fail.
fn run(command: &mut Command) -> String {
    let output = output_within(command, Duration::from_mins(1)).unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn skopeo(arguments: &[&str]) -> String {
    run(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The image in the archive, for skopeo.
fn in_archive() -> String {
    format!("oci-archive:{}:{VERSION}", shipped("netpath-image.tar").display())
}

/// The image's index: a manifest for each architecture.
fn manifests() -> Vec<Value> {
    let index = json(&skopeo(&["inspect", "--raw", &in_archive()]));
    index["manifests"].as_array().unwrap().clone()
}

/// The binary of an architecture, by its name in images.
fn binary(architecture: &str) -> PathBuf {
    let (own, other) = if cfg!(target_arch = "aarch64") { ("arm64", "x86_64") } else { ("amd64", "aarch64") };
    if architecture == own { shipped("netpath") } else { shipped(&format!("netpath-{other}")) }
}

#[test]
fn copies_have_the_same_digests() {
    let folder = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:{VERSION}", shipped("image").display());
    let copy = format!("oci:{}:copy", folder.path().display());
    skopeo(&["copy", "--quiet", "--all", &in_archive(), &copy]);
    let raw = |image: &str| skopeo(&["inspect", "--raw", image]);
    assert_eq!(raw(&in_archive()), raw(&layout), "archive and layout");
    assert_eq!(raw(&in_archive()), raw(&copy), "archive and copy");
    // skopeo has checked each blob as it copied it. In a layout, a blob's name is its digest.
    for place in [shipped("image"), folder.path().to_owned()].map(|layout| layout.join("blobs/sha256")) {
        for blob in fs::read_dir(place).unwrap() {
            let blob = blob.unwrap().path();
            let sum = run(Command::new("sha256sum").arg(&blob));
            assert_eq!(sum.split_whitespace().next(), blob.file_name().unwrap().to_str());
        }
    }
}

/// In a folder for a registry.
#[test]
fn the_documented_copies() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::copy(shipped("netpath-image.tar"), folder.join("netpath-image.tar")).unwrap();
    let registry = format!("docker://registry.example.org/netpath:{VERSION}");
    let here = |command: &str| {
        let command = command.replace(&registry, "dir:registry").replace("skopeo ", "skopeo --insecure-policy ");
        run(Command::new("sh").args(["-c", &command]).current_dir(folder))
    };
    here(&the_documented("skopeo copy", "docker://"));
    let sums: BTreeSet<_> = documented("skopeo inspect").iter().map(|command| here(command)).collect();
    assert_eq!(sums.len(), 1, "{sums:?}");

    here(&the_documented("skopeo copy", "docker-archive:"));
    let listed = run(Command::new("tar").args(["-xOf", "netpath-docker.tar", "manifest.json"]).current_dir(folder));
    assert_eq!(json(&listed)[0]["RepoTags"], serde_json::json!([NAME]));
}

/// What tells it apart from others, and nothing that depends on when or where it was made.
#[test]
fn what_it_says_of_itself() {
    let mut times = Vec::new();
    for manifest in manifests() {
        let architecture = manifest["platform"]["architecture"].as_str().unwrap();
        let config = json(&skopeo(&["inspect", "--config", "--raw", "--override-arch", architecture, &in_archive()]));
        assert_eq!((&config["architecture"], &config["os"]), (&architecture.into(), &"linux".into()));
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/netpath"]));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], VERSION);
        assert_eq!(labels["org.opencontainers.image.licenses"], "MIT OR Apache-2.0");
        times.push(config["created"].as_str().unwrap().to_owned());
    }
    assert!(!times.is_empty());
    // The archive's files are all of that time, and root's.
    let mut tar = Command::new("tar");
    tar.args(["--list", "--verbose", "--numeric-owner", "--utc", "--full-time", "--file"]);
    for line in run(tar.arg(shipped("netpath-image.tar"))).lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[1], "0/0", "{line}");
        let time = format!("{}T{}Z", words[3], words[4]);
        assert!(times.iter().all(|created| *created == time), "{line}: not of {times:?}");
    }
}

#[test]
fn umoci_unpacks_what_belongs_into_it() {
    for manifest in manifests() {
        let architecture = manifest["platform"]["architecture"].as_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        let one = format!("oci:{}:one", layout.display());
        skopeo(&["--override-arch", architecture, "copy", "--quiet", &in_archive(), &one]);
        let bundle = folder.path().join("bundle");
        run(Command::new("umoci").arg("unpack").arg("--image").arg(format!("{}:one", layout.display())).arg(&bundle));
        let root = bundle.join("rootfs");
        let mut files = BTreeMap::new();
        all_files(&root, &root, &mut files);
        assert!(files["netpath"] == fs::read(binary(architecture)).unwrap(), "another binary for {architecture}");
        let sbom = json(std::str::from_utf8(&files["netpath.cdx.json"]).unwrap());
        assert_eq!(standard_libraries(&sbom), compilers(architecture));
        let beside = json(&fs::read_to_string(shipped("netpath.cdx.json")).unwrap());
        let beside = beside["components"].as_array().unwrap();
        assert!(sbom["components"].as_array().unwrap().iter().all(|one| beside.contains(one)), "{architecture}");
        let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
        assert!(text("licenses/LICENSE-MIT").contains("Permission is hereby granted"));
        assert!(text("licenses/LICENSE-APACHE").contains("Apache License"));
        assert!(text("licenses/CRATES.txt").contains("Copyright (c) 2021 Alessandro Decina"), "aya's author");
        let other = |start: &str| files.keys().any(|name| name.starts_with(start));
        assert!(other("licenses/rust-std-") && other("licenses/glibc-"), "{:?}", files.keys());
        assert!(files.keys().all(|name| name.starts_with("licenses/") || name.starts_with("netpath")), "nothing else");
    }
}

fn all_files(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// By CycloneDX' own schema and, for what is in it, the workspace's Cargo.lock.
#[test]
fn the_sbom_is_one() {
    const VALIDATE: &str = "import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)";
    run(lab::python().unwrap().args(["-c", VALIDATE]).arg(shipped("netpath.cdx.json")));
    let sbom = json(&fs::read_to_string(shipped("netpath.cdx.json")).unwrap());
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let components = sbom["components"].as_array().unwrap();
    let field = |component: &Value, name: &str| component[name].as_str().unwrap().to_owned();
    let crates: Vec<_> = components.iter().filter(|one| field(one, "purl").starts_with("pkg:cargo/")).collect();
    for one in &crates {
        let (name, version) = (field(one, "name"), field(one, "version"));
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let checksum = one["hashes"][0]["content"].as_str().unwrap();
        let locked = lock.split("[[package]]").find(|package| package.contains(&entry)).unwrap();
        assert!(locked.contains(checksum), "{name} {version}");
    }
    let has = |name: &str| components.iter().any(|one| one["name"] == name);
    assert!(has("tokio") && has("aya-ebpf") && has("glibc") && !has("proptest"));
    assert_eq!(standard_libraries(&sbom), ["amd64", "arm64"].iter().flat_map(|one| compilers(one)).collect());
}

/// A compiler leaves its version in what it compiles.
fn compilers(architecture: &str) -> BTreeSet<String> {
    let bytes = fs::read(binary(architecture)).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let versions = text.split("rustc version ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    let versions: BTreeSet<_> = versions.map(str::to_owned).collect();
    assert!(!versions.is_empty(), "no compiler's version for {architecture}");
    versions
}

/// The versions of Rust's standard library that an SBOM names.
fn standard_libraries(sbom: &Value) -> BTreeSet<String> {
    let components = sbom["components"].as_array().unwrap().iter();
    let libraries = components.filter(|one| one["name"] == "rust-std");
    libraries.map(|one| one["version"].as_str().unwrap().to_owned()).collect()
}

/// From the archive alone, in an empty folder, as one does it by hand.
#[test]
fn from_the_archive_alone() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let containerd = Containerd::start(&lab.node.namespace, "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::copy(shipped("netpath-image.tar"), folder.path().join("netpath-image.tar")).unwrap();
    // With what the machine of the tests needs after `start`, and with what the test reads at the end.
    let ctr = |start: &str, lab_only: &[&str], for_the_test: &[&str]| {
        let command = the_documented(start, "");
        let (start, rest) = (start.split(' ').skip(1), command[start.len()..].split_whitespace());
        let mut ctr = containerd.host_command("ctr");
        run(ctr.args(start).args(lab_only).args(rest).args(for_the_test).current_dir(folder.path()))
    };
    let cgroup = format!("--cgroup={}/by-hand", containerd.cgroup());
    ctr("ctr images import", &["--snapshotter=native"], &[]);
    let for_the_test = ["--offline", "--eni", "eth*", "--duration", "1s", "--format", "json"];
    let report = ctr("ctr run", &["--snapshotter=native", &cgroup], &for_the_test);
    let report: Report = read(report.as_bytes()).unwrap();
    let devices = ["eth0", lab.pod("client").veth.as_str(), lab.pod("server").veth.as_str()];
    assert!(devices.iter().all(|device| report.device(device).rx.is_some()), "{report}");
    assert_asks_the_runtime(&report, 0);
}

/// It finds the host's files: containerd answers how many pods it has.
fn assert_asks_the_runtime(report: &Report, pods: u64) {
    let runtime = report.names.sources.iter().find(|source| source.source == "cri").unwrap();
    assert_eq!((runtime.state.as_str(), runtime.count), ("ok", pods), "{runtime:?}");
}

/// A node with containerd that has the image, and two pods.
fn node() -> (Lab, Containerd) {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let containerd = Containerd::start(&lab.node.namespace, "").unwrap();
    containerd.import(&shipped("netpath-image.tar")).unwrap();
    (lab, containerd)
}

/// netpath in a container that has `host` as the host's files.
fn start<'a>(containerd: &'a Containerd, host: &Path, arguments: &[&str], capabilities: &[&str]) -> Container<'a> {
    let arguments = [arguments, &["--offline", "--eni", "eth*", "--host-root", "/host"]].concat();
    Container::run(containerd, NAME, &arguments, capabilities, &[(host.to_str().unwrap(), "/host")]).unwrap()
}

/// The process of netpath in the node.
fn process(lab: &Lab) -> Option<u32> {
    let name = lab.node.namespace.name();
    let processes = run(Command::new("ip").args(["netns", "pids", name]));
    let is_netpath =
        |process: &u32| fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name == "netpath\n");
    processes.lines().filter_map(|line| line.parse().ok()).find(is_netpath)
}

/// Moves bytes between the pods, and returns what the devices counted.
fn traffic(lab: &Lab, devices: [&str; 2]) -> [Counters; 2] {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let listening = TcpServer::start(&server.namespace, (server.ipv4, 0).into(), Serve::Send(BYTES)).unwrap();
    let before = devices.map(|device| counters(&lab.node.namespace, device).unwrap());
    download(&client.namespace, listening.address()).unwrap();
    lab.wait_until_quiet().unwrap();
    let after = devices.map(|device| counters(&lab.node.namespace, device).unwrap());
    [after[0].since(before[0]), after[1].since(before[1])]
}

#[test]
fn report_in_a_container() {
    let (lab, containerd) = node();
    let files = lab.host_files().unwrap();
    let devices = [lab.pod("client").veth.as_str(), lab.pod("server").veth.as_str()];
    lab.wait_until_quiet().unwrap();
    let arguments = ["report", "--duration", "2m", "--format", "json"];
    let container = start(&containerd, files.path(), &arguments, &CAPABILITIES);
    let mut open = None;
    container.wait_until("the window is open", || {
        open = process(&lab).filter(|process| is_open(*process));
        open.is_some()
    });
    let moved = traffic(&lab, devices);
    signal(open.unwrap(), libc::SIGINT);
    let (status, written) = container.wait().unwrap();
    assert_eq!(status, 0, "{written:?}");
    let report: Report = read(written.stdout.as_bytes()).unwrap();
    for (device, moved) in devices.into_iter().zip(moved) {
        let (rx, tx) = (report.device(device).rx.unwrap(), report.device(device).tx.unwrap());
        assert_eq!((rx.bytes, tx.bytes), (moved.rx_bytes, moved.tx_bytes), "{device}");
        assert!(rx.bytes + tx.bytes > BYTES);
    }
    let pods: Vec<_> = devices.iter().map(|device| report.device(device).pod.clone()).collect();
    assert_eq!(pods, [Some("default/client".to_owned()), Some("default/server".to_owned())]);
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
}

/// Its last thread has started.
fn is_open(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks.into_iter().any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "drain\n"))
}

#[test]
fn serve_in_a_container() {
    let (lab, containerd) = node();
    let devices = [lab.pod("client").veth.as_str(), lab.pod("server").veth.as_str()];
    lab.wait_until_quiet().unwrap();
    let container = start(&containerd, Path::new("/"), &["serve", "--interval", "200ms", "--veths"], &CAPABILITIES);
    let get = |path: &str| http::get(&lab.node.namespace, ([127, 0, 0, 1], 9456).into(), path, "");
    container.wait_until("netpath is ready", || get("/readyz").is_ok_and(|answer| answer.status == 200));
    let moved = traffic(&lab, devices);
    let value = |device: &str, direction: &str| {
        let metrics = get("/metrics").unwrap();
        let labels = format!("{{device=\"{device}\",class=\"veth\",direction=\"{direction}\"}} ");
        let series = format!("netpath_device_bytes_total{labels}");
        metrics.text().lines().find_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok())
    };
    for (device, moved) in devices.into_iter().zip(moved) {
        for (direction, bytes) in [("receive", moved.rx_bytes), ("transmit", moved.tx_bytes)] {
            container.wait_until("what has moved is in the counters", || {
                value(device, direction).is_some_and(|now| now >= bytes)
            });
            assert_eq!(value(device, direction), Some(bytes), "{device} {direction}");
        }
    }
    assert_asks_the_runtime(&read(&get("/report").unwrap().body).unwrap(), 1);
    signal(process(&lab).unwrap(), libc::SIGTERM);
    let (status, written) = container.wait().unwrap();
    assert_eq!(status, 0, "{written:?}");
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
}

/// The capabilities of the manifests are enough to measure and name pods; `doctor` names one that is missing.
#[test]
fn doctor_in_a_container() {
    let (_lab, containerd) = node();
    let diagnose = |capabilities: &[&str]| {
        let container = start(&containerd, Path::new("/"), &["doctor", "--format", "json"], capabilities);
        let (status, written) = container.wait().unwrap();
        let diagnosis: Diagnosis =
            read(written.stdout.as_bytes()).unwrap_or_else(|error| panic!("{error:#}: {written:?}"));
        assert_eq!(status, i32::from(diagnosis.level == "fail"), "{diagnosis}");
        diagnosis
    };
    let diagnosis = diagnose(&CAPABILITIES);
    assert_ne!(diagnosis.level, "fail", "{diagnosis:#}");
    for missing in ["BPF", "PERFMON", "NET_ADMIN"] {
        let others: Vec<_> = CAPABILITIES.into_iter().filter(|one| *one != missing).collect();
        let diagnosis = diagnose(&others);
        assert_eq!(diagnosis.level, "fail", "without {missing}: {diagnosis:#}");
        let named = format!("CAP_{missing}");
        assert!(diagnosis.findings.iter().any(|one| one.to_string().contains(&named)), "{missing}: {diagnosis:#}");
    }
}
