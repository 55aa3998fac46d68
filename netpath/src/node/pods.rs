//! Names of pods and services from records on the node itself, without the API server.
//!
//! In: the host's files and sockets (under a [`HostRoot`]) and its network namespaces. Out:
//! [`Names`](crate::snapshot::Names), from a [`PodWatcher`] that reads them when the window opens, when pods come, and when it
//! closes. `path::names` decides which name belongs to a device or flow.
//!
//! Every source may be missing, wrong, huge or stuck. Each is read on a thread of its own with a deadline and a limit of
//! size, and becomes a line in the report; none can fail it, and all together they delay it by seconds at most. Nothing is
//! written.

pub mod cri;
mod follow;
mod gather;
pub mod grpc;
pub mod ipam;
pub mod logs;
pub mod netns;
pub mod processes;
mod root;
pub mod services;
mod sources;

use std::net::IpAddr;

pub use follow::PodWatcher;
pub use gather::names;
pub use root::HostRoot;

use super::source;
use crate::model::NameSourceState;

/// What one source has at one moment.
pub type SourceReading = source::Reading<Records, NameSourceState>;

/// Why a source has nothing, or less than it should.
pub type SourceError = source::SourceError<NameSourceState>;

/// The records of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    pods: Vec<PodReading>,
    services: Vec<crate::snapshot::ServiceRecord>,
}

impl SourceReading {
    /// Pods alone.
    fn of_pods(pods: Vec<PodReading>, error: Option<SourceError>) -> Self {
        Self { facts: Records { pods, services: Vec::new() }, error }
    }

    /// `pods`, and how many of the source's entries could not be used.
    #[must_use]
    pub fn pods(pods: Vec<PodReading>, left_out: usize) -> Self {
        let error = (left_out > 0).then(|| {
            let why = format!("{left_out} of its entries are not as Kubernetes writes them, and were left out");
            SourceError::new(NameSourceState::Incomplete, why)
        });
        Self::of_pods(pods, error)
    }
}

/// What one source has on one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodReading {
    /// Namespace and name; `None` if the source knows only the uid.
    name: Option<PodName>,
    uid: Option<String>,
    /// The runtime's id of its sandbox: another one if it was replaced by a pod of the same name.
    sandbox: Option<String>,
    addresses: Vec<IpAddr>,
    /// Devices whose other end is in its network namespace.
    veths: Vec<u32>,
}

/// A pod's namespace and name as Kubernetes allows them: nothing else is taken for a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PodName {
    namespace: String,
    name: String,
}

impl PodName {
    /// `None` if one of them is no name that Kubernetes would give.
    fn new(namespace: &str, name: &str) -> Option<Self> {
        (is_label(namespace) && is_subdomain(name))
            .then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// RFC 1123 label: namespaces, services, ports.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// RFC 1123 subdomain: pods.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

/// Lower-case letters and digits, with dashes between them.
fn is_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && bytes.iter().all(|&byte| plain(byte) || byte == b'-')
}

/// A pod's uid: a UUID in lower case, or for static pods 32 hex digits.
fn is_uid(text: &str) -> bool {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match text.len() {
        32 => text.bytes().all(hex),
        36 => text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => hex(byte),
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_kubernetes_allows_is_a_name() {
        for (namespace, name) in [
            ("default", "web-0"),
            ("kube-system", "kube-proxy-x7z9q"),
            ("a", "a.b-c.d"),
            ("n0", "ip-10-0-0-5.ec2.internal"),
        ] {
            assert!(PodName::new(namespace, name).is_some(), "{namespace}/{name}");
        }
        let long = "a".repeat(254);
        for (namespace, name) in [
            ("", "web"),
            ("default", ""),
            ("Default", "web"),
            ("a.b", "web"),
            ("-a", "web"),
            ("default", "web_0"),
            ("default", "web-"),
            ("default", "web..0"),
            ("default", "a/b"),
            ("default", "\u{1b}[31mweb"),
            ("default", "wéb"),
            ("default", long.as_str()),
            (&long[..64], "web"),
        ] {
            assert!(PodName::new(namespace, name).is_none(), "{namespace}/{name}");
        }
    }

    #[test]
    fn uids() {
        assert!(is_uid("0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6") && is_uid("0123456789abcdef0123456789abcdef"));
        for not in ["", "0d0eb7a4_8b6c_4f0e_9a52_2c1d33a4b5c6", "0123456789ABCDEF0123456789ABCDEF", "0d0eb7a4"] {
            assert!(!is_uid(not), "{not}");
        }
    }
}
