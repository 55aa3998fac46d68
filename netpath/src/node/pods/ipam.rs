//! The VPC CNI's record of which pod has which address (amazon-vpc-cni-k8s, `pkg/ipamd/datastore/data_store.go`,
//! `CheckpointData`). It is written whole at every change, and renamed into place.
//!
//! In: the host's `/var/run/aws-node/ipam.json`. Out: namespace, name and address of each pod. Pods with a security group of
//! their own are not in it. Each entry is read on its own: one that is malformed does not affect the others.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::root::HostRoot;
use super::{PodName, PodReading, SourceError, SourceReading};
use crate::model::NameSourceState;

const PATH: &str = "/var/run/aws-node/ipam.json";
/// One entry has about 300 bytes, and a node has less than a thousand pods. But there may be more entries than pods, and more
/// in them.
const LIMIT_BYTES: u64 = 64 << 20;
const VERSION: &str = "vpc-cni-ipam/1";

#[derive(Deserialize)]
struct Checkpoint<'a> {
    version: String,
    #[serde(borrow)]
    allocations: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Allocation {
    #[serde(default, rename = "containerID")]
    sandbox: String,
    #[serde(default)]
    ipv4: String,
    #[serde(default)]
    ipv6: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default, rename = "k8sPodNamespace")]
    namespace: String,
    #[serde(default, rename = "k8sPodName")]
    name: String,
}

/// Reads the file.
pub fn read(root: &HostRoot) -> SourceReading {
    root.read(PATH, LIMIT_BYTES).and_then(|bytes| parse(&bytes)).unwrap_or_else(SourceReading::from)
}

/// Reads the contents of the file.
pub fn parse(bytes: &[u8]) -> Result<SourceReading, SourceError> {
    let malformed = |why: &str| SourceError::new(NameSourceState::Malformed, format!("{PATH} {why}"));
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(malformed("is empty"));
    }
    // Bytes that are not UTF-8 are in one entry's text, and no reason to lose the others.
    let text = String::from_utf8_lossy(bytes);
    let checkpoint: Checkpoint =
        serde_json::from_str(&text).map_err(|error| malformed(&format!("is not as the VPC CNI writes it: {error}")))?;
    if checkpoint.version != VERSION {
        return Err(malformed(&format!("is of version '{}', not {VERSION}", checkpoint.version)));
    }
    let entries = checkpoint.allocations.unwrap_or_default();
    let whole = entries.len();
    let pods: Vec<PodReading> = entries.into_iter().filter_map(pod).collect();
    let left_out = whole - pods.len();
    Ok(SourceReading::pods(pods, left_out))
}

fn pod(entry: &RawValue) -> Option<PodReading> {
    let Allocation { sandbox, ipv4, ipv6, metadata } = serde_json::from_str(entry.get()).ok()?;
    let name = PodName::new(&metadata.namespace, &metadata.name)?;
    let texts = [ipv4, ipv6];
    let addresses: Option<Vec<IpAddr>> =
        texts.iter().filter(|text| !text.is_empty()).map(|text| text.parse().ok()).collect();
    let addresses = addresses.filter(|addresses| !addresses.is_empty())?;
    Some(PodReading { name: Some(name), sandbox: Some(sandbox), addresses, ..PodReading::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ipamd writes it.
    const FILE: &str = r#"{"version":"vpc-cni-ipam/1","allocations":[
        {"networkName":"aws-cni","containerID":"3d1f","ifName":"eth0","ipv4":"10.0.0.21","allocationTimestamp":1700000000000000000,
         "metadata":{"k8sPodNamespace":"default","k8sPodName":"client"}},
        {"networkName":"aws-cni","containerID":"77aa","ifName":"eth0","ipv6":"2001:db8::22","allocationTimestamp":1700000000000000001,
         "metadata":{"k8sPodNamespace":"kube-system","k8sPodName":"coredns-5d78c9869d-x2x7t","interfacesCount":1}}]}"#;

    fn named(reading: &SourceReading) -> Vec<String> {
        let one = |pod: &PodReading| {
            let name = pod.name.as_ref().expect("a name");
            format!("{}/{} {:?}", name.namespace, name.name, pod.addresses)
        };
        reading.facts.pods.iter().map(one).collect()
    }

    #[test]
    fn as_the_cni_writes_it() {
        let reading = parse(FILE.as_bytes()).expect("well formed");
        assert_eq!(
            named(&reading),
            ["default/client [10.0.0.21]", "kube-system/coredns-5d78c9869d-x2x7t [2001:db8::22]"]
        );
        assert_eq!(reading.error, None);
        let none = parse(br#"{"version":"vpc-cni-ipam/1","allocations":null}"#).expect("a node without pods");
        assert!(none.facts.pods.is_empty() && none.error.is_none());
    }

    #[test]
    fn entries_that_are_no_pods_are_left_out() {
        for entry in [
            r#"{"ipv4":"10.0.0.22","metadata":{"k8sPodNamespace":"default","k8sPodName":"\u001b[31m"}}"#,
            r#"{"ipv4":"10.0.0.22","metadata":{"k8sPodNamespace":"a/b","k8sPodName":"c"}}"#,
            r#"{"ipv4":"10.0.0.22"}"#,
            r#"{"ipv4":"10.0.0.999","metadata":{"k8sPodNamespace":"default","k8sPodName":"c"}}"#,
            r#"{"metadata":{"k8sPodNamespace":"default","k8sPodName":"c"}}"#,
            r#"{"ipv4":7,"metadata":[]}"#,
            "null",
            r#"{"ipv4":"10.0.0.22","metadata":{"k8sPodNamespace":"default","k8sPodName":"\ud800"}}"#,
            r#"{"ipv4":"10.0.0.22","ipv4":7}"#,
            &"[".repeat(1_000).chars().chain("]".repeat(1_000).chars()).collect::<String>(),
        ] {
            let reading = parse(FILE.replace("\"allocations\":[", &format!("\"allocations\":[{entry},")).as_bytes());
            let reading = reading.expect(entry);
            assert_eq!(reading.facts.pods.len(), 2, "{entry}");
            assert_eq!(reading.error.expect(entry).state, NameSourceState::Incomplete, "{entry}");
        }
    }

    #[test]
    fn an_entry_may_have_anything_beside_its_facts() {
        let entry: [&[u8]; 3] = [
            br#"{"x":1e999,"y":"\ud800","z":""#,
            b"\xff",
            br#"","ipv4":"10.0.0.23","metadata":{"k8sPodNamespace":"default","k8sPodName":"c"}},"#,
        ];
        let (head, tail) = FILE.split_at(FILE.find('[').expect("a list") + 1);
        let reading = parse(&[head.as_bytes(), &entry.concat(), tail.as_bytes()].concat()).expect("well formed");
        assert_eq!((reading.facts.pods.len(), reading.error), (3, None));
    }

    /// More entries than 4 MiB hold, of which only some are pods'.
    #[test]
    fn large_files() {
        let entry = format!(
            r#"{{"ipv4":"10.9.9.9","metadata":{{"k8sPodNamespace":"default","k8sPodName":"","x":"{}"}}}},"#,
            " ".repeat(10_000)
        );
        let (head, tail) = FILE.split_at(FILE.find('[').expect("a list") + 1);
        let reading = parse(format!("{head}{}{tail}", entry.repeat(600)).as_bytes()).expect("well formed");
        assert_eq!(reading.facts.pods.len(), 2);
        assert!(reading.error.expect("an empty name").reason.starts_with("600 of its entries"));
    }

    #[test]
    fn other_files() {
        for (file, why) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("{", "is not as the VPC CNI writes it"),
            ("[]", "is not as the VPC CNI writes it"),
            (r#"{"version":"vpc-cni-ipam/2","allocations":[]}"#, "is of version 'vpc-cni-ipam/2'"),
            (&"[".repeat(100_000), "is not as the VPC CNI writes it"),
        ] {
            let error = parse(file.as_bytes()).expect_err(why);
            assert!(error.state == NameSourceState::Malformed && error.reason.contains(why), "{error:?}");
        }
        for end in 0..FILE.len() {
            assert!(parse(&FILE.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }
}
