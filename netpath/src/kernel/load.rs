//! Loads the embedded eBPF object, or says in one line why this machine or this user cannot.
//!
//! In: how many flows to make room for. Out: the programs ([`Attacher`]) and the maps ([`Drain`]).

use aya::maps::MapError;
use aya::programs::{ProgramError, SchedClassifier};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader};
use caps::{CapSet, Capability, CapsHashSet};
use netpath_ebpf::map;

use super::attach::Attacher;
use super::drain::Drain;
use crate::descriptors::Exhausted;

/// Why netpath cannot count here. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built with `NETPATH_EBPF=none`.
    #[error(
        "this netpath was built without its eBPF object, so it cannot measure; build it with 'cargo xtask setup && cargo build --release -p netpath'"
    )]
    NoObject,
    /// Older than what is tested.
    #[error("this kernel is Linux {0}, and netpath needs 5.10 or newer; run it on a node with a newer kernel")]
    KernelTooOld(KernelVersion),
    /// Before Linux 5.11, maps and programs count as locked memory.
    #[error(
        "eBPF maps need more memory than this process may lock; allow it ('ulimit -l unlimited' before netpath), or run netpath as root with CAP_SYS_RESOURCE"
    )]
    MemoryLimit,
    /// The kernel has no memory for the maps.
    #[error(
        "the kernel has no memory for netpath's eBPF maps; raise the memory limit of the pod (cgroup), or give netpath report a smaller --max-flows"
    )]
    NoMemory,
    /// Maps, programs and sockets are open files.
    #[error(transparent)]
    Descriptors(#[from] Exhausted),
    /// The process may not load or attach programs.
    #[error(
        "missing {0}; run netpath as root (sudo), or in a privileged pod ('kubectl debug node/NODE --profile=sysadmin')"
    )]
    Capabilities(String),
    /// The kernel refused the object.
    #[error("the kernel refused netpath's eBPF object: {}; please report this with the output of 'uname -r'", innermost(.0))]
    Object(EbpfError),
    /// The kernel refused a program.
    #[error("the kernel refused the eBPF program {name}: {error}; please report this with the output of 'uname -r'")]
    Program {
        /// Name of the program.
        name: &'static str,
        /// What the kernel said.
        error: ProgramError,
    },
    /// A map is not as this binary expects it.
    #[error(
        "netpath's eBPF object does not fit this binary ({0}); rebuild with 'cargo clean -p netpath && cargo build'"
    )]
    Layout(String),
    /// The kernel's version is not known.
    #[error("cannot tell the version of this kernel: {0}; check that /proc is mounted and may be read")]
    KernelVersion(String),
    /// How many CPUs there are is not known.
    #[error("cannot tell how many CPUs there are: {POSSIBLE_CPUS}: {0}; check that /sys is mounted and may be read")]
    Cpus(std::io::Error),
    /// The maps that serve for waiting could not be made.
    #[error("cannot make an eBPF map: {0}; check what confines this process (seccomp)")]
    Map(std::io::Error),
    /// Filters cannot be attached by netlink.
    #[error("cannot prepare clsact filters: {0}; check that 'tc qdisc show' works")]
    Clsact(std::io::Error),
}

/// Where the number of CPUs is.
pub const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

impl From<EbpfError> for LoadError {
    fn from(error: EbpfError) -> Self {
        Self::Object(error)
    }
}

impl From<MapError> for LoadError {
    fn from(error: MapError) -> Self {
        match errno(&error) {
            Some(errno) => Self::Map(std::io::Error::from_raw_os_error(errno)),
            None => Self::Layout(error.to_string()),
        }
    }
}

/// The oldest kernel that netpath is tested on.
pub const OLDEST: KernelVersion = KernelVersion::new(5, 10, 0);
/// From here on a cgroup's limit counts for maps and programs, and not the user's (`RLIMIT_MEMLOCK`).
pub const WITHOUT_MEMLOCK: KernelVersion = KernelVersion::new(5, 11, 0);

/// Whether this binary has its eBPF programs.
#[must_use]
pub fn has_object() -> bool {
    !OBJECT.is_empty()
}

/// Loads the object with room for `max_flows` flows of each address family, and as many ICMP errors, and its programs.
pub fn load(max_flows: u32) -> Result<(Attacher, Drain), LoadError> {
    let kernel = KernelVersion::current().map_err(|error| LoadError::KernelVersion(error.to_string()))?;
    can_load(OBJECT, kernel, missing_capabilities())?;
    if kernel < WITHOUT_MEMLOCK {
        raise_memory_limit();
    }
    load_object(max_flows, kernel).map_err(|error| explained(error, kernel))
}

fn load_object(max_flows: u32, kernel: KernelVersion) -> Result<(Attacher, Drain), LoadError> {
    let mut loader = EbpfLoader::new();
    for epoch in 0..2 {
        for name in [map::V4[epoch], map::V6[epoch], map::ICMP_ERRORS[epoch]] {
            loader.map_max_entries(name, max_flows);
        }
    }
    let mut ebpf: Ebpf = loader.load(OBJECT)?;
    load_programs(&mut ebpf)?;
    let drain = Drain::new(&mut ebpf)?;
    Ok((Attacher::new(ebpf, kernel).map_err(LoadError::Clsact)?, drain))
}

/// Lets this process lock as much memory as it may. Without `CAP_SYS_RESOURCE` that is the hard limit.
fn raise_memory_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let mut limit = unlimited;
    // SAFETY: both calls take a pointer to a limit that lives through the call.
    unsafe {
        // Should none of it work, the kernel refuses a map, and `explained` says why.
        if libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) != 0
            && libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) == 0
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
        }
    }
}

/// Finds the limit behind a refusal. The capabilities are there by then, so on kernels that count locked memory nothing else
/// says `EPERM`.
fn explained(error: LoadError, kernel: KernelVersion) -> LoadError {
    let errno = match &error {
        LoadError::Object(error) => errno(error),
        LoadError::Program { error, .. } => errno(error),
        LoadError::Map(error) | LoadError::Clsact(error) => error.raw_os_error(),
        _ => None,
    };
    match errno {
        Some(libc::EPERM) if kernel < WITHOUT_MEMLOCK => LoadError::MemoryLimit,
        Some(libc::ENOMEM) => LoadError::NoMemory,
        Some(errno) => Exhausted::from_errno(errno).map_or(error, LoadError::Descriptors),
        None => error,
    }
}

/// The kernel's error, if there is one behind this one.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    // aya's variants for these are transparent: the chain leaves them out.
    chain.find_map(|error| {
        let of_a_program = || match error.downcast_ref()? {
            ProgramError::IOError(error) => Some(error),
            _ => None,
        };
        let of_a_map = || match error.downcast_ref()? {
            MapError::IoError(error) => Some(error),
            _ => None,
        };
        error.downcast_ref::<std::io::Error>().or_else(of_a_program).or_else(of_a_map)?.raw_os_error()
    })
}

/// What is behind all others.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).last().unwrap_or_default()
}

/// Loads the programs for devices with Ethernet headers, both at once: the verifier takes most of a start, and works on as
/// many CPUs as it is given programs. Those for other devices are loaded when there is one.
fn load_programs(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for name in map::PROGRAMS {
        ebpf.program(name).ok_or_else(|| LoadError::Layout(format!("no program {name}")))?;
    }
    std::thread::scope(|scope| {
        let named = |(name, program)| Some(([map::RX, map::TX].into_iter().find(|needed| *needed == name)?, program));
        let loading: Vec<_> = ebpf
            .programs_mut()
            .filter_map(named)
            .map(|(name, program)| {
                let load = move || {
                    let program: &mut SchedClassifier = program.try_into()?;
                    program.load()
                };
                (name, scope.spawn(load))
            })
            .collect();
        loading.into_iter().try_for_each(|(name, thread)| {
            let loaded = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            loaded.map_err(|error| LoadError::Program { name, error })
        })
    })
}

#[cfg(not(netpath_without_ebpf))]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETPATH_EBPF_OBJECT"));

#[cfg(netpath_without_ebpf)]
static OBJECT: &[u8] = &[];

/// What can be told before the kernel is asked: whether there is an object, the kernel is new enough, and the process may.
fn can_load(object: &[u8], kernel: KernelVersion, missing: Option<String>) -> Result<(), LoadError> {
    if object.is_empty() {
        return Err(LoadError::NoObject);
    }
    if kernel < OLDEST {
        return Err(LoadError::KernelTooOld(kernel));
    }
    missing.map_or(Ok(()), |missing| Err(LoadError::Capabilities(missing)))
}

/// Which capabilities this thread lacks, in words; `None` if none, or if it cannot be told: then the kernel refuses what they
/// are for.
#[must_use]
pub fn missing_capabilities() -> Option<String> {
    missing_of(&caps::read(None, CapSet::Effective).ok()?)
}

fn missing_of(effective: &CapsHashSet) -> Option<String> {
    let has = |capability: Capability| effective.contains(&capability);
    // CAP_SYS_ADMIN stands in for those that were once a part of it.
    let stood_in_for = |capability| capability != Capability::CAP_NET_ADMIN && has(Capability::CAP_SYS_ADMIN);
    let missing: Vec<String> = [Capability::CAP_NET_ADMIN, Capability::CAP_BPF, Capability::CAP_PERFMON]
        .into_iter()
        .filter(|capability| !has(*capability) && !stood_in_for(*capability))
        .map(|capability| capability.to_string())
        .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line, that says what is wrong and ends with what to do.
    fn assert_says(outcome: Result<(), LoadError>, what: &str, fix: &str) {
        let text = outcome.expect_err("must fail").to_string();
        assert!(text.contains(what) && text.contains(fix) && !text.contains('\n'), "{text}");
    }

    #[test]
    fn each_refusal_names_the_fix() {
        let new = OLDEST;
        assert!(can_load(&[0], new, None).is_ok());
        assert_says(can_load(&[], new, None), "without its eBPF object", "cargo xtask setup");
        assert_says(can_load(&[0], KernelVersion::new(5, 9, 99), None), "Linux 5.9.99", "needs 5.10 or newer");
        assert_says(can_load(&[0], new, missing_of(&[].into())), "missing CAP_NET_ADMIN", "sudo");
    }

    #[test]
    fn a_limit_is_found_behind_a_refusal() {
        let refused = |errno| LoadError::Map(std::io::Error::from_raw_os_error(errno));
        assert_says(Err(explained(refused(libc::EPERM), OLDEST)), "may lock", "ulimit -l");
        assert_says(Err(explained(refused(libc::EPERM), WITHOUT_MEMLOCK)), "cannot make an eBPF map", "seccomp");
        for kernel in [OLDEST, WITHOUT_MEMLOCK] {
            assert_says(Err(explained(refused(libc::ENOMEM), kernel)), "no memory", "--max-flows");
            assert_says(Err(explained(refused(libc::EMFILE), kernel)), "file descriptor", "ulimit -Hn");
            assert_says(Err(explained(refused(libc::ENFILE), kernel)), "open files", "fs.file-max");
        }
        let of_a_program = ProgramError::IOError(std::io::Error::from_raw_os_error(libc::EMFILE));
        let of_a_program = LoadError::Program { name: map::RX, error: of_a_program };
        assert_says(Err(explained(of_a_program, OLDEST)), "file descriptor", "ulimit -Hn");
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let absent = || std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_says(Err(explained(LoadError::Cpus(absent()), OLDEST)), POSSIBLE_CPUS, "/sys is mounted");
        assert_says(Err(LoadError::KernelVersion(absent().to_string())), "version of this kernel", "/proc is mounted");
    }

    #[test]
    fn capabilities() {
        use Capability::{CAP_BPF, CAP_CHOWN, CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON, CAP_SYS_ADMIN};
        assert_eq!(missing_of(&caps::all()), None);
        let as_in_a_container = missing_of(&[CAP_CHOWN, CAP_NET_RAW].into());
        assert_eq!(as_in_a_container.as_deref(), Some("CAP_NET_ADMIN and CAP_BPF and CAP_PERFMON"));
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON].into()), None);
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_BPF].into()).as_deref(), Some("CAP_PERFMON"));
        assert_eq!(missing_of(&[CAP_NET_ADMIN, CAP_SYS_ADMIN].into()), None, "which once was the other two as well");
    }
}
