//! The workload of a pod, by the pod's name alone.
//!
//! In: a pod's `namespace/name`. Out: the same without what controllers append (kubernetes/kubernetes: `pkg/controller`,
//! `ReplicaSet`, `StatefulSet`, `Job`; `k8s.io/apiserver/pkg/storage/names` for the random suffix). A name that does not look
//! like that is left as it is.

/// The letters and digits of random suffixes (`k8s.io/apimachinery/pkg/util/rand`).
const SUFFIX_CHARACTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Of a replica set's hash of its template, at most.
const HASH_LENGTH: std::ops::RangeInclusive<usize> = 6..=10;

/// `default/web` for the pod `default/web-5d4f8b7c9d-x2x9z`.
#[must_use]
pub fn workload(pod: &str) -> &str {
    let without = |name: &str, is_suffix: fn(&str) -> bool| -> Option<usize> {
        let (rest, suffix) = name.rsplit_once('-')?;
        // The namespace is no part of the name.
        (is_suffix(suffix) && !rest.is_empty() && !rest.ends_with('/')).then_some(rest.len())
    };
    let is_random = |text: &str| text.len() == SUFFIX_LENGTH && text.chars().all(|c| SUFFIX_CHARACTERS.contains(c));
    let is_hash = |text: &str| HASH_LENGTH.contains(&text.len()) && text.chars().all(|c| SUFFIX_CHARACTERS.contains(c));
    let is_ordinal =
        |text: &str| !text.is_empty() && text.len() < SUFFIX_LENGTH && text.chars().all(|c| c.is_ascii_digit());
    let Some(end) = without(pod, is_random) else {
        return without(pod, is_ordinal).map_or(pod, |end| &pod[..end]);
    };
    let name = &pod[..end];
    // A job's name may end with the minute at which a cron job made it.
    let is_minute = |text: &str| text.len() == 8 && text.chars().all(|c| c.is_ascii_digit());
    without(name, is_minute).or_else(|| without(name, is_hash)).map_or(name, |end| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::workload;

    #[test]
    fn names_of_controllers() {
        for (pod, name) in [
            ("default/web-5d4f8b7c9d-x2x9z", "default/web"),
            ("kube-system/aws-node-8xkqz", "kube-system/aws-node"),
            ("db/postgres-0", "db/postgres"),
            ("batch/report-28934560-7q8bz", "batch/report"),
            ("default/web", "default/web"),
            ("default/my-web", "default/my-web"),
            ("default/x2x9z", "default/x2x9z"),
            ("default/-x2x9z", "default/-x2x9z"),
            ("default/api-v2", "default/api-v2"),
            ("default/node-exporter", "default/node-exporter"),
        ] {
            assert_eq!(workload(pod), name, "{pod}");
        }
    }
}
