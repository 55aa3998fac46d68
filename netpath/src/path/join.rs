//! Joins what was seen at single hooks into flows: one direction of one conversation, with all its hops.
//!
//! In: observations, and conntrack's entries. Out: each observation as a hop of exactly one flow; hops are not in order
//! yet. It must not judge where a flow went, and it never guesses:
//!
//! - Tuples that conntrack says are forms of one connection's direction belong to one flow; others only if they are equal.
//! - Where several entries translate a tuple in different ways (a port was used again, a service's backend changed), those
//!   count whose other forms were seen in the window. Of several such, all their hops are one flow: whose bytes are whose
//!   at the shared hop is unknown, and none is counted twice. If none was seen, the tuple is `ambiguous`, and joins with
//!   equal tuples only.
//! - An ICMP error belongs to the connection that the packet it quotes belongs to. Errors about one direction of a
//!   connection are one flow, which travels the other way.
//! - VLANs keep flows apart, save for a VLAN device and the device below it: the tag that the one takes off, the other shows.
//! - Packets that no router forwards (link-local ones) are other packets on each link, so links keep them apart.
//!
//! Cost: one hash table over the distinct tuples, one look-up for each form of each connection, one sort. Of a tuple that many
//! connections share, each observation looks at all of these.

mod domains;
mod shared;
mod tuples;
mod vrfs;

use std::ops::Range;

use hashbrown::HashMap;

use self::domains::Domains;
use self::shared::Shared;
use self::tuples::{Ids, Tuples};
use super::nat::NatStages;
use super::topology::Topology;
use crate::model::Direction;
use crate::snapshot::{Connection, Observation, Tuple};

/// All observations, sorted into flows.
pub struct Joined {
    /// The flows, in no particular order.
    pub flows: Vec<JoinedFlow>,
    hops: Vec<Observation>,
    entries: Vec<Entry>,
}

/// One flow.
#[derive(Clone, Debug)]
pub struct JoinedFlow {
    /// Conntrack has more than one way to translate its tuple, and what was seen does not decide between them.
    pub ambiguous: bool,
    /// It consists of ICMP errors: its entries are those of the packets that they are about, which travel the other way.
    pub is_error: bool,
    /// Same for the two directions of a conversation and the errors about it, and only for these.
    pub conversation: Conversation,
    hops: Range<u32>,
    entries: Range<u32>,
}

/// What the two directions of a conversation have in common: a domain, and an entry or a pair of tuples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    domain: u32,
    of_entry: bool,
    /// The entry's index, or the lesser number of the tuple and the reversed one.
    id: u32,
}

/// One direction of a conntrack entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index into the snapshot's connections.
    pub connection: u32,
    /// The initiator's direction, else the responder's.
    pub initiator: bool,
}

impl Entry {
    /// The forms that NAT gives to its packets.
    #[must_use]
    pub fn nat_stages(self, connections: &[Connection]) -> NatStages {
        NatStages::new(&connections[self.connection as usize], self.initiator)
    }
}

impl Joined {
    /// The hops of a flow.
    #[must_use]
    pub fn hops(&self, flow: &JoinedFlow) -> &[Observation] {
        &self.hops[flow.hops.start as usize..flow.hops.end as usize]
    }

    /// The same, to put them in order.
    pub fn hops_mut(&mut self, flow: &JoinedFlow) -> &mut [Observation] {
        &mut self.hops[flow.hops.start as usize..flow.hops.end as usize]
    }

    /// The conntrack entries that it may belong to: none, one, or several that share a tuple.
    #[must_use]
    pub fn entries(&self, flow: &JoinedFlow) -> &[Entry] {
        &self.entries[flow.entries.start as usize..flow.entries.end as usize]
    }
}

/// Which entries a tuple belongs to, by what it is to them.
#[derive(Clone, Copy)]
enum Claim {
    None,
    One(Entry),
    /// Index of a list of candidates.
    Several(u32),
}

/// The claims to a tuple, as the form before, between and after NAT.
type Claims = [Claim; 3];

/// What makes two observations hops of one flow: `(domain, owner)`.
type Key = (u32, Owner);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    /// One direction of a connection, or of the connections that share a tuple with it.
    Entry {
        connection: u32,
        initiator: bool,
    },
    /// ICMP errors about packets of that direction.
    Error {
        connection: u32,
        initiator: bool,
    },
    Tuple {
        id: u32,
        ambiguous: bool,
    },
    /// ICMP errors with these addresses about a packet with this tuple.
    ErrorTuple {
        outer: u32,
        about: u32,
        ambiguous: bool,
    },
}

/// A number for each key: cheaper to compare than what it is made of.
fn number((domain, owner): Key) -> u128 {
    let (kind, outer, id, flag) = match owner {
        Owner::Entry { connection, initiator } => (0_u8, 0, connection, initiator),
        Owner::Error { connection, initiator } => (1, 0, connection, initiator),
        Owner::Tuple { id, ambiguous } => (2, 0, id, ambiguous),
        Owner::ErrorTuple { outer, about, ambiguous } => (3, outer, about, ambiguous),
    };
    let last = kind << 1 | u8::from(flag);
    u128::from(domain) << 72 | u128::from(outer) << 40 | u128::from(id) << 8 | u128::from(last)
}

/// Joins observations into flows. Observations of one hook, VLANs and tuple are added up.
///
/// # Panics
/// With more than 2³² observations or connections, which no memory holds.
#[must_use]
pub fn join(observations: &[Observation], connections: &[Connection], topology: &Topology) -> Joined {
    let tuples = Tuples::new(observations);
    let candidates = Candidates::new(&tuples, connections);
    let groups = observations.iter().zip(&tuples.ids).filter_map(|(seen, &ids)| {
        let (id, order) = stages(seen.direction, ids);
        let several = candidates.all(id, order).len() > 1;
        several.then(|| candidates.seen(id, order, &tuples).collect::<Vec<_>>())
    });
    let shared = Shared::new(groups, connections);

    let mut domains = Domains::default();
    let key = |(seen, &ids): (&Observation, &Ids)| {
        (domains.of(seen, topology), owner(seen.direction, ids, &candidates, &shared, &tuples))
    };
    let mut keys: Vec<Key> = observations.iter().zip(&tuples.ids).map(key).collect();
    vrfs::separate(&mut keys, observations, topology, domains.count() + 1);
    let mut by_owner: Vec<(u128, u32)> = keys.iter().zip(0..).map(|(key, index)| (number(*key), index)).collect();
    by_owner.sort_unstable();

    let mut joined = Joined { flows: Vec::new(), hops: Vec::with_capacity(observations.len()), entries: Vec::new() };
    for flow in by_owner.chunk_by(|(one, _), (other, _)| one == other) {
        let start = joined.hops.len();
        joined.hops.extend(flow.iter().map(|&(_, index)| observations[index as usize]));
        add_up_equal(&mut joined.hops, start);
        let (domain, owner) = keys[flow[0].1 as usize];
        let first_entry = joined.entries.len();
        let of_tuple = |tuple: &Tuple, id: u32| {
            let reversed = tuples.find(&tuple.reversed()).map_or(id, as_index);
            Conversation { domain, of_entry: false, id: id.min(reversed) }
        };
        let (ambiguous, is_error, conversation) = match owner {
            Owner::Entry { connection: id, initiator } | Owner::Error { connection: id, initiator } => {
                shared.extend(&mut joined.entries, id, initiator);
                let is_error = matches!(owner, Owner::Error { .. });
                (false, is_error, Conversation { domain, of_entry: true, id })
            }
            Owner::Tuple { id, ambiguous } => (ambiguous, false, of_tuple(&joined.hops[start].tuple, id)),
            Owner::ErrorTuple { about: id, ambiguous, .. } => {
                let quoted = joined.hops[start].about.unwrap_or(joined.hops[start].tuple);
                (ambiguous, true, of_tuple(&quoted, id))
            }
        };
        if ambiguous {
            let of_hop = |&(_, index): &(u128, u32)| {
                let (id, order) = stages(observations[index as usize].direction, tuples.ids[index as usize]);
                candidates.all(id, order)
            };
            let mut possible: Vec<Entry> = flow.iter().flat_map(of_hop).copied().collect();
            possible.sort_unstable_by_key(|entry| rank(*entry, connections));
            possible.dedup();
            joined.entries.append(&mut possible);
        }
        joined.flows.push(JoinedFlow {
            ambiguous,
            is_error,
            conversation,
            hops: as_index(start)..as_index(joined.hops.len()),
            entries: as_index(first_entry)..as_index(joined.entries.len()),
        });
    }
    joined
}

/// The order in which to ask what a tuple is to an entry. Rx is before NAT and tx after it; a packet that came back to the
/// node is the other way round.
const BEFORE_FIRST: [usize; 3] = [0, 1, 2];
const AFTER_FIRST: [usize; 3] = [2, 1, 0];

/// Which tuple decides over an observation, and in which order to ask about it. What an error quotes is as the packet it is
/// about left the node where the error enters, and as it entered where the error leaves.
fn stages(direction: Direction, Ids { outer, about }: Ids) -> (u32, [usize; 3]) {
    match (direction, about) {
        (Direction::Rx, None) => (outer, BEFORE_FIRST),
        (Direction::Tx, None) => (outer, AFTER_FIRST),
        (Direction::Rx, Some(about)) => (about, AFTER_FIRST),
        (Direction::Tx, Some(about)) => (about, BEFORE_FIRST),
    }
}

/// For each tuple the entries that it is a form of.
struct Candidates<'a> {
    connections: &'a [Connection],
    claims: Vec<Claims>,
    /// Lists of entries that translate a tuple in different ways, in order of rank.
    several: Vec<Vec<Entry>>,
}

impl<'a> Candidates<'a> {
    fn new(tuples: &Tuples, connections: &'a [Connection]) -> Self {
        let claims = vec![[Claim::None; 3]; tuples.distinct.len()];
        let mut candidates = Self { connections, claims, several: Vec::new() };
        let mut several = Vec::new();
        for index in 0..connections.len() {
            for initiator in [true, false] {
                let entry = Entry { connection: as_index(index), initiator };
                let forms = entry.nat_stages(connections);
                let before = tuples.find(&forms.before);
                let between = if forms.between == forms.before { before } else { tuples.find(&forms.between) };
                let after = if forms.after == forms.between { between } else { tuples.find(&forms.after) };
                for (stage, id) in [before, between, after].into_iter().enumerate() {
                    if let Some(id) = id {
                        candidates.add(id, stage, entry, &forms, &mut several);
                    }
                }
            }
        }
        candidates.several.extend(several.into_iter().map(|by_stages: HashMap<NatStages, Entry>| {
            let mut list: Vec<Entry> = by_stages.into_values().collect();
            list.sort_unstable_by_key(|entry| rank(*entry, connections));
            list
        }));
        candidates
    }

    /// Adds a claim. Entries that translate equally (of two zones, or of two moments) are one; the least stands for them, so
    /// that the order of the entries does not matter.
    fn add(
        &mut self,
        id: usize,
        stage: usize,
        entry: Entry,
        forms: &NatStages,
        several: &mut Vec<HashMap<NatStages, Entry>>,
    ) {
        let connections = self.connections;
        let least = |other: Entry| if rank(entry, connections) < rank(other, connections) { entry } else { other };
        let claim = &mut self.claims[id][stage];
        match *claim {
            Claim::None => *claim = Claim::One(entry),
            Claim::One(other) if other.nat_stages(connections) == *forms => *claim = Claim::One(least(other)),
            Claim::One(other) => {
                *claim = Claim::Several(as_index(several.len()));
                several.push(HashMap::from([(other.nat_stages(connections), other), (*forms, entry)]));
            }
            Claim::Several(list) => {
                several[list as usize].entry(*forms).and_modify(|same| *same = least(*same)).or_insert(entry);
            }
        }
    }

    /// All candidates of the first stage that has one.
    fn all(&self, id: u32, order: [usize; 3]) -> &[Entry] {
        let of_stage = |stage: usize| match &self.claims[id as usize][stage] {
            Claim::None => [].as_slice(),
            Claim::One(entry) => std::slice::from_ref(entry),
            Claim::Several(list) => &self.several[*list as usize],
        };
        order.into_iter().map(of_stage).find(|entries| !entries.is_empty()).unwrap_or_default()
    }

    /// Those of several candidates of which another form was seen; a single candidate in any case.
    fn seen(&self, id: u32, order: [usize; 3], tuples: &Tuples) -> impl Iterator<Item = Entry> {
        let all = self.all(id, order);
        let other_form_seen = move |entry: &Entry| {
            let forms = entry.nat_stages(self.connections);
            let seen = |form: &Tuple| tuples.find(form).is_some_and(|other| as_index(other) != id);
            all.len() == 1 || [&forms.before, &forms.between, &forms.after].into_iter().any(seen)
        };
        all.iter().copied().filter(other_form_seen)
    }
}

/// Which of two entries stands for both.
fn rank(entry: Entry, connections: &[Connection]) -> (Connection, bool) {
    (connections[entry.connection as usize], !entry.initiator)
}

fn owner(direction: Direction, ids: Ids, candidates: &Candidates, shared: &Shared, tuples: &Tuples) -> Owner {
    let (id, order) = stages(direction, ids);
    let decided = candidates.seen(id, order, tuples).next();
    let ambiguous = decided.is_none() && !candidates.all(id, order).is_empty();
    match (decided, ids.about) {
        (Some(Entry { connection, initiator }), None) => {
            Owner::Entry { connection: shared.root(connection), initiator }
        }
        (Some(Entry { connection, initiator }), Some(_)) => {
            Owner::Error { connection: shared.root(connection), initiator }
        }
        (None, None) => Owner::Tuple { id, ambiguous },
        (None, Some(about)) => Owner::ErrorTuple { outer: ids.outer, about, ambiguous },
    }
}

fn add_up_equal(hops: &mut Vec<Observation>, start: usize) {
    let hook = |hop: &Observation| (hop.ifindex, hop.direction, hop.vlans);
    let by_place = |one: &Observation, other: &Observation| {
        let by_hook = hook(one).cmp(&hook(other));
        by_hook.then_with(|| (one.tuple, one.about).cmp(&(other.tuple, other.about)))
    };
    hops[start..].sort_unstable_by(by_place);
    let mut last = start;
    for next in start + 1..hops.len() {
        let hop = hops[next];
        if by_place(&hops[last], &hop).is_eq() {
            hops[last].counts += hop.counts;
        } else {
            last += 1;
            hops[last] = hop;
        }
    }
    hops.truncate(last + 1);
}

fn as_index(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 observations and connections fit in memory")
}

#[cfg(test)]
mod tests;
