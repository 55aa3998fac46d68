//! Random frames with known contents, made with etherparse's headers.
//!
//! In: proptest's randomness. Out: [`Frame`]s. It must not use netpath's parser.

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpAuthHeader,
    IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader,
    SingleVlanHeader, TcpHeader, UdpHeader, VlanId, VlanPcp,
};
use netpath_ebpf::parse::{Fragment, Start};
use proptest::{collection::vec, option, prelude::*};

use crate::oracle::{Addresses, Flow};

/// A frame that belongs to `flow`.
#[derive(Clone, Debug)]
pub struct Frame {
    pub start: Start,
    pub bytes: Vec<u8>,
    pub flow: Flow,
}

/// A transport header and its payload.
#[derive(Clone, Debug)]
struct Message {
    protocol: IpNumber,
    bytes: Vec<u8>,
    ports: (u16, u16),
    header_len: usize,
    has_ports: bool,
    is_icmp_error: bool,
}

fn message(is_v4: bool) -> impl Strategy<Value = Message> {
    let header = (any::<u16>(), any::<u16>(), 0..=10_usize, 0..10_u8).prop_map(move |(src, dst, options, kind)| {
        let with_ports = |number: u8, len: usize, header_len: usize| {
            let mut bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
            bytes.resize(len, 0xee);
            Message {
                protocol: IpNumber(number),
                bytes,
                ports: (src, dst),
                header_len,
                has_ports: true,
                is_icmp_error: false,
            }
        };
        let icmp = |bytes: Vec<u8>, ports| Message {
            protocol: if is_v4 { IpNumber::ICMP } else { IpNumber::IPV6_ICMP },
            bytes,
            ports,
            header_len: 0,
            has_ports: true,
            is_icmp_error: false,
        };
        let echo = IcmpEchoHeader { id: src, seq: dst };
        match kind {
            0..3 => {
                let mut tcp = TcpHeader::new(src, dst, 1, 2);
                tcp.set_options_raw(&vec![1; options * 4]).unwrap();
                Message { bytes: tcp.to_bytes().to_vec(), ..with_ports(6, 0, tcp.header_len()) }
            }
            3 => {
                let udp = UdpHeader { source_port: src, destination_port: dst, length: 8, checksum: 0 };
                Message { bytes: udp.to_bytes().to_vec(), ..with_ports(17, 0, 8) }
            }
            4 => with_ports(132, 12, 12),
            5 => with_ports(136, 8, 0),
            6 => with_ports(33, 12, 0),
            7 if is_v4 && src & 1 == 0 => {
                icmp(Icmpv4Header::new(Icmpv4Type::EchoRequest(echo)).to_bytes().to_vec(), (src, src))
            }
            7 if is_v4 => icmp(Icmpv4Header::new(Icmpv4Type::EchoReply(echo)).to_bytes().to_vec(), (src, src)),
            7 if src & 1 == 0 => icmp(Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(), (src, src)),
            7 => icmp(Icmpv6Header::new(Icmpv6Type::EchoReply(echo)).to_bytes().to_vec(), (src, src)),
            // Any other type.
            8 => {
                let kind = dst.to_be_bytes()[0];
                let kind = if [0, 8, 128, 129].contains(&kind) { 3 } else { kind };
                let is_icmp_error = if is_v4 { [3, 4, 5, 11, 12].contains(&kind) } else { kind < 128 };
                Message { is_icmp_error, ..icmp([kind, 1, 0, 0, 9, 9, 9, 9].to_vec(), (0, 0)) }
            }
            _ => Message { ports: (0, 0), has_ports: false, ..with_ports([4, 41, 47, 50, 59, 89][options % 6], 8, 0) },
        }
    });
    (header, vec(any::<u8>(), 0..24)).prop_map(|(mut message, payload)| {
        message.bytes.extend(payload);
        message
    })
}

/// An IP packet, of which `flow` lacks what the link layer adds.
fn v4() -> impl Strategy<Value = (Vec<u8>, Flow)> {
    let fragment = prop_oneof![4 => Just((0, false)), 1 => Just((0, true)), 1 => (1..0x2000_u16, any::<bool>())];
    (any::<([u8; 4], [u8; 4])>(), any::<u16>(), 0..=10_usize, fragment, message(true)).prop_map(
        |((source, destination), identification, options, (offset, more_fragments), message)| {
            let mut header = Ipv4Header::new(0, 64, message.protocol, source, destination).unwrap();
            header.set_payload_len(message.bytes.len()).unwrap();
            header.identification = identification;
            header.more_fragments = more_fragments;
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.options = Ipv4Options::try_from(&vec![1; options * 4][..]).unwrap();
            header.set_payload_len(message.bytes.len()).unwrap();
            let addresses = Addresses::V4(source, destination);
            let state = if message.has_ports { fragment_state(offset, more_fragments) } else { Fragment::Whole };
            let len = message.bytes.len();
            let part = part(identification.into(), len, offset, more_fragments);
            let flow = flow(&message, addresses, (state, part), header.header_len());
            ([header.to_bytes().to_vec(), message.bytes].concat(), flow)
        },
    )
}

/// An extension header that is no fragment header, without its next header.
#[derive(Clone, Debug)]
enum Extension {
    Raw(IpNumber, usize),
    Auth(usize),
}

/// Makes an extension header, given the number of what follows.
type WriteExtension = Box<dyn Fn(IpNumber) -> Vec<u8>>;

fn v6() -> impl Strategy<Value = (Vec<u8>, Flow)> {
    let extension = prop_oneof![
        Just(IpNumber::IPV6_ROUTE_HEADER)
            .prop_flat_map(|number| (0..3_usize).prop_map(move |len| Extension::Raw(number, len))),
        (0..3_usize).prop_map(|len| Extension::Raw(IpNumber::IPV6_DESTINATION_OPTIONS, len)),
        (0..6_usize).prop_map(Extension::Auth),
    ];
    let hop_by_hop = option::of((0..3_usize).prop_map(|len| Extension::Raw(IpNumber::IPV6_HEADER_HOP_BY_HOP, len)));
    // Offset, more fragments, identification, how many extension headers are before it.
    let fragment = option::of((
        prop_oneof![2 => Just(0), 1 => 1..0x2000_u16],
        any::<bool>(),
        any::<u32>(),
        any::<prop::sample::Index>(),
    ));
    (any::<([u8; 16], [u8; 16])>(), hop_by_hop, vec(extension, 0..=6), fragment, message(false)).prop_map(
        |((source, destination), hop_by_hop, extensions, fragment, message)| {
            let mut chain: Vec<(IpNumber, WriteExtension)> = Vec::new();
            for extension in hop_by_hop.into_iter().chain(extensions) {
                chain.push(match extension {
                    Extension::Raw(number, len) => (
                        number,
                        Box::new(move |next| {
                            Ipv6RawExtHeader::new_raw(next, &vec![0; 6 + len * 8]).unwrap().to_bytes().to_vec()
                        }),
                    ),
                    Extension::Auth(len) => (
                        IpNumber::AUTHENTICATION_HEADER,
                        Box::new(move |next| {
                            IpAuthHeader::new(next, 1, 2, &vec![3; len * 4]).unwrap().to_bytes().to_vec()
                        }),
                    ),
                });
            }
            let mut state = (Fragment::Whole, None);
            if let Some((offset, more, id, place)) = fragment {
                // Never before hop-by-hop options: those are first.
                let hop_by_hop = chain.first().is_some_and(|(number, _)| *number == IpNumber::IPV6_HEADER_HOP_BY_HOP);
                let first = usize::from(hop_by_hop);
                let at = first + place.index(chain.len() - first + 1);
                chain.insert(
                    at,
                    (
                        IpNumber::IPV6_FRAGMENTATION_HEADER,
                        Box::new(move |next| {
                            let offset = IpFragOffset::try_new(offset).unwrap();
                            Ipv6FragmentHeader::new(next, offset, more, id).to_bytes().to_vec()
                        }),
                    ),
                );
                state = (fragment_state(offset, more), Some((offset, more, id, at)));
                if state.0 == Fragment::Later {
                    // What follows is payload, whatever it looks like.
                    chain.truncate(at + 1);
                }
            }
            let mut next = message.protocol;
            let mut extensions = Vec::new();
            let mut part_len = message.bytes.len();
            for (index, (number, write)) in chain.iter().enumerate().rev() {
                if state.1.is_some_and(|(_, _, _, at)| at == index) {
                    part_len = extensions.len() + message.bytes.len();
                }
                extensions = [write(next), extensions].concat();
                next = *number;
            }
            let header = Ipv6Header {
                payload_length: u16::try_from(extensions.len() + message.bytes.len()).unwrap(),
                next_header: next,
                hop_limit: 64,
                source,
                destination,
                ..Default::default()
            };
            let addresses = Addresses::V6(source, destination);
            let part = state.1.map_or((0, 0, 0), |(offset, more, id, _)| part(id, part_len, offset, more));
            let mut flow = flow(&message, addresses, (state.0, part), 40 + extensions.len());
            if state.0 == Fragment::Later {
                flow.protocol = 0;
            }
            ([header.to_bytes().to_vec(), extensions, message.bytes].concat(), flow)
        },
    )
}

fn fragment_state(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// `offset`: in units of 8 bytes.
fn part(id: u32, len: usize, offset: u16, more: bool) -> (u32, u32, u32) {
    let len = u32::try_from(len).unwrap();
    (id, len, if more { 0 } else { u32::from(offset) * 8 + len })
}

fn flow(
    message: &Message,
    addresses: Addresses,
    (fragment, part): (Fragment, (u32, u32, u32)),
    headers_len: usize,
) -> Flow {
    let later = fragment == Fragment::Later;
    let (ports, header_len) = if later { ((0, 0), 0) } else { (message.ports, message.header_len) };
    Flow {
        outer_vlan: 0,
        inner_vlan: 0,
        protocol: message.protocol.0,
        addresses,
        ports,
        fragment,
        part: if fragment == Fragment::Whole { (0, 0, 0) } else { part },
        is_icmp_error: message.is_icmp_error && !later,
        headers_len_bytes: u32::try_from(headers_len + header_len).unwrap(),
    }
}

/// A valid frame.
pub fn frame() -> impl Strategy<Value = Frame> {
    let ip = prop_oneof![v4(), v6()];
    let tag = (any::<bool>(), prop_oneof![Just(0), 0..0x1000_u16], 0..8_u8);
    let ethernet = (vec(tag, 0..=2), any::<bool>());
    (option::weighted(0.8, ethernet), ip).prop_map(|(ethernet, (ip, mut flow))| {
        let ethertype = match flow.addresses {
            Addresses::V4(..) => EtherType::IPV4,
            Addresses::V6(..) => EtherType::IPV6,
        };
        let Some((mut tags, accelerated)) = ethernet else {
            return Frame { start: Start::Ip { offset: 0, ethertype_be: ethertype.0.to_be() }, bytes: ip, flow };
        };
        let ids: Vec<u16> = tags.iter().map(|(_, id, _)| *id).filter(|id| *id != 0).collect();
        flow.outer_vlan = ids.first().copied().unwrap_or(0);
        flow.inner_vlan = ids.get(1).copied().unwrap_or(0);
        let tci = |(_, id, priority): (bool, u16, u8)| u16::from(priority) << 13 | id;
        let vlan_tci = (accelerated && !tags.is_empty()).then(|| tci(tags.remove(0)));
        let mut bytes = Vec::new();
        let mut next = ethertype;
        for (service, id, priority) in tags.into_iter().rev() {
            let header = SingleVlanHeader {
                pcp: VlanPcp::try_new(priority).unwrap(),
                drop_eligible_indicator: false,
                vlan_id: VlanId::try_new(id).unwrap(),
                ether_type: next,
            };
            bytes = [header.to_bytes().to_vec(), bytes].concat();
            next = if service { EtherType::PROVIDER_BRIDGING } else { EtherType::VLAN_TAGGED_FRAME };
        }
        let header = Ethernet2Header { source: [2; 6], destination: [4; 6], ether_type: next };
        let bytes = [header.to_bytes().to_vec(), bytes].concat();
        flow.headers_len_bytes += u32::try_from(bytes.len()).unwrap();
        Frame { start: Start::Ethernet { vlan_tci }, bytes: [bytes, ip].concat(), flow }
    })
}

/// A frame with an ICMP error about a packet, of which so many bytes are quoted; the error's flow, and the packet's as it was.
pub fn icmp_error() -> impl Strategy<Value = (Frame, Flow, usize)> {
    let about = prop_oneof![v4(), v6()];
    (about, any::<u8>(), option::of(0..0x1000_u16), any::<prop::sample::Index>()).prop_map(
        |((quote, about), kind, vlan, cut)| {
            let len = cut.index(quote.len() + 1);
            let kind = match about.addresses {
                Addresses::V4(..) => [3, 4, 5, 11, 12][usize::from(kind) % 5],
                Addresses::V6(..) => kind % 128,
            };
            let message = [&[kind, 0, 9, 9, 9, 9, 9, 9], &quote[..len]].concat();
            let mut bytes = Vec::new();
            let ethernet = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
            let (addresses, protocol) = match about.addresses {
                Addresses::V4(..) => {
                    ethernet.ipv4([1; 4], [2; 4], 9).write(&mut bytes, IpNumber::ICMP, &message).unwrap();
                    (Addresses::V4([1; 4], [2; 4]), 1)
                }
                Addresses::V6(..) => {
                    ethernet.ipv6([1; 16], [2; 16], 9).write(&mut bytes, IpNumber::IPV6_ICMP, &message).unwrap();
                    (Addresses::V6([1; 16], [2; 16]), 58)
                }
            };
            let flow = Flow {
                outer_vlan: vlan.unwrap_or(0),
                inner_vlan: 0,
                protocol,
                addresses,
                ports: (0, 0),
                fragment: Fragment::Whole,
                part: (0, 0, 0),
                is_icmp_error: true,
                headers_len_bytes: u32::try_from(bytes.len() - message.len()).unwrap(),
            };
            (Frame { start: Start::Ethernet { vlan_tci: vlan }, bytes, flow }, about, len)
        },
    )
}
