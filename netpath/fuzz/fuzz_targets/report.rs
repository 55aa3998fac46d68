//! Any bytes as a report that was written before: reading and rendering must end, without panicking, and no control
//! character may reach a terminal.
#![no_main]

mod printed;
mod rendered;

use libfuzzer_sys::fuzz_target;
use netpath::report::Report;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        rendered::check(&report);
    }
});
