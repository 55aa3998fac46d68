//! The connections of a window, and which of them the next window begins with.
//!
//! In: messages, in the order in which the kernel sent them, and the moments at which a window ends. Out: every connection of
//! the window, once. Plain bookkeeping, of bounded size.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::message::Message;
use crate::snapshot::Connection;

/// The connections of one window.
#[derive(Debug)]
pub struct ConnectionTable {
    connections: HashMap<Connection, ConnectionState>,
    limit: usize,
    /// A boundary is near: what ends now may have packets in the next window.
    at_boundary: bool,
    /// A connection of the window was left out.
    pub full: bool,
    /// Messages of the window that could not be understood.
    pub malformed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// Neither an event nor a dump has shown its end.
    Alive {
        /// An event or the dump has shown it since the dump began.
        confirmed: bool,
    },
    Ended {
        at_boundary: bool,
    },
}

impl ConnectionTable {
    /// Empty, with room for `limit` connections.
    pub fn new(limit: usize) -> Self {
        Self { connections: HashMap::new(), limit, at_boundary: false, full: false, malformed: 0 }
    }

    /// The most connections that are kept.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Applies a message of a dump or an event.
    pub fn apply(&mut self, message: Message) {
        let (connection, state) = match message {
            Message::Connection(connection) => (connection, ConnectionState::Alive { confirmed: true }),
            Message::Ended(connection) => (connection, ConnectionState::Ended { at_boundary: self.at_boundary }),
            Message::Malformed => {
                self.malformed += 1;
                return;
            }
            Message::Other => return,
        };
        let has_room = self.connections.len() < self.limit;
        match self.connections.entry(connection) {
            Entry::Occupied(mut entry) => *entry.get_mut() = state,
            Entry::Vacant(entry) if has_room => drop(entry.insert(state)),
            Entry::Vacant(_) => self.full = true,
        }
    }

    /// A dump begins.
    pub fn begin_dump(&mut self) {
        for state in self.connections.values_mut() {
            if let ConnectionState::Alive { confirmed } = state {
                *confirmed = false;
            }
        }
    }

    /// A dump has shown all connections there are: others have ended, though the event of it was lost.
    pub fn end_dump(&mut self) {
        let ended = ConnectionState::Ended { at_boundary: self.at_boundary };
        for state in
            self.connections.values_mut().filter(|state| **state == ConnectionState::Alive { confirmed: false })
        {
            *state = ended;
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
        self.connections.retain(|_, state| {
            let stays = *state != ConnectionState::Ended { at_boundary: false };
            if let ConnectionState::Ended { at_boundary } = state {
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

    fn ports(table: &ConnectionTable) -> Vec<u16> {
        table.connections().iter().map(|connection| connection.original.sport).collect()
    }

    fn begun(port: u16) -> Message {
        Message::Connection(connection(port))
    }

    fn ended(port: u16) -> Message {
        Message::Ended(connection(port))
    }

    #[test]
    fn those_that_ended_go_after_their_window() {
        let mut table = ConnectionTable::new(10);
        for message in [begun(1), begun(2), ended(2), begun(3), ended(3), begun(3), ended(4)] {
            table.apply(message);
        }
        assert_eq!(ports(&table), [1, 2, 3, 4], "all that were there at some time");
        table.near_boundary();
        table.apply(ended(1));
        assert_eq!(ports(&table), [1, 2, 3, 4]);
        table.roll();
        assert_eq!(ports(&table), [1, 3], "1 may have sent after the boundary, and ended after that");
        table.roll();
        assert_eq!(ports(&table), [3]);
    }

    #[test]
    fn a_dump_makes_good_for_lost_events() {
        let mut table = ConnectionTable::new(10);
        for port in [1, 2, 3] {
            table.apply(begun(port));
        }
        table.begin_dump();
        table.apply(begun(2));
        table.end_dump();
        // What waited while the dump was read, in its order.
        for message in [ended(1), begun(1), begun(4)] {
            table.apply(message);
        }
        table.roll();
        assert_eq!(ports(&table), [1, 2, 4], "the end of 3 was lost");
    }

    #[test]
    fn what_has_no_room_is_noticed_in_its_window_alone() {
        let mut table = ConnectionTable::new(2);
        for message in [begun(1), begun(2), begun(2), ended(1)] {
            table.apply(message);
        }
        assert!(!table.full);
        table.apply(begun(3));
        table.apply(Message::Malformed);
        assert_eq!((ports(&table), table.full, table.malformed), (vec![1, 2], true, 1));
        table.roll();
        assert_eq!((ports(&table), table.full, table.malformed), (vec![2], false, 0));
    }
}
