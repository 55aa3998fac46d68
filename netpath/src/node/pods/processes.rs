//! Which pod a network namespace belongs to, by the processes in it.
//!
//! In: the host's `/proc`. Out: for each network namespace other than netpath's own the uid of the pod whose cgroup its
//! processes are in. It needs no container runtime. A namespace with processes of two pods is left out: one of them has
//! entered it (`nsenter`).

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fstat, openat, stat, statat};
use rustix::io::Errno;

use super::root::HostRoot;
use super::{PodReading, SourceError, SourceReading, is_uid, netns};
use crate::model::NameSourceState;

/// Processes that are looked at.
const LIMIT: usize = 100_000;
/// A cgroup file has a line for each hierarchy.
const LIMIT_BYTES: u64 = 64 << 10;

/// The processes in one network namespace.
#[derive(Default)]
struct NamespaceProcesses {
    process: String,
    pods: BTreeSet<String>,
}

/// Looks at every process.
pub fn read(root: &HostRoot) -> SourceReading {
    look(root).unwrap_or_else(SourceReading::from)
}

fn look(root: &HostRoot) -> Result<SourceReading, SourceError> {
    let proc = root.processes()?;
    let unreadable =
        |errno: Errno| SourceError::new(NameSourceState::Unreadable, format!("/proc cannot be read: {errno}"));
    let own = stat("/proc/thread-self/ns/net").map_err(unreadable)?;
    let mut namespaces: HashMap<(u64, u64), NamespaceProcesses> = HashMap::new();
    let (mut seen, mut denied) = (0, 0);
    for entry in Dir::read_from(&proc).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Some(process) = entry.file_name().to_str().ok().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        seen += 1;
        if seen > LIMIT {
            break;
        }
        match statat(&proc, format!("{process}/ns/net"), AtFlags::empty()) {
            Ok(stat) if (stat.st_dev, stat.st_ino) != (own.st_dev, own.st_ino) => {
                let inside = namespaces.entry((stat.st_dev, stat.st_ino)).or_default();
                if let Some(uid) = pod_of(&proc, process) {
                    process.clone_into(&mut inside.process);
                    inside.pods.insert(uid);
                }
            }
            Err(Errno::ACCESS | Errno::PERM) => denied += 1,
            // It has ended, or is in netpath's namespace.
            _ => {}
        }
    }
    namespaces.retain(|_, inside| !inside.pods.is_empty());
    let whole = namespaces.len();
    namespaces.retain(|_, inside| inside.pods.len() == 1);
    let shared = whole - namespaces.len();
    let namespaces: Vec<_> = namespaces.into_iter().collect();
    let open = |(identity, inside): &((u64, u64), NamespaceProcesses)| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let namespace = openat(&proc, format!("{}/ns/net", inside.process), flags, Mode::empty()).ok()?;
        // The number may be another process's by now.
        let same = fstat(&namespace).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == *identity);
        same.then_some(namespace)
    };
    let veths = netns::veths_into(&namespaces, open)?;
    let pods: Vec<PodReading> = namespaces
        .into_iter()
        .zip(veths)
        .map(|((_, inside), veths)| PodReading { uid: inside.pods.into_iter().next(), veths, ..PodReading::default() })
        .collect();
    let error = if pods.is_empty() && denied > 0 {
        let why = format!(
            "/proc/PID/ns/net cannot be read of {denied} of {seen} processes, and none of the others is in a pod's cgroup; \
             if pods are missing, give netpath CAP_SYS_PTRACE (root, privileged: true)"
        );
        Some(SourceError::new(NameSourceState::Unreadable, why))
    } else if pods.is_empty() {
        let why = "no process here is in a pod's cgroup; in a pod, netpath sees the host's with hostPID: true";
        Some(SourceError::new(NameSourceState::Absent, why))
    } else if shared > 0 {
        let why = format!("{shared} network namespaces have processes of several pods, and were left out");
        Some(SourceError::new(NameSourceState::Incomplete, why))
    } else {
        None
    };
    Ok(SourceReading::of_pods(pods, error))
}

fn pod_of(proc: &OwnedFd, process: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(proc, format!("{process}/cgroup"), flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
    pod_uid(std::str::from_utf8(&bytes).ok()?)
}

/// The uid of the pod in whose cgroup a process is, from its `/proc/PID/cgroup`: `HIERARCHY:CONTROLLERS:PATH` a line. A pod
/// has a folder of its own on the path, whatever the runtime calls those of its containers:
///
/// - systemd: `kubepods-burstable-pod0d0eb7a4_8b6c_….slice`, with `_` for `-`;
/// - cgroupfs: `pod0d0eb7a4-8b6c-…`.
///
/// Where Kubernetes runs in a pod of this node, the outermost is this node's.
#[must_use]
pub fn pod_uid(cgroups: &str) -> Option<String> {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(ToOwned::to_owned);
    let of_folder = |folder: &str| {
        let folder = folder.strip_suffix(".slice").unwrap_or(folder);
        let uid = folder.strip_prefix("pod").or_else(|| folder.rsplit_once("-pod").map(|(_, uid)| uid))?;
        let uid = uid.replace('_', "-");
        is_uid(&uid).then_some(uid)
    };
    cgroups.lines().filter_map(path).find_map(|path| path.split('/').find_map(of_folder))
}

#[cfg(test)]
mod tests {
    use super::pod_uid;

    #[test]
    fn cgroup_paths() {
        let uid = "0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6";
        let flat = "0d0eb7a4_8b6c_4f0e_9a52_2c1d33a4b5c6";
        for path in [
            // systemd driver, cgroup v2: containerd, CRI-O
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/cri-containerd-1f.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{flat}.slice/crio-1f.scope"),
            // cgroupfs driver, cgroup v1: containerd
            format!("12:pids:/kubepods/besteffort/pod{uid}/1f\n1:name=systemd:/kubepods/besteffort/pod{uid}/1f"),
            format!("3:cpu,cpuacct:/system.slice\n2:pids:/kubepods/pod{uid}/1f"),
            // containerd with a systemd slice by cgroupfs
            format!("0::/kubepods-besteffort-pod{flat}.slice:cri-containerd:1f").replace(":cri", "/x:cri"),
            // as seen from another cgroup namespace
            format!("0::/../../kubepods-besteffort-pod{flat}.slice/cri-containerd-1f.scope"),
            format!("0::/../../pod{uid}/1f"),
            // Kubernetes in a pod
            format!("0::/kubepods/pod{uid}/1f/kubelet/kubepods/podffffffff-8b6c-4f0e-9a52-2c1d33a4b5c6/2f"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(uid), "{path}");
        }
        let fixed = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0123456789abcdef0123456789abcdef.slice/x";
        assert_eq!(pod_uid(fixed).as_deref(), Some("0123456789abcdef0123456789abcdef"));
        for none in
            ["", "0::/", "0::/system.slice/sshd.service", "0::/user.slice/pod", "0::/podman/pod-1", "pod", ":::"]
        {
            assert_eq!(pod_uid(none), None, "{none}");
        }
    }
}
