//! ipamd's own metrics, and what the CNI metrics helper calls them.
//!
//! In: text in Prometheus's format (aws/amazon-vpc-cni-k8s, `utils/prometheusmetrics`; the helper's list is
//! `cmd/cni-metrics-helper/metrics/cni_metrics.go`). Out: [`IpamMetric`]s. Pure. Of the helper's list, only
//! `awscni_aws_api_latency_ms` is missing: it is a time, and no count.

use std::collections::BTreeMap;

use super::Failure;
use crate::model::{Ipam, IpamMetric};

/// ipamd's name, the helper's, and whether it is a counter, in the order in which they are shown.
const METRICS: [(&str, Option<&str>, bool); 20] = [
    ("awscni_eni_allocated", Some("eniAllocated"), false),
    ("awscni_eni_max", Some("eniMaxAvailable"), false),
    ("awscni_assigned_ip_addresses", Some("assignIPAddresses"), false),
    ("awscni_total_ip_addresses", Some("totalIPAddresses"), false),
    ("awscni_ip_max", Some("maxIPAddresses"), false),
    ("awscni_total_ipv4_prefixes", Some("totalIPv4Prefixes"), false),
    ("awscni_assigned_ip_per_cidr", Some("totalAssignedIPv4sPerCidr"), false),
    ("awscni_ipamd_action_inprogress", Some("ipamdActionInProgress"), false),
    ("awscni_no_available_ip_addresses", None, true),
    ("awscni_ipamd_error_count", Some("ipamdErr"), true),
    ("awscni_aws_api_error_count", Some("awsAPIErr"), true),
    ("awscni_ec2api_error_count", Some("ec2ApiErrCount"), true),
    ("awscni_ec2api_req_count", Some("ec2ApiReqCount"), true),
    ("awscni_aws_utils_error_count", Some("awsUtilErr"), true),
    ("awscni_pod_eni_error_count", Some("podENIErr"), true),
    ("awscni_force_removed_enis", Some("forceRemoveENI"), true),
    ("awscni_force_removed_ips", Some("forceRemoveIPs"), true),
    ("awscni_reconcile_count", Some("reconcileCount"), true),
    ("awscni_add_ip_req_count", Some("addReqCount"), true),
    ("awscni_del_ip_req_count", Some("delReqCount"), true),
];

/// Sums by ipamd's name.
pub type Values = BTreeMap<&'static str, u64>;

/// Reads the metrics of the list, each summed over its labels, as the helper does it.
pub fn parse(body: &[u8]) -> Result<Values, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| Failure::malformed("its metrics are no text"))?;
    let mut values = Values::new();
    for line in text.lines() {
        let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let Some((name, ..)) = METRICS.iter().find(|(known, ..)| *known == name) else { continue };
        let value = sample(rest).ok_or_else(|| Failure::malformed(format!("the value of {name} is no count")))?;
        let sum = values.entry(name).or_insert(0);
        *sum = u64::saturating_add(*sum, value);
    }
    if values.is_empty() {
        return Err(Failure::malformed("it has none of ipamd's metrics"));
    }
    Ok(values)
}

/// The value of a sample, behind its name: labels, if any, value, and perhaps a time.
fn sample(rest: &str) -> Option<u64> {
    /// Up to which a double has every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let rest = match rest.strip_prefix('{') {
        Some(labels) => &labels[end_of_labels(labels)?..],
        None => rest,
    };
    // Prometheus writes counts as JSON does; its NaN and +Inf, which JSON lacks, are no counts.
    let value: f64 = serde_json::from_str(rest.split_ascii_whitespace().next()?).ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was checked to be a whole number")]
    (value.fract() == 0.0 && (0.0..=EXACT).contains(&value)).then_some(value as u64)
}

/// Where the rest begins behind `name="value",…}`. In a value, a backslash takes the meaning from what follows it.
fn end_of_labels(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What there is to report: the last values, and what counters grew by since the first.
#[must_use]
pub fn ipam(first: &Values, last: &Values) -> Ipam {
    let metric = |&(name, helper_name, counter): &(&'static str, Option<&str>, bool)| {
        let value = *last.get(name)?;
        let since = first.get(name).filter(|_| counter).and_then(|first| value.checked_sub(*first));
        Some(IpamMetric {
            name: name.to_owned(),
            helper_name: helper_name.map(str::to_owned),
            value,
            counter,
            in_window: since,
        })
    };
    Ipam { metrics: METRICS.iter().filter_map(metric).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_labels() {
        let text = "\
# HELP awscni_eni_allocated The number of ENIs allocated
# TYPE awscni_eni_allocated gauge
awscni_eni_allocated 2
awscni_eni_allocated_more 9
awscni_ipamd_error_count{fn=\"a\"} 3
awscni_ipamd_error_count{fn=\"} 7 \\\" {\",error=\"x\"} 4 1700000000000
awscni_aws_api_latency_ms{api=\"x\",quantile=\"0.99\"} NaN
awscni_ip_max 1.4e1
go_goroutines 60
";
        let values = parse(text.as_bytes()).expect("readable");
        let expected = [("awscni_eni_allocated", 2), ("awscni_ip_max", 14), ("awscni_ipamd_error_count", 7)];
        assert_eq!(values, Values::from(expected));
    }

    #[test]
    fn what_is_no_count() {
        for value in ["", " ", " x", " -1", " NaN", " +Inf", " 0.5", " 1e300", "{", "{a=\"", "{a=\"}\" 1"] {
            let text = format!("awscni_eni_max{value}\n");
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "go_goroutines 60\n", "<html>\n"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"awscni_eni_max 1\n\xff").is_err());
    }

    #[test]
    fn only_counters_grow() {
        let first =
            Values::from([("awscni_eni_max", 3), ("awscni_ipamd_error_count", 5), ("awscni_add_ip_req_count", 9)]);
        let last =
            Values::from([("awscni_eni_max", 4), ("awscni_ipamd_error_count", 7), ("awscni_add_ip_req_count", 1)]);
        let metrics = ipam(&first, &last).metrics;
        let of = |name: &str| {
            metrics.iter().find(|metric| metric.name == name).map(|metric| (metric.value, metric.in_window))
        };
        assert_eq!(of("awscni_eni_max"), Some((4, None)));
        assert_eq!(of("awscni_ipamd_error_count"), Some((7, Some(2))));
        assert_eq!(of("awscni_add_ip_req_count"), Some((1, None)), "ipamd was started anew");
        assert_eq!(of("awscni_eni_allocated"), None);
    }
}
