//! The packet parser: from the bytes of a frame to the key of its flow.
//!
//! In: a [`Packet`] (something that reads headers at offsets), what its bytes [`Start`] with, and the hook it was seen
//! at. Out: [`Parsed`], or why there is none ([`Reason`]). It must not panic, allocate, or loop without a bound, and it
//! compiles to code that the BPF verifier accepts.
//!
//! It has two halves, [`network`] and then [`ipv4`] or [`ipv6`], so that a program handles each family's key where it
//! was made: a BPF program has 512 bytes of stack, too few for copies that may be of either family.
//!
//! A packet is attributed as soon as everything that its key needs can be read. Length fields (IPv4 total length, IPv6
//! payload length, UDP length) are not consulted: super-packets of more than 64 KiB have zeros there.
//!
//! | what | rule |
//! |---|---|
//! | VLAN tags (802.1Q, 802.1ad) | at most two, the hardware-accelerated one included; a third: [`Reason::Unparsed`] |
//! | VLAN id 0 | a priority tag (IEEE 802.1Q): counts as a tag, but not as a VLAN |
//! | other EtherTypes, 802.3 lengths, MPLS, `PPPoE` | [`Reason::NonIp`] |
//! | IP version or IPv4 header length wrong | [`Reason::Unparsed`] |
//! | TCP, UDP, UDP-Lite, DCCP, SCTP | ports are the first four bytes |
//! | ICMP and `ICMPv6` echo request and reply | the identifier is in both ports; other types have zeros |
//! | ICMP and `ICMPv6` errors | [`Parsed::is_icmp_error`]; the flow of the packet that they quote: [`quoted_v4`], [`quoted_v6`] |
//! | ICMP in IPv6, `ICMPv6` in IPv4, GRE, ESP, IP in IP, all others | no ports: zeros |
//! | IPv6 extension headers | those that Linux skips (hop-by-hop, routing, fragment, AH, destination options), at most eight; more: [`Reason::Unparsed`] |
//! | IPv6 no next header (59) | the protocol is 59 |
//! | AH in IPv4 | protocol 51, no ports |
//! | first fragment (offset 0, more to come) | parsed like a whole packet, [`Fragment::First`] |
//! | later fragment (offset above 0) | ports, in IPv6 the protocol too, are those of the first: [`Fragment::Later`] |
//! | IPv4 fragments of a protocol without ports | as whole packets, since nothing is missing |
//! | atomic fragment (RFC 6946: IPv6 fragment header, offset 0, none to come) | a whole packet |
//! | a second IPv6 fragment header | [`Reason::Unparsed`]: RFC 8200 allows one |
//! | ports, ICMP header or an extension header cut off, also in a first fragment (RFC 1858, RFC 7112) | [`Reason::Unparsed`] |
//! | tunnels (VXLAN, Geneve, GRE, IP in IP) | the outer addresses and ports; the inner headers only for wire bytes: [`inner_len`] |
//! | TCP data offset cut off, or below the minimum | attributed; the header counts as 20 bytes |

mod extensions;
mod header;
mod icmp;
mod ip;
mod link;
mod plain;
mod transport;
mod tunnel;

pub use header::{
    EtherType, EthernetHeader, ExtensionHeader, FragmentHeader, GeneveHeader, GreHeader, Header, IcmpHeader,
    Ipv4Header, Ipv6Addresses, Ipv6Header, TcpDataOffset, VlanHeader, VxlanHeader,
};

pub use extensions::extensions;
pub use icmp::{quoted_v4, quoted_v6};
pub use ip::{ipv4, ipv6};
pub use link::{Link, link};
pub use plain::{PlainTag, plain_v4, plain_v6};
pub use transport::{Family, transport};
pub use tunnel::{inner_len, is_udp_tunnel};

use crate::{FragmentKey, FragmentValue, KeyV4, KeyV6, Ports, Reason};

/// Source of a packet's bytes.
///
/// The parser's steps with many ways through them ([`link`], [`extensions`], [`transport`]) are asked for here and answer with
/// one number, so that a BPF program can have each in a function that the verifier checks on its own.
pub trait Packet {
    /// Reads the header at `offset` (bytes from the packet's start); `None` if the packet ends before the header's end.
    fn read<T: Header>(&self, offset: u32) -> Option<T>;

    /// [`link`] of this packet.
    #[inline(always)]
    fn link(&self, start: Start, offset: u32) -> u64 {
        link(self, start.word(), offset)
    }

    /// [`extensions`] of this packet.
    #[inline(always)]
    fn extensions(&self, next_header: u8, offset: u32) -> u64 {
        extensions(self, next_header, offset)
    }

    /// [`transport`] of this packet.
    #[inline(always)]
    fn transport(&self, family: Family, number: u8, offset: u32) -> u64 {
        transport(self, family, number, offset)
    }
}

impl Packet for [u8] {
    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let start = usize::try_from(offset).ok()?;
        let bytes = self.get(start..start.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` has exactly the size of `T`, any alignment is fine, and a `Header` is valid for all bytes.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// What a packet's bytes start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// An Ethernet header.
    Ethernet {
        /// Tag control information of the outermost tag, host byte order, if that tag is not among the bytes but
        /// beside them (hardware acceleration: `skb->vlan_tci` where `skb->vlan_present`).
        vlan_tci: Option<u16>,
    },
    /// An IP header, or what is not the packet's own and then an IP header: the device has no link-layer header (tun,
    /// `WireGuard`).
    Ip {
        /// Bytes before the IP header.
        offset: u8,
        /// `EtherType` of what it is, network byte order (`skb->protocol`).
        ethertype_be: u16,
    },
}

impl Start {
    const BESIDE: u32 = 1 << 16;
    const IP: u32 = 1 << 17;
    const OFFSET_SHIFT: u32 = 24;

    /// Bytes before the packet's own first header.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            Self::Ethernet { .. } => 0,
            Self::Ip { offset, .. } => offset as u32,
        }
    }

    /// As one number, for [`link`].
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u32 {
        match self {
            Self::Ethernet { vlan_tci: None } => 0,
            Self::Ethernet { vlan_tci: Some(tci) } => Self::BESIDE | tci as u32,
            Self::Ip { offset, ethertype_be } => (offset as u32) << Self::OFFSET_SHIFT | Self::IP | ethertype_be as u32,
        }
    }

    /// Of [`Start::word`].
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "it takes the number apart")]
    pub const fn of_word(word: u32) -> Self {
        let low = word as u16;
        if word & Self::IP != 0 {
            Self::Ip { offset: (word >> Self::OFFSET_SHIFT) as u8, ethertype_be: low }
        } else {
            Self::Ethernet { vlan_tci: if word & Self::BESIDE != 0 { Some(low) } else { None } }
        }
    }
}

/// Whether a packet is a fragment, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// No fragment, or one that needs no other to be attributed.
    Whole,
    /// First fragment: its [`Key::fragment_value`] is for the later ones.
    First,
    /// Later fragment: its key is incomplete until [`Key::complete`].
    Later,
}

/// A packet that belongs to a flow.
///
/// Every field always has a value, since the verifier refuses to copy what an enum's other variants leave undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<K> {
    /// The flow. For [`Fragment::Later`] without ports, and for IPv6 with protocol 0.
    pub key: K,
    /// Fragment state.
    pub fragment: Fragment,
    /// Which part of a datagram it has; zeros for [`Fragment::Whole`].
    pub part: Part,
    /// Whether it is an ICMP or `ICMPv6` error, and has the first bytes of the packet that it is about.
    pub is_icmp_error: bool,
    /// Bytes from the packet's start to the end of its TCP (options included), UDP or SCTP header; for other protocols
    /// to the end of the IP headers. A hardware-accelerated tag is not in it, as it is not in `skb->len`.
    pub headers_len_bytes: u32,
}

/// The part of a datagram that a fragment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Identification, as it is in the packet.
    pub id_be: u32,
    /// Bytes of the datagram that are in this fragment, by its length field.
    pub len_bytes: u32,
    /// Bytes of the whole datagram, which the last fragment alone says; 0 for the others.
    pub total_bytes: u32,
}

impl Part {
    /// No fragment.
    pub const NONE: Self = Self { id_be: 0, len_bytes: 0, total_bytes: 0 };

    /// Of the offset in bytes, and whether more fragments follow.
    #[inline(always)]
    const fn new(id_be: u32, len_bytes: u32, offset_bytes: u32, more: bool) -> Self {
        Self { id_be, len_bytes, total_bytes: if more { 0 } else { offset_bytes + len_bytes } }
    }
}

/// What a flow key of either family can do for fragments.
pub trait Key: Copy {
    /// The map key that the first and later fragments of a packet have in common.
    fn fragment_key(&self, id_be: u32) -> FragmentKey;

    /// The protocol (IANA number) and the ports.
    fn transport(&self) -> (u8, Ports);

    /// Completes the key of a later fragment with its first fragment's protocol and ports.
    fn complete(&mut self, first: &FragmentValue);
}

impl Key for KeyV4 {
    #[inline(always)]
    fn transport(&self) -> (u8, Ports) {
        (self.tag.protocol(), self.ports)
    }

    #[inline(always)]
    fn fragment_key(&self, id_be: u32) -> FragmentKey {
        FragmentKey {
            hook: self.hook,
            tag: self.tag,
            src_be: [self.src_be, 0, 0, 0],
            dst_be: [self.dst_be, 0, 0, 0],
            id_be,
        }
    }

    #[inline(always)]
    fn complete(&mut self, first: &FragmentValue) {
        self.ports = first.ports;
    }
}

impl Key for KeyV6 {
    #[inline(always)]
    fn transport(&self) -> (u8, Ports) {
        (self.tag.protocol(), self.ports)
    }

    #[inline(always)]
    fn fragment_key(&self, id_be: u32) -> FragmentKey {
        FragmentKey { hook: self.hook, tag: self.tag.with_protocol(0), src_be: self.src_be, dst_be: self.dst_be, id_be }
    }

    #[inline(always)]
    fn complete(&mut self, first: &FragmentValue) {
        self.tag = self.tag.with_protocol(first.protocol);
        self.ports = first.ports;
    }
}

/// What the link layer says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It is IPv4: [`ipv4`] goes on.
    V4(Link),
    /// It is IPv6: [`ipv6`] goes on.
    V6(Link),
}

/// Finds the IP header of `packet`.
///
/// # Errors
///
/// Why there is none; see the table above.
#[inline(always)]
pub fn network<P: Packet + ?Sized>(packet: &P, start: Start) -> Result<Network, Reason> {
    network_at(packet, start, 0)
}

/// The same for a packet that starts `offset` bytes behind the start of `packet`.
#[inline(always)]
fn network_at<P: Packet + ?Sized>(packet: &P, start: Start, offset: u32) -> Result<Network, Reason> {
    let link = Link::of_word(packet.link(start, offset)).ok_or(Reason::Unparsed)?;
    match link.ethertype_be {
        EtherType::IPV4_BE => Ok(Network::V4(link)),
        EtherType::IPV6_BE => Ok(Network::V6(link)),
        _ => Err(Reason::NonIp),
    }
}

/// Reads a header that the key needs.
#[inline(always)]
fn read<P: Packet + ?Sized, T: Header>(packet: &P, offset: u32) -> Result<T, Reason> {
    packet.read(offset).ok_or(Reason::Unparsed)
}
