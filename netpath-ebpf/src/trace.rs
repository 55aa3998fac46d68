//! What the trace programs and user space share: a packet at a hook, the filter, events, and the accounts.
//!
//! In: a packet, by `parse`. Out: a [`Sighting`], whether a filter [accepts](accepts) it, and prints that NAT leaves alone. Like
//! `parse` it never panics, and every loop is bounded.
//!
//! A packet is recognised at its next hook by two pieces of evidence: the address of its `sk_buff`, and the fingerprint. The
//! address alone is reused at once, and a retransmission can have its original's.

mod filter;
mod print;

pub use filter::{ACCEPT, Facts, Kind, REJECT, SET_MEMBERS, TESTS, Test, accepts, fact, facts};
pub use print::{Prints, prints};

use crate::parse::{Fragment, FragmentHeader, Header, Network, Packet, Parsed, Start, ipv4, ipv6, network};
use crate::{Hook, KeyV4, KeyV6, Ports, Tag};

/// Packets that each CPU remembers, whether the filter accepts them or not: a trip's first hop is known when the filter first
/// accepts the packet at its second. `__netif_receive_skb_list_core` runs ingress for a whole batch of up to 64 before the rest.
///
/// There are so many blocks of so many, since the kernel takes no more than 32 KiB as a per-CPU value.
pub const BACK_BLOCKS: usize = 4;
/// Packets in each block: pairs, of which a packet takes the place of the older one.
pub const BACK_PLACES: usize = 256;
/// The most bytes of a packet that an event carries: more than a jumbo frame has. A power of two.
pub const MAX_SNAPLEN: usize = 16_384;
/// Hooks of one trip that are told apart.
pub const TRIP_HOOKS: usize = 8;

/// A packet at a hook. Numbers are in host byte order but where a name ends in `_be`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sighting {
    /// The address of its `sk_buff`: the same from TC ingress to TC egress. An identity, never followed.
    pub skb: u64,
    /// `CLOCK_MONOTONIC`, ns.
    pub at_ns: u64,
    /// [`Prints::whole`].
    pub fingerprint: u64,
    /// [`Prints::headers`].
    pub header_print: u64,
    /// Source address; an IPv4 address is in the first word.
    pub src_be: [u32; 4],
    /// Destination address.
    pub dst_be: [u32; 4],
    /// Ports; an echo message has its identifier in both.
    pub ports: Ports,
    /// Where it was seen: [`Hook`] as its number.
    pub hook: u32,
    /// VLANs and protocol: [`Tag`] as its number.
    pub tag: u32,
    /// `skb->len`.
    pub len_bytes: u32,
    /// Bytes behind the TCP, UDP or SCTP header; behind the IP headers of other protocols.
    pub payload_bytes: u32,
    /// TCP's sequence number, or that of an ICMP echo message.
    pub seq: u32,
    /// TCP's acknowledgement number.
    pub ack: u32,
    /// Identification of an IPv4 packet.
    pub ip_id: u16,
    /// TCP's window, unscaled.
    pub window: u16,
    /// 4 or 6.
    pub family: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// TCP's flags.
    pub tcp_flags: u8,
    /// 0: no fragment; 1: the first; 2: a later one, which has no ports.
    pub fragment: u8,
    /// Type of an ICMP message.
    pub icmp_type: u8,
    /// Code of an ICMP message.
    pub icmp_code: u8,
    /// 1 for an ICMP error.
    pub is_icmp_error: u8,
    /// 1 once it was sent as a hop: then it is no hop before that of another packet with the same address.
    pub is_sent: u8,
}

const _: () = assert!(size_of::<Sighting>() == 104 && size_of::<Sighting>() * BACK_PLACES <= 32_768);

/// The ends of a packet as one hook has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ends {
    /// Source address.
    pub src_be: [u32; 4],
    /// Destination address.
    pub dst_be: [u32; 4],
    /// Ports.
    pub ports: Ports,
    /// IANA number.
    pub protocol: u32,
}

impl Sighting {
    /// Its ends.
    #[inline(always)]
    #[must_use]
    pub fn ends(&self) -> Ends {
        Ends { src_be: self.src_be, dst_be: self.dst_be, ports: self.ports, protocol: self.protocol() }
    }

    /// The same packet with the ends that it has elsewhere.
    #[inline(always)]
    #[must_use]
    pub fn with_ends(&self, ends: &Ends) -> Self {
        Self { src_be: ends.src_be, dst_be: ends.dst_be, ports: ends.ports, ..*self }
    }

    /// IANA number of the protocol above IP.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u32 {
        self.tag & 0xff
    }

    /// Fills in what belongs to any packet that starts with `start` and ends at `end`, wherever its headers are; false if it is
    /// not IP, or not whole enough. What a packet does not have in it (`skb`, `at_ns`, `len_bytes`) stays as it is.
    #[inline(always)]
    pub fn read<P: Packet + ?Sized>(&mut self, packet: &P, start: Start, hook: Hook, end: u32) -> bool {
        match network(packet, start) {
            Ok(Network::V4(link)) => {
                let Ok(parsed) = ipv4(packet, link, hook) else { return false };
                let Some(prints) = prints(packet, link.end(), true, end) else { return false };
                self.set_v4(&parsed, &prints);
            }
            Ok(Network::V6(link)) => {
                let Ok(parsed) = ipv6(packet, link, hook) else { return false };
                let Some(prints) = prints(packet, link.end(), false, end) else { return false };
                self.set_v6(&parsed, &prints);
                // The last header that was read is the fragment's.
                if parsed.fragment == Fragment::Later {
                    let at = parsed.headers_len_bytes.saturating_sub(FragmentHeader::LEN);
                    let Some(header) = packet.read::<FragmentHeader>(at) else { return false };
                    self.tag = parsed.key.tag.with_protocol(header.next_header).0;
                }
            }
            Err(_) => return false,
        }
        true
    }

    /// Fills in what belongs to an IPv4 packet.
    #[inline(always)]
    pub fn set_v4(&mut self, parsed: &Parsed<KeyV4>, prints: &Prints) {
        let key = parsed.key;
        self.src_be = [key.src_be, 0, 0, 0];
        self.dst_be = [key.dst_be, 0, 0, 0];
        self.set(key.hook, key.tag, key.ports, 4, prints);
        // NAT leaves these alone, and many stations send equal ones: 224.0.0.0/4, 255.255.255.255.
        if u32::from_be(key.dst_be) >= 0xe000_0000 {
            self.fingerprint ^= u64::from(key.src_be) << 32 | u64::from(key.dst_be);
        }
        self.set_shape(parsed.fragment, parsed.is_icmp_error);
    }

    /// Fills in what belongs to an IPv6 packet.
    #[inline(always)]
    pub fn set_v6(&mut self, parsed: &Parsed<KeyV6>, prints: &Prints) {
        let key = parsed.key;
        let [s0, s1, s2, s3] = key.src_be;
        let [d0, d1, d2, d3] = key.dst_be;
        self.src_be = [s0, s1, s2, s3];
        self.dst_be = [d0, d1, d2, d3];
        self.set(key.hook, key.tag, key.ports, 6, prints);
        // As of IPv4: ff00::/8.
        if u32::from_be(d0) >= 0xff00_0000 {
            self.fingerprint ^= u64::from(s2 ^ d2) << 32 | u64::from(s3 ^ d3);
        }
        self.set_shape(parsed.fragment, parsed.is_icmp_error);
    }

    #[inline(always)]
    fn set(&mut self, hook: Hook, tag: Tag, ports: Ports, family: u8, prints: &Prints) {
        self.hook = hook.0;
        self.tag = tag.0;
        self.ports = ports;
        self.family = family;
        self.fingerprint = prints.whole;
        self.header_print = prints.headers;
        self.payload_bytes = prints.payload_bytes;
        self.seq = prints.seq;
        self.ack = prints.ack;
        self.ip_id = prints.ip_id;
        self.window = prints.window;
        self.ttl = prints.ttl;
        self.tcp_flags = prints.tcp_flags;
        self.icmp_type = prints.icmp[0];
        self.icmp_code = prints.icmp[1];
    }

    #[inline(always)]
    fn set_shape(&mut self, fragment: Fragment, is_icmp_error: bool) {
        self.fragment = match fragment {
            Fragment::Whole => 0,
            Fragment::First => 1,
            Fragment::Later => 2,
        };
        self.is_icmp_error = u8::from(is_icmp_error);
        self.is_sent = 0;
    }
}

/// A packet that the filter accepted, under the address of its `sk_buff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Trail {
    /// The trip's number.
    pub trip: u64,
    /// Of the packet.
    pub fingerprint: u64,
    /// Of the packet.
    pub header_print: u64,
    /// The hooks that it had, in order; then zeros.
    pub hooks: [u32; TRIP_HOOKS],
    /// [`Fate`] as its number.
    pub fate: u32,
    /// Events of this trip for which there was no room.
    pub lost: u32,
}

/// What becomes of a trip, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Fate {
    /// Its events are sent.
    Sent = 0,
    /// There were too many in this time.
    OverRate = 1,
    /// It is not in the sample.
    SampledOut = 2,
}

/// Events of one CPU. `matched` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Account {
    /// Hops and ends of trips.
    pub matched: u64,
    /// Put into the ring buffer.
    pub sent: u64,
    /// The ring buffer had no room.
    pub no_room: u64,
    /// Of trips over the rate.
    pub over_rate: u64,
    /// Of trips that are not in the sample.
    pub sampled_out: u64,
}

impl core::ops::AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.sent += other.sent;
        self.no_room += other.no_room;
        self.over_rate += other.over_rate;
        self.sampled_out += other.sampled_out;
    }
}

/// An account and the number of the next trip, for TC programs (0) and for the end of packets (1): one may interrupt the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuState {
    /// What was sent and what was not.
    pub account: Account,
    /// Events that were tried, which numbers them.
    pub events: u64,
    /// Trips that began.
    pub trips: u64,
}

/// What user space decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Bytes of a packet to send, at most [`MAX_SNAPLEN`].
    pub snaplen_bytes: u32,
    /// One trip in so many; 1 for all.
    pub sample: u32,
    /// Trips in each window of [`RATE_WINDOW_SHIFT`].
    pub window_trips: u32,
    /// Whether there are known translations to look up.
    pub translations: u32,
}

/// A window of the rate is this power of two in nanoseconds: 134 ms.
pub const RATE_WINDOW_SHIFT: u32 = 27;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// The packet at a hook.
    Hop = 0,
    /// The packet at the hook before the one at which the filter first accepted it. Its bytes were not kept.
    HopBefore = 1,
    /// The kernel freed it (`kfree_skb`).
    Freed = 2,
}

/// An event; the first bytes of the packet follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// [`EventKind`] as its number.
    pub kind: u32,
    /// The CPU, and in the upper half 1 for the end of packets: who numbers it.
    pub source: u32,
    /// Its number among those of its source, from 1 on. A number that is missing had no room.
    pub number: u64,
    /// Its trip: a number of the CPU on which it began.
    pub trip: u64,
    /// For the first hop: the trip to which a packet with the same address and another fingerprint belonged; else 0.
    pub address_of: u64,
    /// Where it was freed: an address in the kernel.
    pub location: u64,
    /// Why: `enum skb_drop_reason`; [`crate::NO_REASON`] where the kernel gives none.
    pub reason: u32,
    /// Events of this trip before this one for which there was no room.
    pub lost: u32,
    /// Bytes of the packet that follow.
    pub captured_bytes: u32,
    /// Of one that was freed: the network namespace of its device, by its inode; 0 if that is not known.
    pub netns: u32,
    /// The packet. Of one that was freed: `skb`, `at_ns` and the prints alone.
    pub seen: Sighting,
}

const _: () = assert!(size_of::<Event>() == 56 + size_of::<Sighting>());

/// TCP's fields behind the ports (RFC 9293).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TcpFields {
    /// Sequence number.
    pub seq_be: u32,
    /// Acknowledgement number.
    pub ack_be: u32,
    /// Header length in 4-byte words (4 bits), reserved.
    pub words: u8,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window_be: u16,
}

/// Sixteen bytes of payload.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Payload {
    /// The bytes, as two words.
    pub words: [u64; 2],
}

const _: () = assert!(size_of::<TcpFields>() == 12 && size_of::<Payload>() == 16);
// SAFETY: `repr(C)`, integers without padding, of alignment 8 at most.
unsafe impl Header for TcpFields {
    const LEN: u32 = 12;
}
// SAFETY: as above.
unsafe impl Header for Payload {
    const LEN: u32 = 16;
}

/// Reads a packet that need not be in memory as a whole.
#[inline(always)]
fn word(packet: &(impl Packet + ?Sized), offset: u32) -> Option<[u64; 2]> {
    packet.read::<Payload>(offset).map(|payload| payload.words)
}
