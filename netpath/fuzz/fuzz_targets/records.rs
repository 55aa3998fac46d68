//! Any bytes as the records that name pods and services: nothing may get through as a name that Kubernetes would not give.
//! And as the files of /proc and /sys that `netpath doctor` reads, IPVS services, and tables of legacy iptables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::doctor::facts;
use netpath::model::NameSource;
use netpath::node::diversions::{ipvs, legacy};
use netpath::node::pods::{SourceReading, cri, ipam, logs, names, processes, services};

fuzz_target!(|bytes: &[u8]| {
    let from_cri = frames(bytes).and_then(|(list, status)| cri::parse(list, status).ok());
    let names = names(vec![
        (NameSource::VpcCni, ipam::parse(bytes).unwrap_or_default()),
        (NameSource::Cri, from_cri.unwrap_or_default()),
        (NameSource::PodLogs, SourceReading::pods(logs::pod(bytes).into_iter().collect(), 0)),
    ]);
    assert!(names.pods.len() <= bytes.len());
    for pod in &names.pods {
        assert!(is_name(&pod.namespace, "-", 63) && is_name(&pod.name, "-.", 253), "{pod:?}");
        assert!(pod.uid.as_deref().is_none_or(is_uid), "{pod:?}");
    }

    for family in [2, 10] {
        let mut found: Vec<_> = services::rule(bytes, family).into_iter().collect();
        services::elements(bytes, family, &mut found);
        assert!(found.len() <= bytes.len());
        for service in found {
            assert!(service.address.is_ipv4() == (family == 2), "{service:?}");
            let (namespace, name) = service.name.split_once('/').expect("a namespace");
            let (name, port) = name.split_once(':').unwrap_or((name, "none"));
            assert!([namespace, name, port].iter().all(|part| is_name(part, "-", 63)), "{service:?}");
        }
    }
    for family in [legacy::Family::Ipv4, legacy::Family::Ipv6] {
        // What each is about has 112 bytes at least.
        assert!(legacy::rules(family, "mangle", bytes).len() <= bytes.len() / 112);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let servers = ipvs::parse(text).unwrap_or_default();
        assert!(servers.len() <= text.lines().count());
        assert!(processes::pod_uid(text).is_none_or(|uid| is_uid(&uid)));
        let _ = (cri::namespace(text), cri::kubelet::endpoint(text));
        let _ = (facts::available(text), facts::selected(text));
        assert!(facts::cpus(text) > 0);
    }
});

/// The answers of a container runtime: a list of sandboxes, and the status of one. Each has its length behind its first byte.
fn frames(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_be_bytes(*bytes.get(1..)?.first_chunk()?);
    bytes.split_at_checked(usize::try_from(length).ok()?.checked_add(5)?)
}

fn is_name(text: &str, marks: &str, most: usize) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=most).contains(&text.len())
        && text.chars().all(|c| plain(c) || marks.contains(c))
        && text.starts_with(plain)
        && text.ends_with(plain)
}

fn is_uid(text: &str) -> bool {
    [32, 36].contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}
