//! Which devices Container Insights counts.
//!
//! In: a device's name. Out: whether cAdvisor reports it, so that the CloudWatch agent adds it up.

/// Whether the device is part of `node_network_total_bytes`.
///
/// cAdvisor skips a device if its lower-case name starts with one of four prefixes (google/cadvisor,
/// `container/libcontainer/handler.go`, `ignoredDevicePrefixes`).
#[must_use]
pub fn counted(name: &str) -> bool {
    let name = name.to_lowercase();
    !["lo", "veth", "docker", "nerdctl"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn by_prefix() {
        for name in ["eth0", "ens5", "eni0123456789a", "vlan.eth.1", "vlan0123456789", "cni0", "flannel.1"] {
            assert!(counted(name), "{name}");
        }
        for name in ["lo", "LO0", "veth12345678", "docker0", "nerdctl0", "local0", "vethA"] {
            assert!(!counted(name), "{name}");
        }
    }
}
