//! How long the headers are that a tunnel's super-packet repeats in every frame: the outer ones and the inner ones.
//!
//! In: a packet. Out: how many bytes of headers are behind its outer ones. It must not tell anything else of what is inside:
//! a flow is known by its outer addresses.
//!
//! A super-packet is cut where its innermost transport header ends, and everything before that is copied to each frame
//! (`net/core/skbuff.c`, `skb_segment`; `net/ipv4/udp_offload.c`, `skb_udp_tunnel_segment`; `net/ipv4/gre_offload.c`,
//! `gre_gso_segment`; `net/ipv4/af_inet.c`, `inet_gso_segment`). Only UDP GSO of a tunnel that a process makes itself looks the
//! same and is cut behind the outer headers; it is taken for the kernel's.
//!
//! | tunnel | told by | inside |
//! |---|---|---|
//! | VXLAN | UDP to port 4789 or 8472 | a frame |
//! | Geneve | UDP to port 6081 | a frame, IPv4 or IPv6 |
//! | GRE and NVGRE, of IPv4 and IPv6 | protocol 47, version 0 | a frame, IPv4 or IPv6 |
//! | IP in IP, SIT, IPv6 tunnels | protocol 4 or 41 | IPv4 or IPv6 |
//!
//! Not told: a tunnel in a tunnel, which is cut behind its second transport header; Geneve and VXLAN at other ports; FOU and
//! GUE, which have any port; MPLS; ESP.

use super::transport::protocol;
use super::{
    EtherType, GeneveHeader, GreHeader, Header, Key, Network, Packet, Parsed, Start, VxlanHeader, ipv4, ipv6, network,
    network_at,
};
use crate::{Direction, Hook, Ports};

/// UDP ports of VXLAN: IANA's, and the one that Linux takes if it is given none.
const VXLAN_PORTS_BE: [u16; 2] = [4789_u16.to_be(), 8472_u16.to_be()];
/// UDP port of Geneve (RFC 8926).
const GENEVE_PORT_BE: u16 = 6081_u16.to_be();
/// RFC 7348: the VNI is valid.
const VXLAN_VNI: u8 = 0x08;
/// RFC 8926: length of the options, in 4-byte words, behind two bits of version.
const GENEVE_OPTIONS: u8 = 0x3f;
/// RFC 2784, RFC 2890: each of these makes the header 4 bytes longer. Linux takes none with routing or another version.
const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_SEQUENCE: u16 = 0x1000;
const GRE_ROUTING_OR_VERSION: u16 = 0x4007;

/// Whether a TCP or UDP packet of this IANA protocol number and these ports is likely to carry packets.
#[inline(always)]
#[must_use]
pub fn is_udp_tunnel(number: u8, ports: Ports) -> bool {
    number == protocol::UDP && (is_vxlan(ports) || ports.dst_be == GENEVE_PORT_BE)
}

#[inline(always)]
fn is_vxlan(ports: Ports) -> bool {
    ports.dst_be == VXLAN_PORTS_BE[0] || ports.dst_be == VXLAN_PORTS_BE[1]
}

/// The hook is part of the key, which is not wanted here.
const NO_HOOK: Hook = Hook::new(0, Direction::Rx);

/// Bytes from the end of a packet's outer headers ([`Parsed::headers_len_bytes`]) to the end of its inner transport header:
/// the tunnel's header and all of the inner ones. `None` if it is no tunnel, or has no IP packet in it. The packet must be
/// whole.
#[inline(always)]
pub fn inner_len<P: Packet + ?Sized>(packet: &P, start: Start) -> Option<u32> {
    let (outer_len, number, ports) = match network(packet, start).ok()? {
        Network::V4(link) => outer(&ipv4(packet, link, NO_HOOK).ok()?),
        Network::V6(link) => outer(&ipv6(packet, link, NO_HOOK).ok()?),
    };
    let Tunnel { len, ethertype_be } = tunnel(packet, outer_len, number, ports)?;
    let start = match ethertype_be {
        EtherType::FRAME_BE => Start::Ethernet { vlan_tci: None },
        ethertype_be => Start::Ip { offset: 0, ethertype_be },
    };
    let end = match network_at(packet, start, outer_len + len).ok()? {
        Network::V4(link) => ipv4(packet, link, NO_HOOK).ok()?.headers_len_bytes,
        Network::V6(link) => ipv6(packet, link, NO_HOOK).ok()?.headers_len_bytes,
    };
    Some(end - outer_len)
}

/// Where the outer headers end, and what they say of what follows.
#[inline(always)]
fn outer<K: Key>(parsed: &Parsed<K>) -> (u32, u8, Ports) {
    let (number, ports) = parsed.key.transport();
    (parsed.headers_len_bytes, number, ports)
}

/// A tunnel's own header.
struct Tunnel {
    /// Its length in bytes.
    len: u32,
    /// What is behind it.
    ethertype_be: u16,
}

#[inline(always)]
fn tunnel<P: Packet + ?Sized>(packet: &P, offset: u32, number: u8, ports: Ports) -> Option<Tunnel> {
    match number {
        protocol::IPV4 => Some(Tunnel { len: 0, ethertype_be: EtherType::IPV4_BE }),
        protocol::IPV6 => Some(Tunnel { len: 0, ethertype_be: EtherType::IPV6_BE }),
        protocol::GRE => {
            let GreHeader { flags_be, ethertype_be } = packet.read(offset)?;
            let flags = u16::from_be(flags_be);
            let word = |flag| if flags & flag == 0 { 0 } else { 4 };
            let len = GreHeader::LEN + word(GRE_CHECKSUM) + word(GRE_KEY) + word(GRE_SEQUENCE);
            (flags & GRE_ROUTING_OR_VERSION == 0).then_some(Tunnel { len, ethertype_be })
        }
        protocol::UDP if is_vxlan(ports) => {
            let header: VxlanHeader = packet.read(offset)?;
            let valid = header.flags & VXLAN_VNI != 0;
            valid.then_some(Tunnel { len: VxlanHeader::LEN, ethertype_be: EtherType::FRAME_BE })
        }
        protocol::UDP if ports.dst_be == GENEVE_PORT_BE => {
            let GeneveHeader { version_options, ethertype_be, .. } = packet.read(offset)?;
            let len = GeneveHeader::LEN + u32::from(version_options & GENEVE_OPTIONS) * 4;
            (version_options & !GENEVE_OPTIONS == 0).then_some(Tunnel { len, ethertype_be })
        }
        _ => None,
    }
}
