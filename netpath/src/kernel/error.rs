//! Why the eBPF object cannot be loaded here, in one line that ends with what to do.
//!
//! In: errors of the kernel and of aya. Out: [`LoadError`]. Pure.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::util::KernelVersion;

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
        "the kernel has no memory for netpath's eBPF maps; raise the memory limit of the pod (cgroup), or run netpath report with a smaller --max-flows"
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
        /// The kernel's error.
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
    /// The maps that waiting needs could not be made.
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

/// The first kernel that charges maps and programs to the cgroup, and not to `RLIMIT_MEMLOCK`.
pub const WITHOUT_MEMLOCK: KernelVersion = KernelVersion::new(5, 11, 0);

/// Finds the limit behind a refusal. The capabilities are there by then, so on kernels that count locked memory nothing else
/// gives `EPERM`.
pub(super) fn explained(error: LoadError, kernel: KernelVersion) -> LoadError {
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

/// The kernel's error among the causes of this one.
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

/// The last of its causes.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).last().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use netpath_ebpf::map;

    use super::*;
    use crate::kernel::load::OLDEST;

    /// One line: what is wrong, and at its end what to do.
    pub fn assert_says(outcome: Result<(), LoadError>, what: &str, fix: &str) {
        let text = outcome.expect_err("must fail").to_string();
        assert!(text.contains(what) && text.contains(fix) && !text.contains('\n'), "{text}");
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
}
