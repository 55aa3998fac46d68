//! For programs that use labs: leave nothing behind when interrupted, or at a panic.

use std::panic;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cleanup::remove_all_and_stop_building;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on, SIGINT, SIGTERM and panics remove this process's labs before it ends. `program` is its name in messages.
///
/// # Errors
/// When signals cannot be handled.
pub fn clean_up_when_interrupted(program: &'static str) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            eprintln!("{program}: interrupted; cleaning up");
            remove_all_and_stop_building();
            exit(128 + signal);
        }
    });
    // A release build ends at a panic without dropping anything.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        remove_all_and_stop_building();
    }));
    Ok(())
}

/// Does not return if a signal came: then the thread that cleans up ends the process, and what failed meanwhile failed
/// because of that.
pub fn stop_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::park();
    }
}
