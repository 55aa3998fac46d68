//! Joins what was seen at single hooks into flows: one direction of one conversation, with all its hops.
//!
//! In: observations, and conntrack's entries. Out: each observation as a hop of exactly one flow; hops are not in order
//! yet. It must not judge where a flow went, and it never guesses:
//!
//! - Tuples that conntrack says are forms of one connection's direction belong to one flow; others only if they are equal.
//! - A tuple that entries translate in different ways is `ambiguous`: it joins with equal tuples only.
//! - VLANs keep flows apart, save for a VLAN device and the device below it: the tag that the one takes off, the other shows.
//! - Packets that no router forwards (link-local ones) are other packets on each link, so links keep them apart.
//!
//! Cost: one hash table over the distinct tuples, one look-up for each form of each connection, one sort.

use std::hash::BuildHasher as _;
use std::net::IpAddr;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::nat::Forms;
use super::topology::Topology;
use crate::report::Direction;
use crate::snapshot::{Connection, Observation, Tuple};

/// All observations, sorted into flows.
pub struct Joined {
    /// The flows, in no particular order.
    pub flows: Vec<JoinedFlow>,
    hops: Vec<Observation>,
}

/// One flow.
#[derive(Clone, Copy, Debug)]
pub struct JoinedFlow {
    /// The conntrack entry that says how it is translated, and which of its directions this is.
    pub entry: Option<Entry>,
    /// Conntrack has more than one way to translate one of its tuples.
    pub ambiguous: bool,
    /// Same for the two directions of a conversation, and only for these.
    pub conversation: Conversation,
    start: u32,
    end: u32,
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

impl Joined {
    /// The hops of a flow.
    #[must_use]
    pub fn hops(&self, flow: &JoinedFlow) -> &[Observation] {
        &self.hops[flow.start as usize..flow.end as usize]
    }

    /// The same, to put them in order.
    pub fn hops_mut(&mut self, flow: &JoinedFlow) -> &mut [Observation] {
        &mut self.hops[flow.start as usize..flow.end as usize]
    }
}

/// Which entry a tuple belongs to, by what it is to the entry.
#[derive(Clone, Copy)]
enum Claim {
    Nobody,
    One(Entry),
    Ambiguous,
}

/// The claims to a tuple, as the form before, between and after NAT.
type Claims = [Claim; 3];

/// What makes two observations hops of one flow: `(domain, owner)`.
type Key = (u32, Owner);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Entry { connection: u32, initiator: bool },
    Tuple { id: u32, ambiguous: bool },
}

/// Joins observations into flows. Observations of one hook, VLANs and tuple are added up.
///
/// # Panics
/// With more than 2³² observations or connections, which no memory holds.
#[must_use]
pub fn join(observations: &[Observation], connections: &[Connection], topology: &Topology) -> Joined {
    let tuples = Tuples::new(observations);
    let claims = claim(&tuples, connections);
    let mut domains = Domains::default();
    let mut keys: Vec<(Key, u32)> = observations
        .iter()
        .zip(&tuples.ids)
        .enumerate()
        .map(|(index, (seen, &id))| {
            let domain = domains.of(seen, topology);
            ((domain, owner(seen.direction, id, &claims[id as usize])), as_index(index))
        })
        .collect();
    keys.sort_unstable();

    let any_ambiguous = claims.iter().flatten().any(|claim| matches!(claim, Claim::Ambiguous));
    let mut joined = Joined { flows: Vec::new(), hops: Vec::with_capacity(observations.len()) };
    for flow in keys.chunk_by(|(one, _), (other, _)| one == other) {
        let start = joined.hops.len();
        joined.hops.extend(flow.iter().map(|&(_, index)| observations[index as usize]));
        add_up_equal(&mut joined.hops, start);
        let (domain, owner) = flow[0].0;
        let (entry, ambiguous, conversation) = match owner {
            Owner::Entry { connection: id, initiator } => {
                let forms = Forms::new(&connections[id as usize], initiator);
                let ambiguous = any_ambiguous && is_ambiguous(&forms, &tuples, &claims);
                (Some(Entry { connection: id, initiator }), ambiguous, Conversation { domain, of_entry: true, id })
            }
            Owner::Tuple { id, ambiguous } => {
                let reversed = tuples.find(&joined.hops[start].tuple.reversed()).map_or(id, as_index);
                (None, ambiguous, Conversation { domain, of_entry: false, id: id.min(reversed) })
            }
        };
        joined.flows.push(JoinedFlow {
            entry,
            ambiguous,
            conversation,
            start: as_index(start),
            end: as_index(joined.hops.len()),
        });
    }
    joined
}

/// The distinct tuples of the observations.
struct Tuples<'a> {
    observations: &'a [Observation],
    hasher: DefaultHashBuilder,
    /// For each distinct tuple its number, and an observation that has it.
    table: HashTable<(u32, u32)>,
    /// The number of each observation's tuple.
    ids: Vec<u32>,
}

impl<'a> Tuples<'a> {
    fn new(observations: &'a [Observation]) -> Self {
        let hasher = DefaultHashBuilder::default();
        let mut table: HashTable<(u32, u32)> = HashTable::new();
        let mut ids = Vec::with_capacity(observations.len());
        for (index, seen) in observations.iter().enumerate() {
            let next = as_index(table.len());
            let entry = table.entry(
                hasher.hash_one(seen.tuple),
                |&(_, other)| observations[other as usize].tuple == seen.tuple,
                |&(_, other)| hasher.hash_one(observations[other as usize].tuple),
            );
            ids.push(entry.or_insert((next, as_index(index))).get().0);
        }
        Self { observations, hasher, table, ids }
    }

    fn find(&self, tuple: &Tuple) -> Option<usize> {
        let same = |&(_, index): &(u32, u32)| self.observations[index as usize].tuple == *tuple;
        self.table.find(self.hasher.hash_one(tuple), same).map(|&(id, _)| id as usize)
    }
}

/// Finds for each tuple the entries that it is a form of.
fn claim(tuples: &Tuples, connections: &[Connection]) -> Vec<Claims> {
    let mut claims = vec![[Claim::Nobody; 3]; tuples.table.len()];
    for (index, connection) in connections.iter().enumerate() {
        for initiator in [true, false] {
            let entry = Entry { connection: as_index(index), initiator };
            let forms = Forms::new(connection, initiator);
            let before = tuples.find(&forms.before);
            let between = if forms.between == forms.before { before } else { tuples.find(&forms.between) };
            let after = if forms.after == forms.between { between } else { tuples.find(&forms.after) };
            for (stage, id) in [before, between, after].into_iter().enumerate() {
                if let Some(id) = id {
                    claims[id][stage] = merge(claims[id][stage], entry, &forms, connections);
                }
            }
        }
    }
    claims
}

/// Adds a claim. Entries that translate equally (of two zones, or of two moments) are one; the least stands for them, so
/// that the order of the entries does not matter.
fn merge(claim: Claim, entry: Entry, forms: &Forms, connections: &[Connection]) -> Claim {
    let rank = |entry: Entry| (connections[entry.connection as usize], !entry.initiator);
    match claim {
        Claim::Nobody => Claim::One(entry),
        Claim::One(other) if Forms::new(&connections[other.connection as usize], other.initiator) == *forms => {
            Claim::One(if rank(entry) < rank(other) { entry } else { other })
        }
        Claim::One(_) | Claim::Ambiguous => Claim::Ambiguous,
    }
}

/// Rx is before NAT and tx after it, so that is asked first; a packet that came back to the node is the other way round.
fn owner(direction: Direction, id: u32, claims: &Claims) -> Owner {
    let stages = match direction {
        Direction::Rx => [0, 1, 2],
        Direction::Tx => [2, 1, 0],
    };
    for stage in stages {
        match claims[stage] {
            Claim::Nobody => {}
            Claim::One(Entry { connection, initiator }) => return Owner::Entry { connection, initiator },
            Claim::Ambiguous => return Owner::Tuple { id, ambiguous: true },
        }
    }
    Owner::Tuple { id, ambiguous: false }
}

/// Whether hops may be missing from a flow because what was seen of one of its forms could not be given to one entry.
fn is_ambiguous(forms: &Forms, tuples: &Tuples, claims: &[Claims]) -> bool {
    let unclear =
        |id: usize, direction| matches!(owner(direction, 0, &claims[id]), Owner::Tuple { ambiguous: true, .. });
    [&forms.before, &forms.between, &forms.after]
        .into_iter()
        .filter_map(|form| tuples.find(form))
        .any(|id| unclear(id, Direction::Rx) || unclear(id, Direction::Tx))
}

/// Numbers for where equal tuples mean the same packets: tags that no device of the node takes off, and for packets that no
/// router forwards the link too.
#[derive(Default)]
struct Domains(HashMap<(Option<u32>, [u16; 2]), u32>);

impl Domains {
    fn of(&mut self, seen: &Observation, topology: &Topology) -> u32 {
        let stays = stays_on_link(&seen.tuple);
        let segment = topology.segment(seen.ifindex, seen.vlans);
        if segment.vlans == [0, 0] && !stays {
            return 0;
        }
        let link = (stays || segment.bridged).then_some(segment.link);
        let next = as_index(self.0.len() + 1);
        *self.0.entry((link, segment.vlans)).or_insert(next)
    }
}

/// RFC 4291 (link-local unicast; multicast of interface and link scope), RFC 5771 (224.0.0.0/24), RFC 919 (broadcast).
/// Not 169.254.0.0/16: a node does forward its pods' packets to the metadata service.
fn stays_on_link(tuple: &Tuple) -> bool {
    match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            dst.is_broadcast() || src.is_unspecified() || dst.octets()[..3] == [224, 0, 0]
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let narrow = dst.is_multicast() && matches!(dst.segments()[0] & 0xf, 1 | 2);
            src.is_unicast_link_local() || src.is_unspecified() || dst.is_unicast_link_local() || narrow
        }
        _ => false,
    }
}

fn add_up_equal(hops: &mut Vec<Observation>, start: usize) {
    let place = |hop: &Observation| (hop.ifindex, hop.direction, hop.vlans, hop.tuple);
    if hops.len() - start < 2 {
        return;
    }
    hops[start..].sort_unstable_by_key(place);
    let mut last = start;
    for next in start + 1..hops.len() {
        let hop = hops[next];
        if place(&hops[last]) == place(&hop) {
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
