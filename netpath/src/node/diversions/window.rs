//! Reads what diverts packets when a session begins, and when a window closes.
//!
//! In: the network namespace of the thread that calls [`Watch::start`]. Out: what there was at either time. It works on a thread
//! of its own, and delays its caller by two readings at most.

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::{TIMEOUT, read};
use crate::node::pace::Pace;
use crate::node::source::Pending;
use crate::snapshot::Diversions;

/// Reads over one window or several. Dropped, its thread ends by itself.
#[derive(Debug)]
pub struct Watch {
    orders: Sender<Order>,
}

/// A window has ended.
#[derive(Debug)]
struct Order {
    /// It was the last one: read everything again before.
    last: bool,
    /// Where the window's diversions go.
    reply: Sender<Diversions>,
}

impl Watch {
    /// Begins with the first reading, and does not wait for it.
    #[must_use]
    pub fn start() -> Self {
        let (orders, receiver) = mpsc::channel();
        // Without a thread the replies of `cut` are dropped.
        let _ = std::thread::Builder::new().name("diversions".into()).spawn(move || watch(&receiver));
        Self { orders }
    }

    /// Ends a window and begins the next, with the reading that closes this one, and does not wait for it. Nothing is read
    /// again if the last reading is recent in proportion to what it cost; `last` forbids that.
    #[must_use]
    pub fn cut(&self, last: bool) -> Pending<Diversions> {
        let unread = "IPsec policies, netfilter rules and IPVS services could not be read (no thread, or no answer of the \
                      kernel); check that `nft list ruleset` works";
        let fallback = Diversions { unread: vec![unread.to_owned()], ..Diversions::default() };
        let (reply, pending) = Pending::new(TIMEOUT * 2 + Duration::from_secs(1), fallback);
        let _ = self.orders.send(Order { last, reply });
        pending
    }
}

fn watch(orders: &Receiver<Order>) {
    let mut pace = Pace::default();
    let mut first = pace.read(read);
    while let Ok(Order { last, reply }) = orders.recv() {
        let then = if last || pace.is_due(Instant::now()) { pace.read(read) } else { first.clone() };
        // If the session was given up, there is no receiver.
        let _ = reply.send(first.union(then.clone()));
        first = then;
    }
}
