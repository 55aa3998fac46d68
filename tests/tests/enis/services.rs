//! IMDS and ipamd as they are documented: what they are asked in which form, and what they say.
//!
//! The forms are those of aws/amazon-vpc-cni-k8s (`pkg/ipamd/datastore`, `utils/prometheusmetrics`) and of the EC2 user guide.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::server::{Reply, Request};

const TOKEN: &str = "AQAEALd0c3Q=";

/// What an instance tells: by path under `/latest/meta-data/`.
#[derive(Clone, Default)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    pub fn instance(id: &str, primary: &str) -> Self {
        let mut all = BTreeMap::new();
        all.insert("instance-id".to_owned(), id.to_owned());
        all.insert("mac".to_owned(), primary.to_owned());
        Self(all)
    }

    /// An ENI, with what it tells beside its device number and id.
    pub fn eni(mut self, mac: &str, number: u32, id: &str, more: &[(&str, &str)]) -> Self {
        self.0.entry("network/interfaces/macs/".to_owned()).or_default().extend([mac, "/\n"]);
        let number = number.to_string();
        for (key, value) in [("device-number", number.as_str()), ("interface-id", id)].iter().chain(more) {
            self.0.insert(format!("network/interfaces/macs/{mac}/{key}"), (*value).to_owned());
        }
        self
    }

    /// The id of its availability zone.
    pub fn zone(mut self, id: &str) -> Self {
        self.0.insert("placement/availability-zone-id".to_owned(), id.to_owned());
        self
    }

    /// Version 2: a token by PUT with how long it shall be good; without it, nothing.
    pub fn answer(&self, request: &Request) -> Reply {
        if request.path == "/latest/api/token" {
            let seconds = request.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse().ok());
            return match (request.method.as_str(), seconds) {
                ("PUT", Some(1..=21_600)) => Reply::ok(TOKEN),
                _ => Reply::Whole(400, String::new()),
            };
        }
        if request.method != "GET" || request.header("x-aws-ec2-metadata-token") != Some(TOKEN) {
            return Reply::Whole(401, String::new());
        }
        let key = request.path.strip_prefix("/latest/meta-data/");
        match key.and_then(|key| self.0.get(key)) {
            Some(body) => Reply::ok(body.clone()),
            None => Reply::Whole(404, "<?xml version=\"1.0\"?><title>404 - Not Found</title>".to_owned()),
        }
    }
}

/// One ENI in ipamd's introspection, with a prefix of 16 addresses and two single ones; of each the first is some pod's.
pub fn managed(id: &str, number: u32, is_trunk: bool) -> Value {
    let address = |text: &str, pod: &str| {
        json!({"Address": text, "IPAMKey": {"networkName": pod, "containerID": pod, "ifName": pod}, "IPAMMetadata": {},
               "AssignedTime": "2026-03-24T13:42:29.892593033Z", "UnassignedTime": "0001-01-01T00:00:00Z"})
    };
    let single = |text: &str, pod: &str| {
        json!({"Cidr": {"IP": text, "Mask": "/////w=="}, "IPAddresses": {text: address(text, pod)},
               "IsPrefix": false, "AddressFamily": ""})
    };
    json!({
        "ID": id, "IsPrimary": number == 0, "IsTrunk": is_trunk, "IsEFA": false, "DeviceNumber": number,
        "AvailableIPv4Cidrs": {
            "10.0.0.21/32": single("10.0.0.21", "aws-cni"),
            "10.0.0.22/32": single("10.0.0.22", ""),
            "10.0.7.16/28": {"Cidr": {"IP": "10.0.7.16", "Mask": "////8A=="}, "IsPrefix": true, "AddressFamily": "4",
                             "IPAddresses": {"10.0.7.17": address("10.0.7.17", "aws-cni")}},
        },
        "IPv6Cidrs": {},
    })
}

/// The answer to `/v1/enis` as ipamd 1.20 gives it: by network card.
pub fn introspection(enis: &[Value]) -> String {
    let by_id: serde_json::Map<String, Value> =
        enis.iter().map(|eni| (eni["ID"].as_str().unwrap().to_owned(), eni.clone())).collect();
    json!({"0": {"TotalIPs": 18, "AssignedIPs": 2, "ENIs": by_id}}).to_string()
}

/// Some of ipamd's metrics.
pub fn metrics(errors: u64) -> String {
    format!(
        "# HELP awscni_eni_allocated The number of ENIs allocated\n# TYPE awscni_eni_allocated gauge\n\
         awscni_eni_allocated 2\nawscni_eni_max 4\nawscni_assigned_ip_addresses 2\nawscni_total_ip_addresses 18\n\
         awscni_ip_max 56\nawscni_total_ipv4_prefixes 1\nawscni_aws_api_error_count{{api=\"x\",error=\"}}\"}} 4\n\
         awscni_ipamd_error_count{{fn=\"a\"}} 5\nawscni_ipamd_error_count{{fn=\"b\"}} {errors}\ngo_goroutines 67\n"
    )
}
