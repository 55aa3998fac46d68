//! What the eBPF programs and user space share: the layout of the maps' keys and values, and the packet parser.
//!
//! In: nothing. Out: plain `repr(C)` structs and pure functions, the same on both sides. This library must not depend on
//! aya, on `std`, or on anything that the verifier would refuse: it never panics, and every loop is bounded. It is
//! compiled for the host too, where the tests and the fuzzers reach it.
#![cfg_attr(not(test), no_std)]
#![expect(clippy::inline_always, reason = "a call costs as much as the work, and BPF calls pass five registers only")]

pub mod map;
pub mod parse;
pub mod trace;
pub mod wire;

use parse::Part;

/// Direction of a packet as seen by the device: `Rx` is TC ingress, `Tx` is TC egress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Into the kernel from the device (TC ingress).
    Rx = 0,
    /// Out of the kernel to the device (TC egress).
    Tx = 1,
}

/// The place a packet was seen at: a device and a direction, packed as `ifindex << 1 | direction`.
///
/// The kernel's ifindex is a positive `int`, so nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Hook(u32);

impl Hook {
    /// The hook of the device `ifindex` in `direction`.
    #[inline(always)]
    #[must_use]
    pub const fn new(ifindex: u32, direction: Direction) -> Self {
        Self(ifindex << 1 | direction as u32)
    }

    /// The device's index.
    #[must_use]
    pub const fn ifindex(self) -> u32 {
        self.0 >> 1
    }

    /// The direction, as the device sees it.
    #[must_use]
    pub const fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::Rx } else { Direction::Tx }
    }
}

/// What identifies a flow besides addresses and ports, packed as `outer VLAN << 20 | inner VLAN << 8 | protocol`.
///
/// VLAN 0 means untagged: IEEE 802.1Q gives VID 0 to frames that carry a priority but belong to no VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Tag(pub(crate) u32);

impl Tag {
    /// Packs two VLAN ids (12 bits each, 0 where there is none) and an IP protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn new(outer_vlan: u16, inner_vlan: u16, protocol: u8) -> Self {
        Self((outer_vlan as u32 & 0xfff) << 20 | (inner_vlan as u32 & 0xfff) << 8 | protocol as u32)
    }

    /// The same VLANs with another protocol.
    #[inline(always)]
    #[must_use]
    pub const fn with_protocol(self, protocol: u8) -> Self {
        Self(self.0 & !0xff | protocol as u32)
    }

    /// The outer VLAN id (the only one of a single tag), 0 if the frame had no tag.
    #[must_use]
    pub const fn outer_vlan(self) -> u16 {
        (self.0 >> 20) as u16
    }

    /// The inner VLAN id of a frame with two tags (`QinQ`), otherwise 0.
    #[must_use]
    pub const fn inner_vlan(self) -> u16 {
        (self.0 >> 8 & 0xfff) as u16
    }

    /// The protocol above IP (IANA number), behind any IPv6 extension headers.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        (self.0 & 0xff) as u8
    }
}

/// Ports as they are in the packet: each in network byte order.
///
/// ICMP echo has its identifier in both; a protocol without ports has zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub src_be: u16,
    /// Destination port.
    pub dst_be: u16,
}

/// Key of an IPv4 flow at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct KeyV4 {
    /// Where the packet was seen.
    pub hook: Hook,
    /// VLANs and protocol.
    pub tag: Tag,
    /// Source address, network byte order.
    pub src_be: u32,
    /// Destination address, network byte order.
    pub dst_be: u32,
    /// Ports, network byte order.
    pub ports: Ports,
}

/// Key of an IPv6 flow at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct KeyV6 {
    /// Where the packet was seen.
    pub hook: Hook,
    /// VLANs and protocol.
    pub tag: Tag,
    /// Source address: four words, each in network byte order.
    pub src_be: [u32; 4],
    /// Destination address: four words, each in network byte order.
    pub dst_be: [u32; 4],
    /// Ports, network byte order.
    pub ports: Ports,
}

/// What is counted for each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Packets as the hook saw them: a GSO/GRO super-packet is one.
    pub packets: u64,
    /// Sum of `skb->len`, Ethernet header included.
    pub bytes: u64,
    /// What the packets have on the wire and `bytes` does not: the headers of every frame of a super-packet but the first,
    /// and VLAN tags that the kernel keeps beside the packet. Mostly 0, and then it costs nothing to count. See [`wire`].
    pub wire_overhead_bytes: u64,
}

impl Counts {
    /// Bytes as frames on the wire, without their check sequences.
    #[must_use]
    pub const fn wire_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.wire_overhead_bytes)
    }
}

/// What the cache and the maps need of a key of either family.
pub trait FlowKey: Copy + 'static {
    /// The key and a number of 32 bits behind it, as words in the order of memory: what a [`Slot`] begins with. Comparing a
    /// few words takes fewer instructions than comparing fields.
    type Words: Copy;

    /// Where the packet was seen.
    fn hook(&self) -> Hook;

    /// The key and the number of the epoch it is counted in.
    fn words(&self, epoch: u32) -> Self::Words;

    /// Whether two are equal.
    fn same(one: &Self::Words, other: &Self::Words) -> bool;

    /// The key in 64 bits, for choosing a slot. Equal keys give equal numbers; the upper bits are the well-mixed ones.
    fn mix(&self) -> u64;
}

/// Odd multipliers for hashing by multiplication (Knuth, TAOCP 3, 6.4): 2⁶⁴ divided by the golden ratio, and by the silver
/// ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const SILVER: u64 = 0x6a09_e667_f3bc_c909;

/// Two halves of a word, as they lie in the memory of a little-endian machine.
#[inline(always)]
const fn join([first, second]: [u32; 2]) -> u64 {
    (second as u64) << 32 | first as u64
}

/// The ports as they lie in memory.
#[inline(always)]
const fn ports_word(ports: Ports) -> u32 {
    (ports.dst_be as u32) << 16 | ports.src_be as u32
}

impl FlowKey for KeyV4 {
    type Words = [u64; 3];

    #[inline(always)]
    fn hook(&self) -> Hook {
        self.hook
    }

    #[inline(always)]
    fn words(&self, epoch: u32) -> [u64; 3] {
        let Self { hook, tag, src_be, dst_be, ports } = *self;
        [join([hook.0, tag.0]), join([src_be, dst_be]), join([ports_word(ports), epoch])]
    }

    #[inline(always)]
    fn same(one: &[u64; 3], other: &[u64; 3]) -> bool {
        one[2] == other[2] && one[1] == other[1] && one[0] == other[0]
    }

    #[inline(always)]
    fn mix(&self) -> u64 {
        // Without VLANs: an address is seldom in two.
        let [place, addresses, ports] = self.words(0);
        addresses.wrapping_mul(GOLDEN).wrapping_add((ports ^ place << 24).wrapping_mul(SILVER))
    }
}

impl FlowKey for KeyV6 {
    type Words = [u64; 6];

    #[inline(always)]
    fn hook(&self) -> Hook {
        self.hook
    }

    #[inline(always)]
    fn words(&self, epoch: u32) -> [u64; 6] {
        let Self { hook, tag, src_be: [s0, s1, s2, s3], dst_be: [d0, d1, d2, d3], ports } = *self;
        [
            join([hook.0, tag.0]),
            join([s0, s1]),
            join([s2, s3]),
            join([d0, d1]),
            join([d2, d3]),
            join([ports_word(ports), epoch]),
        ]
    }

    #[inline(always)]
    fn same(one: &[u64; 6], other: &[u64; 6]) -> bool {
        one[5] == other[5]
            && one[4] == other[4]
            && one[2] == other[2]
            && one[0] == other[0]
            && one[3] == other[3]
            && one[1] == other[1]
    }

    #[inline(always)]
    fn mix(&self) -> u64 {
        // The upper halves of the addresses are the networks': the same for most of a node's flows.
        let [place, _, src, _, dst, ports] = self.words(0);
        (src ^ place).wrapping_mul(GOLDEN).wrapping_add((dst ^ ports).wrapping_mul(SILVER))
    }
}

/// Slots of the per-CPU cache, for each family, epoch and CPU.
pub const SLOTS: u32 = BLOCKS * BLOCK_SLOTS;
/// Blocks of them; a power of two.
pub const BLOCKS: u32 = 8;
/// Slots of a block; a power of two. The kernel takes no more than 32 KiB as a per-CPU value.
pub const BLOCK_SLOTS: u32 = 256;

/// Some slots: an element of the maps that are the cache. Few large elements, since the kernel finds an element of a per-CPU
/// array by a pointer that it reads from memory first.
pub type Block<K> = [Slot<K>; BLOCK_SLOTS as usize];

/// The slot of a key: the block's map index, and the slot's place in the block. The blocks of even epochs come first.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "what is left of the shifts is small")]
pub fn slot_index(key: &impl FlowKey, epoch: u32) -> (u32, usize) {
    let mixed = key.mix();
    let block = (mixed << BLOCK_SLOTS.ilog2() >> (u64::BITS - BLOCKS.ilog2())) as u32;
    (first_block(epoch) + block, (mixed >> (u64::BITS - BLOCK_SLOTS.ilog2())) as usize)
}

/// The map index of the first block of an epoch.
#[inline(always)]
#[must_use]
pub const fn first_block(epoch: u32) -> u32 {
    (epoch & 1) * BLOCKS
}

/// A slot of the per-CPU cache in front of the flow maps: the counts of one flow since the slot was taken.
///
/// Only the CPU that owns the slot writes to it, with softirqs disabled, and user space reads it when its epoch is at
/// rest. A slot of an older epoch is free: that epoch has been drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Slot<K> {
    /// The flow.
    pub key: K,
    /// The epoch that the counts belong to; 0 in a slot that was never taken.
    pub epoch: u32,
    /// What was counted.
    pub counts: Counts,
}

impl<K: FlowKey> Slot<K> {
    /// Whether it has the counts of this flow in this epoch, by [`FlowKey::words`].
    #[inline(always)]
    #[must_use]
    pub fn is_of(&self, words: &K::Words) -> bool {
        const { assert!(size_of::<K::Words>() == size_of::<K>() + size_of::<u32>()) };
        // SAFETY: key and epoch are integers without padding, as the assertions say, and the slot's first fields; `counts`
        // aligns it like a word.
        let own = unsafe { &*core::ptr::from_ref(self).cast::<K::Words>() };
        K::same(own, words)
    }
}

/// Why a packet was not attributed to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Neither IPv4 nor IPv6 (ARP, LLDP, MPLS, …).
    NonIp = 0,
    /// Truncated, malformed, or with more headers than the parser follows.
    Unparsed = 1,
    /// A later fragment whose first fragment was not seen (or was forgotten): its ports cannot be known.
    OrphanFragment = 2,
    /// The flow map had no room for a new flow.
    MapFull = 3,
}

/// Key of the unattributed counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct UnattributedKey {
    /// Where the packet was seen.
    pub hook: Hook,
    /// A [`Reason`] as its number.
    pub reason: u32,
}

/// Key under which the ports of a packet's first fragment are kept for its later fragments (RFC 791, RFC 8200).
///
/// An IPv4 address is in the first word, the others are zero. The hook is part of the key, since NAT and
/// reassembly may change anything else between two hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct FragmentKey {
    /// Where the fragment was seen.
    pub hook: Hook,
    /// VLANs and, for IPv4, the protocol. For IPv6 the protocol is 0, since a later fragment cannot know it.
    pub tag: Tag,
    /// Source address, network byte order.
    pub src_be: [u32; 4],
    /// Destination address, network byte order.
    pub dst_be: [u32; 4],
    /// Identification, as it is in the packet.
    pub id_be: u32,
}

/// What is remembered of a datagram of which fragments passed a hook.
///
/// A datagram is forgotten when all of its bytes have passed: identifications come back, in IPv4 after 65,536 datagrams at most
/// (RFC 4963), and the next datagram's fragments may come in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FragmentValue {
    /// When the first of them to arrive did: `CLOCK_MONOTONIC`, ns.
    pub since_ns: u64,
    /// Bytes of the datagram that passed.
    pub seen_bytes: u32,
    /// Bytes of the whole datagram; 0 as long as its last fragment was not seen.
    pub total_bytes: u32,
    /// The first fragment's ports.
    pub ports: Ports,
    /// The first fragment's protocol behind all extension headers.
    pub protocol: u8,
    /// 1 if the first fragment was seen; else 0, and there are neither ports nor protocol.
    pub has_first: u8,
    /// Zero.
    pub padding: [u8; 2],
}

impl FragmentValue {
    /// How long a datagram is remembered after its first fragment, in ns: as long as Linux waits for the others in IPv4 (30 s,
    /// `include/net/ip.h`, `IP_FRAG_TIME`). RFC 791 (3.2) begins with 15 s, RFC 8200 (4.5) ends at 60 s. What comes later
    /// could still belong to it in IPv6, but nothing says that it does.
    pub const LIFETIME_NS: u64 = 30_000_000_000;

    /// Of a datagram's first fragment, with what was remembered of the later ones that came before it.
    #[inline(always)]
    #[must_use]
    pub fn first(part: Part, (protocol, ports): (u8, Ports), before: Option<Self>, now_ns: u64) -> Self {
        let value = match before {
            Some(before) if before.is_alive(now_ns) && before.has_first == 0 => before.with(part),
            _ => Self::new(part, now_ns),
        };
        Self { ports, protocol, has_first: 1, ..value }
    }

    /// Of a datagram's later fragment, with what was remembered of those before it. A second last fragment is another
    /// datagram's.
    #[inline(always)]
    #[must_use]
    pub fn later(part: Part, before: Option<Self>, now_ns: u64) -> Self {
        match before {
            Some(before) if before.is_alive(now_ns) && (before.total_bytes == 0 || part.total_bytes == 0) => {
                before.with(part)
            }
            _ => Self::new(part, now_ns),
        }
    }

    /// Whether all of the datagram passed, so that there is nothing left to remember it for.
    #[inline(always)]
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.total_bytes != 0 && self.seen_bytes >= self.total_bytes
    }

    #[inline(always)]
    const fn new(part: Part, now_ns: u64) -> Self {
        Self {
            since_ns: now_ns,
            seen_bytes: part.len_bytes,
            total_bytes: part.total_bytes,
            ports: Ports { src_be: 0, dst_be: 0 },
            protocol: 0,
            has_first: 0,
            padding: [0; 2],
        }
    }

    #[inline(always)]
    fn with(self, part: Part) -> Self {
        Self {
            seen_bytes: self.seen_bytes.saturating_add(part.len_bytes),
            total_bytes: self.total_bytes.max(part.total_bytes),
            ..self
        }
    }

    #[inline(always)]
    const fn is_alive(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) < Self::LIFETIME_NS
    }
}

/// Key of an ICMP or `ICMPv6` error at one hook, with the packet that it quotes.
///
/// An IPv4 address is in the first word, the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct IcmpErrorKey {
    /// Where the error was seen.
    pub hook: Hook,
    /// The error's VLANs and protocol: 1 for IPv4, 58 for IPv6.
    pub tag: Tag,
    /// The error's source address, network byte order.
    pub src_be: [u32; 4],
    /// The error's destination address, network byte order.
    pub dst_be: [u32; 4],
    /// The quoted packet's protocol; no VLANs.
    pub quoted_tag: Tag,
    /// The quoted packet's source address, network byte order.
    pub quoted_src_be: [u32; 4],
    /// The quoted packet's destination address, network byte order.
    pub quoted_dst_be: [u32; 4],
    /// The quoted packet's ports, as in its own key.
    pub quoted_ports: Ports,
}

impl IcmpErrorKey {
    /// Of an ICMP error's own key, and that of the packet it quotes.
    #[inline(always)]
    #[must_use]
    pub const fn v4(error: &KeyV4, quoted: &KeyV4) -> Self {
        Self {
            hook: error.hook,
            tag: error.tag,
            src_be: [error.src_be, 0, 0, 0],
            dst_be: [error.dst_be, 0, 0, 0],
            quoted_tag: quoted.tag,
            quoted_src_be: [quoted.src_be, 0, 0, 0],
            quoted_dst_be: [quoted.dst_be, 0, 0, 0],
            quoted_ports: quoted.ports,
        }
    }

    /// Of an `ICMPv6` error's own key, and that of the packet it quotes.
    #[inline(always)]
    #[must_use]
    pub const fn v6(error: &KeyV6, quoted: &KeyV6) -> Self {
        Self {
            hook: error.hook,
            tag: error.tag,
            src_be: error.src_be,
            dst_be: error.dst_be,
            quoted_tag: quoted.tag,
            quoted_src_be: quoted.src_be,
            quoted_dst_be: quoted.dst_be,
            quoted_ports: quoted.ports,
        }
    }
}

/// Key of packets that the kernel dropped (`skb:kfree_skb`): which, why and where.
///
/// An IPv4 address is in the first word, the others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct DropKey {
    /// Source address as it was then, network byte order.
    pub src_be: [u32; 4],
    /// Destination address, network byte order.
    pub dst_be: [u32; 4],
    /// Ports; zeros of a later fragment.
    pub ports: Ports,
    /// The protocol; no VLANs.
    pub tag: Tag,
    /// 4 or 6.
    pub family: u32,
    /// `enum skb_drop_reason`, or [`NO_REASON`].
    pub reason: u32,
    /// The network namespace of the device that the packet was at last, by its inode; 0 if that is not known.
    pub netns: u32,
    /// Zero.
    pub padding: u32,
    /// Where it was freed: an address in the kernel.
    pub location: u64,
}

/// Room for dropped packets of so many kinds, in each epoch. The maps are as large from the beginning: tracepoints' programs may not
/// have others before Linux 6.1.
pub const MAX_DROPS: u32 = 8_192;

/// The kernel gives no reasons for drops (before Linux 5.17).
pub const NO_REASON: u32 = u32::MAX;

/// Where the running kernel has fields that find a packet's headers and its network namespace, in bytes, by its BTF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SkbOffsets {
    /// `sk_buff.head`; 0 if the offsets are unknown.
    pub head: u32,
    /// `sk_buff.network_header`.
    pub network_header: u32,
    /// `sk_buff.protocol`.
    pub protocol: u32,
    /// `sk_buff.len`.
    pub len: u32,
    /// `sk_buff.dev`.
    pub dev: u32,
    /// `net_device.nd_net`.
    pub nd_net: u32,
    /// `net.ns.inum`.
    pub inum: u32,
}

impl SkbOffsets {
    /// Of a kernel that has no BTF.
    pub const UNKNOWN: Self = Self { head: 0, network_header: 0, protocol: 0, len: 0, dev: 0, nd_net: 0, inum: 0 };

    /// As words, as the programs have them.
    #[must_use]
    pub const fn words(&self) -> [u32; 7] {
        [self.head, self.network_header, self.protocol, self.len, self.dev, self.nd_net, self.inum]
    }
}

const _: () = {
    assert!(size_of::<KeyV4>() == 20);
    assert!(size_of::<KeyV6>() == 44);
    assert!(size_of::<Counts>() == 24);
    assert!(size_of::<Slot<KeyV4>>() == 48);
    assert!(size_of::<Slot<KeyV6>>() == 72);
    assert!(BLOCKS.is_power_of_two() && BLOCK_SLOTS.is_power_of_two());
    assert!(size_of::<Block<KeyV4>>() <= 32 << 10 && size_of::<Block<KeyV6>>() <= 32 << 10);
    assert!(size_of::<UnattributedKey>() == 8);
    assert!(size_of::<FragmentKey>() == 44);
    assert!(size_of::<FragmentValue>() == 24);
    assert!(size_of::<IcmpErrorKey>() == 80);
    assert!(size_of::<DropKey>() == 64);
};
