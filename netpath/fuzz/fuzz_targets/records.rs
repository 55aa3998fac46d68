//! Any bytes as the records that name pods and services: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::pods::{cri, ipam, logs, processes, services};

fuzz_target!(|bytes: &[u8]| {
    let _ = ipam::parse(bytes);
    let _ = logs::pod(bytes);
    for family in [2, 10] {
        let _ = services::rule(bytes, family);
        services::elements(bytes, family, &mut Vec::new());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = processes::pod_uid(text);
        let _ = cri::namespace(text);
    }
});
