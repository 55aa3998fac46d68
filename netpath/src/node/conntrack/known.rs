//! The connections of a window, and which of them the next window begins with.
//!
//! In: messages, in the order in which the kernel sent them, and the moments at which a window ends. Out: every connection of
//! the window, once. Plain bookkeeping, of bounded size.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::message::Message;
use crate::snapshot::Connection;

/// The connections of one window.
#[derive(Debug)]
pub struct Known {
    connections: HashMap<Connection, Life>,
    limit: usize,
    /// A boundary is near: what ends now may have packets in the next window.
    at_boundary: bool,
    /// One of the window was left out.
    pub full: bool,
    /// Messages of the window that could not be understood.
    pub malformed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Neither an event nor a dump has shown its end.
    Alive {
        /// An event or the dump has shown it since the dump began.
        confirmed: bool,
    },
    Ended {
        at_boundary: bool,
    },
}

impl Known {
    /// None yet, and room for `limit`.
    pub fn new(limit: usize) -> Self {
        Self { connections: HashMap::new(), limit, at_boundary: false, full: false, malformed: 0 }
    }

    /// For how many there is room.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Applies a message of a dump or an event.
    pub fn apply(&mut self, message: Message) {
        let (connection, life) = match message {
            Message::Connection(connection) => (connection, Life::Alive { confirmed: true }),
            Message::Ended(connection) => (connection, Life::Ended { at_boundary: self.at_boundary }),
            Message::Malformed => {
                self.malformed += 1;
                return;
            }
            Message::Other => return,
        };
        let has_room = self.connections.len() < self.limit;
        match self.connections.entry(connection) {
            Entry::Occupied(mut known) => *known.get_mut() = life,
            Entry::Vacant(place) if has_room => drop(place.insert(life)),
            Entry::Vacant(_) => self.full = true,
        }
    }

    /// A dump begins.
    pub fn begin_dump(&mut self) {
        for life in self.connections.values_mut() {
            if let Life::Alive { confirmed } = life {
                *confirmed = false;
            }
        }
    }

    /// A dump has shown all connections there are: others have ended, though the event of it was lost.
    pub fn end_dump(&mut self) {
        let ended = Life::Ended { at_boundary: self.at_boundary };
        for life in self.connections.values_mut().filter(|life| **life == Life::Alive { confirmed: false }) {
            *life = ended;
        }
    }

    /// The window is about to end. Connections that end from now on are the next window's, too.
    pub fn near_boundary(&mut self) {
        self.at_boundary = true;
    }

    /// Every connection of the window, in order.
    pub fn connections(&self) -> Vec<Connection> {
        let mut all: Vec<_> = self.connections.keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Begins the next window, with the connections that may have packets in it.
    pub fn roll(&mut self) {
        self.connections.retain(|_, life| {
            let stays = *life != Life::Ended { at_boundary: false };
            if let Life::Ended { at_boundary } = life {
                *at_boundary = false;
            }
            stays
        });
        self.connections.shrink_to(self.connections.len() * 4);
        (self.at_boundary, self.full, self.malformed) = (false, false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Tuple;

    fn connection(sport: u16) -> Connection {
        let original = Tuple { proto: 6, src: [10, 0, 0, 1].into(), sport, dst: [10, 0, 0, 2].into(), dport: 80 };
        Connection { zone: 0, original, reply: original.reversed() }
    }

    fn ports(known: &Known) -> Vec<u16> {
        known.connections().iter().map(|connection| connection.original.sport).collect()
    }

    fn begun(port: u16) -> Message {
        Message::Connection(connection(port))
    }

    fn ended(port: u16) -> Message {
        Message::Ended(connection(port))
    }

    #[test]
    fn those_that_ended_go_after_their_window() {
        let mut known = Known::new(10);
        for message in [begun(1), begun(2), ended(2), begun(3), ended(3), begun(3), ended(4)] {
            known.apply(message);
        }
        assert_eq!(ports(&known), [1, 2, 3, 4], "all that were there at some time");
        known.near_boundary();
        known.apply(ended(1));
        assert_eq!(ports(&known), [1, 2, 3, 4]);
        known.roll();
        assert_eq!(ports(&known), [1, 3], "1 may have sent after the boundary, and ended after that");
        known.roll();
        assert_eq!(ports(&known), [3]);
    }

    #[test]
    fn a_dump_makes_good_for_lost_events() {
        let mut known = Known::new(10);
        for port in [1, 2, 3] {
            known.apply(begun(port));
        }
        known.begin_dump();
        known.apply(begun(2));
        known.end_dump();
        // What waited while the dump was read, in its order.
        for message in [ended(1), begun(1), begun(4)] {
            known.apply(message);
        }
        known.roll();
        assert_eq!(ports(&known), [1, 2, 4], "the end of 3 was lost");
    }

    #[test]
    fn what_has_no_room_is_noticed_in_its_window_alone() {
        let mut known = Known::new(2);
        for message in [begun(1), begun(2), begun(2), ended(1)] {
            known.apply(message);
        }
        assert!(!known.full);
        known.apply(begun(3));
        known.apply(Message::Malformed);
        assert_eq!((ports(&known), known.full, known.malformed), (vec![1, 2], true, 1));
        known.roll();
        assert_eq!((ports(&known), known.full, known.malformed), (vec![2], false, 0));
    }
}
