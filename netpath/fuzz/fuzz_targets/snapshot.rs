//! Any snapshot: a report must come of it, without panicking, that can be rendered, and read again as it was written.
#![no_main]

mod printed;
mod rendered;

use libfuzzer_sys::fuzz_target;
use netpath::path;
use netpath::snapshot::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(bytes) {
        rendered::check(&path::report(&snapshot));
    }
});
