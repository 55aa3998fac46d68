//! Which connections cannot be told apart, as they share a tuple.
//!
//! In: groups of candidates for one tuple, of which several were seen. Out: a root for each connection, and the connections of
//! each root.

use hashbrown::HashMap;

use super::Entry;
use crate::snapshot::Connection;

/// Connections that share a tuple, and of which both were seen: which of its packets are whose is unknown.
#[derive(Default)]
pub(super) struct Shared {
    /// Union-find by connection; one that is not in it is its own root.
    parent: HashMap<u32, u32>,
    /// The connections of each root that has several.
    members: HashMap<u32, Vec<u32>>,
}

impl Shared {
    pub(super) fn new(groups: impl Iterator<Item = Vec<Entry>>, connections: &[Connection]) -> Self {
        let mut shared = Self::default();
        for group in groups {
            let Some((first, others)) = group.split_first() else { continue };
            for entry in others {
                let (one, other) = (shared.shorten(first.connection), shared.shorten(entry.connection));
                // Both are in the map from now on.
                shared.parent.insert(one.max(other), one.min(other));
                shared.parent.entry(one.min(other)).or_insert(one.min(other));
            }
        }
        for connection in shared.parent.keys().copied() {
            shared.members.entry(shared.root(connection)).or_default().push(connection);
        }
        for list in shared.members.values_mut() {
            list.sort_unstable_by_key(|&connection| connections[connection as usize]);
        }
        shared
    }

    pub(super) fn root(&self, mut connection: u32) -> u32 {
        while let Some(&parent) = self.parent.get(&connection).filter(|&&parent| parent != connection) {
            connection = parent;
        }
        connection
    }

    /// The root, to which the connection is tied directly from now on.
    fn shorten(&mut self, connection: u32) -> u32 {
        let root = self.root(connection);
        if root != connection {
            self.parent.insert(connection, root);
        }
        root
    }

    /// Adds the entries that share tuples with one direction of a root, itself included.
    pub(super) fn extend(&self, entries: &mut Vec<Entry>, root: u32, initiator: bool) {
        let own = std::slice::from_ref(&root);
        let connections = self.members.get(&root).map_or(own, Vec::as_slice);
        entries.extend(connections.iter().map(|&connection| Entry { connection, initiator }));
    }
}
