//! The TC programs: they count each packet under its flow, and do nothing else.
//!
//! In: packets at TC ingress and egress. Out: the maps. They answer -1 to every packet (`TC_ACT_UNSPEC`, `TCX_NEXT`),
//! so that the next program on the hook decides, and never write to a packet. What cannot be attributed to a flow is
//! counted by reason; no path ends without a count.
//!
//! Minimum kernel: 5.7, which has `gso_size`; tested from 5.10 on.
//!
//! What is not done for nearly every packet is in global functions (BTF's linkage; kernel 5.6): `extern "C"`, with the context
//! and numbers as arguments. The verifier checks each of them once, on its own, and forgets what it knew when it returns. That
//! is what makes the programs small enough for it: Linux 5.10, for one, takes every number for one that matters as soon as a
//! program has functions (`kernel/bpf/verifier.c`, `__mark_reg_unknown`), and so follows each way through a packet's headers
//! to the program's end, more than the million instructions that it is willing to look at.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the classifier macro makes functions without their docs")]

mod drops;
mod kernel_skb;
mod skb;

use core::arch::asm;

use aya_ebpf::bindings::{__sk_buff, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use netpath_ebpf::parse::{
    Fragment, Key, Network, Packet, Parsed, PlainTag, Start, inner_len, ipv4, ipv6, is_udp_tunnel, network, plain_v4,
    plain_v6, quoted_v4, quoted_v6,
};
use netpath_ebpf::wire::Size;
use netpath_ebpf::{
    BLOCKS, Block, Counts, Direction, FlowKey, FragmentKey, FragmentValue, Hook, IcmpErrorKey, KeyV4, KeyV6, Reason,
    Slot, UnattributedKey, slot_index,
};

use self::skb::{Linear, SkbReader, netpath_start};

/// `TC_ACT_UNSPEC` and `TCX_NEXT`: no opinion, go on with the next program.
const NEXT: i32 = -1;

const FLOWS: usize = 65_536;
/// Four reasons, two directions: room for 4,096 devices.
const UNATTRIBUTED: usize = 32_768;

/// The number of the epoch to count into. A global variable, since the programs reach it without looking for it.
#[unsafe(no_mangle)]
static mut NETPATH_EPOCH: u32 = 0;
#[btf_map]
static NETPATH_LOST: Array<Counts, 2> = Array::new();
#[btf_map]
static NETPATH_SLOT_V4: PerCpuArray<Block<KeyV4>, { 2 * BLOCKS as usize }> = PerCpuArray::new();
#[btf_map]
static NETPATH_SLOT_V6: PerCpuArray<Block<KeyV6>, { 2 * BLOCKS as usize }> = PerCpuArray::new();
#[btf_map]
static NETPATH_V4_0: HashMap<KeyV4, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V4_1: HashMap<KeyV4, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V6_0: HashMap<KeyV6, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V6_1: HashMap<KeyV6, Counts, FLOWS> = HashMap::new();
/// ICMP errors, of both families. Without memory set aside for them: there are few, unless somebody makes many.
#[btf_map]
static NETPATH_ICMP_0: HashMap<IcmpErrorKey, Counts, FLOWS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
#[btf_map]
static NETPATH_ICMP_1: HashMap<IcmpErrorKey, Counts, FLOWS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();
#[btf_map]
static NETPATH_UNATT_0: HashMap<UnattributedKey, Counts, UNATTRIBUTED> = HashMap::new();
#[btf_map]
static NETPATH_UNATT_1: HashMap<UnattributedKey, Counts, UNATTRIBUTED> = HashMap::new();
/// The ports of datagrams of which more fragments are to come. Not part of an epoch: it holds no counts.
#[btf_map]
static NETPATH_FRAG: LruHashMap<FragmentKey, FragmentValue, 8_192> = LruHashMap::new();

/// TC ingress of a device with Ethernet headers. Kernel 5.10, TCX from 6.6 on. Without it: no rx hop on that device.
#[classifier]
pub fn netpath_rx(ctx: TcContext) -> i32 {
    ethernet(ctx.skb.skb, Direction::Rx)
}

/// TC egress of a device with Ethernet headers. Kernel 5.10, TCX from 6.6 on. Without it: no tx hop on that device.
#[classifier]
pub fn netpath_tx(ctx: TcContext) -> i32 {
    ethernet(ctx.skb.skb, Direction::Tx)
}

/// TC ingress of a device without link layer (tun, WireGuard, xfrm). Kernel 5.10, TCX from 6.6 on. Without it: no rx hop on that device.
#[classifier]
pub fn netpath_rx_ip(ctx: TcContext) -> i32 {
    slow_path(ctx.skb.skb, Direction::Rx, false)
}

/// TC egress of a device without link layer (tun, WireGuard, xfrm). Kernel 5.10, TCX from 6.6 on. Without it: no tx hop on that device.
#[classifier]
pub fn netpath_tx_ip(ctx: TcContext) -> i32 {
    slow_path(ctx.skb.skb, Direction::Tx, false)
}

/// Counts any packet of a device with Ethernet headers: the quickest way that will do.
#[inline(always)]
fn ethernet(skb: *mut __sk_buff, direction: Direction) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let tag_offloaded = unsafe { (*skb).vlan_present } != 0;
    // Each with a tag whose length the compiler knows.
    let mut counted = if tag_offloaded {
        // SAFETY: as above.
        cached_path(skb, direction, PlainTag::beside(unsafe { (*skb).vlan_tci } as u16))
    } else {
        cached_path(skb, direction, PlainTag::NONE)
    };
    if counted.is_none()
        && !tag_offloaded
        && let Some(tag) = PlainTag::in_frame(&Linear::of(skb))
    {
        counted = cached_path(skb, direction, tag);
    }
    match counted {
        Some(true) => NEXT,
        Some(false) if netpath_fast_path(skb, direction as u32, u32::from(tag_offloaded)) != 0 => NEXT,
        _ => slow_path(skb, direction, true),
    }
}

/// Counts any packet. The three ways are called from here, and not one from within the other: together they would need more than
/// BPF's 512 bytes of stack.
#[inline(always)]
fn slow_path(skb: *mut __sk_buff, direction: Direction, ethernet: bool) -> i32 {
    let (direction, ethernet) = (direction as u32, u32::from(ethernet));
    let left = netpath_slow_path(skb, direction, ethernet);
    let counted = left == COUNTED || left == ICMP_ERROR && netpath_icmp_error(skb, direction, ethernet) == COUNTED;
    if !counted {
        netpath_fragment(skb, direction, ethernet);
    }
    NEXT
}

/// What the global functions answer: nothing is left to do.
const COUNTED: u32 = 0;
/// Not counted: an ICMP error, maybe a fragment.
const ICMP_ERROR: u32 = 1;
/// Not counted: a fragment.
const FRAGMENT: u32 = 2;

/// A direction that went through a global function's argument.
#[inline(always)]
fn direction_of(number: u32) -> Direction {
    if number == Direction::Rx as u32 { Direction::Rx } else { Direction::Tx }
}

/// The VLAN tag of a plain packet that has one.
#[inline(always)]
fn tag(skb: *mut __sk_buff, beside: bool) -> Option<PlainTag> {
    // SAFETY: as above.
    if beside {
        Some(PlainTag::beside(unsafe { (*skb).vlan_tci } as u16))
    } else {
        PlainTag::in_frame(&Linear::of(skb))
    }
}

/// Counts a plain packet, which is nearly every packet, if its flow has its slot on this CPU and it is no super-packet;
/// `None` if it is not plain. It is small so that all it needs stays in registers.
#[inline(always)]
fn cached_path(skb: *mut __sk_buff, direction: Direction, tag: PlainTag) -> Option<bool> {
    // SAFETY: as above.
    let hook = Hook::new(unsafe { (*skb).ifindex }, direction);
    let linear = Linear::of(skb);
    if let Some(parsed) = plain_v4(&linear, tag, hook) {
        Some(hit_slot(&NETPATH_SLOT_V4, skb, tag, &parsed.key))
    } else {
        Some(hit_slot(&NETPATH_SLOT_V6, skb, tag, &plain_v6(&linear, tag, hook)?.key))
    }
}

#[inline(always)]
fn hit_slot<K: FlowKey, const N: usize>(
    slots: &PerCpuArray<Block<K>, N>,
    skb: *mut __sk_buff,
    tag: PlainTag,
    key: &K,
) -> bool {
    let epoch = epoch();
    let Some(slot) = slot(slots, key, epoch) else { return false };
    // SAFETY: as above.
    let (len, gso_size) = unsafe { (u64::from((*skb).len), (*skb).gso_size) };
    if gso_size != 0 || !slot.is_of(&key.words(epoch)) {
        return false;
    }
    slot.counts.packets += 1;
    slot.counts.bytes += len;
    slot.counts.wire_overhead_bytes += tag.offloaded_tag_bytes();
    true
}

/// Counts any plain packet, but for those of tunnels that are super-packets: `false`. It reads the packet again: what [`cached_path`]
/// would have to hand on would cost those that hit.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_fast_path(skb: *mut __sk_buff, direction: u32, tag_offloaded: u32) -> u32 {
    let linear = Linear::of(skb);
    // SAFETY: as above.
    let hook = Hook::new(unsafe { (*skb).ifindex }, direction_of(direction));
    let tag = tag(skb, tag_offloaded != 0).unwrap_or(PlainTag::NONE);
    let size = size(skb);
    let counted = if let Some(parsed) = plain_v4(&linear, tag, hook) {
        count_plain(&NETPATH_SLOT_V4, [&NETPATH_V4_0, &NETPATH_V4_1], size, &parsed)
    } else if let Some(parsed) = plain_v6(&linear, tag, hook) {
        count_plain(&NETPATH_SLOT_V6, [&NETPATH_V6_0, &NETPATH_V6_1], size, &parsed)
    } else {
        false
    };
    u32::from(counted)
}

#[inline(always)]
fn count_plain<K: FlowKey + Key, const N: usize, const M: usize>(
    slots: &PerCpuArray<Block<K>, N>,
    flows: [&HashMap<K, Counts, M>; 2],
    size: Size,
    parsed: &Parsed<K>,
) -> bool {
    let (protocol, ports) = parsed.key.transport();
    if size.is_super_packet() && is_udp_tunnel(protocol, ports) {
        return false;
    }
    cached(slots, flows, epoch(), &parsed.key, &size.counts(parsed.headers_len_bytes));
    true
}

/// The epoch to count into.
#[inline(always)]
fn epoch() -> u32 {
    // SAFETY: a word that user space writes at once. Volatile, since it changes behind the compiler's back.
    unsafe { (&raw const NETPATH_EPOCH).read_volatile() }
}

/// The slot of a flow on this CPU. `None` is only for the verifier: the index is always below the map's size.
#[inline(always)]
fn slot<K: FlowKey, const N: usize>(
    slots: &PerCpuArray<Block<K>, N>,
    key: &K,
    epoch: u32,
) -> Option<&'static mut Slot<K>> {
    let (index, place) = slot_index(key, epoch);
    let block = slots.get_ptr_mut(index)?;
    // SAFETY: the place is within the block. The block is this CPU's own, and nothing else of this CPU touches it while the
    // program runs: TC programs run with softirqs disabled, and not in hard interrupts. User space reads it only after
    // its epoch.
    Some(unsafe { &mut *block.cast::<Slot<K>>().add(place) })
}

/// A packet's size.
#[inline(always)]
fn size(skb: *mut __sk_buff) -> Size {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    unsafe {
        Size {
            len_bytes: (*skb).len,
            gso_segs: (*skb).gso_segs,
            gso_size_bytes: (*skb).gso_size,
            tag_offloaded: (*skb).vlan_present != 0,
        }
    }
}

/// A packet, but for its bytes.
struct Seen {
    hook: Hook,
    start: Start,
    epoch: u32,
    size: Size,
    /// Bytes of headers behind the outer ones that each frame of a tunnel's super-packet has.
    inner_len: u32,
}

/// Counts any packet of a device with (1) or without (0) Ethernet headers, but for ICMP errors and fragments: [`COUNTED`], or
/// which of these it is.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_slow_path(skb: *mut __sk_buff, direction: u32, ethernet: u32) -> u32 {
    let start = netpath_start(skb, ethernet);
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let inner_len = if unsafe { (*skb).gso_size } == 0 { 0 } else { netpath_inner_len(skb, start) };
    let seen = seen(skb, direction, Start::of_word(start), inner_len);
    match read(&SkbReader::<true> { skb }, &seen) {
        Ok(left) => left,
        Err(reason) => {
            unattributed(seen.epoch, seen.hook, reason, &seen.size.counts(0));
            COUNTED
        }
    }
}

#[inline(always)]
fn seen(skb: *mut __sk_buff, direction: u32, start: Start, inner_len: u32) -> Seen {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let hook = Hook::new(unsafe { (*skb).ifindex }, direction_of(direction));
    Seen { hook, start, epoch: epoch(), size: own_size(skb, start), inner_len }
}

/// A packet's size without what is before its own first header.
#[inline(always)]
fn own_size(skb: *mut __sk_buff, start: Start) -> Size {
    let size = size(skb);
    Size { len_bytes: size.len_bytes.saturating_sub(start.offset()), ..size }
}

/// Reads a packet's headers and counts it under its flow.
#[inline(always)]
fn read<P: Packet>(packet: &P, seen: &Seen) -> Result<u32, Reason> {
    let left = match network(packet, seen.start)? {
        Network::V4(link) => {
            let parsed = ipv4(packet, link, seen.hook)?;
            let left = left(&parsed);
            if left == COUNTED {
                count_v4(seen, &parsed);
            }
            left
        }
        Network::V6(link) => {
            let parsed = ipv6(packet, link, seen.hook)?;
            let left = left(&parsed);
            if left == COUNTED {
                count_v6(seen, &parsed);
            }
            left
        }
    };
    Ok(left)
}

#[inline(always)]
fn left<K>(parsed: &Parsed<K>) -> u32 {
    if parsed.is_icmp_error {
        ICMP_ERROR
    } else if parsed.fragment != Fragment::Whole {
        FRAGMENT
    } else {
        COUNTED
    }
}

/// Counts any packet that is in one frame, also a fragment.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_fragment(skb: *mut __sk_buff, direction: u32, ethernet: u32) -> u32 {
    let seen = seen(skb, direction, Start::of_word(netpath_start(skb, ethernet)), 0);
    if let Err(reason) = read_fragment(&SkbReader::<false> { skb }, &seen) {
        unattributed(seen.epoch, seen.hook, reason, &seen.size.counts(0));
    }
    COUNTED
}

#[inline(always)]
fn read_fragment<P: Packet>(packet: &P, seen: &Seen) -> Result<(), Reason> {
    match network(packet, seen.start)? {
        Network::V4(link) => count_v4(seen, &resolve_fragment(ipv4(packet, link, seen.hook)?)?),
        Network::V6(link) => count_v6(seen, &resolve_fragment(ipv6(packet, link, seen.hook)?)?),
    }
    Ok(())
}

/// Counts an ICMP error with the packet that it quotes; [`ICMP_ERROR`] if that cannot be read.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_icmp_error(skb: *mut __sk_buff, direction: u32, ethernet: u32) -> u32 {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let hook = Hook::new(unsafe { (*skb).ifindex }, direction_of(direction));
    let start = Start::of_word(netpath_start(skb, ethernet));
    let Some((key, headers_len)) = icmp_error(&SkbReader::<false> { skb }, start, hook) else { return ICMP_ERROR };
    let (epoch, counts) = (epoch(), own_size(skb, start).counts(headers_len - start.offset()));
    let kept = if epoch & 1 == 0 { add(&NETPATH_ICMP_0, &key, &counts) } else { add(&NETPATH_ICMP_1, &key, &counts) };
    if !kept {
        unattributed(epoch, hook, Reason::MapFull, &counts);
    }
    COUNTED
}

/// The key of an ICMP error with the packet that it quotes, and how many bytes are before its ICMP header.
#[inline(always)]
fn icmp_error<P: Packet>(packet: &P, start: Start, hook: Hook) -> Option<(IcmpErrorKey, u32)> {
    match network(packet, start).ok()? {
        Network::V4(link) => {
            let error = ipv4(packet, link, hook).ok()?;
            let quoted = quoted_v4(packet, error.headers_len_bytes)?;
            Some((IcmpErrorKey::v4(&error.key, &quoted), error.headers_len_bytes))
        }
        Network::V6(link) => {
            let error = ipv6(packet, link, hook).ok()?;
            let quoted = quoted_v6(packet, error.headers_len_bytes)?;
            Some((IcmpErrorKey::v6(&error.key, &quoted), error.headers_len_bytes))
        }
    }
}

/// Remembers a first fragment's ports for the later ones, and completes a later one with them.
#[inline(always)]
fn resolve_fragment<K: Key>(mut parsed: Parsed<K>) -> Result<Parsed<K>, Reason> {
    if parsed.fragment == Fragment::Whole {
        return Ok(parsed);
    }
    let key = parsed.key.fragment_key(parsed.part.id_be);
    // SAFETY: the value is copied at once. Should its slot be reused in that moment, which takes 8,192 other fragmented
    // packets, the copy has the ports of one of those.
    let before = unsafe { NETPATH_FRAG.get(&key) }.copied();
    // SAFETY: the helper only reads a clock.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if parsed.fragment == Fragment::First {
        keep(&key, &FragmentValue::first(parsed.part, parsed.key.transport(), before, now_ns));
        return Ok(parsed);
    }
    let value = FragmentValue::later(parsed.part, before, now_ns);
    keep(&key, &value);
    if value.has_first == 0 {
        return Err(Reason::OrphanFragment);
    }
    parsed.key.complete(&value);
    Ok(parsed)
}

/// Remembers a datagram, or forgets it if all of it has passed.
#[inline(always)]
fn keep(key: &FragmentKey, value: &FragmentValue) {
    if value.is_complete() {
        let _ = NETPATH_FRAG.remove(key);
    } else {
        // A full LRU map makes room for it.
        let _ = NETPATH_FRAG.insert(key, value, 0);
    }
}

/// Counts an IPv4 packet.
#[inline(always)]
fn count_v4(seen: &Seen, parsed: &Parsed<KeyV4>) {
    let counts = seen.size.counts(parsed.headers_len_bytes - seen.start.offset() + seen.inner_len);
    cached(&NETPATH_SLOT_V4, [&NETPATH_V4_0, &NETPATH_V4_1], seen.epoch, &parsed.key, &counts);
}

/// Counts an IPv6 packet.
#[inline(always)]
fn count_v6(seen: &Seen, parsed: &Parsed<KeyV6>) {
    let counts = seen.size.counts(parsed.headers_len_bytes - seen.start.offset() + seen.inner_len);
    cached(&NETPATH_SLOT_V6, [&NETPATH_V6_0, &NETPATH_V6_1], seen.epoch, &parsed.key, &counts);
}

/// Counts a packet in its flow's slot on this CPU. A slot that another flow has is emptied into the flow map first.
#[inline(always)]
fn cached<K: FlowKey, const N: usize, const M: usize>(
    slots: &PerCpuArray<Block<K>, N>,
    [even, odd]: [&HashMap<K, Counts, M>; 2],
    epoch: u32,
    key: &K,
    counts: &Counts,
) {
    let Some(slot) = slot(slots, key, epoch) else {
        return unattributed(epoch, key.hook(), Reason::MapFull, counts);
    };
    if slot.epoch == epoch {
        if slot.is_of(&key.words(epoch)) {
            slot.counts.packets += counts.packets;
            slot.counts.bytes += counts.bytes;
            slot.counts.wire_overhead_bytes += counts.wire_overhead_bytes;
            return;
        }
        let kept = if epoch & 1 == 0 { add(even, &slot.key, &slot.counts) } else { add(odd, &slot.key, &slot.counts) };
        if !kept {
            unattributed(epoch, slot.key.hook(), Reason::MapFull, &slot.counts);
        }
    }
    *slot = Slot { key: *key, epoch, counts: *counts };
}

/// Bytes of headers behind the outer ones that each frame of a tunnel's super-packet has; 0 for any other packet.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_inner_len(skb: *mut __sk_buff, start: u32) -> u32 {
    inner_len(&SkbReader::<true> { skb }, Start::of_word(start)).unwrap_or(0)
}

/// Counts a packet that belongs to no flow.
#[inline(always)]
fn unattributed(epoch: u32, hook: Hook, reason: Reason, counts: &Counts) {
    let key = UnattributedKey { hook, reason: reason as u32 };
    let map = if epoch & 1 == 0 { &NETPATH_UNATT_0 } else { &NETPATH_UNATT_1 };
    if !add(map, &key, counts) {
        if let Some(total) = NETPATH_LOST.get_ptr_mut(epoch & 1) {
            // SAFETY: the pointer is to an element of the map.
            unsafe { add_to(total, counts) };
        }
    }
}

/// Adds to a key's counts; `false` if the map has no room for the key.
#[inline(always)]
fn add<K, const N: usize, const F: usize>(map: &HashMap<K, Counts, N, F>, key: &K, counts: &Counts) -> bool {
    if let Some(total) = map.get_ptr_mut(key) {
        // SAFETY: the pointer is to an element of the map; elements go only from epochs at rest.
        unsafe { add_to(total, counts) };
        return true;
    }
    if map.insert(key, counts, u64::from(BPF_NOEXIST)).is_ok() {
        return true;
    }
    // Another CPU may have been first.
    let Some(total) = map.get_ptr_mut(key) else { return false };
    // SAFETY: as above.
    unsafe { add_to(total, counts) };
    true
}

/// Adds atomically, field by field.
///
/// # Safety
/// `total` must point to an element of a map.
#[inline(always)]
unsafe fn add_to(total: *mut Counts, counts: &Counts) {
    // SAFETY: by this function's contract.
    unsafe {
        add_word(&raw mut (*total).packets, counts.packets);
        add_word(&raw mut (*total).bytes, counts.bytes);
        if counts.wire_overhead_bytes != 0 {
            add_word(&raw mut (*total).wire_overhead_bytes, counts.wire_overhead_bytes);
        }
    }
}

/// `BPF_XADD`, which every kernel has; `core` has no atomic addition for this target.
///
/// # Safety
/// `word` must point to an aligned word of a map's element.
#[inline(always)]
unsafe fn add_word(word: *mut u64, amount: u64) {
    // SAFETY: by this function's contract; the instruction changes that word only.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {amount}", word = in(reg) word, amount = in(reg) amount) };
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads it: programs under another licence may not call every helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
