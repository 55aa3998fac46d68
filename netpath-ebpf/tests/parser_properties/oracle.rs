//! What etherparse, a parser that netpath does not use otherwise, makes of a frame: the judge of netpath's own.
//!
//! In: the bytes of a frame and what they start with. Out: a panic if the two disagree ([`check`]), or netpath's own two
//! ([`check_plain`]). Shared by the property tests and the fuzzer. It must not call the parser to find out what to expect of it.
//!
//! Where etherparse answers another question, or none, the expectation is made from the slices it gives:
//!
//! | etherparse | netpath |
//! |---|---|
//! | cuts the payload by length fields | does not read them: they are set to 0 in the copy that etherparse gets |
//! | takes IPv4 for IPv6 if the version says so | wants `EtherType` and version to agree |
//! | follows the tag 0x9100 and `MACsec` | non-IP, as for Linux |
//! | follows AH in IPv4 | protocol 51 |
//! | follows what looks like extension headers in a later fragment, reads beyond cut ones (its iterator) | its header slices are asked one by one |
//! | does not parse the transport header of a first fragment | parses it |
//! | wants the whole of a header | wants what the key needs: [`Expected::Cut`] |
//! | refuses AH of length 0 | follows it, as Linux does: [`Expected::Unknown`] |
//! | has no UDP-Lite, DCCP, SCTP | ports are the first four bytes |

use etherparse::{
    EtherType, Icmpv4Slice, Icmpv6Slice, IpAuthHeaderSlice, IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice,
    LaxIpv4Slice, LaxIpv6Slice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpHeaderSlice,
    UdpHeaderSlice, err::packet::SliceError,
};
use netpath_ebpf::{
    Direction, Hook, KeyV4, KeyV6, Ports, Reason, Tag,
    parse::{
        Fragment, Network, Packet, Parsed, PlainTag, Start, ipv4, ipv6, network, plain_v4, plain_v6, quoted_v4,
        quoted_v6,
    },
};

/// The hook of all frames here.
pub const HOOK: Hook = Hook::new(7, Direction::Tx);

/// A parsed packet of either family, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub outer_vlan: u16,
    pub inner_vlan: u16,
    pub protocol: u8,
    pub addresses: Addresses,
    pub ports: (u16, u16),
    pub fragment: Fragment,
    /// Identification, length, length of the whole datagram; zeros as in [`Part`].
    pub part: (u32, u32, u32),
    pub is_icmp_error: bool,
    pub headers_len_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

/// Runs netpath's parser.
pub fn parse<P: Packet + ?Sized>(packet: &P, start: Start) -> Result<Flow, Reason> {
    match network(packet, start)? {
        Network::V4(link) => {
            let parsed = ipv4(packet, link, HOOK)?;
            assert_eq!(parsed.key.hook, HOOK);
            // IPv4's identification has 16 bits, put into the key as they are in the packet.
            let id = u16::try_from(parsed.part.id_be).expect("16 bits");
            Ok(flow(&parsed, u16::from_be(id).into(), flow_v4(&parsed.key)))
        }
        Network::V6(link) => {
            let parsed = ipv6(packet, link, HOOK)?;
            assert_eq!(parsed.key.hook, HOOK);
            Ok(flow(&parsed, u32::from_be(parsed.part.id_be), flow_v6(&parsed.key)))
        }
    }
}

fn flow<K>(parsed: &Parsed<K>, id: u32, key: Flow) -> Flow {
    Flow {
        fragment: parsed.fragment,
        part: (id, parsed.part.len_bytes, parsed.part.total_bytes),
        is_icmp_error: parsed.is_icmp_error,
        headers_len_bytes: parsed.headers_len_bytes,
        ..key
    }
}

fn flow_v4(key: &KeyV4) -> Flow {
    flow_of(key.tag, Addresses::V4(key.src_be.to_ne_bytes(), key.dst_be.to_ne_bytes()), key.ports)
}

fn flow_v6(key: &KeyV6) -> Flow {
    flow_of(key.tag, Addresses::V6(bytes(key.src_be), bytes(key.dst_be)), key.ports)
}

fn flow_of(tag: Tag, addresses: Addresses, ports: Ports) -> Flow {
    Flow {
        outer_vlan: tag.outer_vlan(),
        inner_vlan: tag.inner_vlan(),
        protocol: tag.protocol(),
        addresses,
        ports: (u16::from_be(ports.src_be), u16::from_be(ports.dst_be)),
        fragment: Fragment::Whole,
        part: (0, 0, 0),
        is_icmp_error: false,
        headers_len_bytes: 0,
    }
}

/// The packet that an ICMP error quotes, whose own flow is `error`, as netpath reads it.
pub fn quoted(frame: &[u8], error: &Flow) -> Option<Flow> {
    let key = match error.addresses {
        Addresses::V4(..) => flow_v4(&quoted_v4(frame, error.headers_len_bytes)?),
        Addresses::V6(..) => flow_v6(&quoted_v6(frame, error.headers_len_bytes)?),
    };
    Some(key)
}

/// Panics if netpath and etherparse disagree on what the ICMP error quotes: it is read like any packet without link layer.
fn check_quoted(frame: &[u8], error: &Flow) {
    let quote = &frame[error.headers_len_bytes as usize + 8..];
    let ethertype: u16 = if matches!(error.addresses, Addresses::V4(..)) { 0x0800 } else { 0x86dd };
    let actual = quoted(frame, error);
    let agree = match expect(quote, Start::Ip { offset: 0, ethertype_be: ethertype.to_be() }) {
        Expected::Unknown => true,
        Expected::Reason(_) => actual.is_none(),
        Expected::Cut => actual.is_none_or(|actual| actual.ports == (0, 0)),
        Expected::Flow(expected, _) => {
            let protocol = match expected.fragment {
                // What the fragment header says, which is no part of the flow.
                Fragment::Later if ethertype == 0x86dd => actual.map_or(0, |actual| actual.protocol),
                _ => expected.protocol,
            };
            let (fragment, part, is_icmp_error) = (Fragment::Whole, (0, 0, 0), false);
            actual == Some(Flow { protocol, fragment, part, is_icmp_error, headers_len_bytes: 0, ..expected })
        }
    };
    assert!(agree, "netpath: {actual:?}\n{frame:02x?}");
}

fn bytes(words: [u32; 4]) -> [u8; 16] {
    let mut all = [0; 16];
    for (four, word) in all.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    all
}

/// What netpath has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This flow. Without a length: the TCP header is cut or malformed.
    Flow(Flow, Option<u32>),
    /// This reason.
    Reason(Reason),
    /// An IP header is not all there: unparsed, or attributed without looking behind it.
    Cut,
    /// Etherparse does not say.
    Unknown,
}

const UNPARSED: Expected = Expected::Reason(Reason::Unparsed);
const NON_IP: Expected = Expected::Reason(Reason::NonIp);

/// Panics if netpath's parser and etherparse disagree on `frame`.
pub fn check(frame: &[u8], start: Start) {
    let expected = expect(frame, start);
    let actual = parse(frame, start);
    let agree = match (expected, actual) {
        (Expected::Unknown, _) => true,
        (Expected::Reason(expected), Err(actual)) => expected == actual,
        (Expected::Flow(expected, Some(headers_len_bytes)), Ok(actual)) => {
            actual == Flow { headers_len_bytes, ..expected }
        }
        (Expected::Flow(expected, None), Ok(actual)) => {
            actual == Flow { headers_len_bytes: actual.headers_len_bytes, ..expected }
        }
        (Expected::Cut, Ok(actual)) => actual.headers_len_bytes as usize > frame.len() && actual.ports == (0, 0),
        (Expected::Cut, Err(reason)) => reason == Reason::Unparsed,
        _ => false,
    };
    assert!(agree, "etherparse: {expected:?}\nnetpath:    {actual:?}\n{start:?} {frame:02x?}");
    if let Ok(error) = actual
        && error.is_icmp_error
    {
        check_quoted(frame, &error);
    }
}

/// What etherparse makes of `frame`.
pub fn expect(frame: &[u8], start: Start) -> Expected {
    let mut copy = frame.to_vec();
    let Some(sliced) = slice(&copy, start) else { return UNPARSED };
    // Length fields: IPv4's at byte 2 of the header, IPv6's at byte 4.
    let field = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => Some(offset(&copy, ip.header().slice()) + 2),
        Some(LaxNetSlice::Ipv6(ip)) => Some(offset(&copy, ip.header().slice()) + 4),
        _ => None,
    };
    drop(sliced);
    let len = field.map_or(0, |at| u32::from(u16::from_be_bytes([copy[at], copy[at + 1]])));
    if let Some(at) = field {
        copy[at..at + 2].fill(0);
    }
    let sliced = slice(&copy, start).expect("as above");
    judge(&copy, start, &sliced, len)
}

fn slice(frame: &[u8], start: Start) -> Option<LaxSlicedPacket<'_>> {
    match start {
        Start::Ethernet { .. } => LaxSlicedPacket::from_ethernet(frame).ok(),
        Start::Ip { offset, ethertype_be } => {
            let packet = frame.get(usize::from(offset)..)?;
            Some(LaxSlicedPacket::from_ether_type(EtherType(u16::from_be(ethertype_be)), packet))
        }
    }
}

fn offset(all: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - all.as_ptr() as usize
}

fn judge(frame: &[u8], start: Start, sliced: &LaxSlicedPacket, len: u32) -> Expected {
    let (mut ids, mut ethertype) = match (start, &sliced.link) {
        (Start::Ip { ethertype_be, .. }, _) => (vec![], EtherType(u16::from_be(ethertype_be))),
        (Start::Ethernet { vlan_tci }, Some(LinkSlice::Ethernet2(ethernet))) => {
            (vlan_tci.iter().map(|tci| tci & 0xfff).collect(), ethernet.ether_type())
        }
        (Start::Ethernet { .. }, link) => panic!("{link:?}"),
    };
    if let Start::Ethernet { .. } = start {
        let mut tags = sliced.link_exts.iter();
        while [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&ethertype) {
            let Some(LaxLinkExtSlice::Vlan(tag)) = tags.next() else { return UNPARSED };
            ids.push(tag.vlan_identifier().value());
            ethertype = tag.ether_type();
        }
    }
    if ids.len() > 2 {
        return UNPARSED;
    }
    ids.retain(|id| *id != 0);
    let vlans = (ids.first().copied().unwrap_or(0), ids.get(1).copied().unwrap_or(0));
    match (ethertype, &sliced.net) {
        (EtherType::IPV4, Some(LaxNetSlice::Ipv4(ip))) => v4(frame, vlans, ip, len),
        (EtherType::IPV6, Some(LaxNetSlice::Ipv6(ip))) => v6(frame, vlans, ip, len),
        // An IPv4 header whose options are cut is none for etherparse.
        (EtherType::IPV4, None) if matches!(sliced.stop_err, Some((SliceError::Len(_), _))) => Expected::Cut,
        (EtherType::IPV4 | EtherType::IPV6, _) => UNPARSED,
        _ => NON_IP,
    }
}

/// `len`: what the header's length field says.
fn v4(frame: &[u8], vlans: (u16, u16), ip: &LaxIpv4Slice, len: u32) -> Expected {
    let header = ip.header();
    let end = offset(frame, header.slice()) + header.slice().len();
    let protocol = header.protocol();
    let has_ports = protocol == IpNumber::ICMP || has_ports(protocol);
    let fragment = match (header.fragments_offset().value(), header.more_fragments()) {
        _ if !has_ports => Fragment::Whole,
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    let addresses = Addresses::V4(header.source(), header.destination());
    let len = len.saturating_sub(u32::try_from(header.slice().len()).expect("60 bytes at most"));
    let offset = u32::from(header.fragments_offset().byte_offset());
    let part = (header.identification().into(), len, if header.more_fragments() { 0 } else { offset + len });
    // With AH, etherparse's payload is behind it; the key does not need it.
    let payload = &frame[end..];
    transport(vlans, protocol, addresses, (fragment, part), end, payload)
}

/// `len`: what the header's length field says.
fn v6(frame: &[u8], vlans: (u16, u16), ip: &LaxIpv6Slice, len: u32) -> Expected {
    let header = ip.header();
    let addresses = Addresses::V6(header.source(), header.destination());
    let mut end = offset(frame, header.slice()) + header.slice().len();
    let payload = end;
    let mut protocol = header.next_header();
    let mut state = None;
    // Header by header, since etherparse's own iterator reads beyond a chain that is cut (0.21).
    for followed in 0.. {
        if ![0, 43, 44, 51, 60].contains(&protocol.0) {
            break;
        }
        if followed == 8 {
            return UNPARSED;
        }
        let rest = &frame[end..];
        if protocol == IpNumber::IPV6_FRAGMENTATION_HEADER {
            let Ok(header) = Ipv6FragmentHeaderSlice::from_slice(rest) else { return UNPARSED };
            if state.is_some() {
                return UNPARSED;
            }
            end += header.slice().len();
            let len = len.saturating_sub(u32::try_from(end - payload).expect("a frame is short"));
            let (offset, more) = (u32::from(header.fragment_offset().byte_offset()), header.more_fragments());
            let part = (header.identification(), len, if more { 0 } else { offset + len });
            if offset != 0 {
                return transport(vlans, IpNumber(0), addresses, (Fragment::Later, part), end, &[]);
            }
            state = Some(if more { (Fragment::First, part) } else { (Fragment::Whole, part) });
            protocol = header.next_header();
        } else if protocol == IpNumber::AUTHENTICATION_HEADER {
            if rest.get(1) == Some(&0) {
                return Expected::Unknown;
            }
            let Ok(header) = IpAuthHeaderSlice::from_slice(rest) else { return Expected::Cut };
            (protocol, end) = (header.next_header(), end + header.slice().len());
        } else {
            let Ok(header) = Ipv6RawExtHeaderSlice::from_slice(rest) else { return Expected::Cut };
            (protocol, end) = (header.next_header(), end + header.slice().len());
        }
    }
    let fragment = state.unwrap_or((Fragment::Whole, (0, 0, 0)));
    transport(vlans, protocol, addresses, fragment, end, &frame[end..])
}

fn has_ports(protocol: IpNumber) -> bool {
    [6, 17, 33, 132, 136].contains(&protocol.0)
}

fn transport(
    vlans: (u16, u16),
    protocol: IpNumber,
    addresses: Addresses,
    (fragment, part): (Fragment, (u32, u32, u32)),
    end: usize,
    payload: &[u8],
) -> Expected {
    let first_four =
        || payload.first_chunk().map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
    let echo = |request: u8, reply: u8, kind: u8, [high, low, ..]: [u8; 4]| {
        let id = if [request, reply].contains(&kind) { u16::from_be_bytes([high, low]) } else { 0 };
        Some((id, id))
    };
    let is_v4 = matches!(addresses, Addresses::V4(..));
    let (ports, len) = match protocol {
        _ if fragment == Fragment::Later => (Some((0, 0)), Some(0)),
        IpNumber::TCP => match TcpHeaderSlice::from_slice(payload) {
            Ok(tcp) => (Some((tcp.source_port(), tcp.destination_port())), Some(tcp.slice().len())),
            Err(_) => (first_four(), None),
        },
        IpNumber::UDP => match UdpHeaderSlice::from_slice(payload) {
            Ok(udp) => (Some((udp.source_port(), udp.destination_port())), Some(8)),
            Err(_) => (first_four(), Some(8)),
        },
        IpNumber::SCTP => (first_four(), Some(12)),
        _ if has_ports(protocol) => (first_four(), Some(0)),
        IpNumber::ICMP if is_v4 => match Icmpv4Slice::from_slice(payload) {
            Ok(icmp) => (echo(8, 0, icmp.type_u8(), icmp.bytes5to8()), Some(0)),
            // Timestamp messages are longer than 8 bytes.
            Err(_) => ((payload.len() >= 8).then_some((0, 0)), Some(0)),
        },
        IpNumber::IPV6_ICMP if !is_v4 => match Icmpv6Slice::from_slice(payload) {
            Ok(icmp) => (echo(128, 129, icmp.type_u8(), icmp.bytes5to8()), Some(0)),
            Err(_) => (None, Some(0)),
        },
        _ => (Some((0, 0)), Some(0)),
    };
    let Some(ports) = ports else { return UNPARSED };
    let flow = Flow {
        outer_vlan: vlans.0,
        inner_vlan: vlans.1,
        protocol: protocol.0,
        addresses,
        ports,
        fragment,
        part: if fragment == Fragment::Whole { (0, 0, 0) } else { part },
        is_icmp_error: fragment != Fragment::Later && is_icmp_error(is_v4, protocol, payload),
        headers_len_bytes: 0,
    };
    Expected::Flow(flow, len.map(|len| u32::try_from(end + len).expect("a frame is short")))
}

/// By etherparse's types: RFC 792 has five kinds of error, RFC 4443 half of all numbers.
fn is_icmp_error(is_v4: bool, protocol: IpNumber, payload: &[u8]) -> bool {
    use etherparse::Icmpv4Type::{DestinationUnreachable, ParameterProblem, Redirect, TimeExceeded, Unknown};
    match protocol {
        IpNumber::ICMP if is_v4 => Icmpv4Slice::from_slice(payload).is_ok_and(|icmp| match icmp.icmp_type() {
            DestinationUnreachable(_) | ParameterProblem(_) | Redirect(_) | TimeExceeded(_) => true,
            // Source quench, and codes that etherparse does not know.
            Unknown { type_u8, .. } => [3, 4, 5, 11, 12].contains(&type_u8),
            _ => false,
        }),
        IpNumber::IPV6_ICMP if !is_v4 => Icmpv6Slice::from_slice(payload).is_ok_and(|icmp| icmp.type_u8() < 0x80),
        _ => false,
    }
}

/// What the quick look at plain packets finds must be what the whole parser finds. Says whether it found anything, with a
/// tag in the frame, one beside it, or none.
pub fn check_plain(bytes: &[u8]) -> bool {
    const TCI: u16 = 0xe123;
    let mut any = false;
    let tags =
        [(Some(PlainTag::NONE), None), (Some(PlainTag::beside(TCI)), Some(TCI)), (PlainTag::in_frame(bytes), None)];
    for (tag, vlan_tci) in tags {
        let Some(tag) = tag else { continue };
        let whole = network(bytes, Start::Ethernet { vlan_tci });
        if let Some(found) = plain_v4(bytes, tag, HOOK) {
            let Ok(Network::V4(link)) = whole else { panic!("{whole:?} is not IPv4") };
            assert_eq!(Ok(found), ipv4(bytes, link, HOOK));
            any = true;
        }
        if let Some(found) = plain_v6(bytes, tag, HOOK) {
            let Ok(Network::V6(link)) = whole else { panic!("{whole:?} is not IPv6") };
            assert_eq!(Ok(found), ipv6(bytes, link, HOOK));
            any = true;
        }
    }
    any
}
