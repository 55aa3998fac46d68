//! What stands before a value: a protocol, which end, and what the value is.
//!
//! In: the words. Out: a [`Head`], which makes primitives of values.

use super::super::lex::Kind;
use super::super::words::Word;
use super::super::{End, Primitive, values};
use super::{Parsed, Parser};

/// A protocol that is a word of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    pub family: Option<u8>,
    /// `None`: IP itself.
    pub number: Option<u8>,
}

const PROTOCOLS: [Protocol; 7] = [
    Protocol { name: "ip", family: Some(4), number: None },
    Protocol { name: "ip6", family: Some(6), number: None },
    Protocol { name: "tcp", family: None, number: Some(6) },
    Protocol { name: "udp", family: None, number: Some(17) },
    Protocol { name: "sctp", family: None, number: Some(132) },
    Protocol { name: "icmp", family: Some(4), number: Some(1) },
    Protocol { name: "icmp6", family: Some(6), number: Some(58) },
];

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Nothing says so: an address or a network.
    Address,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    Pod,
    Namespace,
    Service,
    Device,
}

const TYPES: [(&str, Type, &str); 9] = [
    ("host", Type::Host, "an address"),
    ("net", Type::Net, "a network, as in net 10.0.0.0/16,"),
    ("port", Type::Port, "a port"),
    ("portrange", Type::PortRange, "a range of ports, as in portrange 8000-8080,"),
    ("proto", Type::Proto, "a protocol"),
    ("pod", Type::Pod, "a pod, as in pod default/web,"),
    ("ns", Type::Namespace, "a namespace"),
    ("svc", Type::Service, "a service, as in svc default/web:80,"),
    ("dev", Type::Device, "a device"),
];

const OTHERS: [&str; 9] = ["src", "dst", "less", "greater", "len", "seq", "and", "or", "not"];

/// tcpdump's words that mean nothing here, and what to write.
const ELSEWHERE: [(&[&str], &str); 8] = [
    (
        &["arp", "rarp", "ether", "wlan", "fddi", "tr", "stp", "lldp"],
        "netpath traces IP packets: leave it out, or use tcpdump -e",
    ),
    (
        &["vlan", "mpls", "pppoed", "pppoes", "geneve", "vxlan"],
        "netpath finds a packet behind its VLAN tags and shows the outer packet of a tunnel: leave it out",
    ),
    (&["esp", "ah", "igmp", "pim", "vrrp", "carp", "igrp"], "give it by name or number behind proto: proto esp"),
    (&["ifname", "on", "ifindex"], "a device is dev NAME: write dev eth0"),
    (&["inbound", "outbound"], "a trip shows where a packet came in and left: leave it out, or use dev NAME"),
    (&["broadcast", "multicast", "gateway", "protochain"], "give the addresses: dst net 224.0.0.0/4, dst net ff00::/8"),
    (&["mask", "netmask"], "give the network's length: write net 10.0.0.0/8"),
    (&["namespace", "service", "device", "interface"], "the words are ns NAME, svc NS/NAME, dev NAME: write it so"),
];

/// Why a word of tcpdump's does not belong here.
pub fn elsewhere(text: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(words, _)| words.contains(&text)).map(|(_, why)| *why)
}

/// All words of the language.
pub fn words() -> impl Iterator<Item = &'static str> {
    let types = TYPES.into_iter().map(|(name, ..)| name);
    types.chain(PROTOCOLS.into_iter().map(|protocol| protocol.name)).chain(OTHERS)
}

/// Whether it is a word of the language.
pub fn is_word(text: &str) -> bool {
    words().any(|word| word == text)
}

/// Whether it looks like an address, a number, or a name on this node.
pub fn is_value(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit()) || text.contains(['/', ':', '.'])
}

/// What stands before a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub protocol: Option<Protocol>,
    pub end: End,
    pub kind: Type,
}

impl Head {
    /// What must follow.
    pub fn wants(self) -> &'static str {
        TYPES.into_iter().find(|(_, kind, _)| *kind == self.kind).map_or("an address", |(.., wants)| wants)
    }

    /// Whether the value is a name that may be any word.
    pub fn is_name(self) -> bool {
        matches!(self.kind, Type::Proto | Type::Pod | Type::Namespace | Type::Service | Type::Device)
    }

    /// The IP version that it is limited to.
    pub fn family(self) -> Option<u8> {
        self.protocol.and_then(|protocol| protocol.family)
    }

    /// A primitive of a value.
    pub fn value(self, word: &Word) -> Parsed<Primitive> {
        let Self { protocol, end, kind } = self;
        let family = self.family();
        match kind {
            Type::Address if word.text.contains('/') => values::net(word, family).map(|net| Primitive::Net(end, net)),
            Type::Address | Type::Host => values::host(word, family).map(|net| Primitive::Net(end, net)),
            Type::Net => values::net(word, family).map(|net| Primitive::Net(end, net)),
            Type::Port | Type::PortRange => {
                let ports = values::ports(word, kind == Type::PortRange)?;
                Ok(Primitive::Port { protocol: protocol.and_then(|protocol| protocol.number), end, ports })
            }
            Type::Proto => values::protocol(word).map(|number| Primitive::Protocol { family, number }),
            Type::Pod => Ok(Primitive::Pod(end, word.clone())),
            Type::Namespace => Ok(Primitive::Namespace(end, word.clone())),
            Type::Service => Ok(Primitive::Service(end, word.clone())),
            Type::Device => Ok(Primitive::Device(word.clone())),
        }
    }

    /// Whether its words go together; `first` is the first of them.
    fn check(self, first: &Word, has_end: bool) -> Parsed<()> {
        let name = TYPES.into_iter().find(|(_, kind, _)| *kind == self.kind).map_or("host", |(name, ..)| name);
        if has_end && matches!(self.kind, Type::Proto | Type::Device) {
            return Err(first.error(format_args!("{name} has no direction: leave src and dst out")));
        }
        let number = self.protocol.map(|protocol| protocol.number);
        let fits = match (self.kind, number) {
            (_, None) => true,
            (Type::Address | Type::Host | Type::Net | Type::Proto, Some(number)) => number.is_none(),
            (Type::Port | Type::PortRange, Some(number)) => matches!(number, Some(6 | 17 | 132)),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        let protocol = &first.text;
        Err(first.error(format_args!("it does not go with {name}: join them, as in {protocol} and {name} …")))
    }
}

impl Parser<'_> {
    /// The head that begins with this word; or a protocol that stands alone.
    pub(super) fn head(&mut self, first: &Word) -> Parsed<Result<Head, Primitive>> {
        let protocol = PROTOCOLS.into_iter().find(|protocol| protocol.name == first.text);
        if protocol.is_none() {
            self.next -= 1;
        }
        let end = self.end_words();
        let kind = TYPES.into_iter().find(|(name, ..)| self.eat_word(name)).map(|(_, kind, _)| kind);
        let kind = match (protocol, end, kind) {
            (_, _, Some(kind)) => kind,
            (_, Some(_), None) => Type::Address,
            (Some(Protocol { family: Some(family), number: None, .. }), None, None) => {
                return Ok(Err(Primitive::Family(family)));
            }
            (Some(Protocol { family, number: Some(number), .. }), None, None) => {
                return Ok(Err(Primitive::Protocol { family, number }));
            }
            _ => return Err(first.error("it cannot stand here: write a condition, as in host 10.0.0.21")),
        };
        let head = Head { protocol, end: end.unwrap_or(End::Either), kind };
        head.check(first, end.is_some())?;
        Ok(Ok(head))
    }

    /// `src`, `dst`, `src or dst`, `src and dst`.
    fn end_words(&mut self) -> Option<End> {
        let (end, other) = if self.eat_word("src") {
            (End::Source, "dst")
        } else if self.eat_word("dst") {
            (End::Destination, "src")
        } else {
            return None;
        };
        let start = self.next;
        for (joint, joined) in [(Kind::Or, End::Either), (Kind::And, End::Both)] {
            if self.eat(joint) && self.eat_word(other) {
                return Some(joined);
            }
            self.next = start;
        }
        Some(end)
    }
}
