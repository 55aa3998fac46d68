//! Says where a flow went, by where its packets were seen.
//!
//! In: a flow's hops in order, what conntrack says of it, the node's devices and addresses. Out: a path class. It never
//! decides by addresses what the devices did not show, save for the one thing that no device can show: that this node's own
//! stack is an end. What evidence does not settle is `unresolved`.
//!
//! | seen                                        | and                                              | class |
//! |---------------------------------------------|--------------------------------------------------|-------|
//! | in and out by ENIs or tunnels only          | the source is not this node                      | transit |
//! | out by an ENI, or in by one and on to a pod |                                                  | eni |
//! | in by an ENI only                           | to this node, multicast or broadcast             | eni |
//! | in by an ENI only                           | to a local pod, and nothing hides its delivery   | undelivered |
//! | in by a veth, out by a veth                 |                                                  | local |
//! | in by a veth only                           | to this node, multicast or broadcast             | host |
//! | out by a veth only                          | from this node                                   | host |
//! | in by a veth only                           | nothing hides how it left                        | undelivered |
//! | anything else                               |                                                  | unresolved |
//!
//! Whom a lone hop is from or to is only known if NAT is: without conntrack, a packet from the node's address may be a
//! client's behind SNAT, and one that seems dropped may have left under another address.

use std::net::IpAddr;

use super::topology::{Role, Topology};
use crate::report::{Conntrack, Direction, PathClass};
use crate::snapshot::Observation;

/// What is known of a flow before it is judged.
pub struct Evidence<'a> {
    /// Its hops in order; at least one.
    pub hops: &'a [Observation],
    /// The source address before NAT.
    pub from: IpAddr,
    /// The destination address after NAT.
    pub to: IpAddr,
    /// Conntrack has an entry for it.
    pub has_entry: bool,
    /// Conntrack translates it in more than one way.
    pub ambiguous: bool,
    /// How complete conntrack's evidence is.
    pub conntrack: Conntrack,
    /// A hook may have seen the flow and not recorded it, for want of room.
    pub records_lost: bool,
}

impl Evidence<'_> {
    /// `from` and `to` are the true ends.
    fn ends_known(&self) -> bool {
        !self.ambiguous && (self.has_entry || self.conntrack == Conntrack::Ok)
    }

    /// A hop that was not seen did not happen.
    fn absence_proves(&self, topology: &Topology) -> bool {
        !self.ambiguous && self.conntrack == Conntrack::Ok && !self.records_lost && !topology.hides_traffic()
    }
}

/// Where the flow went.
#[must_use]
pub fn classify(flow: &Evidence, topology: &Topology) -> PathClass {
    let seen = |role, direction| topology.saw(flow.hops, role, direction);
    let out = seen(Role::Outside, Direction::Tx);
    let into = seen(Role::Outside, Direction::Rx);
    let from_pod = seen(Role::Pod, Direction::Rx);
    let to_pod = seen(Role::Pod, Direction::Tx);
    let entered_only = flow.hops.iter().all(|hop| hop.direction == Direction::Rx);
    let left_only = flow.hops.iter().all(|hop| hop.direction == Direction::Tx);
    let to_all = flow.to.is_multicast() || topology.is_broadcast(flow.to);

    if out {
        let passes = into && !from_pod && !to_pod && !topology.is_own(flow.from);
        return if passes { PathClass::Transit } else { PathClass::Eni };
    }
    if into {
        return if !entered_only || to_all || topology.is_own(flow.to) {
            PathClass::Eni
        } else if topology.pod(flow.to).is_some() && flow.absence_proves(topology) {
            PathClass::Undelivered
        } else {
            PathClass::Unresolved
        };
    }
    if from_pod && to_pod {
        return PathClass::Local;
    }
    if from_pod && entered_only {
        return if to_all || flow.ends_known() && topology.is_own(flow.to) {
            PathClass::Host
        } else if flow.absence_proves(topology) {
            PathClass::Undelivered
        } else {
            PathClass::Unresolved
        };
    }
    if to_pod && left_only && flow.ends_known() && topology.is_own(flow.from) {
        return PathClass::Host;
    }
    PathClass::Unresolved
}

/// Whether both ends are pods of this node although the flow crossed an ENI (a branch ENI, a load balancer).
#[must_use]
pub fn left_node_between_local_pods(flow: &Evidence, path: PathClass, topology: &Topology) -> bool {
    let seen = |role, direction| topology.saw(flow.hops, role, direction);
    let by_addresses = topology.pod(flow.from).is_some() && topology.pod(flow.to).is_some();
    let by_devices = seen(Role::Pod, Direction::Rx)
        && seen(Role::Outside, Direction::Tx)
        && seen(Role::Outside, Direction::Rx)
        && seen(Role::Pod, Direction::Tx);
    path == PathClass::Eni && !flow.to.is_multicast() && (by_addresses || by_devices)
}
