//! What a packet must have, as tests of single facts.
//!
//! In: primitives, and what names mean. Out: formulas of tests, and the sets that they name. Addresses of one kind are tested
//! together: three or more of them as a set.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netpath_ebpf::trace::{Kind, Test, fact};

use super::super::words::Word;
use super::super::{End, Field, FilterError, Logic, Named, Names, Ports, Primitive};
use super::names;

type Formula = Logic<Test>;
type Lowered = Result<Formula, FilterError>;

/// Of [`fact::PROTOCOL`].
const FAMILY: u32 = 0xff;
const PROTOCOL: u32 = 0xff00;
const PROTOCOL_SHIFT: u32 = 8;
const ICMP_TYPE: u32 = 0x00ff_0000;
const ICMP_TYPE_SHIFT: u32 = 16;
/// Set for later fragments alone, which are 2.
const LATER_FRAGMENT: u32 = 2 << 24;

/// More addresses than these are a set.
const FEW: usize = 2;

/// Compiles primitives, and numbers their sets.
pub struct Lowering<'a, N> {
    names: &'a N,
    sets: BTreeMap<BTreeSet<IpAddr>, u32>,
}

impl<'a, N: Names> Lowering<'a, N> {
    pub fn new(names: &'a N) -> Self {
        Self { names, sets: BTreeMap::new() }
    }

    /// Members of the sets, sorted.
    pub fn members(&self) -> Vec<(u32, [u32; 4])> {
        let members = self.sets.iter().flat_map(|(set, number)| set.iter().map(|address| (*number, words(*address))));
        let mut members: Vec<_> = members.collect();
        members.sort_unstable();
        members
    }

    pub fn lower(&mut self, expression: &Logic<Primitive>) -> Lowered {
        match expression {
            Logic::Is(primitive) => self.primitive(primitive),
            Logic::Not(inner) => Ok(self.lower(inner)?.not()),
            Logic::All(parts) => {
                Ok(Logic::all(parts.iter().map(|part| self.lower(part)).collect::<Result<Vec<_>, _>>()?))
            }
            Logic::Any(parts) => self.any(parts),
        }
    }

    /// One of several: addresses among them together.
    fn any(&mut self, parts: &[Logic<Primitive>]) -> Lowered {
        let mut nets: BTreeMap<End, BTreeSet<IpNet>> = BTreeMap::new();
        let mut formulas = Vec::new();
        for part in parts {
            match part {
                Logic::Is(Primitive::Net(end, net)) if *end != End::Both => {
                    nets.entry(*end).or_default().insert(*net);
                }
                other => formulas.push(self.lower(other)?),
            }
        }
        formulas.extend(nets.into_iter().map(|(end, nets)| self.within(end, &nets)));
        Ok(Logic::any(formulas))
    }

    fn primitive(&mut self, primitive: &Primitive) -> Lowered {
        Ok(match primitive {
            Primitive::Family(family) => protocol_is(Some(*family), None),
            Primitive::Protocol { family, number } => protocol_is(*family, Some(*number)),
            Primitive::Net(end, net) => self.within(*end, &BTreeSet::from([*net])),
            Primitive::Port { protocol, end, ports } => {
                let (low, high) = self.ports(ports)?;
                let port = at(*end, |source| port_is(source, low, high));
                match protocol {
                    Some(number) => Logic::all([protocol_is(None, Some(*number)), port]),
                    None => port,
                }
            }
            Primitive::Pod(end, name) => {
                let addresses = self.names.pod(&name.text);
                self.named(*end, name, Named::Pod, addresses)?
            }
            Primitive::Namespace(end, name) => {
                let addresses = self.names.namespace(&name.text);
                self.named(*end, name, Named::Namespace, addresses)?
            }
            Primitive::Service(end, name) => self.service(*end, name)?,
            Primitive::Device(name) => match self.names.device(&name.text) {
                Some(index) => range(fact::DEVICE, u32::MAX, index, index),
                None => return Err(names::unknown(self.names, name, Named::Device)),
            },
            Primitive::Field { field, mask, low, high, inverted } => field_is(*field, *mask, *low, *high, *inverted),
            Primitive::Sequence(number) => sequence_is(*number),
        })
    }

    fn ports(&self, ports: &Ports) -> Result<(u16, u16), FilterError> {
        match ports {
            Ports::Numbers(low, high) => Ok((*low, *high)),
            Ports::Name(name) => names::port(self.names, name).map(|port| (port, port)),
            Ports::Names(range) => names::port_range(self.names, range),
        }
    }

    fn named(&mut self, end: End, name: &Word, kind: Named, addresses: Vec<IpAddr>) -> Lowered {
        if addresses.is_empty() {
            return Err(names::unknown(self.names, name, kind));
        }
        Ok(self.within(end, &addresses.into_iter().map(IpNet::from).collect()))
    }

    /// An address in one of these networks.
    fn within(&mut self, end: End, nets: &BTreeSet<IpNet>) -> Formula {
        Logic::any([4, 6].map(|family| {
            let of_family = |net: &&IpNet| net.addr().is_ipv4() == (family == 4);
            let (hosts, nets): (Vec<&IpNet>, Vec<_>) =
                nets.iter().filter(of_family).partition(|net| net.prefix_len() == net.max_prefix_len());
            let mut one_of: Vec<(Kind, [u32; 4], [u32; 4])> = Vec::new();
            if hosts.len() > FEW {
                let set = self.set(hosts.iter().map(|net| net.addr()).collect());
                one_of.push((Kind::Set, [set, 0, 0, 0], [0; 4]));
            } else {
                one_of.extend(hosts.iter().map(|net| (Kind::Address, words(net.addr()), [u32::MAX; 4])));
            }
            one_of.extend(nets.iter().map(|net| (Kind::Address, words(net.addr()), words(net.netmask()))));
            // An address of the one family can look like one of the other if all but its first word is zero.
            let can_be_other = hosts.iter().chain(&nets).any(|net| words(net.addr())[1..] == [0; 3]);
            let address = at(end, |source| {
                Logic::any(one_of.iter().map(|(kind, low, high)| {
                    let fact = if source { fact::SOURCE } else { fact::DESTINATION };
                    Logic::Is(Test { kind: *kind as u8, fact, low: *low, high: *high, ..Test::default() })
                }))
            });
            let family = if can_be_other { protocol_is(Some(family), None) } else { Logic::ALWAYS };
            Logic::all([family, address])
        }))
    }

    fn set(&mut self, addresses: BTreeSet<IpAddr>) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "fewer than the filter has characters")]
        let next = self.sets.len() as u32;
        *self.sets.entry(addresses).or_insert(next)
    }

    /// An address of the service, with its protocol and port there.
    fn service(&mut self, end: End, name: &Word) -> Lowered {
        let mut by_protocol: BTreeMap<u8, BTreeMap<u16, BTreeSet<IpNet>>> = BTreeMap::new();
        for (protocol, address, port) in names::service(self.names, name)? {
            by_protocol.entry(protocol).or_default().entry(port).or_default().insert(address.into());
        }
        let mut protocols = Vec::new();
        for (protocol, by_port) in by_protocol {
            let mut by_addresses: BTreeMap<BTreeSet<IpNet>, BTreeSet<u16>> = BTreeMap::new();
            for (port, addresses) in by_port {
                by_addresses.entry(addresses).or_default().insert(port);
            }
            let one_of = at(end, |source| {
                let end = if source { End::Source } else { End::Destination };
                Logic::any(by_addresses.iter().map(|(addresses, ports)| {
                    let port = Logic::any(ports.iter().map(|port| port_is(source, *port, *port)));
                    Logic::all([port, self.within(end, addresses)])
                }))
            });
            protocols.push(Logic::all([protocol_is(None, Some(protocol)), one_of]));
        }
        Ok(Logic::any(protocols))
    }
}

/// The same at the ends of a packet that are meant; `of` is asked for the source or not.
fn at(end: End, mut of: impl FnMut(bool) -> Formula) -> Formula {
    match end {
        End::Source => of(true),
        End::Destination => of(false),
        End::Either => Logic::any([of(true), of(false)]),
        End::Both => Logic::all([of(true), of(false)]),
    }
}

fn range(fact: u8, mask: u32, low: u32, high: u32) -> Formula {
    if low > high || low > mask {
        return Logic::NEVER;
    }
    if low == 0 && high >= mask {
        return Logic::ALWAYS;
    }
    let (low, high) = ([low, 0, 0, 0], [high, mask, 0, 0]);
    Logic::Is(Test { kind: Kind::Range as u8, fact, low, high, ..Test::default() })
}

fn protocol_is(family: Option<u8>, number: Option<u8>) -> Formula {
    let mask = family.map_or(0, |_| FAMILY) | number.map_or(0, |_| PROTOCOL);
    let value = u32::from(family.unwrap_or(0)) | u32::from(number.unwrap_or(0)) << PROTOCOL_SHIFT;
    range(fact::PROTOCOL, mask, value, value)
}

/// Ports are numbers of 16 bits: [`fact::NO_PORT`] is none of them.
fn port_is(source: bool, low: u16, high: u16) -> Formula {
    let fact = if source { fact::SOURCE_PORT } else { fact::DESTINATION_PORT };
    range(fact, u32::MAX, low.into(), high.into())
}

/// A packet that has the transport header of a protocol.
fn begins(family: Option<u8>, protocol: u8) -> Formula {
    let value = u32::from(family.unwrap_or(0)) | u32::from(protocol) << PROTOCOL_SHIFT;
    range(fact::PROTOCOL, LATER_FRAGMENT | PROTOCOL | family.map_or(0, |_| FAMILY), value, value)
}

fn field_is(field: Field, mask: u32, low: u32, high: u32, inverted: bool) -> Formula {
    let (has_field, value) = match field {
        Field::TcpFlags => (begins(None, 6), range(fact::TCP_FLAGS, mask & 0xff, low, high)),
        Field::TcpSequence => (begins(None, 6), range(fact::SEQUENCE, mask, low, high)),
        Field::IcmpType => (begins(Some(4), 1), icmp_type_is(mask, low, high)),
        Field::Icmp6Type => (begins(Some(6), 58), icmp_type_is(mask, low, high)),
        Field::Length => (Logic::ALWAYS, range(fact::LENGTH, mask, low, high)),
    };
    Logic::all([has_field, if inverted { value.not() } else { value }])
}

fn icmp_type_is(mask: u32, low: u32, high: u32) -> Formula {
    let mask = mask & (ICMP_TYPE >> ICMP_TYPE_SHIFT);
    if low > mask {
        return Logic::NEVER;
    }
    range(fact::PROTOCOL, mask << ICMP_TYPE_SHIFT, low << ICMP_TYPE_SHIFT, high.min(mask) << ICMP_TYPE_SHIFT)
}

fn sequence_is(number: u32) -> Formula {
    let sequence = range(fact::SEQUENCE, u32::MAX, number, number);
    if number != 0 {
        // It is 0 of packets that have none.
        return sequence;
    }
    let is_echo = |family, protocol, kinds: [u32; 2]| {
        let kinds = kinds.map(|kind| icmp_type_is(0xff, kind, kind));
        Logic::all([begins(Some(family), protocol), Logic::any(kinds)])
    };
    Logic::all([sequence, Logic::any([begins(None, 6), is_echo(4, 1, [0, 8]), is_echo(6, 58, [128, 129])])])
}

/// As packets have it: network byte order, an IPv4 address in the first word.
fn words(address: IpAddr) -> [u32; 4] {
    let mut words = [0; 4];
    match address {
        IpAddr::V4(address) => words[0] = u32::from_ne_bytes(address.octets()),
        IpAddr::V6(address) => {
            for (word, bytes) in words.iter_mut().zip(address.octets().as_chunks().0) {
                *word = u32::from_ne_bytes(*bytes);
            }
        }
    }
    words
}
