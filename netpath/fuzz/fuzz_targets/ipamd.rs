//! Any bytes as what ipamd answers, about ENIs or as metrics: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::enis::{ipamd, metrics};

fuzz_target!(|body: &[u8]| {
    let _ = ipamd::parse(body);
    if let Ok(values) = metrics::parse(body) {
        let _ = metrics::ipam(&values, &values);
        let _ = metrics::ipam(&values, &metrics::Values::new());
    }
});
