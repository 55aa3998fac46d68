//! A real container runtime in a namespace of the lab: containerd with runc, and CNI plugins where pods get addresses by them.
//!
//! It has a mount namespace of its own, in which the folders it writes to are empty and in memory: nothing of it is on the
//! machine, and what is mounted ends with it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::kill;
use crate::{Namespace, Running, output_within};

const SOON: Duration = Duration::from_secs(20);
/// The image that pods' sandboxes run: a program that sleeps for two minutes.
const PAUSE: &str = "netpath.test/pause:1";
const SLEEPER: &str = "#include <unistd.h>\nint main(void) { sleep(120); return 0; }\n";

/// containerd's configuration: no snapshotter but the one that needs no kernel's help.
fn configuration(folder: &Path) -> String {
    let others = ["aufs", "btrfs", "devmapper", "overlayfs", "zfs"]
        .map(|name| format!("\"io.containerd.snapshotter.v1.{name}\""));
    format!(
        r#"version = 2
disabled_plugins = [{}, "io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
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

/// A running containerd. Dropping it ends it, and what it runs, and removes its cgroups.
#[derive(Debug)]
pub struct Containerd {
    process: Running,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts it in a network namespace, and gives it the image that pods need. `network` is the configuration (`.conflist`) by
    /// which pods get addresses.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start(namespace: &Namespace, network: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("net.d"))?;
        fs::write(folder.path().join("net.d/10-netpath.conflist"), network)?;
        let config = folder.path().join("config.toml");
        fs::write(&config, configuration(folder.path()))?;

        let mut command = namespace.command("sh")?;
        let log = fs::File::create(folder.path().join("log"))?;
        command.args(["-c", START, "sh"]).arg(&config).stdout(log.try_clone()?).stderr(log);
        let containerd = Self { process: Running::spawn(&mut command)?, folder };
        let end = Instant::now() + SOON;
        while UnixStream::connect(containerd.socket()).is_err() {
            ensure!(Instant::now() < end, "containerd does not listen:\n{}", containerd.log());
            thread::sleep(Duration::from_millis(20));
        }
        let pause = tempfile::tempdir()?;
        fs::write(containerd.folder.path().join("pause.c"), SLEEPER)?;
        let mut compile = Command::new("cc");
        compile.args(["-static", "-O1", "-o"]).arg(pause.path().join("pause"));
        run(compile.arg(containerd.folder.path().join("pause.c")))?;
        containerd.add_image(PAUSE, pause.path(), "/pause")?;
        Ok(containerd)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The folder that is the host's `/` for what it runs.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.process.id()))
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root().join("run/containerd/containerd.sock")
    }

    /// A cgroup for what it runs, which is removed with it.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/netpath-{}", self.process.id())
    }

    /// A command on its host: with the files and the network that it has itself.
    #[must_use]
    pub fn host_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--wd=.", "--target", &self.process.id().to_string(), program]);
        command
    }

    /// Makes an image of a folder's files, as `docker save` would write it, and imports it.
    ///
    /// # Errors
    /// When tar cannot read them.
    pub fn add_image(&self, name: &str, files: &Path, entry_point: &str) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let tar = |from: &Path, to: &str, files: &[&str]| {
            run(Command::new("tar").arg("-C").arg(from).arg("-cf").arg(at(to)).args(files))
        };
        tar(files, "layer.tar", &["."])?;
        let digest = run(Command::new("sha256sum").arg(at("layer.tar")))?;
        let digest = digest.split_whitespace().next().context("a digest")?;
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Entrypoint": [entry_point]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        fs::write(at("config.json"), config.to_string())?;
        let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        fs::write(at("manifest.json"), manifest.to_string())?;
        tar(folder.path(), "image.tar", &["manifest.json", "config.json", "layer.tar"])?;
        self.import(&at("image.tar"))
    }

    /// Imports the images of an archive for the kubelet's pods.
    ///
    /// # Errors
    /// When it is none.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let mut import = self.host_command("ctr");
        run(import.args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"]).arg(archive))?;
        Ok(())
    }

    /// Its stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let cgroups = self.root().join("sys/fs/cgroup");
        let hierarchies = fs::read_dir(&cgroups).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([cgroups.clone()]) {
            remove_cgroup(&hierarchy.join(self.cgroup().trim_start_matches('/')));
        }
    }
}

/// A cgroup is removed by removing its folder, after those in it; the files cannot be. What a failed test left running is killed.
fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let end = Instant::now() + SOON;
    while path.exists() && fs::remove_dir(path).is_err() && Instant::now() < end {
        for process in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(process) = process.parse() {
                kill(process, libc::SIGKILL);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = output_within(command, SOON)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}
