//! Reads what diverts packets when a window opens, and again when it closes.
//!
//! In: the network namespace of the thread that calls [`Watch::start`]. Out: what there was at either time. It works on a thread
//! of its own, and keeps nobody waiting for longer than two readings may take.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::{LIMIT, read, union};
use crate::snapshot::Diversions;

/// A window that is open. Dropped without `finish`, its thread ends by itself.
#[derive(Debug)]
pub struct Watch {
    close: Sender<()>,
    outcome: Receiver<Diversions>,
}

impl Watch {
    /// Begins with the first reading, and does not wait for it.
    #[must_use]
    pub fn start() -> Self {
        let (close, closed) = mpsc::channel();
        let (sender, outcome) = mpsc::channel();
        // Without a thread there is no outcome, and `wait` says so.
        let _ = std::thread::Builder::new().name("diversions".into()).spawn(move || {
            let first = read();
            // If the window was given up, nobody waits for an outcome.
            if closed.recv().is_ok() {
                let _ = sender.send(union(first, read()));
            }
        });
        Self { close, outcome }
    }

    /// Begins with the last reading, and does not wait for it.
    #[must_use]
    pub fn finish(self) -> LastReading {
        let _ = self.close.send(());
        LastReading { outcome: self.outcome, end: Instant::now() + LIMIT * 2 + Duration::from_secs(1) }
    }
}

/// The last reading of a window, under way.
#[derive(Debug)]
pub struct LastReading {
    outcome: Receiver<Diversions>,
    end: Instant,
}

impl LastReading {
    /// Waits for what there was in the window.
    #[must_use]
    pub fn wait(self) -> Diversions {
        self.outcome.recv_timeout(self.end.saturating_duration_since(Instant::now())).unwrap_or_else(|_| Diversions {
            unread: vec![
                "IPsec policies, netfilter rules and IPVS services could not be read (no thread, or no answer of the \
                 kernel); check that `nft list ruleset` works"
                    .to_owned(),
            ],
            ..Diversions::default()
        })
    }
}
