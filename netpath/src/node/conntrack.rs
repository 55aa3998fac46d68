//! conntrack: what the node's NAT does to each connection, read over netlink (ctnetlink).
//!
//! In: the network namespace of the thread that calls [`Tracker::start`]. Out: every connection that existed between start
//! and finish, and how complete that is. Only reads: it must not change an entry, a setting or a rule.
//!
//! Subscribe first, then dump, so that a connection is in the dump, in an event, or in both. NEW is sent when the first
//! packet has left the node's chains, after NAT, and a confirmed connection's NAT never changes: so NEW has everything, and
//! UPDATE is not subscribed to. DESTROY is, for what has no NEW: when two first packets of one flow race (two DNS queries
//! at once from one socket), each is translated for itself; the kernel forwards both, hides the second entry from dumps and
//! announces only its end, at the first answer or after a second. So **two connections may have the same `original`**, and
//! such an entry of the last second that got no answer is not seen.
//!
//! What it does to the node: while there is a subscriber, the kernel builds a message for each new and ended connection. If
//! `nf_conntrack_netlink` is a module that is not loaded, the kernel loads it, and it stays; if conntrack itself is not
//! loaded, nothing is opened, so nothing is loaded.

use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use self::collect::Order;
use crate::model::Conntrack;
use crate::snapshot::Connection;

mod collect;
pub mod message;
pub mod statistics;
mod table;

/// Follows connections over one window or several.
///
/// A thread of its own does the reading. When this is dropped, it ends.
#[derive(Debug)]
pub struct Tracker {
    /// `None` once the worker is to end.
    orders: Option<mpsc::Sender<Order>>,
    worker: Option<JoinHandle<()>>,
}

/// Bounds on what a [`Tracker`] uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many connections are kept. The default just fills a hash table, and needs at most 160 MB, for a moment in
    /// [`Tracker::cut`]; 100,000 need 11 MB and 8 MB more at that moment.
    pub connections: usize,
    /// How many bytes of events may wait in the socket. The kernel doubles it, and an event takes 1280 bytes of that
    /// (measured): the default has room for 52,000. Nothing is reserved.
    pub receive_buffer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: (1 << 20) / 8 * 7, receive_buffer_bytes: 32 << 20 }
    }
}

/// The connections of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Every connection, once, in order.
    pub connections: Vec<Connection>,
    /// `Ok` if `connections` is complete.
    pub state: Conntrack,
    /// If the state is not `Ok`: why, what that means and what to do, as one line without unsafe characters.
    pub reason: Option<String>,
    /// How often the kernel dropped events because the receive buffer was full.
    pub overruns: u64,
    /// How many messages could not be understood.
    pub malformed: u64,
    /// How many dumps were taken; in a session of one window at least 2.
    pub dumps: u64,
}

/// Why connections cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConntrackError {
    /// Not in this kernel, not loaded, or not in this namespace.
    #[error(
        "conntrack is not available: this kernel has it neither built in nor loaded; NAT cannot be followed; if this node \
         does NAT, run `modprobe nf_conntrack_netlink`"
    )]
    Absent,
    /// The capability is missing.
    #[error(
        "conntrack is not available: reading it needs CAP_NET_ADMIN; NAT cannot be followed; run as root or add the capability"
    )]
    NotPermitted,
    /// Anything else.
    #[error(
        "conntrack is not available: could not {doing}: {source}; NAT cannot be followed; check that `conntrack -L` works"
    )]
    Io {
        /// What failed, as an infinitive.
        doing: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
}

impl ConntrackError {
    fn from_io(doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted,
            // No nfnetlink; nfnetlink without ctnetlink.
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP) => Self::Absent,
            _ => Self::Io { doing, source },
        }
    }
}

impl Outcome {
    /// An outcome without connections, with the reason.
    #[must_use]
    pub fn unavailable(error: &ConntrackError) -> Self {
        Self {
            connections: Vec::new(),
            state: Conntrack::Unavailable,
            reason: Some(error.to_string()),
            overruns: 0,
            malformed: 0,
            dumps: 0,
        }
    }
}

impl Tracker {
    /// Subscribes to new and ended connections, then dumps those that exist. Blocks for as long as the dump takes: about
    /// 2 µs a connection.
    pub fn start(limits: Limits) -> Result<Self, ConntrackError> {
        if absent(Path::new("/proc/sys/net")) {
            return Err(ConntrackError::Absent);
        }
        let events_are_off = events_are_off(Path::new("/proc/sys/net"));
        let collector = collect::Collector::start(limits, events_are_off)?;
        let (orders, receiver) = mpsc::channel();
        let worker = thread::Builder::new()
            .name("conntrack".into())
            .spawn(move || collector.run(&receiver))
            .map_err(|source| ConntrackError::Io { doing: "start a thread", source })?;
        Ok(Self { orders: Some(orders), worker: Some(worker) })
    }

    /// A window is about to end: connections that end from now on may have packets in the next one. Does not wait.
    pub fn near_boundary(&self) {
        // Without the worker, `cut` gives the reason.
        self.order(Order::NearBoundary);
    }

    /// Ends a window and begins the next: reads what still waits, and dumps if events were lost, if there are none, or if this
    /// was the last window. Blocks for that. Connections that ended before [`near_boundary`](Self::near_boundary) are
    /// forgotten.
    #[must_use]
    pub fn cut(&self, last: bool) -> Outcome {
        let (reply, outcome) = mpsc::channel();
        // If the worker is gone, so is the sender of the reply.
        self.order(Order::Cut { last, reply });
        outcome.recv().unwrap_or_else(|_| {
            let source = io::Error::other("its thread failed");
            Outcome::unavailable(&ConntrackError::Io { doing: "read it", source })
        })
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // If the worker is gone, so is the receiver.
            let _ = orders.send(order);
        }
    }
}

/// Ends the worker, and waits for that: it has capabilities that the process gives up.
impl Drop for Tracker {
    fn drop(&mut self) {
        self.orders = None;
        // If it panicked, the last `cut` returned that as an error.
        let _ = self.worker.take().map(JoinHandle::join);
    }
}

/// Whether conntrack is not loaded. `false` if that is unknown.
fn absent(sysctl_net: &Path) -> bool {
    sysctl_net.join("core").exists() && !sysctl_net.join("netfilter/nf_conntrack_max").exists()
}

/// Whether this namespace has events switched off, or the kernel was built without them.
fn events_are_off(sysctl_net: &Path) -> bool {
    match std::fs::read_to_string(sysctl_net.join("netfilter/nf_conntrack_events")) {
        Ok(value) => value.trim() == "0",
        Err(error) => error.kind() == io::ErrorKind::NotFound && sysctl_net.join("netfilter/nf_conntrack_max").exists(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_kernel_without_conntrack_is_left_alone() {
        let sysctl_net = tempfile::tempdir().unwrap();
        let path = sysctl_net.path();
        assert!(!absent(path), "/proc/sys is not mounted: unknown");
        fs::create_dir(path.join("core")).unwrap();
        assert!(absent(path));
        fs::create_dir(path.join("netfilter")).unwrap();
        assert!(absent(path), "other parts of netfilter");
        fs::write(path.join("netfilter/nf_conntrack_max"), "262144\n").unwrap();
        assert!(!absent(path));
    }

    #[test]
    fn events_are_off_by_setting_or_by_build() {
        let sysctl_net = tempfile::tempdir().unwrap();
        let path = sysctl_net.path();
        assert!(!events_are_off(path), "unknown");
        fs::create_dir(path.join("netfilter")).unwrap();
        fs::write(path.join("netfilter/nf_conntrack_max"), "262144\n").unwrap();
        assert!(events_are_off(path), "not in this build");
        for (value, off) in [("0\n", true), ("1\n", false), ("2\n", false)] {
            fs::write(path.join("netfilter/nf_conntrack_events"), value).unwrap();
            assert_eq!(events_are_off(path), off);
        }
    }

    #[test]
    fn reasons_are_one_line_that_says_what_to_do() {
        let reason = |errno| {
            let outcome = Outcome::unavailable(&ConntrackError::from_io("dump", io::Error::from_raw_os_error(errno)));
            assert_eq!((outcome.state, outcome.connections), (Conntrack::Unavailable, vec![]));
            let reason = outcome.reason.unwrap();
            assert!(reason.starts_with("conntrack is not available: "), "{reason}");
            assert!(reason.contains("; NAT cannot be followed; "), "{reason}");
            assert!(!reason.contains(char::is_control), "{reason}");
            reason
        };
        assert!(reason(libc::EPERM).ends_with("run as root or add the capability"));
        assert!(reason(libc::EINVAL).ends_with("run `modprobe nf_conntrack_netlink`"), "no ctnetlink");
        assert!(reason(libc::EPROTONOSUPPORT).ends_with("run `modprobe nf_conntrack_netlink`"), "no nfnetlink");
        assert!(reason(libc::ENOMEM).contains("could not dump: "));
    }
}
