//! The forms that NAT gives to one direction of a connection.
//!
//! In: a conntrack entry. Out: the tuples to look for. It must not know devices or counts.

use crate::report::Nat;
use crate::snapshot::{Connection, Tuple};

/// What NAT makes of the addresses of connections, taken together; nothing of none.
#[must_use]
pub fn nat<'a>(connections: impl Iterator<Item = &'a Connection>) -> Nat {
    let changed = connections.map(|Connection { original, reply, .. }| {
        // An identifier is shown as both ports, and belongs to the client.
        let dport = if has_echo_id(original.proto) { reply.sport } else { original.dport };
        let snat = (original.src, original.sport) != (reply.dst, reply.dport);
        (snat, (original.dst, dport) != (reply.src, reply.sport))
    });
    match changed.fold((false, false), |one, other| (one.0 || other.0, one.1 || other.1)) {
        (false, false) => Nat::None,
        (true, false) => Nat::Snat,
        (false, true) => Nat::Dnat,
        (true, true) => Nat::Both,
    }
}

/// The tuples of one direction of a connection, in the order in which its packets take them.
///
/// The kernel changes the destination (or what stood for it) before routing, and the source after it. TC ingress runs
/// before the first of these and TC egress after the second, so a device sees `before` as rx and `after` as tx. Only
/// where a packet enters by two devices in turn, as from a bridge's port, is `between` seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NatStages {
    /// As it enters.
    pub before: Tuple,
    /// With its destination translated, and its source not yet.
    pub between: Tuple,
    /// As it leaves.
    pub after: Tuple,
}

impl NatStages {
    /// The initiator's direction, or the responder's.
    #[must_use]
    pub fn new(connection: &Connection, initiator: bool) -> Self {
        let Connection { original, reply, .. } = *connection;
        let mut between = Tuple {
            proto: original.proto,
            src: original.src,
            sport: original.sport,
            dst: reply.src,
            dport: reply.sport,
        };
        if has_echo_id(original.proto) {
            // There is one identifier, shown as both ports; it is translated as the initiator's end is.
            between.dport = original.dport;
        }
        if initiator {
            Self { before: original, between, after: reply.reversed() }
        } else {
            Self { before: reply, between: between.reversed(), after: original.reversed() }
        }
    }

    /// How far along `tuple` is: 0 before, 1 between, 2 after; without NAT all is 0.
    #[must_use]
    pub fn stage(&self, tuple: &Tuple) -> u8 {
        if *tuple == self.before {
            0
        } else if *tuple == self.between {
            1
        } else {
            2
        }
    }
}

/// ICMP and `ICMPv6`: conntrack follows their echo requests by identifier.
fn has_echo_id(proto: u8) -> bool {
    matches!(proto, 1 | 58)
}
