//! Windows of this node, as they end.

use std::panic::resume_unwind;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

use super::super::measure::{Measured, Plan, Windows, measure};
use super::super::output::Reader;
use super::terminal::{Terminal, Update};
use crate::cli::TopArgs;
use crate::path;
use crate::top::State;

/// Measures, and shows each window, until the user ends it, a signal, or the time.
pub fn run(args: &TopArgs, state: State) -> anyhow::Result<()> {
    let stop = Arc::new(Notify::new());
    let what = Measured { attach: &args.attach, duration: args.duration, command: &[] };
    let windows = Windows { interval: Some(args.interval), count: None };
    let plan = Plan { windows, writes_file: true, takes_terminal: true, stop: Some(&stop), ..Plan::default() };
    let mut state = Some(state);
    let mut shown: Option<(mpsc::Sender<Update>, JoinHandle<anyhow::Result<()>>)> = None;
    let measured = measure(what, plan, |snapshot| {
        let report = Arc::new(path::report(&snapshot));
        // The thread of the terminal begins with the first window: before, this thread has capabilities that it would inherit.
        let (updates, _) = shown.get_or_insert_with(|| show(state.take(), &stop));
        Ok(if updates.send(Update::Window(report)).is_ok() { Reader::Reads } else { Reader::Gone })
    });
    // The thread ends with its updates, and leaves the terminal as it was; only then errors are written to it.
    let terminal = shown.map_or(Ok(()), |(updates, thread)| {
        drop(updates);
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    measured?;
    terminal
}

fn show(state: Option<State>, stop: &Arc<Notify>) -> (mpsc::Sender<Update>, JoinHandle<anyhow::Result<()>>) {
    let (sender, updates) = mpsc::channel();
    let stop = Arc::clone(stop);
    let thread = thread::spawn(move || {
        let ended = state.map_or(Ok(()), |state| Terminal::open()?.show(state, &updates, None));
        stop.notify_one();
        ended
    });
    (sender, thread)
}
