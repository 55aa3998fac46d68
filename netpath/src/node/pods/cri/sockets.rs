//! Where container runtimes listen on this node.
//!
//! In: the host's files. Out: the sockets that are there, those that the kubelet names first, each once; and why others of
//! them cannot be asked.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};

use super::kubelet;
use crate::model::NameSourceState;
use crate::node::pods::SourceError;
use crate::node::pods::root::HostRoot;

/// Where runtimes listen by default: containerd, CRI-O, cri-dockerd, the kubelet's own dockershim (before
/// Kubernetes 1.24), k3s and RKE2, k3s with Docker, k0s, microk8s. Not here: the containerd that Docker runs for itself and
/// Bottlerocket's for its own containers, which run no pods.
const WELL_KNOWN: [&str; 8] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/dockershim.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k3s/cri-dockerd/cri-dockerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// A socket that is there.
#[derive(Debug)]
pub struct Socket {
    /// On the host.
    pub path: String,
    /// The socket, not opened.
    pub place: OwnedFd,
    /// The kubelet names it.
    pub named: bool,
}

/// The sockets of this node.
#[derive(Debug, Default)]
pub struct Sockets {
    /// To be asked.
    pub there: Vec<Socket>,
    /// Why others cannot be, and whether the kubelet names them.
    pub not_usable: Vec<(SourceError, bool)>,
}

/// Looks for them.
pub fn find(root: &HostRoot) -> Sockets {
    let mut found = Sockets::default();
    let mut seen = Vec::new();
    for path in kubelet::sockets(root) {
        found.look(root, path, true, &mut seen);
    }
    for path in WELL_KNOWN {
        found.look(root, path.to_owned(), false, &mut seen);
        // One is a link to the other on most nodes, but not where only some folders are mounted.
        if path.starts_with("/run/") {
            found.look(root, format!("/var{path}"), false, &mut seen);
        }
    }
    found
}

/// No socket is there.
pub fn none() -> SourceError {
    SourceError::new(NameSourceState::Absent, format!("no container runtime listens at {}", WELL_KNOWN.join(", ")))
}

impl Sockets {
    /// `seen`: device and inode of those that were found.
    fn look(&mut self, root: &HostRoot, path: String, named: bool, seen: &mut Vec<(u64, u64)>) {
        let place = match root.place(&path) {
            Ok(place) => place,
            Err(error) if error.state == NameSourceState::Absent && !named => return,
            Err(error) => return self.not_usable.push((error, named)),
        };
        let Ok(stat) = fstat(&place) else { return };
        let identity = (stat.st_dev, stat.st_ino);
        if seen.contains(&identity) {
            return;
        }
        seen.push(identity);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
            self.there.push(Socket { path, place, named });
        } else {
            let why = format!("{path} is not a socket");
            self.not_usable.push((SourceError::new(NameSourceState::Malformed, why), named));
        }
    }
}
