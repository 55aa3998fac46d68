//! The chain that the kernel runs holds for what the expression says, packet by packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netpath_ebpf::trace::{ACCEPT, REJECT, Sighting, TESTS};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::words::Word;
use super::super::{End, Expression, Field, Logic, Names, Ports, Primitive};
use super::{DEVICES, Node, PODS, SERVICES, packet};

const ADDRESSES: [&str; 14] = [
    "10.0.0.21",
    "10.0.0.22",
    "10.0.0.23",
    "10.0.0.24",
    "172.20.0.10",
    "172.20.0.53",
    "198.51.100.7",
    "a00:16::",
    "a00:15::",
    "2001:db8::21",
    "2001:db8::22",
    "fd00::53",
    "ac14:35::",
    "::",
];

fn ends(packet: &Sighting) -> [(IpAddr, Option<u16>); 2] {
    let address = |words: [u32; 4]| -> IpAddr {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        if packet.family == 4 {
            Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()
        } else {
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).expect("16 bytes")).into()
        }
    };
    let has_ports = [6, 17, 132].contains(&packet.protocol()) && packet.fragment != 2;
    let port = |port_be: u16| has_ports.then(|| u16::from_be(port_be));
    [(address(packet.src_be), port(packet.ports.src_be)), (address(packet.dst_be), port(packet.ports.dst_be))]
}

fn at(end: End, packet: &Sighting, is_it: impl Fn(IpAddr, Option<u16>) -> bool) -> bool {
    let [source, destination] = ends(packet).map(|(address, port)| is_it(address, port));
    match end {
        End::Source => source,
        End::Destination => destination,
        End::Either => source || destination,
        End::Both => source && destination,
    }
}

/// What the primitive says, without tests, sets or masks.
fn holds(primitive: &Primitive, packet: &Sighting) -> bool {
    let protocol = packet.protocol();
    let has_header = packet.fragment != 2;
    match primitive {
        Primitive::Family(family) => packet.family == *family,
        Primitive::Protocol { family, number } => {
            family.is_none_or(|family| family == packet.family) && protocol == u32::from(*number)
        }
        Primitive::Net(end, net) => at(*end, packet, |address, _| net.contains(&address)),
        Primitive::Port { protocol: wanted, end, ports } => {
            let Ports::Numbers(low, high) = ports else { unreachable!("not generated") };
            let is_port = |_, port: Option<u16>| port.is_some_and(|port| (*low..=*high).contains(&port));
            wanted.is_none_or(|wanted| protocol == u32::from(wanted)) && at(*end, packet, is_port)
        }
        Primitive::Pod(end, name) => at(*end, packet, |address, _| Node.pod(&name.text).contains(&address)),
        Primitive::Namespace(end, name) => at(*end, packet, |address, _| Node.namespace(&name.text).contains(&address)),
        Primitive::Service(end, name) => at(*end, packet, |address, port| {
            let here = |(number, of, at): (u8, IpAddr, u16)| (number.into(), of, Some(at)) == (protocol, address, port);
            Node.service(&name.text).into_iter().any(here)
        }),
        Primitive::Device(name) => Node.device(&name.text) == Some(packet.hook >> 1),
        Primitive::Field { field, mask, low, high, inverted } => {
            let value = match field {
                Field::TcpFlags if has_header && protocol == 6 => packet.tcp_flags.into(),
                Field::TcpSequence if has_header && protocol == 6 => packet.seq,
                Field::IcmpType if has_header && (packet.family, protocol) == (4, 1) => packet.icmp_type.into(),
                Field::Icmp6Type if has_header && (packet.family, protocol) == (6, 58) => packet.icmp_type.into(),
                Field::Length => packet.len_bytes,
                _ => return false,
            };
            (low..=high).contains(&&(value & mask)) != *inverted
        }
        Primitive::Sequence(number) => {
            let is_echo = matches!((packet.family, protocol, packet.icmp_type), (4, 1, 0 | 8) | (6, 58, 128 | 129));
            has_header && (protocol == 6 || is_echo) && packet.seq == *number
        }
    }
}

fn says(expression: &Logic<Primitive>, packet: &Sighting) -> bool {
    match expression {
        Logic::Is(primitive) => holds(primitive, packet),
        Logic::Not(inner) => !says(inner, packet),
        Logic::All(parts) => parts.iter().all(|part| says(part, packet)),
        Logic::Any(parts) => parts.iter().any(|part| says(part, packet)),
    }
}

/// A packet as the parser makes them: what it does not have is 0.
fn packets() -> impl Strategy<Value = Sighting> {
    let address = || select(&ADDRESSES[..]);
    let port = || select(vec![0_u16, 53, 80, 443, 5000, 65_535]);
    let of_tcp = (select(vec![0_u8, 1, 2, 0x12, 0x18, 0xff]), select(vec![0_u32, 1, 75_297, u32::MAX]));
    let rest = (select(vec![0_u8, 8, 128, 3]), 0..3_u8, select(vec![2_u32, 7, 9]), select(vec![0_u32, 60, 100, 1514]));
    let protocol = select(vec![1_u8, 6, 17, 58, 132, 47, 136]);
    (protocol, address(), address(), port(), port(), of_tcp, rest).prop_filter_map(
        "of one family",
        |(protocol, source, destination, sport, dport, (flags, seq), (icmp, fragment, device, len))| {
            let mut packet = packet(protocol, (source, sport), (destination, dport));
            packet.fragment = fragment;
            let is_icmp = protocol == if packet.family == 4 { 1 } else { 58 };
            let is_echo = is_icmp && if packet.family == 4 { icmp == 0 || icmp == 8 } else { icmp >> 1 == 64 };
            if fragment != 2 {
                packet.tcp_flags = if protocol == 6 { flags } else { 0 };
                packet.icmp_type = if is_icmp { icmp } else { 0 };
                packet.seq = if protocol == 6 || is_echo { seq } else { 0 };
            }
            (packet.hook, packet.len_bytes) = (device << 1 | packet.hook & 1, len);
            (source.contains(':') == destination.contains(':')).then_some(packet)
        },
    )
}

fn primitives() -> impl Strategy<Value = Primitive> {
    let end = || select(vec![End::Either, End::Both, End::Source, End::Destination]);
    let name = |names: Vec<&'static str>| select(names).prop_map(|name| Word::new(name, 0));
    let net = (select(&ADDRESSES[..]), 0..=128_u8).prop_map(|(address, len)| {
        let address: IpAddr = address.parse().expect("an address");
        let len = if len > 64 { 128 } else { len };
        IpNet::new(address, len.min(if address.is_ipv4() { 32 } else { 128 })).expect("a network").trunc()
    });
    let port = || select(vec![0_u16, 53, 80, 443, 5000, 65_535]);
    let protocol = || select(vec![1_u8, 6, 17, 58, 132, 47]);
    let field = select(vec![Field::TcpFlags, Field::TcpSequence, Field::IcmpType, Field::Icmp6Type, Field::Length]);
    let value = || select(vec![0_u32, 1, 2, 8, 0x12, 100, 128, 256, 75_297, u32::MAX]);
    let mask = select(vec![u32::MAX, 0, 2, 0x12, 0xff, 0x100]);
    let family = || prop::option::of(select(vec![4_u8, 6]));
    prop_oneof![
        select(vec![4, 6]).prop_map(Primitive::Family),
        (family(), protocol()).prop_map(|(family, number)| Primitive::Protocol { family, number }),
        (end(), net).prop_map(|(end, net)| Primitive::Net(end, net)),
        (prop::option::of(select(vec![6_u8, 17, 132])), end(), port(), port()).prop_map(
            |(protocol, end, one, other)| {
                Primitive::Port { protocol, end, ports: Ports::Numbers(one.min(other), one.max(other)) }
            }
        ),
        (end(), name(PODS.map(|(pod, _)| pod).to_vec())).prop_map(|(end, name)| Primitive::Pod(end, name)),
        (end(), name(vec!["default", "odd", "tcp"])).prop_map(|(end, name)| Primitive::Namespace(end, name)),
        (end(), name(SERVICES.map(|(service, ..)| service).to_vec()))
            .prop_map(|(end, name)| Primitive::Service(end, name)),
        name(DEVICES.map(|(device, _)| device).to_vec()).prop_map(Primitive::Device),
        (field, mask, value(), value(), any::<bool>())
            .prop_map(|(field, mask, low, high, inverted)| Primitive::Field { field, mask, low, high, inverted }),
        value().prop_map(Primitive::Sequence),
    ]
}

fn expressions() -> impl Strategy<Value = Logic<Primitive>> {
    primitives().prop_map(Logic::Is).prop_recursive(4, 12, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Logic::not),
            prop::collection::vec(inner.clone(), 0..5).prop_map(Logic::all),
            prop::collection::vec(inner, 0..5).prop_map(Logic::any),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_chain_accepts_what_the_expression_says(
        expression in expressions(),
        packets in prop::collection::vec(packets(), 32),
    ) {
        if let Ok(filter) = Expression(expression.clone()).compile(&Node) {
            for (at, test) in filter.tests.iter().enumerate() {
                for next in [test.then, test.otherwise] {
                    prop_assert!(next == ACCEPT || next == REJECT || usize::from(next) > at && usize::from(next) < TESTS);
                }
            }
            prop_assert!(filter.members.is_sorted());
            for packet in packets {
                prop_assert_eq!(filter.accepts(&packet), says(&expression, &packet), "{:?}", packet);
            }
        }
    }

    /// What it requires of pods is true of each packet that it accepts.
    #[test]
    fn packets_belong_to_the_required_pods(
        expression in expressions(),
        packets in prop::collection::vec(packets(), 32),
    ) {
        if let Some(pods) = Expression(expression.clone()).required_pods() {
            let addresses: Vec<IpAddr> = pods.iter().flat_map(|pod| Node.pod(pod)).collect();
            for packet in packets.iter().filter(|packet| says(&expression, packet)) {
                prop_assert!(ends(packet).iter().any(|(address, _)| addresses.contains(address)));
            }
        }
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(text in "([ -~é]|tcp|host|port|and|or|not|\\(|\\)|10\\.0\\.0\\.1|tcp\\[13\\]| ){0,40}") {
        if let Err(error) = super::parse(&text).and_then(|expression| expression.compile(&Node)) {
            prop_assert!(super::is_plain(&error));
        }
    }
}
