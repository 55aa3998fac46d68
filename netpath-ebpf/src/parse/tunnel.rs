//! How long the headers are that a tunnel's super-packet repeats in every frame: the outer ones and the inner ones.
//!
//! In: a packet with a UDP header, and where that ends. Out: where the inner headers end. It must not tell anything else
//! of what is inside: a flow is known by its outer addresses.

use super::transport::protocol;
use super::{Header, Key, Network, Packet, Parsed, Start, VxlanHeader, ipv4, ipv6, network};
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

/// The hook is part of the key, which is not wanted here.
const NO_HOOK: Hook = Hook::new(0, Direction::Rx);

/// Bytes from the end of a packet's UDP header to the end of its inner transport header: the VXLAN header and all of the
/// inner ones. `None` if it carries no VXLAN, or no IP packet in it. The packet must be whole.
#[inline(always)]
pub fn inner_len<P: Packet + ?Sized>(packet: &P, start: Start) -> Option<u32> {
    let outer_len = match network(packet, start).ok()? {
        Network::V4(link) => vxlan_offset(&ipv4(packet, link, NO_HOOK).ok()?)?,
        Network::V6(link) => vxlan_offset(&ipv6(packet, link, NO_HOOK).ok()?)?,
    };
    let header: VxlanHeader = packet.read(outer_len)?;
    if header.flags & VXLAN_VNI == 0 {
        return None;
    }
    let inner = Behind { packet, start: outer_len + VxlanHeader::LEN };
    let len = match network(&inner, Start::Ethernet { vlan_tci: None }).ok()? {
        Network::V4(link) => ipv4(&inner, link, NO_HOOK).ok()?.headers_len_bytes,
        Network::V6(link) => ipv6(&inner, link, NO_HOOK).ok()?.headers_len_bytes,
    };
    Some(VxlanHeader::LEN + len)
}

/// Where the VXLAN header is, if there is likely to be one.
#[inline(always)]
fn vxlan_offset<K: Key>(outer: &Parsed<K>) -> Option<u32> {
    let (number, ports) = outer.key.transport();
    is_vxlan(number, ports).then_some(outer.headers_len_bytes)
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
