//! Waits for what comes sooner or later. How long anything may take is for no test to say: two minutes are for what does not come.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until `is` holds; `what` finishes "waiting until …".
///
/// # Panics
/// When that takes two minutes.
#[track_caller]
pub fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    while !is() {
        assert!(Instant::now() < end, "waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
