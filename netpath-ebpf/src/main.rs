//! The TC programs: they count each packet under its flow, and do nothing else.
//!
//! In: packets at TC ingress and egress. Out: the maps. They answer -1 to every packet (`TC_ACT_UNSPEC`, `TCX_NEXT`),
//! so that the next program on the hook decides, and never write to a packet. What cannot be attributed to a flow is
//! counted by reason; no path ends without a count.
//!
//! Minimum kernel: 5.7, which has `gso_size`; TCX attachment needs 6.6.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the classifier macro makes functions without their docs")]

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use netpath_ebpf::parse::{
    Fragment, Header, Key, Network, Packet, Parsed, PlainTag, Start, Stop, inner_len, ipv4, ipv6, is_vxlan, network,
    plain_v4, plain_v6,
};
use netpath_ebpf::wire::Size;
use netpath_ebpf::{
    Counts, Direction, FlowKey, FragmentKey, FragmentValue, Hook, KeyV4, KeyV6, Reason, SLOTS, Slot, UnattributedKey,
    slot_index,
};

/// `TC_ACT_UNSPEC` and `TCX_NEXT`: no opinion, go on with the next program.
const NEXT: i32 = -1;

const FLOWS: usize = 65_536;
/// Four reasons, two directions: room for 4,096 devices.
const UNATTRIBUTED: usize = 32_768;

#[btf_map]
static NETPATH_EPOCH: Array<u32, 1> = Array::new();
#[btf_map]
static NETPATH_LOST: Array<Counts, 2> = Array::new();
#[btf_map]
static NETPATH_SLOT_V4: PerCpuArray<Slot<KeyV4>, { 2 * SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static NETPATH_SLOT_V6: PerCpuArray<Slot<KeyV6>, { 2 * SLOTS as usize }> = PerCpuArray::new();
#[btf_map]
static NETPATH_V4_0: HashMap<KeyV4, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V4_1: HashMap<KeyV4, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V6_0: HashMap<KeyV6, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_V6_1: HashMap<KeyV6, Counts, FLOWS> = HashMap::new();
#[btf_map]
static NETPATH_REST_0: HashMap<UnattributedKey, Counts, UNATTRIBUTED> = HashMap::new();
#[btf_map]
static NETPATH_REST_1: HashMap<UnattributedKey, Counts, UNATTRIBUTED> = HashMap::new();
/// The ports of packets whose later fragments are still to come. Not part of an epoch: it holds no counts.
#[btf_map]
static NETPATH_FRAG: LruHashMap<FragmentKey, FragmentValue, 8_192> = LruHashMap::new();

/// TC ingress of a device with Ethernet headers. Kernel 6.6 (TCX). Without it: no rx hop on that device.
#[classifier]
pub fn netpath_rx(ctx: TcContext) -> i32 {
    ethernet(ctx.skb.skb, Direction::Rx)
}

/// TC egress of a device with Ethernet headers. Kernel 6.6 (TCX). Without it: no tx hop on that device.
#[classifier]
pub fn netpath_tx(ctx: TcContext) -> i32 {
    ethernet(ctx.skb.skb, Direction::Tx)
}

/// TC ingress of a device without link layer (tun, WireGuard). Kernel 6.6 (TCX). Without it: no rx hop on that device.
#[classifier]
pub fn netpath_rx_ip(ctx: TcContext) -> i32 {
    general(ctx.skb.skb, Direction::Rx, false)
}

/// TC egress of a device without link layer (tun, WireGuard). Kernel 6.6 (TCX). Without it: no tx hop on that device.
#[classifier]
pub fn netpath_tx_ip(ctx: TcContext) -> i32 {
    general(ctx.skb.skb, Direction::Tx, false)
}

/// Counts any packet of a device with Ethernet headers: the quickest way that will do.
#[inline(always)]
fn ethernet(skb: *mut __sk_buff, direction: Direction) -> i32 {
    plain(skb, direction).or_else(|| plain_tagged(skb, direction)).unwrap_or_else(|| general(skb, direction, true))
}

/// Counts a plain packet without VLAN tag whose flow has its slot, which is nearly every packet. `None`: nothing is counted
/// yet.
///
/// It is small so that all it needs stays in registers: everything else, eviction included, is [`general`]'s.
#[inline(always)]
fn plain(skb: *mut __sk_buff, direction: Direction) -> Option<i32> {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    if unsafe { (*skb).vlan_present } != 0 {
        return None;
    }
    plain_behind(PlainTag::NONE, skb, direction)
}

/// The same for a plain packet with a tag.
#[inline(always)]
fn plain_tagged(skb: *mut __sk_buff, direction: Direction) -> Option<i32> {
    // SAFETY: as above.
    let (present, tci) = unsafe { ((*skb).vlan_present != 0, (*skb).vlan_tci as u16) };
    let tag = if present { PlainTag::beside(tci) } else { PlainTag::in_frame(&Linear::of(skb))? };
    plain_behind(tag, skb, direction)
}

#[inline(always)]
fn plain_behind(tag: PlainTag, skb: *mut __sk_buff, direction: Direction) -> Option<i32> {
    // SAFETY: as above.
    let hook = Hook::new(unsafe { (*skb).ifindex }, direction);
    let linear = Linear::of(skb);
    if let Some(parsed) = plain_v4(&linear, tag, hook) {
        hit(&NETPATH_SLOT_V4, skb, &parsed)
    } else {
        hit(&NETPATH_SLOT_V6, skb, &plain_v6(&linear, tag, hook)?)
    }
}

/// Counts a packet if its flow has its slot on this CPU.
#[inline(always)]
fn hit<K: FlowKey + Key, const N: usize>(
    slots: &PerCpuArray<Slot<K>, N>,
    skb: *mut __sk_buff,
    parsed: &Parsed<K>,
) -> Option<i32> {
    let epoch = *NETPATH_EPOCH.get(0)?;
    // SAFETY: see `cached`.
    let slot = unsafe { &mut *slots.get_ptr_mut(slot_index(&parsed.key, epoch))? };
    if slot.epoch != epoch || !slot.key.same(&parsed.key) {
        return None;
    }
    // SAFETY: as above.
    let (len, gso_size, tag_beside) = unsafe { ((*skb).len, (*skb).gso_size, (*skb).vlan_present != 0) };
    let mut wire_len = u64::from(len);
    if gso_size != 0 || tag_beside {
        // SAFETY: as above.
        let size = Size { len_bytes: len, gso_segs: unsafe { (*skb).gso_segs }, gso_size_bytes: gso_size, tag_beside };
        let (protocol, ports) = parsed.key.transport();
        if is_vxlan(protocol, ports) {
            return None;
        }
        wire_len = size.counts(parsed.headers_len_bytes).wire_bytes;
    }
    slot.counts.packets += 1;
    slot.counts.bytes += u64::from(len);
    slot.counts.wire_bytes += wire_len;
    Some(NEXT)
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

/// What the packet begins with.
///
/// # Safety
/// `skb` must be the program's context.
#[inline(always)]
unsafe fn start(skb: *mut __sk_buff, ethernet: bool) -> Start {
    // SAFETY: by this function's contract. Volatile, or the compiler would choose between the addresses of two fields,
    // which the verifier does not allow.
    let (protocol, vlan_tci) =
        unsafe { ((&raw const (*skb).protocol).read_volatile(), (&raw const (*skb).vlan_tci).read_volatile()) };
    if ethernet {
        // SAFETY: as above.
        Start::Ethernet { vlan_tci: unsafe { (*skb).vlan_present != 0 }.then_some(vlan_tci as u16) }
    } else {
        Start::Ip { ethertype_be: protocol as u16 }
    }
}

/// Counts any packet: by what is in its linear part, or if that ends too early by all of it.
///
/// They are functions of their own, in the object once for all programs, and side by side: the stack of what calls each other
/// is 512 bytes in all.
#[inline(always)]
fn general(skb: *mut __sk_buff, direction: Direction, ethernet: bool) -> i32 {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let inner_len = if unsafe { (*skb).gso_size } == 0 { 0 } else { inner_headers_len(skb, ethernet) };
    if !count_linear(skb, direction, ethernet, inner_len) {
        count_paged(skb, direction, ethernet, inner_len);
    }
    NEXT
}

#[inline(never)]
fn count_linear(skb: *mut __sk_buff, direction: Direction, ethernet: bool, inner_len: u32) -> bool {
    count(&Linear::of(skb), skb, direction, ethernet, inner_len)
}

#[inline(never)]
fn count_paged(skb: *mut __sk_buff, direction: Direction, ethernet: bool, inner_len: u32) -> bool {
    count(&Paged { skb }, skb, direction, ethernet, inner_len)
}

/// Counts a packet, unless what can be read of it ends too early: `false`.
#[inline(always)]
fn count<P: Packet>(packet: &P, skb: *mut __sk_buff, direction: Direction, ethernet: bool, inner_len: u32) -> bool {
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let seen = unsafe {
        let start = start(skb, ethernet);
        let hook = Hook::new((*skb).ifindex, direction);
        let epoch = NETPATH_EPOCH.get(0).copied().unwrap_or(0);
        let size = Size {
            len_bytes: (*skb).len,
            gso_segs: (*skb).gso_segs,
            gso_size_bytes: (*skb).gso_size,
            tag_beside: (*skb).vlan_present != 0,
        };
        Seen { hook, start, epoch, size, inner_len }
    };
    match read(packet, &seen) {
        Ok(()) => true,
        Err(Stop::EndedEarly) => false,
        Err(Stop::Unattributed(reason)) => {
            unattributed(seen.epoch, seen.hook, reason, &seen.size.counts(0));
            true
        }
    }
}

/// Reads a packet's headers and counts it under its flow.
#[inline(always)]
fn read<P: Packet>(packet: &P, seen: &Seen) -> Result<(), Stop> {
    match network(packet, seen.start)? {
        Network::V4(link) => count_v4(seen, &whole(ipv4(packet, link, seen.hook)?)?),
        Network::V6(link) => count_v6(seen, &whole(ipv6(packet, link, seen.hook)?)?),
    }
    Ok(())
}

/// Remembers a first fragment's ports for the later ones, and completes a later one with them.
#[inline(always)]
fn whole<K: Key>(mut parsed: Parsed<K>) -> Result<Parsed<K>, Stop> {
    match parsed.fragment {
        Fragment::Whole => {}
        Fragment::First => {
            let key = parsed.key.fragment_key(parsed.fragment_id_be);
            // A full LRU map makes room for it.
            let _ = NETPATH_FRAG.insert(key, parsed.key.fragment_value(), 0);
        }
        Fragment::Later => {
            let key = parsed.key.fragment_key(parsed.fragment_id_be);
            // SAFETY: the value is copied at once. Should its slot be reused in that moment, which takes 8,192 other
            // fragmented packets, the copy has the ports of one of those.
            match unsafe { NETPATH_FRAG.get(key) } {
                Some(first) => parsed.key.complete(*first),
                None => return Err(Stop::Unattributed(Reason::OrphanFragment)),
            }
        }
    }
    Ok(parsed)
}

/// Counts an IPv4 packet.
#[inline(always)]
fn count_v4(seen: &Seen, parsed: &Parsed<KeyV4>) {
    let counts = seen.size.counts(parsed.headers_len_bytes + seen.inner_len);
    cached(&NETPATH_SLOT_V4, [&NETPATH_V4_0, &NETPATH_V4_1], seen.epoch, &parsed.key, &counts);
}

/// Counts an IPv6 packet.
#[inline(always)]
fn count_v6(seen: &Seen, parsed: &Parsed<KeyV6>) {
    let counts = seen.size.counts(parsed.headers_len_bytes + seen.inner_len);
    cached(&NETPATH_SLOT_V6, [&NETPATH_V6_0, &NETPATH_V6_1], seen.epoch, &parsed.key, &counts);
}

/// Counts a packet in its flow's slot on this CPU. A slot that another flow has is emptied into the flow map first.
#[inline(always)]
fn cached<K: FlowKey, const N: usize, const M: usize>(
    slots: &PerCpuArray<Slot<K>, N>,
    [even, odd]: [&HashMap<K, Counts, M>; 2],
    epoch: u32,
    key: &K,
    counts: &Counts,
) {
    let Some(slot) = slots.get_ptr_mut(slot_index(key, epoch)) else {
        // The index is always below the map's size. If it were not, the packet would be counted all the same.
        return unattributed(epoch, key.hook(), Reason::MapFull, counts);
    };
    // SAFETY: the slot is this CPU's own, and nothing else of this CPU touches it while the program runs: TC programs
    // run with softirqs disabled, and not in hard interrupts. User space reads it only after its epoch.
    let slot = unsafe { &mut *slot };
    if slot.epoch == epoch {
        if slot.key == *key {
            slot.counts.packets += counts.packets;
            slot.counts.bytes += counts.bytes;
            slot.counts.wire_bytes += counts.wire_bytes;
            return;
        }
        let kept = if epoch & 1 == 0 { add(even, &slot.key, &slot.counts) } else { add(odd, &slot.key, &slot.counts) };
        if !kept {
            unattributed(epoch, slot.key.hook(), Reason::MapFull, &slot.counts);
        }
    }
    *slot = Slot { key: *key, epoch, counts: *counts };
}

/// Bytes of headers behind the outer ones that each frame of a VXLAN super-packet has; 0 for any other packet.
#[inline(never)]
fn inner_headers_len(skb: *mut __sk_buff, ethernet: bool) -> u32 {
    let packet = Paged { skb };
    // SAFETY: the kernel passes a valid context; the verifier checks every access to it.
    let start = unsafe { start(skb, ethernet) };
    inner_len(&packet, start).unwrap_or(0)
}

/// Counts a packet that belongs to no flow.
#[inline(always)]
fn unattributed(epoch: u32, hook: Hook, reason: Reason, counts: &Counts) {
    let key = UnattributedKey { hook, reason: reason as u32 };
    let map = if epoch & 1 == 0 { &NETPATH_REST_0 } else { &NETPATH_REST_1 };
    if !add(map, &key, counts) {
        if let Some(total) = NETPATH_LOST.get_ptr_mut(epoch & 1) {
            // SAFETY: the pointer is to an element of the map.
            unsafe { add_to(total, counts) };
        }
    }
}

/// Adds to a key's counts; `false` if the map has no room for the key.
#[inline(always)]
fn add<K, const N: usize>(map: &HashMap<K, Counts, N>, key: &K, counts: &Counts) -> bool {
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
        add_word(&raw mut (*total).wire_bytes, counts.wire_bytes);
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

/// The linear part of a packet, by direct access.
struct Linear {
    data: usize,
    data_end: usize,
}

impl Linear {
    #[inline(always)]
    fn of(skb: *mut __sk_buff) -> Self {
        // SAFETY: the kernel passes a valid context.
        unsafe { Self { data: (*skb).data as usize, data_end: (*skb).data_end as usize } }
    }
}

impl Packet for Linear {
    const IS_WHOLE: bool = false;

    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let start = self.data + offset as usize;
        if start + size_of::<T>() > self.data_end {
            return None;
        }
        // SAFETY: within the packet, as just compared, which the verifier checks too. Loads from packet memory need no
        // alignment on the machines netpath runs on (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS).
        Some(unsafe { (start as *const T).read() })
    }
}

/// The whole packet, through a helper call for each read: for headers beyond the linear part.
struct Paged {
    skb: *mut __sk_buff,
}

impl Packet for Paged {
    const IS_WHOLE: bool = true;

    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes as many bytes as the header has, or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, header.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: the helper wrote all of it, and a header is valid for all bytes.
        (failed == 0).then(|| unsafe { header.assume_init() })
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads it: programs under another licence may not call every helper.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
