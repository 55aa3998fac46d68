//! The packet parser: from the bytes of a frame to the key of its flow.
//!
//! In: a [`Packet`] (something that reads headers at offsets), where its bytes [`Start`], and the [`Hook`] it was seen
//! at. Out: [`Parsed`], or why there is none ([`Stop`]). It must not panic, allocate, or loop without a bound, and it
//! compiles to code that the BPF verifier accepts: offsets stay below 64 KiB.
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
//! | TCP data offset cut off, or below the minimum | attributed; the header counts as 20 bytes |

mod header;
mod ip;
mod transport;

pub use header::{
    EtherType, EthernetHeader, ExtensionHeader, FragmentHeader, Header, IcmpHeader, Ipv4Header, Ipv6Header,
    TcpDataOffset, VlanHeader,
};

use crate::{FragmentKey, FragmentValue, Hook, KeyV4, KeyV6, Reason, Tag};

/// Source of a packet's bytes.
pub trait Packet {
    /// Whether bytes that this source cannot read are not in the packet at all.
    ///
    /// It is false for direct packet access, which ends where the linear part of the packet ends: there the parser
    /// answers [`Stop::EndedEarly`], and another source has to decide.
    const IS_WHOLE: bool;

    /// Reads the header at `offset` (bytes from the packet's start); `None` if the readable bytes end before its end.
    fn read<T: Header>(&self, offset: u32) -> Option<T>;
}

impl Packet for [u8] {
    const IS_WHOLE: bool = true;

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
    /// An IP header: the device has no link-layer header (tun, `WireGuard`).
    Ip {
        /// `EtherType` of what it is, network byte order (`skb->protocol`).
        ethertype_be: u16,
    },
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The packet belongs to no flow.
    Unattributed(Reason),
    /// The readable bytes ended, and the packet may have more. Never returned if [`Packet::IS_WHOLE`].
    EndedEarly,
}

impl Stop {
    const NON_IP: Self = Self::Unattributed(Reason::NonIp);
    const UNPARSED: Self = Self::Unattributed(Reason::Unparsed);

    /// What a failed read of `P` means.
    #[inline(always)]
    const fn unreadable<P: Packet + ?Sized>() -> Self {
        if P::IS_WHOLE { Self::UNPARSED } else { Self::EndedEarly }
    }
}

/// Key of a flow of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// IPv4.
    V4(KeyV4),
    /// IPv6.
    V6(KeyV6),
}

/// Whether a packet is a fragment, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// No fragment, or one that needs no other to be attributed.
    Whole,
    /// First fragment: its [`FragmentValue`] is for the later ones.
    First {
        /// Identification, network byte order.
        id_be: u32,
    },
    /// Later fragment: its key is incomplete until [`Parsed::complete`].
    Later {
        /// Identification, network byte order.
        id_be: u32,
    },
}

/// A packet that belongs to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The flow. For [`Fragment::Later`] without ports, and for IPv6 with protocol 0.
    pub key: Key,
    /// Fragment state.
    pub fragment: Fragment,
    /// Bytes from the packet's start to the end of its TCP (options included), UDP or SCTP header; for other protocols
    /// to the end of the IP headers. A hardware-accelerated tag is not in it, as it is not in `skb->len`.
    pub headers_len_bytes: u32,
}

impl Parsed {
    /// The map key that a packet's first and later fragments share, given the identification.
    #[inline(always)]
    #[must_use]
    pub fn fragment_key(&self, id_be: u32) -> FragmentKey {
        match self.key {
            Key::V4(key) => FragmentKey {
                hook: key.hook,
                tag: key.tag,
                src_be: [key.src_be, 0, 0, 0],
                dst_be: [key.dst_be, 0, 0, 0],
                id_be,
            },
            Key::V6(key) => FragmentKey {
                hook: key.hook,
                tag: key.tag.with_protocol(0),
                src_be: key.src_be,
                dst_be: key.dst_be,
                id_be,
            },
        }
    }

    /// What a first fragment tells of the later ones.
    #[inline(always)]
    #[must_use]
    pub fn fragment_value(&self) -> FragmentValue {
        let (tag, ports) = match self.key {
            Key::V4(key) => (key.tag, key.ports),
            Key::V6(key) => (key.tag, key.ports),
        };
        FragmentValue { ports, protocol: tag.protocol(), padding: [0; 3] }
    }

    /// Completes the key of a later fragment with what its first fragment told.
    #[inline(always)]
    pub fn complete(&mut self, first: FragmentValue) {
        match &mut self.key {
            Key::V4(key) => key.ports = first.ports,
            Key::V6(key) => {
                key.tag = key.tag.with_protocol(first.protocol);
                key.ports = first.ports;
            }
        }
    }
}

/// What precedes the IP header.
struct Link {
    ethertype_be: u16,
    /// Bytes before the IP header.
    len: u32,
    /// VLANs; protocol 0.
    tag: Tag,
}

/// Finds the flow of `packet`.
///
/// # Errors
///
/// [`Stop`]: why there is none; see the table above.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(packet: &P, start: Start, hook: Hook) -> Result<Parsed, Stop> {
    let link = match start {
        Start::Ip { ethertype_be } => Link { ethertype_be, len: 0, tag: Tag::new(0, 0, 0) },
        Start::Ethernet { vlan_tci } => ethernet(packet, vlan_tci)?,
    };
    match link.ethertype_be {
        EtherType::IPV4_BE => ip::v4(packet, &link, hook),
        EtherType::IPV6_BE => ip::v6(packet, &link, hook),
        _ => Err(Stop::NON_IP),
    }
}

/// Reads the Ethernet header and the VLAN tags behind it.
#[inline(always)]
fn ethernet<P: Packet + ?Sized>(packet: &P, vlan_tci: Option<u16>) -> Result<Link, Stop> {
    let mut ethertype_be = read::<P, EthernetHeader>(packet, 0)?.ethertype_be;
    let mut len = EthernetHeader::LEN;
    let mut vlans = Vlans::default();
    if let Some(tci) = vlan_tci {
        vlans.push(tci);
    }
    // One iteration more than tags are allowed, for the one that is too many.
    for _ in 0..=Vlans::MAX_TAGS {
        if !EtherType::is_vlan(ethertype_be) {
            return Ok(Link { ethertype_be, len, tag: Tag::new(vlans.outer, vlans.inner, 0) });
        }
        if vlans.tags == Vlans::MAX_TAGS {
            break;
        }
        let tag = read::<P, VlanHeader>(packet, len)?;
        vlans.push(u16::from_be(tag.tci_be));
        ethertype_be = tag.ethertype_be;
        len += VlanHeader::LEN;
    }
    Err(Stop::UNPARSED)
}

/// The VLANs of a frame, collected from the outermost tag inwards.
#[derive(Default)]
struct Vlans {
    /// Tags so far, priority tags included.
    tags: u32,
    outer: u16,
    inner: u16,
}

impl Vlans {
    const MAX_TAGS: u32 = 2;

    /// Adds the next tag inwards.
    #[inline(always)]
    fn push(&mut self, tci: u16) {
        let id = tci & 0xfff;
        self.tags += 1;
        if self.outer == 0 {
            self.outer = id;
        } else {
            self.inner = id;
        }
    }
}

/// Reads a header that the key needs.
#[inline(always)]
fn read<P: Packet + ?Sized, T: Header>(packet: &P, offset: u32) -> Result<T, Stop> {
    packet.read(offset).ok_or(Stop::unreadable::<P>())
}
