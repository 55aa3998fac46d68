//! A Debian that packages are installed on: a minimal one, made once by debootstrap, with a layer of its own that goes when it is
//! dropped. It can be booted, with a real systemd, in a network namespace of the lab.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Namespace, Running, output_within, signal, wait_until};

const LIMIT: Duration = Duration::from_mins(2);

/// Where nothing is installed, and nothing runs.
pub struct Machine {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder, running: None };
        for name in ["upper", "work", "root"] {
            fs::create_dir(machine.folder.path().join(name)).unwrap();
        }
        let layer = |name: &str| machine.folder.path().join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", debian().display(), layer("upper"), layer("work"));
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(machine.root()));
        machine
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn write(&self, path: &str, text: &str) {
        let place = self.root().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    /// Runs a shell's command on it, and returns what it prints; on its systemd's side once it is booted.
    pub fn sh(&self, command: &str) -> String {
        let Some(leader) = self.leader() else {
            return run(Command::new("chroot").arg(self.root()).args(["sh", "-ec", command]));
        };
        let mut nsenter = Command::new("nsenter");
        run(nsenter.args(["-t", &leader, "-m", "-u", "-i", "-n", "-p", "-C", "sh", "-ec", command]))
    }

    /// Boots systemd in a network namespace. What is in /run and /tmp then is in memory.
    pub fn boot(&mut self, network: &Namespace) {
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args(["--register=no", "--keep-unit", "--quiet", "--boot", "--console=pipe", "--capability=all"]);
        // bpf(2) and what units restrict themselves by; /proc and /sys as a machine has them.
        nspawn
            .arg("--system-call-filter=bpf perf_event_open @system-service")
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1");
        nspawn.arg(format!("--network-namespace-path={}", network.path().display())).arg("-D").arg(self.root());
        nspawn.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(Running::spawn(&mut nspawn).unwrap());
        wait_until("systemd runs", || self.leader().is_some_and(|leader| is_up(&leader)));
    }

    /// The process that is the first one there.
    fn leader(&self) -> Option<String> {
        let nspawn = self.running.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    /// Every path there is, but for /run, which is in memory on a machine that runs.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        collect(&self.root(), &mut found);
        let within = |path: PathBuf| path.strip_prefix(self.root()).unwrap().to_owned();
        found.into_iter().map(within).filter(|path| !path.starts_with("run")).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            signal(running.id(), libc::SIGTERM);
            let _ = running.wait(LIMIT);
        }
        let _ = Command::new("umount").arg("--lazy").arg(self.root()).status();
    }
}

fn is_up(leader: &str) -> bool {
    let mut state = Command::new("nsenter");
    state.args(["-t", leader, "-m", "-p", "systemctl", "is-system-running"]);
    let output = output_within(&mut state, LIMIT).unwrap();
    ["running", "degraded"].contains(&String::from_utf8_lossy(&output.stdout).trim())
}

fn collect(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

/// Runs a command, and returns what it prints.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output_within(command, LIMIT).unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Debian as it is when it is new; the first test makes it.
fn debian() -> PathBuf {
    let place = PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/netpath/bookworm");
    if !place.exists() {
        let partial = place.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        let include = "--include=systemd,systemd-sysv,man-db";
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", include, "bookworm"]).arg(&partial).arg("http://deb.debian.org/debian");
        let output = output_within(&mut debootstrap, Duration::from_mins(10)).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        fs::rename(partial, &place).unwrap();
    }
    place
}
