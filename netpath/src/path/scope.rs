//! Names what is special about a flow's addresses, so that it can be shown for what it is.
//!
//! In: addresses. Out: a scope, by documented addresses alone (Amazon EC2 and EKS user guides; RFC 3927, RFC 4007, RFC 4291).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::topology::Topology;
use crate::report::Scope;

/// The scope of a flow from `from` to `to`: of a known service at either end first, then of the destination. `initiator`: it is
/// the initiator's direction of its conversation, else the responder's, whose scope is the same; `None` if that is not known.
#[must_use]
pub fn scope(from: IpAddr, to: IpAddr, initiator: Option<bool>, topology: &Topology) -> Option<Scope> {
    let link_local = || {
        // Pods of IPv6 clusters have addresses of 169.254.0.0/16 that go no further than the node's SNAT.
        let served = |address| is_link_local(address) && topology.pod(address).is_none();
        let on_link = [from, to].into_iter().any(|end| end.is_ipv6() && is_link_local(end));
        let at_responder = match initiator {
            Some(true) => is_link_local(to),
            Some(false) => is_link_local(from),
            None => served(from) || served(to),
        };
        (on_link || at_responder).then_some(Scope::LinkLocal)
    };
    service(to)
        .or_else(|| service(from))
        .or_else(|| to.is_multicast().then_some(Scope::Multicast))
        .or_else(|| topology.is_broadcast(to).then_some(Scope::Broadcast))
        .or_else(link_local)
}

fn service(address: IpAddr) -> Option<Scope> {
    // Few are worth a look.
    if !is_link_local(address) && !is_ec2_local(address) {
        return None;
    }
    let services = [
        (Ipv4Addr::new(169, 254, 169, 254), ec2(0x254), Scope::Imds),
        (Ipv4Addr::new(169, 254, 169, 253), ec2(0x253), Scope::AmazonDns),
        (Ipv4Addr::new(169, 254, 169, 123), ec2(0x123), Scope::AmazonNtp),
        (Ipv4Addr::new(169, 254, 170, 23), ec2(0x23), Scope::PodIdentity),
    ];
    services.into_iter().find(|(v4, v6, _)| address == *v4 || address == *v6).map(|(_, _, scope)| scope)
}

const fn ec2(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last)
}

/// `fd00:ec2::/32`, where EC2 has its link-local services for IPv6.
pub(super) fn is_ec2_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..2] == [0xfd00, 0xec2])
}

/// RFC 3927, RFC 4291.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
