//! What became of a packet, whose it is, and which one it repeats.
//!
//! In: a packet with its hops, and what is known of the node. Out: a [`Trip`]. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use netpath_ebpf::trace::Sighting;

use super::stitch::{Freed, Packet};
use super::trip::{End, Fragment, Hop, SCHEMA, Translation, Trip};
use crate::model::{DeviceClass, Direction};
use crate::path::names::{Named, Names};
use crate::path::protocols;
use crate::path::topology::{Role, Topology};
use crate::snapshot::{Counts, Observation, Tuple};

/// What the kernel's numbers mean.
pub struct Kernel<'a> {
    /// Names of reasons.
    pub reasons: &'a HashMap<u32, String>,
    /// The function at an address.
    pub function: &'a dyn Fn(u64) -> Option<String>,
    /// Why drops cannot be seen, if they cannot.
    pub drops_unseen: Option<&'a str>,
}

/// What is known of the node.
pub struct Node<'a> {
    /// Devices and addresses.
    pub topology: &'a Topology<'a>,
    /// Pods and services.
    pub names: &'a Names<'a>,
    /// Of the kernel.
    pub kernel: &'a Kernel<'a>,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, ns.
    pub clock_offset_ns: i64,
    /// Whether netpath is attached to some of the devices only, since the filter names pods.
    pub partly_watched: bool,
    /// The inode of the node's network namespace; 0 if it is not known.
    pub netns: u32,
}

/// TCP packets to look back for, for retransmissions.
const REMEMBERED: usize = 65_536;

/// Numbers trips, and remembers what TCP sent.
#[derive(Debug, Default)]
pub struct Judge {
    trips: u64,
    /// By ends at the first hop: sequence numbers with their end, trip, and time.
    sent: HashMap<Tuple, BTreeMap<u32, Segment>>,
    /// In order, to forget the oldest.
    order: VecDeque<(Tuple, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    end: u32,
    trip: u64,
    at_ns: u64,
}

const TCP: u8 = 6;
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

impl Judge {
    /// The trip of a packet.
    pub fn trip(&mut self, packet: &Packet, node: &Node) -> Option<Trip> {
        let first = packet.hops.first()?.seen;
        self.trips += 1;
        let observations: Vec<Observation> = packet.hops.iter().map(|hop| observation(&hop.seen)).collect();
        let (from, to) = (observations.first()?.tuple, observations.last()?.tuple);
        let verdict = verdict(packet, &observations, node);
        let hops = hops(packet, &observations, node);
        let proto = u8::try_from(first.protocol()).unwrap_or_default();
        let is_tcp = proto == TCP && first.fragment != 2;
        let has_seq = is_tcp || is_echo(&first);
        let repeated = if is_tcp { self.repeated(from, &first) } else { None };
        let service = |tuple: &Tuple| node.names.service(tuple.proto, tuple.dst, tuple.dport);
        Some(Trip {
            schema: SCHEMA.to_owned(),
            trip: self.trips,
            at: time(hops.first()?.at_ns),
            proto: protocols::name(proto).into_owned(),
            protocol: proto,
            length: first.len_bytes,
            payload: first.payload_bytes,
            seq: has_seq.then_some(first.seq),
            ack: (is_tcp && first.tcp_flags & ACK != 0).then_some(first.ack),
            flags: is_tcp.then(|| flags(first.tcp_flags)),
            icmp: matches!(proto, 1 | 58).then_some([first.icmp_type, first.icmp_code]),
            ip_id: (first.family == 4).then_some(first.ip_id),
            fragment: match first.fragment {
                1 => Some(Fragment::First),
                2 => Some(Fragment::Later),
                _ => None,
            },
            hops,
            end: verdict.end,
            reason: verdict.reason,
            location: verdict.location,
            freed_after_ns: verdict.freed_after_ns,
            note: verdict.note,
            retransmission_of: repeated.map(|segment| segment.trip),
            retransmitted_after_ns: repeated.map(|segment| first.at_ns.saturating_sub(segment.at_ns)),
            joined: !lacks_entry(&observations, node),
            complete: packet.complete,
            src_pod: node.names.source(Some(from.src), &observations, node.topology).map(Named::full),
            dst_pod: node.names.destination(Some(to.dst), &observations, node.topology).map(Named::full),
            service: observations.iter().find_map(|hop| service(&hop.tuple)).map(ToOwned::to_owned),
        })
    }

    /// The packet that this one repeats, if it repeats one; remembers it otherwise.
    fn repeated(&mut self, ends: Tuple, seen: &Sighting) -> Option<Segment> {
        let controls = u32::from(seen.tcp_flags & (SYN | FIN) != 0);
        // A probe that keeps a connection alive has a byte at most.
        if seen.payload_bytes <= 1 && controls == 0 {
            return None;
        }
        let end = seen.seq.wrapping_add(seen.payload_bytes).wrapping_add(controls);
        let segments = self.sent.entry(ends).or_default();
        let before = segments.range(..=seen.seq).next_back();
        if let Some((begin, before)) = before
            && seen.seq.wrapping_sub(*begin) < before.end.wrapping_sub(*begin)
        {
            return Some(*before);
        }
        segments.insert(seen.seq, Segment { end, trip: self.trips, at_ns: seen.at_ns });
        self.order.push_back((ends, seen.seq));
        if self.order.len() > REMEMBERED
            && let Some((ends, seq)) = self.order.pop_front()
            && let Some(segments) = self.sent.get_mut(&ends)
        {
            segments.remove(&seq);
            if segments.is_empty() {
                self.sent.remove(&ends);
            }
        }
        None
    }
}

/// RFC 3339, UTC, nanoseconds.
fn time(at_ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(at_ns)).map_or_else(|_| String::new(), |time| format!("{time:.9}"))
}

fn is_echo(seen: &Sighting) -> bool {
    matches!((seen.protocol(), seen.icmp_type), (1, 0 | 8) | (58, 128 | 129))
}

/// As tcpdump writes them.
fn flags(flags: u8) -> String {
    let letters = [(SYN, 'S'), (FIN, 'F'), (4, 'R'), (8, 'P'), (32, 'U'), (64, 'E'), (128, 'W'), (ACK, '.')];
    let text: String = letters.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect();
    if text.is_empty() { "none".to_owned() } else { text }
}

fn address(words_be: [u32; 4], family: u8) -> IpAddr {
    let [a, b, c, d] = words_be.map(u32::from_be);
    if family == 4 {
        return Ipv4Addr::from(a).into();
    }
    Ipv6Addr::from(u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d)).into()
}

/// The number of a VLAN.
fn tag(word: u32) -> u16 {
    u16::try_from(word & 0xfff).unwrap_or_default()
}

/// The ends of a packet at a hook, and the hook.
#[must_use]
pub fn observation(seen: &Sighting) -> Observation {
    Observation {
        ifindex: seen.hook >> 1,
        direction: if seen.hook & 1 == 0 { Direction::Rx } else { Direction::Tx },
        vlans: [tag(seen.tag >> 20), tag(seen.tag >> 8)],
        tuple: Tuple {
            proto: u8::try_from(seen.protocol()).unwrap_or_default(),
            src: address(seen.src_be, seen.family),
            sport: u16::from_be(seen.ports.src_be),
            dst: address(seen.dst_be, seen.family),
            dport: u16::from_be(seen.ports.dst_be),
        },
        about: None,
        counts: Counts::default(),
    }
}

fn hops(packet: &Packet, observations: &[Observation], node: &Node) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::with_capacity(packet.hops.len());
    let mut before: Option<(&Sighting, Tuple)> = None;
    for (hop, Observation { ifindex, direction, tuple, .. }) in packet.hops.iter().zip(observations) {
        let device = node.topology.place(*ifindex).map(|place| &place.device.facts);
        hops.push(Hop {
            device: device.map_or_else(|| format!("device {ifindex}"), |device| device.name.clone()),
            ifindex: *ifindex,
            class: device.map_or(DeviceClass::Other, |device| device.class),
            pod: node.names.veth(*ifindex).map(Named::full),
            direction: *direction,
            src: tuple.src,
            sport: tuple.sport,
            dst: tuple.dst,
            dport: tuple.dport,
            ttl: hop.seen.ttl,
            since_ns: before.map_or(0, |(before, _)| hop.seen.at_ns.saturating_sub(before.at_ns)),
            nat: before.and_then(|(_, before)| translation(&before, tuple)),
            before_match: hop.before_match,
            at_ns: hop.seen.at_ns.saturating_add_signed(node.clock_offset_ns),
            bytes: hop.bytes.clone(),
            len_bytes: hop.seen.len_bytes,
        });
        before = Some((&hop.seen, *tuple));
    }
    hops
}

fn translation(before: &Tuple, after: &Tuple) -> Option<Translation> {
    let (mut source, mut destination) = (
        (before.src, before.sport) != (after.src, after.sport),
        (before.dst, before.dport) != (after.dst, after.dport),
    );
    // Both ports are one identifier.
    if matches!(before.proto, 1 | 58) {
        (source, destination) = (before.src != after.src, before.dst != after.dst);
    }
    match (source, destination) {
        (false, false) => None,
        (true, false) => Some(Translation::Snat),
        (false, true) => Some(Translation::Dnat),
        (true, true) => Some(Translation::Both),
    }
}

/// What became of a packet.
#[derive(Debug)]
struct Verdict {
    end: End,
    reason: Option<String>,
    location: Option<String>,
    freed_after_ns: Option<u64>,
    note: Option<String>,
}

fn verdict(packet: &Packet, observations: &[Observation], node: &Node) -> Verdict {
    let mut verdict = without_drop(packet, observations, node);
    if let Some(freed) = packet.freed {
        after_free(&mut verdict, freed, packet, node);
    }
    verdict
}

/// By where it was seen last.
fn without_drop(packet: &Packet, observations: &[Observation], node: &Node) -> Verdict {
    let unknown = |note: String| (End::Unknown, Some(note));
    let (end, note) = match observations.last() {
        None => unknown("no hop of it was seen".to_owned()),
        Some(last) if last.direction == Direction::Tx => match node.topology.role(last.ifindex) {
            Role::Pod => (End::Pod, None),
            Role::Outside | Role::Process => (End::Forwarded, None),
            Role::Inside => unknown("it left by a device within the node, behind which netpath saw nothing".to_owned()),
        },
        Some(last) => after_ingress(last, node),
    };
    let note = match note {
        Some(note) if !packet.complete => Some(format!("{note}; events were lost for want of room (--buffer)")),
        None if lacks_entry(observations, node) => Some(UNJOINED.to_owned()),
        note => note,
    };
    Verdict { end, reason: None, location: None, freed_after_ns: None, note }
}

const UNJOINED: &str = "not joined with the packet that came in: it was changed on the way (decrypted, decapsulated, reassembled), \
                        moved to another CPU, or came by a device that is not watched";

/// It left, and neither came in before nor is the node's own.
fn lacks_entry(observations: &[Observation], node: &Node) -> bool {
    let entered = |first: &Observation| first.direction == Direction::Rx || node.topology.is_own(first.tuple.src);
    !observations.first().is_some_and(entered)
}

/// It came in, and was not seen to leave.
fn after_ingress(last: &Observation, node: &Node) -> (End, Option<String>) {
    let address = last.tuple.dst;
    if node.topology.is_own(address) {
        return (End::Host, None);
    }
    let why = if node.topology.is_multicast_or_broadcast(address) {
        "it is for many: copies of it may have been delivered"
    } else if node.partly_watched {
        "netpath watches ENIs and the pods of the filter alone, and it was seen at none of them again"
    } else if node.topology.is_own_by_rule(address) {
        "a rule may have delivered it to this node"
    } else if node.kernel.drops_unseen.is_some() {
        "it was not seen to leave, and drops cannot be seen"
    } else {
        "it was seen neither to leave nor to be dropped: encrypted, encapsulated, reassembled, redirected, or waiting"
    };
    (End::Unknown, Some(why.to_owned()))
}

/// The kernel freed it. Where it gives reasons, that is a drop, unless the packet had left before: then it may be the ordinary
/// end of a packet in the pod. Older kernels free so at ordinary ends, too.
fn after_free(verdict: &mut Verdict, freed: Freed, packet: &Packet, node: &Node) {
    let last = packet.hops.last().map(|hop| &hop.seen);
    let left = last.is_some_and(|last| last.hook & 1 == 1);
    let name = freed.reason.map(|reason| match node.kernel.reasons.get(&reason) {
        Some(name) => name.clone(),
        None => format!("reason {reason:#x}"),
    });
    let is_icmp = last.is_some_and(|last| matches!(last.protocol(), 1 | 58));
    match name {
        // A raw socket has a copy of the echo's answer, and the packet itself is freed so.
        Some(name) if name == "NO_SOCKET" && is_icmp && verdict.end != End::Unknown => return,
        // A fragment that the receiver put into a datagram.
        Some(name) if name == "NOT_SPECIFIED" && left => return,
        // It was for another: a bridge in promiscuous mode has a copy for itself, and sends the packet on.
        Some(name) if name == "OTHERHOST" && last.is_some_and(|last| is_bridge(last.hook >> 1, node)) => return,
        Some(name) => {
            let in_pod = freed.netns.is_some_and(|netns| node.netns != 0 && netns != node.netns);
            if !left || !in_pod && is_drop_after_egress(&name) {
                verdict.end = End::Dropped;
                verdict.note = None;
            } else if verdict.end != End::Pod {
                // It left the node.
                return;
            }
            verdict.reason = Some(name);
        }
        None if left => return,
        None => {
            let why = "the kernel freed it; this kernel gives no reasons, and frees so at ordinary ends, too";
            verdict.note = Some(why.to_owned());
        }
    }
    verdict.location = (node.kernel.function)(freed.location);
    verdict.freed_after_ns = Some(freed.at_ns.saturating_sub(last.map_or(freed.at_ns, |last| last.at_ns)));
}

fn is_bridge(ifindex: u32, node: &Node) -> bool {
    node.topology.place(ifindex).is_some_and(|place| place.device.facts.class == DeviceClass::Bridge)
}

/// Whether a packet that went out at TC egress was dropped after all: on its way to the device, or by a rule behind it. Other reasons
/// are those of sockets, whose packets have no device any more that would say where they are.
fn is_drop_after_egress(reason: &str) -> bool {
    const WORDS: [&str; 7] = ["QDISC", "TC_", "NETFILTER", "BACKLOG", "DEV_READY", "DEV_HDR", "FULL_RING"];
    WORDS.iter().any(|word| reason.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_drop_behind_the_egress_hook() {
        for drop in ["QDISC_DROP", "TC_EGRESS", "NETFILTER_DROP", "CPU_BACKLOG", "FULL_RING"] {
            assert!(is_drop_after_egress(drop), "{drop}");
        }
        for end in ["NO_SOCKET", "SOCKET_RCVBUFF", "QUEUE_PURGE", "NOT_SPECIFIED", "TCP_OLD_ACK", "SOCKET_CLOSE"] {
            assert!(!is_drop_after_egress(end), "{end}");
        }
    }

    #[test]
    fn flags_are_written_as_tcpdump_does() {
        assert_eq!([2, 18, 24, 17, 4, 0].map(flags), ["S", "S.", "P.", "F.", "R", "none"]);
    }

    #[test]
    fn segments_that_repeat_bytes_name_the_first_one() {
        let ends = Tuple {
            proto: TCP,
            src: IpAddr::from([10, 0, 0, 1]),
            sport: 1,
            dst: IpAddr::from([10, 0, 0, 2]),
            dport: 2,
        };
        let mut judge = Judge::default();
        let mut send = |trip, seq, payload_bytes, tcp_flags| {
            judge.trips = trip;
            let seen = Sighting { seq, payload_bytes, tcp_flags, at_ns: trip, ..Sighting::default() };
            judge.repeated(ends, &seen).map(|before| before.trip)
        };
        assert_eq!(send(1, 100, 0, SYN), None);
        assert_eq!(send(2, 100, 0, SYN), Some(1), "SYN takes a number");
        assert_eq!(send(3, 101, 1_000, ACK), None);
        assert_eq!(send(4, 1_101, 1_000, ACK), None);
        assert_eq!(send(5, 1_101, 0, ACK), None, "an acknowledgement repeats nothing");
        assert_eq!(send(6, 2_100, 1, ACK), None, "it keeps the connection alive");
        assert_eq!(send(7, 601, 200, ACK), Some(3), "a part of a super-packet");
        assert_eq!(send(8, u32::MAX - 9, 20, ACK), None);
        assert_eq!(send(9, u32::MAX - 9, 20, ACK), Some(8), "across the end of numbers");
    }
}
