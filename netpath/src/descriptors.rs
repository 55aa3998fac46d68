//! The limit on open files (`RLIMIT_NOFILE`): each eBPF link, map and socket is one.
//!
//! Shells and container runtimes set a soft limit of 1,024 for programs that use `select(2)`, which netpath does not; the hard
//! limit is mostly far higher.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What netpath has open beside the links: its programs, maps and sockets, and files that it reads for a moment.
const BESIDE_LINKS: u64 = 80;
/// Of these, what it opens once it is attached.
const SPARE: u64 = 32;
/// TCX links of a device: one for each direction.
const LINKS: u64 = 2;

/// Raises the soft limit to the hard one, and returns both as they were.
#[must_use]
pub fn raise_limit() -> Rlimit {
    let original = getrlimit(Resource::Nofile);
    // Refused by a seccomp filter at most: then the limit is what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: original.maximum, ..original });
    original
}

/// Sets the limit. Async-signal-safe.
pub fn set_limit(limit: Rlimit) -> io::Result<()> {
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// How many files this process may have open now; `None` if any number.
#[must_use]
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many it may have open once the limit is raised; `None` if any number.
#[must_use]
pub fn highest_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// How many files netpath needs to attach to so many devices by TCX.
#[must_use]
pub fn needed(devices: u64) -> u64 {
    BESIDE_LINKS + LINKS * devices
}

/// Whether there is room for the links of one more device, and for what is opened later.
#[must_use]
pub fn has_room_for_links() -> bool {
    let Some(limit) = limit() else { return true };
    // The kernel gives out the lowest number that is free.
    let lowest = fcntl_dupfd_cloexec(io::stderr(), 0).ok().and_then(|fd| u64::try_from(fd.as_raw_fd()).ok());
    lowest.is_some_and(|lowest| lowest + LINKS + SPARE <= limit)
}

/// No file can be opened any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// This process has as many as it may.
    #[error(
        "no file descriptor is left, of {}: netpath needs {BESIDE_LINKS}, and {LINKS} for each device that it measures; raise \
         the hard limit ('ulimit -Hn', LimitNOFILE of systemd)",
        limit().unwrap_or(u64::MAX)
    )]
    Process,
    /// All processes together have.
    #[error("this machine has as many open files as it may; raise the sysctl fs.file-max")]
    Machine,
}

impl Exhausted {
    /// What an error number says of it.
    #[must_use]
    pub fn from_errno(errno: i32) -> Option<Self> {
        match errno {
            libc::EMFILE => Some(Self::Process),
            libc::ENFILE => Some(Self::Machine),
            _ => None,
        }
    }
}
