//! What `netpath doctor` looks at: this kernel, this process, the devices and their hooks.
//!
//! In: /proc, /sys, rtnetlink, `bpf(2)`. Out: [`Facts`]. It needs no privilege, and what it may not know is unknown. It must
//! not load, attach or change anything.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aya::util::KernelVersion;
use caps::{CapSet, Capability};

use crate::descriptors;
use crate::kernel::attach::TCX;
use crate::kernel::error::{POSSIBLE_CPUS, WITHOUT_MEMLOCK};
use crate::kernel::frees::SkbFrees;
use crate::kernel::hooks::{DeviceHooks, HookReader};
use crate::kernel::load;
use crate::kernel::symbols::SymbolFile;
use crate::netlink::qdiscs;
use crate::node::devices::uplink::Uplinks;
use crate::node::devices::{self, EniChoice, Link};
use crate::node::pods::HostRoot;

/// Kernel memory of the maps with the default flags: what `netpath report --help` says.
const MAP_BYTES: u64 = 44_000_000;
const MAP_BYTES_PER_CPU: u64 = 500_000;

/// Everything that is judged.
#[derive(Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Its version.
    pub kernel: Option<KernelVersion>,
    /// The oldest kernel that netpath can use.
    pub oldest: KernelVersion,
    /// Whether this binary has its eBPF programs.
    pub has_object: bool,
    /// What is seen of drops; or why nothing is.
    pub drops: Result<Drops, String>,
    /// What is missing, in words.
    pub missing_capabilities: Option<String>,
    /// "none", "integrity", "confidentiality"; `None` if it cannot be told.
    pub lockdown: Option<String>,
    /// Bytes that this process may lock; `None` if any number, or if the kernel does not count maps as locked (Linux 5.11).
    pub locked_limit: Option<u64>,
    /// Bytes that this process's cgroup may have; `None` if any number, or not known.
    pub cgroup_limit: Option<u64>,
    /// Bytes that are available on this machine.
    pub available: Option<u64>,
    /// CPUs that there can be; `None` if /sys does not tell.
    pub cpus: Option<u64>,
    /// Files that this process may have open (`RLIMIT_NOFILE`, the hard limit); `None` if any number.
    pub file_limit: Option<u64>,
    /// Connection tracking in this network namespace.
    pub conntrack: Conntrack,
    /// Whose network namespace this is.
    pub namespace: Namespace,
    /// The devices in it.
    pub devices: Vec<Inspected>,
    /// Those by which default routes leave, by ifindex; `None` if it cannot be told.
    pub default_routes: Option<Vec<u32>>,
    /// Packets that wait in devices' queues, by ifindex; `None` if the kernel does not tell.
    pub waiting: Option<HashMap<u32, u32>>,
}

/// What a report and a trace would know of packets that the kernel drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops {
    /// Why.
    pub reasons: bool,
    /// Where.
    pub functions: bool,
}

/// A device and its hooks, or why they are not known.
#[derive(Debug)]
pub struct Inspected {
    /// The device.
    pub link: Link,
    /// Who is there.
    pub hooks: Result<DeviceHooks, String>,
}

/// Connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conntrack {
    /// It cannot be told.
    Unknown,
    /// Not loaded.
    Absent,
    /// Loaded.
    There {
        /// Connections in the table.
        count: u64,
        /// Connections for which there is room.
        max: u64,
        /// Whether the kernel tells of new and ended ones.
        events: bool,
    },
}

/// Whose network namespace netpath is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// That of the node's process 1.
    Nodes,
    /// Another.
    Other,
    /// It cannot be told.
    Unknown,
}

impl Facts {
    /// Whether the kernel has TCX.
    #[must_use]
    pub fn tcx(&self) -> bool {
        self.kernel.is_none_or(|version| version >= TCX)
    }

    /// Kernel memory of netpath's maps.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        MAP_BYTES + MAP_BYTES_PER_CPU * self.cpus.unwrap_or(1)
    }

    /// Looks at everything. `host_root`: where the host's files are, if the user says so.
    ///
    /// # Errors
    /// If there is no /proc, the devices cannot be listed, or the host's files are not where the user says.
    pub fn gather(eni: &EniChoice, host_root: Option<&Path>) -> anyhow::Result<Self> {
        // As a report does, which fails without it.
        if let Some(given) = host_root {
            HostRoot::find(Some(given))?;
        }
        let release = read("/proc/sys/kernel/osrelease").context("cannot read /proc; mount it")?;
        let kernel = KernelVersion::current().ok();
        Ok(Self {
            kernel,
            release,
            oldest: load::OLDEST,
            has_object: load::has_object(),
            drops: drops(),
            missing_capabilities: load::missing_capabilities(),
            lockdown: read("/sys/kernel/security/lockdown").as_deref().and_then(selected),
            // Whoever has that capability may lock more, and netpath does.
            locked_limit: locked_limit().filter(|_| {
                let may_lock_more = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE);
                kernel.is_some_and(|version| version < WITHOUT_MEMLOCK) && !may_lock_more.unwrap_or(false)
            }),
            cgroup_limit: cgroup_limit(),
            available: read("/proc/meminfo").as_deref().and_then(available),
            cpus: read(POSSIBLE_CPUS).as_deref().map(cpus),
            file_limit: descriptors::highest_limit(),
            conntrack: conntrack(Path::new("/proc/sys/net")),
            namespace: namespace(Path::new("/"), host_root.unwrap_or(Path::new("/host"))),
            devices: inspect(devices::list(eni)?)?,
            default_routes: Uplinks::read().ok().map(|uplinks| uplinks.devices()),
            waiting: qdiscs::read().ok().map(|qdiscs| qdiscs.waiting),
        })
    }
}

fn inspect(links: Vec<Link>) -> anyhow::Result<Vec<Inspected>> {
    let mut reader = HookReader::open().context("cannot open a netlink socket")?;
    let read = reader.read(links.iter().map(|link| link.ifindex)).map_err(|error| error.to_string());
    let inspect = |link: Link| {
        let hooks = read.as_ref().map_err(Clone::clone);
        let hooks = hooks.and_then(|all| all.get(&link.ifindex).cloned().ok_or_else(|| "it is gone".to_owned()));
        Inspected { link, hooks }
    };
    Ok(links.into_iter().map(inspect).collect())
}

/// The text of a file, without white space at its ends.
fn drops() -> Result<Drops, String> {
    let frees = SkbFrees::of_kernel();
    let symbols = SymbolFile::open().and_then(|mut file| file.read());
    match frees.unseen {
        Some(why) => Err(why),
        None => Ok(Drops { reasons: frees.has_reasons, functions: symbols.is_ok_and(|symbols| !symbols.is_empty()) }),
    }
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// What is chosen: "integrity" of "none \[integrity\] confidentiality".
#[must_use]
pub fn selected(choices: &str) -> Option<String> {
    Some(choices.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// One more than the highest number in "0-3,8".
#[must_use]
pub fn cpus(possible: &str) -> u64 {
    let numbers = possible.split(['-', ',']).filter_map(|number| number.parse::<u64>().ok());
    numbers.max().unwrap_or(0).saturating_add(1)
}

/// `MemAvailable` of /proc/meminfo, in bytes.
#[must_use]
pub fn available(meminfo: &str) -> Option<u64> {
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(kibibytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

fn locked_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) takes a pointer to a limit that lives through the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    (known && limit.rlim_max != libc::RLIM_INFINITY).then_some(limit.rlim_max)
}

/// Of cgroup v2, as seen from inside a container or from the node: the lowest on the way up.
fn cgroup_limit() -> Option<u64> {
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = Path::new("/sys/fs/cgroup").join(own);
    own.ancestors().filter_map(|group| read(group.join("memory.max"))?.parse().ok()).min()
}

fn conntrack(sysctl_net: &Path) -> Conntrack {
    if !sysctl_net.join("core").exists() {
        return Conntrack::Unknown;
    }
    let number = |name| read(sysctl_net.join("netfilter").join(name))?.parse::<u64>().ok();
    match (number("nf_conntrack_count"), number("nf_conntrack_max")) {
        (Some(count), Some(max)) => Conntrack::There { count, max, events: number("nf_conntrack_events") != Some(0) },
        _ => Conntrack::Absent,
    }
}

fn namespace(root: &Path, host: &Path) -> Namespace {
    let name = |path: &str| fs::read_link(root.join(path)).ok();
    // The first pid namespace has a fixed number (include/linux/proc_ns.h, PROC_PID_INIT_INO). In another one, process 1
    // is a container's, and the node's is to be found where a debug pod has the node's files.
    let in_first = name("proc/self/ns/pid").is_some_and(|name| name.as_os_str() == "pid:[4026531836]");
    let nodes = if in_first { name("proc/1/ns/net") } else { fs::read_link(host.join("proc/1/ns/net")).ok() };
    match (name("proc/self/ns/net"), nodes) {
        (Some(own), Some(nodes)) if own == nodes => Namespace::Nodes,
        (Some(_), Some(_)) => Namespace::Other,
        _ => Namespace::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_say() {
        assert_eq!(selected("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(selected("[none] integrity confidentiality").as_deref(), Some("none"));
        assert_eq!((cpus("0"), cpus("0-3"), cpus("0-3,8-95"), cpus("")), (1, 4, 96, 1));
        assert_eq!(available("MemTotal: 2 kB\nMemAvailable:   1000 kB\n"), Some(1_024_000));
    }

    #[test]
    fn whose_network_it_is() {
        let of = |links: &[(&str, &str)]| {
            let root = tempfile::tempdir().expect("a folder");
            for (path, name) in links {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::os::unix::fs::symlink(name, path).expect("a link");
            }
            namespace(root.path(), &root.path().join("host"))
        };
        let (first, own) = (("proc/self/ns/pid", "pid:[4026531836]"), ("proc/self/ns/net", "net:[1]"));
        assert_eq!(of(&[first, own, ("proc/1/ns/net", "net:[1]")]), Namespace::Nodes);
        assert_eq!(of(&[first, own, ("proc/1/ns/net", "net:[2]")]), Namespace::Other);
        assert_eq!(of(&[first, own]), Namespace::Unknown, "not root");
        let container = ("proc/self/ns/pid", "pid:[4026532000]");
        assert_eq!(of(&[container, own, ("proc/1/ns/net", "net:[1]")]), Namespace::Unknown, "a container's process 1");
        assert_eq!(of(&[container, own, ("host/proc/1/ns/net", "net:[1]")]), Namespace::Nodes);
        assert_eq!(of(&[container, own, ("host/proc/1/ns/net", "net:[2]")]), Namespace::Other);
    }

    #[test]
    fn what_conntrack_says() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(conntrack(folder.path()), Conntrack::Unknown);
        fs::create_dir(folder.path().join("core")).expect("a folder");
        assert_eq!(conntrack(folder.path()), Conntrack::Absent);
        fs::create_dir(folder.path().join("netfilter")).expect("a folder");
        for (name, value) in [("count", "7\n"), ("max", "262144\n"), ("events", "0\n")] {
            fs::write(folder.path().join(format!("netfilter/nf_conntrack_{name}")), value).expect("written");
        }
        assert_eq!(conntrack(folder.path()), Conntrack::There { count: 7, max: 262_144, events: false });
    }
}
