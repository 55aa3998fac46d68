//! A real container runtime in the lab's node: containerd with runc and the `ptp` CNI plugin, asked through CRI as the
//! kubelet does.
//!
//! It has a mount namespace of its own, in which the folders it writes to are empty and in memory: nothing of it is on the
//! machine, and what is mounted ends with it. Its pods' only process is a program that sleeps for two minutes.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, Namespace, Running, output_within};
use netpath::node::pods::grpc::Channel;
use prost::Message;

const SOON: Duration = Duration::from_secs(20);
const IMAGE: &str = "netpath.test/pause:1";
const SLEEPER: &str = "#include <unistd.h>\nint main(void) { sleep(120); return 0; }\n";
/// Three addresses for pods, so that they are used again.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "netpath", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.11", "rangeEnd": "10.99.0.13"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;

/// containerd's configuration: no snapshotter but the one that needs no kernel's help.
fn configuration(folder: &Path) -> String {
    let others = ["aufs", "btrfs", "devmapper", "overlayfs", "zfs"]
        .map(|name| format!("\"io.containerd.snapshotter.v1.{name}\""));
    format!(
        r#"version = 2
disabled_plugins = [{}, "io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"#,
        others.join(", "),
        folder.join("net.d").display()
    )
}

/// What containerd is started by, in a mount namespace of its own. Cgroups are mounted as the machine has them: version 2, or
/// where that has no controllers, each hierarchy of version 1 (the second column of /proc/cgroups).
const START: &str = r#"set -e
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p /run/netns
cgroups=/sys/fs/cgroup
mount -t cgroup2 cgroup2 $cgroups
if ! grep -q cpu $cgroups/cgroup.controllers; then
    umount $cgroups
    mount -t tmpfs tmpfs $cgroups
    for controllers in $(awk 'NR > 1 && $2 > 0 { all[$2] = all[$2] "," $1 } END { for (i in all) print substr(all[i], 2) }' /proc/cgroups); do
        mkdir $cgroups/$controllers
        mount -t cgroup -o $controllers cgroup $cgroups/$controllers
    done
fi
exec containerd --config "$1""#;

/// A running containerd. Dropping it removes its pods, then ends it.
pub struct Runtime {
    // In order of dropping: pods are removed before.
    containerd: Running,
    folder: tempfile::TempDir,
    tokio: tokio::runtime::Runtime,
    node: Namespace,
    pods: Vec<String>,
}

/// A pod's sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub id: String,
    pub address: Ipv4Addr,
    pub namespace: Namespace,
    /// The host's end of its veth.
    pub veth: String,
}

/// The messages of `runtime.v1` that the tests send.
mod api {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct RunRequest {
        #[prost(message, optional, tag = "1")]
        pub config: Option<Config>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Config {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<Metadata>,
        #[prost(message, optional, tag = "8")]
        pub linux: Option<Linux>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub uid: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Linux {
        #[prost(string, tag = "1")]
        pub cgroup_parent: String,
    }

    /// Also the answer to a [`RunRequest`], and the request to stop or remove.
    #[derive(Clone, PartialEq, Message)]
    pub struct Id {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Nothing {}
}

impl Runtime {
    /// Starts containerd in the lab's node, and gives it the pods' image.
    pub fn start(lab: &Lab) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("net.d"))?;
        fs::write(folder.path().join("net.d/10-netpath.conflist"), NETWORK)?;
        let config = folder.path().join("config.toml");
        fs::write(&config, configuration(folder.path()))?;
        let image = image(folder.path())?;

        let mut command = lab.node.namespace.command("sh")?;
        let log = fs::File::create(folder.path().join("log"))?;
        command.args(["-c", START, "sh"]).arg(&config).stdout(log.try_clone()?).stderr(log);
        let containerd = Running::spawn(&mut command)?;
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let runtime = Self { containerd, folder, tokio, node: lab.node.namespace.clone(), pods: Vec::new() };
        let socket = runtime.root().join("run/containerd/containerd.sock");
        let end = Instant::now() + SOON;
        while runtime.tokio.block_on(Channel::connect(&socket)).is_err() {
            ensure!(Instant::now() < end, "containerd does not listen:\n{}", runtime.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut import = Command::new("ctr");
        import
            .arg("--address")
            .arg(&socket)
            .args(["-n", "k8s.io", "images", "import", "--snapshotter", "native"])
            .arg(image);
        run(&mut import)?;
        Ok(runtime)
    }

    /// The folder that is the host's `/` for its pods.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.containerd.id()))
    }

    /// Runs a pod. It has another address, network namespace and veth than those that run already.
    pub fn run(&mut self, namespace: &str, name: &str, uid: &str) -> Result<Sandbox> {
        let before = self.namespaces()?;
        let config = api::Config {
            metadata: Some(api::Metadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
            }),
            linux: Some(api::Linux { cgroup_parent: format!("/{}/kubepods/pod{uid}", self.cgroup()) }),
        };
        let answer: api::Id = self.call("RunPodSandbox", &api::RunRequest { config: Some(config) })?;
        self.pods.push(answer.id.clone());
        let after = self.namespaces()?;
        let new = after.difference(&before).next().context("the pod has no network namespace")?;
        let address = self.address(&answer.id)?;
        Ok(Sandbox { veth: self.veth(address)?, id: answer.id, address, namespace: Namespace::at(new) })
    }

    /// Stops and removes a pod.
    pub fn remove(&mut self, sandbox: &str) -> Result<()> {
        let id = api::Id { id: sandbox.to_owned() };
        let _: api::Nothing = self.call("StopPodSandbox", &id)?;
        let _: api::Nothing = self.call("RemovePodSandbox", &id)?;
        self.pods.retain(|pod| pod != sandbox);
        Ok(())
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A> {
        let socket = self.root().join("run/containerd/containerd.sock");
        let answer = self.tokio.block_on(async {
            tokio::time::timeout(SOON, async {
                Channel::connect(&socket).await?.call(&format!("/runtime.v1.RuntimeService/{method}"), request).await
            })
            .await
        });
        answer
            .with_context(|| format!("{method} takes too long:\n{}", self.log()))?
            .with_context(|| format!("{method}:\n{}", self.log()))
    }

    /// The network namespaces that containerd has made.
    fn namespaces(&self) -> Result<BTreeSet<PathBuf>> {
        let entries = fs::read_dir(self.root().join("run/netns"))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// The address that the CNI plugin noted for a sandbox.
    fn address(&self, sandbox: &str) -> Result<Ipv4Addr> {
        for entry in fs::read_dir(self.root().join("var/lib/cni/networks/netpath"))? {
            let path = entry?.path();
            let address = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(address) = address
                && fs::read_to_string(&path)?.lines().next() == Some(sandbox)
            {
                return Ok(address);
            }
        }
        anyhow::bail!("the CNI plugin has no address for {sandbox}")
    }

    /// The device that the node routes an address to.
    fn veth(&self, address: Ipv4Addr) -> Result<String> {
        let route = self.node.output("ip", &["-o", "route", "get", &address.to_string()])?;
        let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
        Ok(words.nth(1).context("a route has a device")?.to_owned())
    }

    fn cgroup(&self) -> String {
        format!("netpath-{}", self.containerd.id())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for pod in std::mem::take(&mut self.pods) {
            if let Err(error) = self.remove(&pod) {
                eprintln!("cannot remove the pod {pod}: {error:#}");
            }
        }
        let cgroups = self.root().join("sys/fs/cgroup");
        let hierarchies = fs::read_dir(&cgroups).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([cgroups.clone()]) {
            remove_cgroup(&hierarchy.join(self.cgroup()));
        }
    }
}

/// A cgroup is removed by removing its folder, after those in it; the files cannot be.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// An image with one program, as `docker save` would write it.
fn image(folder: &Path) -> Result<PathBuf> {
    let at = |name: &str| folder.join(name);
    fs::write(at("pause.c"), SLEEPER)?;
    run(Command::new("cc").args(["-static", "-O1", "-o"]).args([at("pause"), at("pause.c")]))?;
    let tar =
        |to: &str, files: &[&str]| run(Command::new("tar").arg("-C").arg(folder).arg("-cf").arg(at(to)).args(files));
    tar("layer.tar", &["pause"])?;
    let digest = run(Command::new("sha256sum").arg(at("layer.tar")))?;
    let digest = digest.split_whitespace().next().context("a digest")?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(at("config.json"), config.to_string())?;
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(at("manifest.json"), manifest.to_string())?;
    tar("image.tar", &["manifest.json", "config.json", "layer.tar"])?;
    Ok(at("image.tar"))
}

fn run(command: &mut Command) -> Result<String> {
    let output = output_within(command, SOON)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
