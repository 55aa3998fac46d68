//! The packet parser: from the bytes of a frame to the key of its flow.
//!
//! In: a [`Packet`] (something that reads headers at offsets), what its bytes [`Start`] with, and the hook it was seen
//! at. Out: [`Parsed`], or why there is none ([`Stop`]). It must not panic, allocate, or loop without a bound, and it
//! compiles to code that the BPF verifier accepts: offsets stay below 64 KiB.
//!
//! It has two steps, [`network`] and then [`ipv4`] or [`ipv6`], so that a program handles each family's key where it
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

mod header;
mod ip;
mod plain;
mod transport;
mod tunnel;

pub use header::{
    EtherType, EthernetHeader, ExtensionHeader, FragmentHeader, GeneveHeader, GreHeader, Header, IcmpHeader,
    Ipv4Header, Ipv6Addresses, Ipv6Header, TcpDataOffset, VlanHeader, VxlanHeader,
};

pub use ip::{ipv4, ipv6};
pub use plain::{PlainTag, plain_v4, plain_v6};
pub use tunnel::{inner_len, is_udp_tunnel};

use crate::{FragmentKey, FragmentValue, KeyV4, KeyV6, Ports, Reason, Tag};

/// Source of a packet's bytes.
pub trait Packet {
    /// Whether bytes that this source cannot read are not in the packet at all.
    ///
    /// It is false for direct packet access, which ends where the linear part of the packet ends: there the parser
    /// answers [`Stop::EndedEarly`], and another source has to decide.
    const IS_WHOLE: bool;

    /// Reads the header at `offset` (bytes from the packet's start); `None` if the readable bytes end before its end.
    fn read<T: Header>(&self, offset: u32) -> Option<T>;

    /// The same word. A kernel's verifier that knew all about it would follow each way that led there on its own, to the end
    /// of the program.
    #[inline(always)]
    #[must_use]
    fn settled(word: u32) -> u32 {
        word
    }
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
    /// Identification of a fragment, as it is in the packet; 0 for [`Fragment::Whole`].
    pub fragment_id_be: u32,
    /// Bytes from the packet's start to the end of its TCP (options included), UDP or SCTP header; for other protocols
    /// to the end of the IP headers. A hardware-accelerated tag is not in it, as it is not in `skb->len`.
    pub headers_len_bytes: u32,
}

/// What a flow key of either family can do for fragments.
pub trait Key: Copy {
    /// The map key that the first and later fragments of a packet have in common.
    fn fragment_key(&self, id_be: u32) -> FragmentKey;

    /// What a first fragment with this key tells of the later ones.
    fn fragment_value(&self) -> FragmentValue;

    /// The protocol (IANA number) and the ports.
    fn transport(&self) -> (u8, Ports);

    /// Completes the key of a later fragment with what its first fragment told.
    fn complete(&mut self, first: FragmentValue);
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
    fn fragment_value(&self) -> FragmentValue {
        FragmentValue { ports: self.ports, protocol: self.tag.protocol(), padding: [0; 3] }
    }

    #[inline(always)]
    fn complete(&mut self, first: FragmentValue) {
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
    fn fragment_value(&self) -> FragmentValue {
        FragmentValue { ports: self.ports, protocol: self.tag.protocol(), padding: [0; 3] }
    }

    #[inline(always)]
    fn complete(&mut self, first: FragmentValue) {
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

/// What precedes the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes before the IP header.
    len: u32,
    /// VLANs; protocol 0.
    tag: Tag,
}

/// Finds the IP header of `packet`.
///
/// # Errors
///
/// [`Stop`]: why there is none; see the table above.
#[inline(always)]
pub fn network<P: Packet + ?Sized>(packet: &P, start: Start) -> Result<Network, Stop> {
    let (ethertype_be, link) = match start {
        Start::Ip { ethertype_be } => (ethertype_be, Link { len: 0, tag: Tag::new(0, 0, 0) }),
        Start::Ethernet { vlan_tci } => ethernet(packet, vlan_tci)?,
    };
    match ethertype_be {
        EtherType::IPV4_BE => Ok(Network::V4(link)),
        EtherType::IPV6_BE => Ok(Network::V6(link)),
        _ => Err(Stop::NON_IP),
    }
}

/// No offset of a header that is read is larger.
const MOST_OFFSET: u32 = 0x7fff;

/// Reads the Ethernet header and the VLAN tags behind it: the `EtherType` behind them, and the rest.
#[inline(always)]
fn ethernet<P: Packet + ?Sized>(packet: &P, vlan_tci: Option<u16>) -> Result<(u16, Link), Stop> {
    let mut ethertype_be = read::<P, EthernetHeader>(packet, 0)?.ethertype_be;
    let mut len = EthernetHeader::LEN;
    let mut vlans = Vlans::default();
    if let Some(tci) = vlan_tci {
        vlans.push(tci);
    }
    // No loop: most frames have no tag, and compilers make a loop of it that all frames pay for.
    if EtherType::is_vlan(ethertype_be) {
        in_frame_tag(packet, &mut ethertype_be, &mut len, &mut vlans)?;
        if EtherType::is_vlan(ethertype_be) {
            in_frame_tag(packet, &mut ethertype_be, &mut len, &mut vlans)?;
            if EtherType::is_vlan(ethertype_be) {
                return Err(Stop::UNPARSED);
            }
        }
    }
    let tag = Tag::new(vlans.outer, vlans.inner, 0).settled::<P>();
    Ok((ethertype_be, Link { len: P::settled(len) & MOST_OFFSET, tag }))
}

/// Reads one tag at `len`, and moves on behind it.
#[inline(always)]
fn in_frame_tag<P: Packet + ?Sized>(
    packet: &P,
    ethertype_be: &mut u16,
    len: &mut u32,
    vlans: &mut Vlans,
) -> Result<(), Stop> {
    if vlans.tags == Vlans::MAX_TAGS {
        return Err(Stop::UNPARSED);
    }
    let tag = read::<P, VlanHeader>(packet, *len)?;
    vlans.push(u16::from_be(tag.tci_be));
    *ethertype_be = tag.ethertype_be;
    *len += VlanHeader::LEN;
    Ok(())
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
