//! The headers as they are in a packet, down to the fields that the parser needs.
//!
//! In: nothing. Out: plain `repr(C)` structs of 8-byte alignment at most. A field's name ends in `_be` where it is in
//! network byte order. This file must not interpret anything.

/// A header that can be read from any bytes.
///
/// # Safety
///
/// `repr(C)`, no padding, every bit pattern valid, alignment of at most 8: a BPF program reads it from packet memory
/// without copying it bytewise. At least 2 bytes: of the bounds check of a single byte, compilers make a comparison that
/// the verifier does not accept (`at >= end` instead of `at + 1 > end`).
pub unsafe trait Header: Copy {
    /// Length in bytes.
    const LEN: u32;
}

macro_rules! headers {
    ($($header:ty: $len:literal),* $(,)?) => {$(
        const _: () = assert!($len >= 2 && size_of::<$header>() == $len && align_of::<$header>() <= 8);
        // SAFETY: `repr(C)` with integers and arrays of them only; as long as the sum of its fields (checked above).
        unsafe impl Header for $header {
            const LEN: u32 = $len;
        }
    )*};
}

headers! {
    EthernetHeader: 14,
    VlanHeader: 4,
    Ipv4Header: 20,
    Ipv6Header: 8,
    Ipv6Addresses: 32,
    ExtensionHeader: 2,
    FragmentHeader: 8,
    crate::Ports: 4,
    TcpDataOffset: 2,
    IcmpHeader: 8,
    VxlanHeader: 8,
    GeneveHeader: 8,
    GreHeader: 4,
    super::plain::PlainV4: 48,
    super::plain::PlainV6: 64,
}

/// Ethernet II header.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EthernetHeader {
    /// Destination and source address.
    pub addresses: [u16; 6],
    /// What follows: see [`EtherType`].
    pub ethertype_be: u16,
}

/// `EtherType` numbers (IEEE), network byte order.
pub struct EtherType;

impl EtherType {
    /// IPv4.
    pub const IPV4_BE: u16 = 0x0800_u16.to_be();
    /// IPv6.
    pub const IPV6_BE: u16 = 0x86dd_u16.to_be();
    /// An Ethernet frame, in a tunnel ("transparent Ethernet bridging").
    pub const FRAME_BE: u16 = 0x6558_u16.to_be();
    /// IEEE 802.1Q tag.
    pub const VLAN_BE: u16 = 0x8100_u16.to_be();
    /// IEEE 802.1ad (`QinQ`) service tag.
    pub const SERVICE_VLAN_BE: u16 = 0x88a8_u16.to_be();

    /// Whether a VLAN tag follows: the two numbers that Linux takes for one.
    #[inline(always)]
    #[must_use]
    pub const fn is_vlan(ethertype_be: u16) -> bool {
        matches!(ethertype_be, Self::VLAN_BE | Self::SERVICE_VLAN_BE)
    }
}

/// What follows an `EtherType` of a VLAN tag (IEEE 802.1Q).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VlanHeader {
    /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
    pub tci_be: u16,
    /// What follows.
    pub ethertype_be: u16,
}

/// IPv4 header without options (RFC 791).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv4Header {
    /// Version (4 bits), header length in 4-byte words (4 bits).
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_length_be: u16,
    /// Identification.
    pub id_be: u16,
    /// Reserved, don't fragment, more fragments (1 bit each), offset in 8-byte units (13 bits).
    pub fragment_be: u16,
    /// Time to live.
    pub ttl: u8,
    /// IANA protocol number.
    pub protocol: u8,
    /// Header checksum.
    pub checksum_be: u16,
    /// Source address.
    pub src_be: u32,
    /// Destination address.
    pub dst_be: u32,
}

/// IPv6 header (RFC 8200) without its addresses.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), upper half of the traffic class (4 bits).
    pub version_class: u8,
    /// Lower half of the traffic class, flow label.
    pub class_label: [u8; 3],
    /// Length of what follows the header, in bytes.
    pub payload_length_be: u16,
    /// IANA protocol number of the first extension header or the payload.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
}

/// The addresses of an IPv6 header: what follows [`Ipv6Header`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ipv6Addresses {
    /// Source address.
    pub src_be: [u32; 4],
    /// Destination address.
    pub dst_be: [u32; 4],
}

/// What IPv6 extension headers begin with (RFC 8200; RFC 4302 for AH).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExtensionHeader {
    /// IANA protocol number of what follows.
    pub next_header: u8,
    /// Length in units of 8 bytes less 1; for AH in units of 4 bytes less 2.
    pub length: u8,
}

/// IPv6 fragment header (RFC 8200).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FragmentHeader {
    /// IANA protocol number of what follows the header in the first fragment.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in 8-byte units (13 bits), reserved (2 bits), more fragments (1 bit).
    pub fragment_be: u16,
    /// Identification.
    pub id_be: u32,
}

/// The part of a TCP header that has its length (RFC 9293): 12 bytes from its start.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TcpDataOffset {
    /// Header length in 4-byte words (4 bits), reserved (4 bits).
    pub words: u8,
    /// Flags.
    pub flags: u8,
}

/// ICMP (RFC 792) or `ICMPv6` (RFC 4443) header of an echo message.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IcmpHeader {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// Checksum.
    pub checksum_be: u16,
    /// Identifier, if the message is an echo request or reply.
    pub id_be: u16,
    /// Sequence number, if the message is an echo request or reply.
    pub sequence_be: u16,
}

/// VXLAN header (RFC 7348).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VxlanHeader {
    /// Flags.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Network identifier, network byte order, and a zero byte.
    pub vni_be: [u8; 4],
}

/// Geneve header without its options (RFC 8926).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GeneveHeader {
    /// Version (2 bits), length of the options in 4-byte words (6 bits).
    pub version_options: u8,
    /// Flags.
    pub flags: u8,
    /// What follows.
    pub ethertype_be: u16,
    /// Network identifier, network byte order, and a zero byte.
    pub vni_be: [u8; 4],
}

/// GRE header without what its flags announce (RFC 2784, RFC 2890).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GreHeader {
    /// Flags and version.
    pub flags_be: u16,
    /// What follows.
    pub ethertype_be: u16,
}
