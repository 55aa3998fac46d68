//! Windows of this node, as they end.

use std::cell::{Cell, OnceCell};
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
    let (state, shown) = (Cell::new(Some(state)), OnceCell::<Shown>::new());
    let measured = {
        let show = || shown.get_or_init(|| show(state.take(), &stop));
        // The thread of the terminal begins once this one has given up capabilities, which it would inherit.
        let opened = || {
            show();
        };
        let plan = Plan {
            windows,
            writes_file: true,
            opened: Some(&opened),
            takes_terminal: true,
            stop: Some(&stop),
            ..Plan::default()
        };
        measure(what, plan, |snapshot| {
            let report = Arc::new(path::report(&snapshot));
            Ok(if show().0.send(Update::Window(report)).is_ok() { Reader::Reads } else { Reader::Gone })
        })
    };
    // The thread ends with its updates, and leaves the terminal as it was; only then errors are written to it.
    let terminal = shown.into_inner().map_or(Ok(()), |(updates, thread)| {
        drop(updates);
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    measured?;
    terminal
}

type Shown = (mpsc::Sender<Update>, JoinHandle<anyhow::Result<()>>);

fn show(state: Option<State>, stop: &Arc<Notify>) -> Shown {
    let (sender, updates) = mpsc::channel();
    let stop = Arc::clone(stop);
    let thread = thread::spawn(move || {
        let ended = state.map_or(Ok(()), |state| Terminal::open()?.show(state, &updates, None).map(drop));
        stop.notify_one();
        ended
    });
    (sender, thread)
}
