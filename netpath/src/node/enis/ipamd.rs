//! The introspection endpoint of the VPC CNI's ipamd: the ENIs that it manages, and the addresses of pods.
//!
//! In: the answer to `/v1/enis` (aws/amazon-vpc-cni-k8s, `pkg/ipamd/datastore`, `ENIInfos`). Out: [`Eni`]s. Pure. An entry
//! without a valid id is left out, and reported.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Failure, names};
use crate::model::PodAddresses;

/// An ENI that ipamd manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    /// EC2's id.
    pub id: String,
    /// Device index of the attachment.
    pub device_number: u32,
    /// Network card, where ipamd has it (1.20 and newer).
    pub network_card: Option<u32>,
    /// Whether it is the instance's first.
    pub is_primary: bool,
    /// Whether it carries branch ENIs.
    pub is_trunk: bool,
    /// Prefixes that were delegated to it, in order.
    pub prefixes: Vec<String>,
    /// How many of its addresses pods have.
    pub pod_addresses: PodAddresses,
}

#[derive(Deserialize)]
struct Infos {
    #[serde(rename = "ENIs")]
    enis: BTreeMap<String, Info>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "IsPrimary", default)]
    is_primary: bool,
    #[serde(rename = "IsTrunk", default)]
    is_trunk: bool,
    #[serde(rename = "DeviceNumber")]
    device_number: u32,
    #[serde(rename = "AvailableIPv4Cidrs", default)]
    ipv4: Option<BTreeMap<String, Cidr>>,
    #[serde(rename = "IPv6Cidrs", default)]
    ipv6: Option<BTreeMap<String, Cidr>>,
}

/// One address, or a prefix. Of a prefix only those addresses are listed that are or were some pod's.
#[derive(Deserialize)]
struct Cidr {
    #[serde(rename = "IPAddresses", default)]
    addresses: Option<BTreeMap<String, Address>>,
    #[serde(rename = "IsPrefix", default)]
    is_prefix: bool,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "IPAMKey", default)]
    key: Key,
}

/// The pod that has it; all empty if it is free.
#[derive(Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Key {
    network_name: String,
    #[serde(rename = "containerID")]
    container_id: String,
    if_name: String,
}

/// Parses the answer; the second result is what is wrong with the parts that are left out.
pub fn parse(body: &[u8]) -> Result<(Vec<Eni>, Result<(), Failure>), Failure> {
    // Since 1.20 there is one of what was the whole answer for each network card.
    let cards: BTreeMap<String, Infos> = match serde_json::from_slice(body) {
        Ok(infos) => BTreeMap::from([(String::new(), infos)]),
        Err(_) => serde_json::from_slice(body)
            .map_err(|_| Failure::malformed("its answer is not a list of ENIs as the VPC CNI gives it"))?,
    };
    let (mut enis, mut doubt) = (Vec::new(), Ok(()));
    for (card, infos) in cards {
        for info in infos.enis.into_values() {
            match eni(info, card.parse().ok()) {
                Some(eni) => enis.push(eni),
                None => doubt = Err(Failure::malformed("an ENI in its answer has an odd id or odd addresses")),
            }
        }
    }
    Ok((enis, doubt))
}

fn eni(info: Info, network_card: Option<u32>) -> Option<Eni> {
    let (mut prefixes, mut assigned, mut total) = (Vec::new(), 0, Some(0_u64));
    for (text, cidr) in [info.ipv4, info.ipv6].into_iter().flatten().flatten() {
        let (address, size) = names::prefix(&text)?;
        let known = cidr.addresses.unwrap_or_default();
        assigned += known.values().filter(|address| address.key != Key::default()).count() as u64;
        let size = u64::try_from(size).ok().filter(|_| address.is_ipv4() || !cidr.is_prefix);
        total = total.zip(size).and_then(|(total, size)| total.checked_add(size));
        if cidr.is_prefix {
            prefixes.push(text);
        }
    }
    // Everything else than "more are taken than there are".
    let free = match total {
        Some(total) => Some(total.checked_sub(assigned)?),
        None => None,
    };
    Some(Eni {
        id: names::eni_id(&info.id)?,
        device_number: info.device_number,
        network_card,
        is_primary: info.is_primary,
        is_trunk: info.is_trunk,
        prefixes,
        pod_addresses: PodAddresses { assigned, total, free },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(key: &str) -> String {
        format!(
            r#"{{"Address": "10.0.0.21", "IPAMKey": {{"networkName": "{key}", "containerID": "{key}", "ifName": ""}},
                 "IPAMMetadata": {{}}, "AssignedTime": "2026-03-24T13:42:29Z", "UnassignedTime": "0001-01-01T00:00:00Z"}}"#
        )
    }

    /// The answer about one ENI, in the form that it had before 1.20.
    fn answer(id: &str) -> String {
        let (taken, free) = (address("aws-cni"), address(""));
        format!(
            r#"{{"TotalIPs": 18, "AssignedIPs": 2, "ENIs": {{"{id}": {{
                "ID": "{id}", "IsPrimary": true, "IsTrunk": false, "IsEFA": false, "DeviceNumber": 0,
                "AvailableIPv4Cidrs": {{
                    "10.0.0.21/32": {{"Cidr": {{"IP": "10.0.0.21", "Mask": "/////w=="}},
                        "IPAddresses": {{"10.0.0.21": {taken}}}, "IsPrefix": false, "AddressFamily": ""}},
                    "10.0.0.22/32": {{"IPAddresses": {{"10.0.0.22": {free}}}, "IsPrefix": false, "AddressFamily": ""}},
                    "10.0.1.16/28": {{"IPAddresses": {{"10.0.1.17": {taken}}}, "IsPrefix": true, "AddressFamily": ""}}}},
                "IPv6Cidrs": null}}}}}}"#
        )
    }

    fn expected(network_card: Option<u32>) -> Eni {
        Eni {
            id: "eni-0123456789abcdef0".to_owned(),
            device_number: 0,
            network_card,
            is_primary: true,
            is_trunk: false,
            prefixes: vec!["10.0.1.16/28".to_owned()],
            pod_addresses: PodAddresses { assigned: 2, total: Some(18), free: Some(16) },
        }
    }

    #[test]
    fn of_old_and_new() {
        let old = answer("eni-0123456789abcdef0");
        assert_eq!(parse(old.as_bytes()).expect("readable"), (vec![expected(None)], Ok(())));
        let new = format!(r#"{{"0": {old}, "1": {{"TotalIPs": 0, "AssignedIPs": 0, "ENIs": {{}}}}}}"#);
        assert_eq!(parse(new.as_bytes()).expect("readable"), (vec![expected(Some(0))], Ok(())));
    }

    #[test]
    fn an_ipv6_prefix_has_no_total() {
        let body = format!(
            r#"{{"ENIs": {{"x": {{"ID": "eni-1a2b3c4d", "DeviceNumber": 1, "IPv6Cidrs": {{"2001:db8:0:1::/80":
                {{"IsPrefix": true, "IPAddresses": {{"2001:db8:0:1::2": {}}}}}}}}}}}}}"#,
            address("aws-cni")
        );
        let (enis, _) = parse(body.as_bytes()).expect("readable");
        assert_eq!(enis[0].pod_addresses, PodAddresses { assigned: 1, total: None, free: None });
        assert_eq!(enis[0].prefixes, ["2001:db8:0:1::/80"]);
    }

    #[test]
    fn what_is_odd_is_left_out() {
        for id in ["eni-\\u001b[2Jabcdef", "", "vpc-1a2b3c4d"] {
            let (enis, doubt) = parse(answer(id).as_bytes()).expect("readable");
            assert!(enis.is_empty() && doubt.is_err(), "{id}");
        }
        let more_than_there_are = answer("eni-1a2b3c4d").replace("/28", "/32").replace("10.0.0.22/32", "10.0.0.22/31");
        assert!(parse(more_than_there_are.as_bytes()).is_ok());
        let odd = answer("eni-1a2b3c4d").replace("10.0.1.16/28", "10.0.1.16/99");
        assert!(parse(odd.as_bytes()).expect("readable").1.is_err());
    }

    #[test]
    fn what_is_something_else() {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "null",
            "[]",
            "<html>",
            "{\"ENIs\": 1}",
            "{\"0\": {\"ENIs\": {\"x\": 1}}}",
            "{\"AvailableCommands\": [\"/v1/enis\"]}",
            &deep,
            "{\"ENIs\": {\"x\": {\"ID\": \"eni-1a2b3c4d\", \"DeviceNumber\": -1}}}",
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body:.50}");
        }
        assert!(parse(b"\xff\xfe").is_err());
        // An ipamd that has begun and knows nothing yet.
        assert_eq!(parse(b"{\"TotalIPs\":0,\"AssignedIPs\":0,\"ENIs\":{}}").expect("readable"), (Vec::new(), Ok(())));
        assert_eq!(parse(b"{}").expect("readable"), (Vec::new(), Ok(())));
    }
}
