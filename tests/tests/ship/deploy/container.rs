//! A container as a kubelet has it made of a manifest: the same arguments, user, capabilities, limits and folders, by runc.
//!
//! In: a pod's specification. Out: a running container in a lab's node, and what its probes are told. Seccomp is the runtime's own
//! affair, and not in here.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Lab, POD_NAMESPACE, Running, http, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::manifest::Manifest;
use super::value;
use crate::shipped;

/// What the lab needs besides: its ENIs are veths, and nobody waits for ten seconds.
const FOR_THE_LAB: [&str; 4] = ["--eni=eth*", "--interval=200ms", "--veths", "--offline"];
/// As the kubelet's.
const NODE_NAME: &str = "ip-10-0-0-5.ec2.internal";

/// Dropping it removes it.
pub struct Container<'a> {
    lab: &'a Lab,
    folder: TempDir,
    spec: Value,
    grace: u64,
    address: IpAddr,
    name: String,
    run: Option<Running>,
}

impl<'a> Container<'a> {
    pub fn start(lab: &'a Lab, manifest: &Manifest) -> Self {
        let (pod, spec) = (manifest.pod(), manifest.container().clone());
        let is_ipv6 =
            spec["args"].as_array().unwrap().iter().any(|word| word.as_str().unwrap().contains("[$(HOST_IP)]"));
        let address = if is_ipv6 { lab.node.ipv6.into() } else { lab.node.ipv4.into() };
        let name = format!("netpath-deploy-{}", std::process::id());
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut container = Self { lab, folder, spec, grace, address, name, run: None };
        container.write_bundle(manifest);
        let mut command = container.runc();
        command.args(["run", "--bundle"]).arg(container.folder.path()).arg(&container.name);
        let file = |name: &str| Stdio::from(fs::File::create(container.folder.path().join(name)).unwrap());
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        container.run = Some(Running::spawn(&mut command).unwrap());
        container
    }

    /// A path of the host's, as far as the manifest mounts it.
    pub fn host(&self, path: &str) -> PathBuf {
        self.folder.path().join("host").join(path)
    }

    fn write_bundle(&self, manifest: &Manifest) {
        let place = self.folder.path();
        for path in ["rootfs/proc", "rootfs/sys", "rootfs/dev", "config"] {
            fs::create_dir_all(place.join(path)).unwrap();
        }
        fs::copy(shipped("netpath"), place.join("rootfs/netpath")).unwrap();
        let config = manifest.of_kind("ConfigMap").unwrap()["data"].as_object().unwrap();
        for (name, text) in config {
            fs::write(place.join("config").join(name), text.as_str().unwrap()).unwrap();
        }
        for pod in self.lab.pods() {
            let folder = format!("var/log/pods/{POD_NAMESPACE}_{}_0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6", pod.name);
            fs::create_dir_all(self.host(&folder)).unwrap();
        }
        fs::create_dir_all(self.host("var/run/aws-node")).unwrap();
        fs::write(place.join("config.json"), self.config(manifest.pod()).to_string()).unwrap();
    }

    /// What containerd would have written for runc.
    fn config(&self, pod: &Value) -> Value {
        let security = &self.spec["securityContext"];
        assert_eq!((&security["privileged"], &security["capabilities"]["drop"]), (&json!(false), &json!(["ALL"])));
        let added = security["capabilities"]["add"].as_array().unwrap().iter();
        let rights: Vec<String> = added.map(|right| format!("CAP_{}", right.as_str().unwrap())).collect();
        let expand = |word: &Value| word.as_str().unwrap().replace("$(HOST_IP)", &self.address.to_string());
        let mut arguments = vec!["/netpath".to_owned()];
        arguments.extend(self.spec["args"].as_array().unwrap().iter().map(expand));
        arguments.extend(FOR_THE_LAB.map(str::to_owned));
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "ipc"}), json!({"type": "uts"})];
        assert_eq!(pod["hostNetwork"], true);
        namespaces.push(json!({"type": "network", "path": self.lab.node.namespace.path()}));
        if pod["hostPID"] != true {
            namespaces.push(json!({"type": "pid"}));
        }
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
                "args": arguments,
                "env": [format!("NODE_NAME={NODE_NAME}"), format!("HOST_IP={}", self.address)],
                "cwd": "/",
                "capabilities": {"bounding": rights, "effective": rights, "permitted": rights},
                "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
            },
            "root": {"path": "rootfs", "readonly": security["readOnlyRootFilesystem"]},
            "mounts": self.mounts(pod),
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}", self.name),
                "resources": {
                    "memory": {"limit": self.memory("limits")},
                    "cpu": {"period": 100_000, "quota": 100_000},
                },
            },
        })
    }

    fn mounts(&self, pod: &Value) -> Vec<Value> {
        let mut mounts = vec![
            json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        for mount in self.spec["volumeMounts"].as_array().unwrap() {
            let volumes = pod["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            let source = match volume["hostPath"]["path"].as_str() {
                Some(path) => self.host(path.trim_start_matches('/')),
                None => self.folder.path().join("config"),
            };
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                fs::create_dir_all(&source).unwrap();
            }
            assert!(source.is_dir(), "{}", source.display());
            // A mount point cannot be made where all is read-only.
            let point = mount["mountPath"].as_str().unwrap();
            fs::create_dir_all(self.folder.path().join("rootfs").join(point.trim_start_matches('/'))).unwrap();
            let access = if mount["readOnly"] == true { "ro" } else { "rw" };
            mounts.push(json!({"destination": point, "type": "bind", "source": source, "options": ["rbind", access]}));
        }
        mounts
    }

    fn runc(&self) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.path().join("state"));
        command
    }

    /// Bytes of memory in the manifest.
    pub fn memory(&self, of: &str) -> u64 {
        let amount = self.spec["resources"][of]["memory"].as_str().unwrap();
        let (number, unit) = amount.split_at(amount.len() - 2);
        let shift = if unit == "Gi" { 30 } else { 20 };
        assert!(["Gi", "Mi"].contains(&unit), "{amount}");
        number.parse::<u64>().unwrap() << shift
    }

    /// Bytes of memory that the kernel has charged to it: of the process, and of its eBPF maps.
    pub fn memory_used(&self) -> u64 {
        let places = ["memory/NAME/memory.usage_in_bytes", "NAME/memory.current"];
        let read =
            |place: &str| fs::read_to_string(format!("/sys/fs/cgroup/{}", place.replace("NAME", &self.name))).ok();
        places.into_iter().find_map(read).unwrap().trim().parse().unwrap()
    }

    /// /proc/PID/status of netpath.
    pub fn status(&self) -> String {
        let output = self.runc().args(["state", &self.name]).output().unwrap();
        let state: Value = serde_json::from_slice(&output.stdout).unwrap();
        fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.folder.path().join("stdout")).unwrap()
    }

    fn has_ended(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.run.as_ref().unwrap().id())).unwrap();
        status.contains("State:\tZ")
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Where a probe asks, and for what.
    fn probe(&self, name: &str) -> (SocketAddr, String) {
        let get = &self.spec[name]["httpGet"];
        let port = get["port"].as_u64().or_else(|| {
            let ports = self.spec["ports"].as_array().unwrap();
            ports.iter().find(|port| port["name"] == get["port"])?["containerPort"].as_u64()
        });
        let host = get["host"].as_str().map_or(self.address, |host| host.parse().unwrap());
        (SocketAddr::new(host, port.unwrap().try_into().unwrap()), get["path"].as_str().unwrap().to_owned())
    }

    pub fn wait_for_probes(&self) {
        for name in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let (address, path) = self.probe(name);
            wait_until(&format!("{name} is answered"), || {
                assert!(!self.has_ended(), "{}", self.stderr());
                http::get(&self.lab.node.namespace, address, &path, "").is_ok_and(|answer| answer.status == 200)
            });
        }
    }

    pub fn metrics(&self) -> String {
        let (address, _) = self.probe("readinessProbe");
        http::get(&self.lab.node.namespace, address, "/metrics", "").unwrap().text().to_owned()
    }

    /// Whether others than the node can ask.
    pub fn listens_on_the_network(&self) -> bool {
        let (address, path) = self.probe("readinessProbe");
        let address = SocketAddr::new(self.address, address.port());
        http::get(&self.lab.pods()[0].namespace, address, &path, "").is_ok()
    }

    pub fn wait_for_windows(&self, count: u64) {
        // There is no such series before the first has ended.
        let windows = || value(&self.metrics(), "netpath_windows_total").unwrap_or(0);
        let before = windows();
        wait_until("windows have ended", || windows() >= before + count);
    }

    /// Ends it as a kubelet does.
    pub fn stop(mut self) {
        let killed = self.runc().args(["kill", &self.name, "TERM"]).output().unwrap();
        assert!(killed.status.success(), "{killed:?}");
        let status = self.run.take().unwrap().wait(Duration::from_secs(self.grace)).unwrap();
        assert!(status.success(), "{}", self.stderr());
    }

    /// Waits until it ends by itself: its exit status and output.
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = self.run.take().unwrap().wait(Duration::from_mins(1)).unwrap();
        (status.code(), self.stderr())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let deleted = self.runc().args(["delete", "--force", &self.name]).output();
        if !deleted.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("cannot delete the container: {deleted:?}");
        }
    }
}
