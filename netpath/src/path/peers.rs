//! Where the ends of flows are: pods here or elsewhere, this node, the VPC, the internet.
//!
//! In: an end's address, before SNAT and after DNAT. Out: a [`PeerKind`], by what is known of the node and its VPC, and by
//! documented ranges of addresses.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::scope::{is_ec2_local, is_link_local};
use super::topology::Topology;
use crate::report::PeerKind;

/// RFC 6598.
const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);

/// What is known of the VPC.
pub struct Peers {
    vpc: Vec<IpNet>,
}

impl Peers {
    /// With the VPC's CIDR blocks; others than networks are left out.
    #[must_use]
    pub fn new(vpc_cidr_blocks: &[String]) -> Self {
        Self { vpc: vpc_cidr_blocks.iter().filter_map(|block| block.parse().ok()).collect() }
    }

    /// Where the address is. `in_tunnel`: a tunnel's device shows its packets.
    #[must_use]
    pub fn kind(&self, address: IpAddr, in_tunnel: bool, topology: &Topology) -> PeerKind {
        if topology.is_multicast_or_broadcast(address) {
            PeerKind::Many
        } else if topology.pod(address).is_some() {
            PeerKind::PodHere
        } else if topology.is_own(address) {
            PeerKind::ThisNode
        } else if is_link_local(address) || is_ec2_local(address) {
            PeerKind::LinkLocal
        } else if in_tunnel && is_private(address) {
            PeerKind::PodElsewhere
        } else if self.vpc.iter().any(|block| block.contains(&address)) {
            PeerKind::Vpc
        } else if is_private(address) {
            PeerKind::Private
        } else {
            PeerKind::Internet
        }
    }
}

/// RFC 1918, RFC 6598, RFC 4193.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || SHARED.contains(&v4),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}
