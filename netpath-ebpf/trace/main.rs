//! The trace programs: they follow single packets from hook to hook, and note where the kernel frees them.
//!
//! In: packets at TC ingress and egress, and the tracepoint `skb:kfree_skb`. Out: events in a ring buffer, and exact accounts
//! of those that are not there. They answer -1 to every packet, and never write to one.
//!
//! An object of its own: what counts pays nothing for it. A packet that the filter does not accept is written to the look-back
//! of its CPU, and that is all.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the macros make functions without their docs")]
#![expect(clippy::inline_always, reason = "as in the programs that count")]

#[path = "../src/kernel_skb.rs"]
mod kernel_skb;
#[path = "../src/skb.rs"]
mod skb;

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_ringbuf_output, bpf_skb_load_bytes};
use aya_ebpf::macros::{btf_map, classifier, raw_tracepoint};
use aya_ebpf::programs::{RawTracePointContext, TcContext};
use aya_log_ebpf::debug;
use netpath_ebpf::parse::{EtherType, EthernetHeader, Header, Packet, PlainTag, Start, plain_v4, plain_v6};
use netpath_ebpf::trace::{
    BACK_BLOCKS, BACK_PLACES, CpuState, Ends, Event, EventKind, Facts, Fate, MAX_SNAPLEN, RATE_WINDOW_SHIFT,
    SET_MEMBERS, Settings, Sighting, TESTS, TRIP_HOOKS, Test, Trail, accepts, facts, prints,
};
use netpath_ebpf::{Direction, Hook, NO_REASON, SkbOffsets};

use self::kernel_skb::{KernelSkb, netns, read_kernel};
use self::skb::{Linear, SkbReader, netpath_start};

/// `TC_ACT_UNSPEC` and `TCX_NEXT`.
const NEXT: i32 = -1;

/// What a program works on: too much for its stack of 512 bytes. Only TC programs use it, which do not interrupt each other.
#[repr(C)]
struct Scratch {
    /// The context's address, which the verifier lets nobody calculate with before it was stored.
    skb: u64,
    /// The packet's place in the look-back.
    place: u32,
    /// What the filter looks at.
    facts: Facts,
    event: Event,
    bytes: [u8; MAX_SNAPLEN],
}

#[btf_map]
static NETPATH_SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map]
static NETPATH_BACK: PerCpuArray<[Sighting; BACK_PLACES], BACK_BLOCKS> = PerCpuArray::new();
#[btf_map]
static NETPATH_TRAIL: LruHashMap<u64, Trail, 16_384> = LruHashMap::new();
#[btf_map]
static NETPATH_STATE: PerCpuArray<CpuState, 2> = PerCpuArray::new();
#[btf_map]
static NETPATH_TESTS: Array<[Test; TESTS], 1> = Array::new();
/// Members of the sets that tests name: the number of the set, and an address.
#[btf_map]
static NETPATH_SETS: HashMap<[u32; 5], u32, SET_MEMBERS> = HashMap::new();
/// What NAT makes of a packet's ends elsewhere on this node.
#[btf_map]
static NETPATH_NAT: LruHashMap<Ends, Ends, 16_384> = LruHashMap::new();
#[btf_map]
static NETPATH_CONFIG: Array<Settings, 1> = Array::new();
/// Number and trips of the present window of the rate.
#[btf_map]
static NETPATH_RATE: Array<[u64; 2], 1> = Array::new();
#[btf_map]
static NETPATH_EVENTS: RingBuf<Event, 16_777_216> = RingBuf::new();

/// Whether a trip began: until then no packet is looked for in the trail. Whether the trace is over: then nothing is sent.
#[unsafe(no_mangle)]
static mut NETPATH_TRACE: [u32; 2] = [0; 2];

/// Set before loading, by the running kernel's BTF.
#[unsafe(no_mangle)]
static NETPATH_OFFSETS: SkbOffsets = SkbOffsets::UNKNOWN;

/// TC ingress of a device with Ethernet headers. Kernel 5.10, TCX from 6.6 on.
#[classifier]
pub fn netpath_hop_rx(ctx: TcContext) -> i32 {
    trace(ctx.skb.skb, Direction::Rx, true)
}

/// TC egress of a device with Ethernet headers. Kernel 5.10, TCX from 6.6 on.
#[classifier]
pub fn netpath_hop_tx(ctx: TcContext) -> i32 {
    trace(ctx.skb.skb, Direction::Tx, true)
}

/// TC ingress of a device without link layer. Kernel 5.10, TCX from 6.6 on.
#[classifier]
pub fn netpath_hoprxip(ctx: TcContext) -> i32 {
    trace(ctx.skb.skb, Direction::Rx, false)
}

/// TC egress of a device without link layer. Kernel 5.10, TCX from 6.6 on.
#[classifier]
pub fn netpath_hoptxip(ctx: TcContext) -> i32 {
    trace(ctx.skb.skb, Direction::Tx, false)
}

/// `skb:kfree_skb` with the packet and the place. Kernel 5.10.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn netpath_endfree(ctx: RawTracePointContext) -> i32 {
    freed(&ctx, ctx.arg(0), ctx.arg(1), NO_REASON);
    0
}

/// `skb:kfree_skb` with the reason as well. Kernel 5.17.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn netpath_enddrop(ctx: RawTracePointContext) -> i32 {
    freed(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn trace(skb: *mut __sk_buff, direction: Direction, ethernet: bool) -> i32 {
    let Some(scratch) = NETPATH_SCRATCH.get_ptr_mut(0) else { return NEXT };
    // SAFETY: this CPU's own element; TC programs run with softirqs disabled and not in hard interrupts.
    let scratch = unsafe { &mut *scratch };
    let address = number(skb, scratch);
    let Some(place) = place(address) else { return NEXT };
    // The packet is written where it is remembered: to copy it would take longer than all the rest.
    let Some(now) = remembered(place) else { return NEXT };
    now.skb = 0;
    let direction = direction as u32;
    if !(ethernet && netpath_plain(skb, direction, place) != 0)
        && netpath_sight(skb, direction, u32::from(ethernet), place) == 0
    {
        return NEXT;
    }
    now.skb = address;
    // SAFETY: the kernel passes a valid context.
    now.len_bytes = unsafe { (*skb).len };
    // SAFETY: the helper only reads a clock.
    now.at_ns = unsafe { bpf_ktime_get_ns() };
    let accepted = is_accepted(scratch, now);
    if accepted || flag(0) {
        scratch.place = place;
        netpath_hop(skb, u32::from(accepted));
    }
    NEXT
}

/// The context's address as a number.
#[inline(always)]
fn number(skb: *mut __sk_buff, scratch: &mut Scratch) -> u64 {
    let place = &raw mut scratch.skb;
    // SAFETY: both within the element. Volatile: it must go through memory.
    unsafe {
        place.cast::<*mut __sk_buff>().write_volatile(skb);
        place.read_volatile()
    }
}

/// Of the two places that a packet with this address may have in the look-back: that of the older packet, unless the other one alone
/// has this address, and so may be its hop before.
#[inline(always)]
fn place(address: u64) -> Option<u32> {
    let first = (address >> 6).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54 << 1 & (BACK_PLACES * BACK_BLOCKS - 1) as u64;
    let first = first as u32;
    let (one, other) = (remembered(first)?, remembered(first | 1)?);
    let (is_one, is_other) = (one.skb == address, other.skb == address);
    let second = if is_one == is_other { other.at_ns < one.at_ns } else { is_one };
    Some(first | u32::from(second))
}

/// The packet that is remembered in a place of the look-back.
#[inline(always)]
fn remembered(place: u32) -> Option<&'static mut Sighting> {
    let block = NETPATH_BACK.get_ptr_mut(place / BACK_PLACES as u32)?;
    let index = place as usize & (BACK_PLACES - 1);
    // SAFETY: within the element, which is this CPU's own.
    Some(unsafe { &mut *block.cast::<Sighting>().add(index) })
}

/// Reads a plain packet: TCP or UDP, all headers in the linear part; 0 if it is not plain.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_plain(skb: *mut __sk_buff, direction: u32, place: u32) -> u32 {
    let Some(now) = remembered(place) else { return 0 };
    // SAFETY: the kernel passes a valid context.
    let (ifindex, tag_offloaded, end) = unsafe { ((*skb).ifindex, (*skb).vlan_present != 0, (*skb).len) };
    if tag_offloaded {
        return 0;
    }
    let (linear, hook) = (Linear::of(skb), Hook::new(ifindex, direction_of(direction)));
    if let Some(parsed) = plain_v4(&linear, PlainTag::NONE, hook) {
        let Some(prints) = prints(&LinearReader(&linear), EthernetHeader::LEN, true, end) else { return 0 };
        now.set_v4(&parsed, &prints);
        return u32::from(!prints.lacks_payload(parsed.key.tag.protocol()));
    }
    let Some(parsed) = plain_v6(&linear, PlainTag::NONE, hook) else { return 0 };
    let Some(prints) = prints(&LinearReader(&linear), EthernetHeader::LEN, false, end) else { return 0 };
    now.set_v6(&parsed, &prints);
    u32::from(!prints.lacks_payload(parsed.key.tag.protocol()))
}

/// A direction that went through a global function's argument.
#[inline(always)]
fn direction_of(number: u32) -> Direction {
    if number == Direction::Rx as u32 { Direction::Rx } else { Direction::Tx }
}

/// The linear part, at offsets that the verifier sees to be small.
struct LinearReader<'a>(&'a Linear);

impl Packet for LinearReader<'_> {
    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        if offset > 0x7fff { None } else { self.0.read(offset) }
    }
}

/// Reads any packet; 0 if it is not IP, or not whole.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_sight(skb: *mut __sk_buff, direction: u32, ethernet: u32, place: u32) -> u32 {
    let Some(now) = remembered(place) else { return 0 };
    let start = Start::of_word(netpath_start(skb, ethernet));
    // SAFETY: the kernel passes a valid context.
    let (hook, end) = unsafe { (Hook::new((*skb).ifindex, direction_of(direction)), (*skb).len) };
    let packet = SkbReader::<false> { skb };
    u32::from(now.read(&packet, start, hook, end))
}

/// Whether the filter accepts the packet, as it is here or (if not) as it is elsewhere on this node.
#[inline(always)]
fn is_accepted(scratch: &mut Scratch, now: &Sighting) -> bool {
    scratch.facts = facts(now);
    if netpath_filter() != 0 {
        return true;
    }
    let Some(settings) = NETPATH_CONFIG.get(0) else { return false };
    if settings.translations == 0 {
        return false;
    }
    let ends = now.ends();
    let Some(elsewhere) = NETPATH_NAT.get_ptr(ends) else { return false };
    // SAFETY: an element of the map. Should it be reused in this moment, it has the ends of another connection.
    scratch.facts = facts(&now.with_ends(unsafe { &*elsewhere }));
    netpath_filter() != 0
}

/// Whether the filter accepts the facts in the scratch.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_filter() -> u32 {
    let (Some(scratch), Some(tests)) = (NETPATH_SCRATCH.get_ptr(0), NETPATH_TESTS.get(0)) else { return 0 };
    // SAFETY: as in `trace`.
    let facts = unsafe { &(*scratch).facts };
    let is_in = |set: u32, [a, b, c, d]: [u32; 4]| NETPATH_SETS.get_ptr([set, a, b, c, d]).is_some();
    u32::from(accepts(tests, facts, is_in))
}

/// Goes on with the packet's trip, or begins one if it is accepted.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_hop(skb: *mut __sk_buff, accepted: u32) -> u32 {
    let Some(scratch) = NETPATH_SCRATCH.get_ptr_mut(0).filter(|_| !flag(1)) else { return 0 };
    // SAFETY: as in `trace`.
    let scratch = unsafe { &mut *scratch };
    let Some(now) = remembered(scratch.place) else { return 0 };
    let (address, hook) = (now.skb, now.hook);
    let mut address_of = 0;
    if let Some(trail) = NETPATH_TRAIL.get_ptr_mut(address) {
        // SAFETY: an element of the map. Should it be reused in this moment, for which 16,384 trips have to begin, the
        // fingerprint is another's.
        let trail = unsafe { &mut *trail };
        if trail.fingerprint == now.fingerprint {
            let mut at = 0;
            while at < TRIP_HOOKS {
                if trail.hooks[at] == hook {
                    break;
                }
                if trail.hooks[at] == 0 {
                    trail.hooks[at] = hook;
                    now.is_sent = 1;
                    scratch.event = Event { trip: trail.trip, lost: trail.lost, ..EMPTY };
                    if netpath_emit(skb, EventKind::Hop as u32, trail.fate) == 0 {
                        trail.lost += 1;
                    }
                    return 1;
                }
                at += 1;
            }
        }
        debug!(
            &TcContext::new(skb),
            "the sk_buff of trip {:x} has another packet: fingerprint {:x}, and {:x} before",
            trail.trip,
            now.fingerprint,
            trail.fingerprint
        );
        address_of = trail.trip;
    }
    if accepted == 0 {
        return 0;
    }
    let (Some(trip), Some(fate)) = (new_trip(), fate(now)) else { return 0 };
    let mut trail = Trail {
        trip,
        fingerprint: now.fingerprint,
        header_print: now.header_print,
        hooks: [0; TRIP_HOOKS],
        fate: fate as u32,
        lost: 0,
    };
    scratch.event = Event { trip, address_of, ..EMPTY };
    // The other place of the two.
    if let Some(back) = remembered(scratch.place ^ 1)
        && back.skb == address
        && back.is_sent == 0
        && back.fingerprint == now.fingerprint
        && back.hook != hook
    {
        trail.hooks[0] = back.hook;
        trail.hooks[1] = hook;
        if netpath_emit(skb, EventKind::HopBefore as u32, trail.fate) == 0 {
            trail.lost += 1;
        }
        scratch.event.address_of = 0;
        scratch.event.lost = trail.lost;
    } else {
        trail.hooks[0] = hook;
    }
    now.is_sent = 1;
    if netpath_emit(skb, EventKind::Hop as u32, trail.fate) == 0 {
        trail.lost += 1;
    }
    let _ = NETPATH_TRAIL.insert(address, trail, 0);
    // SAFETY: a word that changes once.
    unsafe { (&raw mut NETPATH_TRACE[0]).write_volatile(1) };
    1
}

#[inline(always)]
fn flag(index: usize) -> bool {
    // SAFETY: a word that changes once.
    unsafe { (&raw const NETPATH_TRACE[index]).read_volatile() != 0 }
}

const EMPTY: Event = Event {
    kind: 0,
    source: 0,
    number: 0,
    trip: 0,
    address_of: 0,
    location: 0,
    reason: NO_REASON,
    lost: 0,
    captured_bytes: 0,
    netns: 0,
    seen: Sighting {
        skb: 0,
        at_ns: 0,
        fingerprint: 0,
        header_print: 0,
        src_be: [0; 4],
        dst_be: [0; 4],
        ports: netpath_ebpf::Ports { src_be: 0, dst_be: 0 },
        hook: 0,
        tag: 0,
        len_bytes: 0,
        payload_bytes: 0,
        seq: 0,
        ack: 0,
        ip_id: 0,
        window: 0,
        family: 0,
        ttl: 0,
        tcp_flags: 0,
        fragment: 0,
        icmp_type: 0,
        icmp_code: 0,
        is_icmp_error: 0,
        is_sent: 0,
    },
};

/// The number of a new trip: the CPU, and a number of its own.
#[inline(always)]
fn new_trip() -> Option<u64> {
    let state = NETPATH_STATE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own element, of TC programs alone.
    unsafe {
        (*state).trips += 1;
        Some(u64::from(bpf_get_smp_processor_id()) << 40 | (*state).trips)
    }
}

/// Whether a new trip is sent. Two CPUs that begin a window at once may let a few more through.
#[inline(always)]
fn fate(now: &Sighting) -> Option<Fate> {
    let settings = NETPATH_CONFIG.get(0)?;
    let rate = NETPATH_RATE.get_ptr_mut(0)?;
    if settings.sample > 1 && (now.fingerprint >> 32) as u32 % settings.sample != 0 {
        return Some(Fate::SampledOut);
    }
    let window = now.at_ns >> RATE_WINDOW_SHIFT;
    // SAFETY: an element of the map; words that CPUs share.
    unsafe {
        let (number, trips) = (&raw mut (*rate)[0], &raw mut (*rate)[1]);
        if number.read_volatile() != window {
            number.write_volatile(window);
            trips.write_volatile(0);
        }
        if trips.read_volatile() >= u64::from(settings.window_trips) {
            return Some(Fate::OverRate);
        }
        add_word(trips, 1);
    }
    Some(Fate::Sent)
}

/// Sends the event in the scratch, with the packet's first bytes unless it is the hop before; 0 if there was no room.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_emit(skb: *mut __sk_buff, kind: u32, fate: u32) -> u32 {
    let (Some(scratch), Some(state), Some(settings)) =
        (NETPATH_SCRATCH.get_ptr_mut(0), NETPATH_STATE.get_ptr_mut(0), NETPATH_CONFIG.get(0))
    else {
        return 1;
    };
    // SAFETY: as in `trace`.
    let scratch = unsafe { &mut *scratch };
    if !counted(state, fate) {
        return 1;
    }
    let event = &mut scratch.event;
    event.kind = kind;
    let mut captured = 0_u64;
    if kind == EventKind::HopBefore as u32 {
        let Some(before) = remembered(scratch.place ^ 1) else { return 1 };
        copy(before, &mut event.seen);
    } else {
        let Some(now) = remembered(scratch.place) else { return 1 };
        copy(now, &mut event.seen);
        let wanted = u64::from(now.len_bytes.min(settings.snaplen_bytes));
        if wanted != 0 {
            let len = bounded(wanted);
            // SAFETY: the helper writes so many bytes, for which there is room, or fails.
            let failed = unsafe { bpf_skb_load_bytes(skb.cast(), 0, scratch.bytes.as_mut_ptr().cast(), len as u32) };
            if failed == 0 {
                captured = len;
            }
        }
    }
    event.captured_bytes = captured as u32;
    // SAFETY: this CPU's own element, of TC programs alone.
    unsafe {
        (*state).events += 1;
        event.number = (*state).events;
        event.source = bpf_get_smp_processor_id();
    }
    // SAFETY: event and bytes follow each other, and there are so many of them.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const NETPATH_EVENTS).cast_mut().cast(),
            (&raw mut scratch.event).cast(),
            size_of::<Event>() as u64 + at_most(captured),
            0,
        )
    };
    note_sent(state, failed == 0)
}

/// A number from 1 to [`MAX_SNAPLEN`] as it is, in a form in which old verifiers see its limits: they learn nothing from a
/// comparison with zero.
#[inline(always)]
fn bounded(bytes: u64) -> u64 {
    (opaque(bytes.wrapping_sub(1)) & (MAX_SNAPLEN as u64 - 1)) + 1
}

/// A number up to [`MAX_SNAPLEN`] as it is.
#[inline(always)]
fn at_most(bytes: u64) -> u64 {
    let bytes = opaque(bytes);
    if bytes > MAX_SNAPLEN as u64 { 0 } else { bytes }
}

/// A number of which the compiler knows no more than the verifier.
#[inline(always)]
fn opaque(mut number: u64) -> u64 {
    // SAFETY: it moves a register to itself. Without an instruction, two of these would have one place among the lines of the source,
    // which the kernel refuses.
    unsafe { asm!("{number} = {number}", number = inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// Copies a sighting, by words: the compiler would call a function that copies bytes.
#[inline(always)]
fn copy(from: &Sighting, to: &mut Sighting) {
    let (from, to) = ((&raw const *from).cast::<u64>(), (&raw mut *to).cast::<u64>());
    let mut at = 0;
    while at < size_of::<Sighting>() / size_of::<u64>() {
        // SAFETY: within both, which are aligned like words.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        at += 1;
    }
}

/// Counts an event; `false` if it is not to be sent.
#[inline(always)]
fn counted(state: *mut CpuState, fate: u32) -> bool {
    // SAFETY: an element of the map.
    unsafe {
        let account = &raw mut (*state).account;
        add_word(&raw mut (*account).matched, 1);
        if fate == Fate::OverRate as u32 {
            add_word(&raw mut (*account).over_rate, 1);
        } else if fate == Fate::SampledOut as u32 {
            add_word(&raw mut (*account).sampled_out, 1);
        } else {
            return true;
        }
    }
    false
}

#[inline(always)]
fn note_sent(state: *mut CpuState, sent: bool) -> u32 {
    // SAFETY: an element of the map.
    unsafe {
        let account = &raw mut (*state).account;
        if sent {
            add_word(&raw mut (*account).sent, 1);
            1
        } else {
            add_word(&raw mut (*account).no_room, 1);
            0
        }
    }
}

/// Notes the end of a packet that is on a trip. It is recognised by its headers, since an address is reused at once.
#[inline(always)]
fn freed(ctx: &RawTracePointContext, address: u64, location: u64, reason: u32) {
    if !flag(0) || flag(1) {
        return;
    }
    let Some(trail) = NETPATH_TRAIL.get_ptr(address) else { return };
    // SAFETY: an element of the map, copied at once.
    let (trip, header_print, fate, lost) =
        unsafe { ((*trail).trip, (*trail).header_print, (*trail).fate, (*trail).lost) };
    let print = header_print_of(address);
    if print != Some(header_print) {
        debug!(
            ctx,
            "what was freed is not the packet of trip {:x}: headers {:x}, and {:x} before",
            trip,
            print.unwrap_or(0),
            header_print
        );
        return;
    }
    let _ = NETPATH_TRAIL.remove(address);
    let Some(state) = NETPATH_STATE.get_ptr_mut(1) else { return };
    if !counted(state, fate) {
        return;
    }
    let mut event = EMPTY;
    event.kind = EventKind::Freed as u32;
    event.trip = trip;
    event.location = location;
    event.netns = netns(address, &offsets());
    event.reason = reason;
    event.lost = lost;
    event.seen.skb = address;
    event.seen.header_print = header_print;
    // SAFETY: helpers that read a clock and a number; this CPU's own element, of this program alone.
    unsafe {
        event.seen.at_ns = bpf_ktime_get_ns();
        (*state).events += 1;
        event.number = (*state).events;
        event.source = bpf_get_smp_processor_id() | 1 << 31;
    }
    // SAFETY: the helper reads the event.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const NETPATH_EVENTS).cast_mut().cast(),
            (&raw mut event).cast(),
            size_of::<Event>() as u64,
            0,
        )
    };
    note_sent(state, failed == 0);
}

#[inline(always)]
fn offsets() -> SkbOffsets {
    // SAFETY: set before loading, and never again. Volatile: the compiler must not take zeros for granted.
    unsafe { (&raw const NETPATH_OFFSETS).read_volatile() }
}

/// The print of the headers of a packet in the kernel's memory; `None` if they cannot be read.
#[inline(always)]
fn header_print_of(address: u64) -> Option<u64> {
    let offsets = offsets();
    let packet = KernelSkb::read(address, &offsets)?;
    let len: u32 = read_kernel(address + u64::from(offsets.len))?;
    Some(prints(&packet, 0, packet.ethertype_be == EtherType::IPV4_BE, len)?.headers)
}

/// `BPF_XADD`.
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
