//! How long the headers are that a tunnel's super-packet repeats in every frame: the outer ones and the inner ones.
//!
//! In: a packet with a UDP header, and where that ends. Out: where the inner headers end. It must not tell anything else
//! of what is inside: a flow is known by its outer addresses.

use super::transport::protocol;
use super::{Header, Network, Packet, Start, VxlanHeader, ipv4, ipv6, network};
use crate::{Direction, Hook, Ports};

/// UDP ports of VXLAN: IANA's, and the one that Linux takes if it is given none.
const VXLAN_PORTS_BE: [u16; 2] = [4789_u16.to_be(), 8472_u16.to_be()];
/// RFC 7348: the VNI is valid.
const VXLAN_VNI: u8 = 0x08;

/// Whether a packet of this IANA protocol number and these ports is likely to be VXLAN.
#[inline(always)]
#[must_use]
pub fn is_vxlan(number: u8, ports: Ports) -> bool {
    number == protocol::UDP && (ports.dst_be == VXLAN_PORTS_BE[0] || ports.dst_be == VXLAN_PORTS_BE[1])
}

/// Bytes from the packet's start to the end of its inner transport header, if the VXLAN header at `offset` is one and an
/// IP packet follows. The packet must be whole.
#[inline(always)]
pub fn vxlan_headers_len<P: Packet + ?Sized>(packet: &P, offset: u32) -> Option<u32> {
    /// The hook is part of the key, which is not wanted here.
    const NO_HOOK: Hook = Hook::new(0, Direction::Rx);
    let header: VxlanHeader = packet.read(offset)?;
    if header.flags & VXLAN_VNI == 0 {
        return None;
    }
    let start = offset + VxlanHeader::LEN;
    let inner = Behind { packet, start };
    let len = match network(&inner, Start::Ethernet { vlan_tci: None }).ok()? {
        Network::V4(link) => ipv4(&inner, link, NO_HOOK).ok()?.headers_len_bytes,
        Network::V6(link) => ipv6(&inner, link, NO_HOOK).ok()?.headers_len_bytes,
    };
    Some(start + len)
}

/// A packet inside another.
struct Behind<'a, P: ?Sized> {
    packet: &'a P,
    /// Where it starts in the other.
    start: u32,
}

impl<P: Packet + ?Sized> Packet for Behind<'_, P> {
    const IS_WHOLE: bool = P::IS_WHOLE;

    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        self.packet.read(self.start + offset)
    }
}
