//! Numbers for tuples, so that each is compared and hashed once.
//!
//! In: observations. Out: the distinct tuples, in the order in which they were first seen, and each observation's.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::as_index;
use crate::snapshot::{Observation, Tuple};

/// The numbers of an observation's tuples.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    pub(super) outer: u32,
    pub(super) about: Option<u32>,
}

/// The distinct tuples of the observations, those that ICMP errors quote included.
pub(super) struct Tuples {
    hasher: DefaultHashBuilder,
    /// Each distinct tuple, by its number.
    pub(super) distinct: Vec<Tuple>,
    table: HashTable<u32>,
    /// The numbers of each observation's tuples.
    pub(super) ids: Vec<Ids>,
}

impl Tuples {
    pub(super) fn new(observations: &[Observation]) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut tuples =
            Self { hasher, distinct: Vec::new(), table: HashTable::new(), ids: Vec::with_capacity(observations.len()) };
        for seen in observations {
            let ids = Ids { outer: tuples.number(seen.tuple), about: seen.about.map(|about| tuples.number(about)) };
            tuples.ids.push(ids);
        }
        tuples
    }

    fn number(&mut self, tuple: Tuple) -> u32 {
        let Self { hasher, distinct, table, .. } = self;
        let next = as_index(distinct.len());
        let entry = table.entry(
            hasher.hash_one(tuple),
            |&id| distinct[id as usize] == tuple,
            |&id| hasher.hash_one(distinct[id as usize]),
        );
        let id = *entry.or_insert(next).get();
        if id == next {
            distinct.push(tuple);
        }
        id
    }

    pub(super) fn find(&self, tuple: &Tuple) -> Option<usize> {
        let same = |&id: &u32| self.distinct[id as usize] == *tuple;
        self.table.find(self.hasher.hash_one(tuple), same).map(|&id| id as usize)
    }
}
