//! Which devices Container Insights adds up to `node_network_total_bytes`.
//!
//! In: a device's name. Out: yes or no. It must know nothing but cAdvisor's rule.

/// Beginnings of the names that cAdvisor skips.
const IGNORED_PREFIXES: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// Whether cAdvisor, and so Container Insights, counts the device of this name.
///
/// Source: google/cadvisor, `container/libcontainer/handler.go`, `isIgnoredDevice`: a device is skipped if its name in
/// lower case begins with one of `ignoredDevicePrefixes`. (`nerdctl` joined the list last; older agents count it.) The VPC
/// CNI names the host ends of pods' links `eni…`, so those are counted.
#[must_use]
pub fn counted(name: &str) -> bool {
    let name = name.to_lowercase();
    !IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn skips_what_cadvisor_skips() {
        for name in ["lo", "lo0", "LOCAL", "veth1a2b", "VETHabc", "docker0", "Docker_gwbridge", "nerdctl0", "longhorn"]
        {
            assert!(!counted(name), "{name}");
        }
    }

    #[test]
    fn counts_everything_else() {
        for name in ["eth0", "ens5", "eni1a2b3c4d5e6", "vlan.eth.1", "cni0", "l0", "xlo", "aveth", "dock", "", "dummy0"]
        {
            assert!(counted(name), "{name}");
        }
    }
}
