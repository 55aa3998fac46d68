//! The folders in which the kubelet keeps pods' logs: `<namespace>_<pod>_<uid>`.
//!
//! In: the names in the host's `/var/log/pods`. Out: namespace, name and uid of each pod. A pod's folder outlives it for a
//! while; so it has the pod's name, but does not prove that the pod is there.

use super::root::HostRoot;
use super::{PodName, PodReading, SourceError, SourceReading, is_uid};
use crate::model::NameSourceState;

const PATH: &str = "/var/log/pods";
/// More than a node has pods, dead ones included.
const LIMIT: usize = 20_000;

/// Lists the folders.
#[must_use]
pub fn read(root: &HostRoot) -> SourceReading {
    let entries = match root.folder(PATH) {
        Ok(entries) => entries,
        Err(error) => return SourceReading::from(error),
    };
    let (mut pods, mut left_out) = (Vec::new(), 0);
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(errno) => {
                let why = format!("{PATH} cannot be read to its end: {errno}");
                return SourceReading::of_pods(pods, Some(SourceError::new(NameSourceState::Incomplete, why)));
            }
        };
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") {
            continue;
        }
        if pods.len() + left_out == LIMIT {
            let why = format!("{PATH} has more than {LIMIT} folders; the others were not read");
            return SourceReading::of_pods(pods, Some(SourceError::new(NameSourceState::Incomplete, why)));
        }
        match pod(name) {
            Some(pod) => pods.push(pod),
            None => left_out += 1,
        }
    }
    SourceReading::pods(pods, left_out)
}

/// The pod of a folder `NAMESPACE_NAME_UID`: none of the three has an underscore.
#[must_use]
pub fn pod(folder: &[u8]) -> Option<PodReading> {
    let mut parts = std::str::from_utf8(folder).ok()?.split('_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let valid = parts.next().is_none() && is_uid(uid);
    let name = PodName::new(namespace, name).filter(|_| valid)?;
    Some(PodReading { name: Some(name), uid: Some(uid.to_owned()), ..PodReading::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        let of = |folder: &str| {
            pod(folder.as_bytes()).map(|pod| {
                let name = pod.name.expect("a name");
                (name.namespace, name.name, pod.uid.expect("a uid"))
            })
        };
        let owned = |a: &str, b: &str, c: &str| Some((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(
            of("kube-system_coredns-5d78c9869d-x2x7t_0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6"),
            owned("kube-system", "coredns-5d78c9869d-x2x7t", "0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6")
        );
        assert_eq!(
            of("kube-system_static-ip-10-0-0-5.ec2.internal_0123456789abcdef0123456789abcdef"),
            owned("kube-system", "static-ip-10-0-0-5.ec2.internal", "0123456789abcdef0123456789abcdef")
        );
        for not in [
            "",
            "lost+found",
            "default_web",
            "default_web_1",
            "default_web_0123456789abcdef0123456789abcdef_x",
            "_web_0123456789abcdef0123456789abcdef",
            "default_\u{1b}_0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(of(not), None, "{not}");
        }
        assert!(pod(b"default_\xff_0123456789abcdef0123456789abcdef").is_none());
    }
}
