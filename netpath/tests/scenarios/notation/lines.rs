//! What was seen and what is known of connections and services, a line each.

use std::net::{IpAddr, SocketAddr};

use netpath::model::{Direction, NameSource};
use netpath::snapshot::{
    Connection, Counts, Device, KernelDrop, Observation, Reason, ServiceRecord, Tuple, Unattributed,
};

/// `DEVICE rx|tx [vlan ID] PROTO END > END [about PROTO END > END] PACKETS p BYTES B [WIRE W]`
pub(super) fn observation(line: &str, devices: &[Device]) -> Option<Observation> {
    let mut words = line.split_whitespace().peekable();
    let (ifindex, direction) = hook(&mut words, devices)?;
    let mut vlans = [0; 2];
    if words.next_if_eq(&"vlan").is_some() {
        vlans[0] = words.next()?.parse().ok()?;
    }
    let tuple = tuple(words.next()?, words.next()?, words.next()?, words.next()?)?;
    let about = match words.next_if_eq(&"about") {
        Some(_) => Some(self::tuple(words.next()?, words.next()?, words.next()?, words.next()?)?),
        None => None,
    };
    Some(Observation { ifindex, direction, vlans, tuple, about, counts: counts(&mut words)? })
}

/// `DEVICE rx|tx REASON PACKETS p BYTES B`
pub(super) fn unattributed(line: &str, devices: &[Device]) -> Option<Unattributed> {
    let mut words = line.split_whitespace();
    let (ifindex, direction) = hook(&mut words, devices)?;
    let reason = match words.next()? {
        "non_ip" => Reason::NonIp,
        "unparsed" => Reason::Unparsed,
        "orphan_fragment" => Reason::OrphanFragment,
        "map_full" => Reason::MapFull,
        _ => return None,
    };
    Some(Unattributed { ifindex, direction, reason, counts: counts(&mut words)? })
}

/// `[zone N] PROTO END > END | END > END`: the original tuple, and the reply's.
pub(super) fn connection(line: &str) -> Option<Connection> {
    let mut words = line.split_whitespace().peekable();
    let zone = match words.next_if_eq(&"zone") {
        Some(_) => words.next()?.parse().ok()?,
        None => 0,
    };
    let proto = words.next()?;
    let original = tuple(proto, words.next()?, words.next()?, words.next()?)?;
    (words.next()? == "|").then_some(())?;
    Some(Connection { zone, original, reply: tuple(proto, words.next()?, words.next()?, words.next()?)? })
}

/// `[in_node|elsewhere] PROTO END > END PACKETS p REASON|- [FUNCTION+OFFSET]`; without the first word, the namespace is unknown.
pub(super) fn kernel_drop(line: &str) -> Option<KernelDrop> {
    let mut words = line.split_whitespace().peekable();
    let in_node = words.next_if(|word| matches!(*word, "in_node" | "elsewhere")).map(|word| word == "in_node");
    let tuple = tuple(words.next()?, words.next()?, words.next()?, words.next()?)?;
    let packets = words.next()?.strip_suffix('p')?.parse().ok()?;
    let reason = Some(words.next()?).filter(|word| *word != "-").map(ToOwned::to_owned);
    Some(KernelDrop { tuple, reason, location: words.next().map(ToOwned::to_owned), in_node, packets })
}

/// `PROTO ADDRESS:PORT NAME`, as kube-proxy's rules say.
pub(super) fn service(line: &str) -> Option<ServiceRecord> {
    let mut words = line.split_whitespace();
    let proto = protocol(words.next()?)?;
    let (address, port) = end(words.next()?)?;
    Some(ServiceRecord { source: NameSource::KubeProxy, name: words.next()?.to_owned(), proto, address, port })
}

fn direction(word: &str) -> Option<Direction> {
    match word {
        "rx" => Some(Direction::Rx),
        "tx" => Some(Direction::Tx),
        _ => None,
    }
}

fn hook<'a>(words: &mut impl Iterator<Item = &'a str>, devices: &[Device]) -> Option<(u32, Direction)> {
    let name = words.next()?;
    let direction = direction(words.next()?)?;
    Some((devices.iter().find(|device| device.facts.name == name)?.facts.ifindex, direction))
}

fn counts<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Counts> {
    let packets = words.next()?.strip_suffix('p')?.parse().ok()?;
    let bytes = words.next()?.strip_suffix('B')?.parse().ok()?;
    let wire_bytes = words.next().map_or(Some(bytes), |word| word.strip_suffix('W')?.parse().ok())?;
    words.next().is_none().then_some(Counts { packets, bytes, wire_bytes })
}

pub(super) fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => 6,
        "udp" => 17,
        "gre" => 47,
        "esp" => 50,
        "icmpv6" => 58,
        _ => return None,
    })
}

fn tuple(proto: &str, from: &str, arrow: &str, to: &str) -> Option<Tuple> {
    let proto = protocol(proto)?;
    (arrow == ">").then_some(())?;
    let (src, sport) = end(from)?;
    let (dst, dport) = end(to)?;
    Some(Tuple { proto, src, sport, dst, dport })
}

pub(super) fn end(text: &str) -> Option<(IpAddr, u16)> {
    if let Ok(end) = text.parse::<SocketAddr>() { Some((end.ip(), end.port())) } else { Some((text.parse().ok()?, 0)) }
}
