//! Where equal tuples mean the same packets.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::as_index;
use crate::path::topology::Topology;
use crate::snapshot::{Observation, Tuple};

/// Numbers for where equal tuples mean the same packets: tags that no device of the node takes off, and for packets that no
/// router forwards the link too.
#[derive(Default)]
pub(super) struct Domains(HashMap<(Option<u32>, [u16; 2]), u32>);

impl Domains {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&mut self, seen: &Observation, topology: &Topology) -> u32 {
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
pub(super) fn stays_on_link(tuple: &Tuple) -> bool {
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
