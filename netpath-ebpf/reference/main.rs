//! What `cargo xtask bench` holds netpath's programs against. Never attached, and no part of netpath.
//!
//! In: the bench's packet (Ethernet, IPv4 without options, TCP), by `BPF_PROG_TEST_RUN`. Out: `BARE_FLOWS`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "the classifier macro makes functions without their docs")]
#![expect(clippy::inline_always, reason = "as in netpath's own programs")]

mod spread;

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::{Array, HashMap, ProgramArray};
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;

use spread::spread;

/// `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;
/// Ethernet 14, IPv4 20, and the ports.
const HEADERS: usize = 38;
const ETHERTYPE: usize = 12;
const PROTOCOL: usize = 23;
const SOURCE: usize = 26;
/// The lower half of the source address: what makes another flow, with the source port.
const SOURCE_LOW: usize = 28;
const DESTINATION: usize = 30;
const PORTS: usize = 34;

/// Device, protocol, addresses, ports.
type Key = [u32; 5];
/// Packets, bytes.
type Counts = [u64; 2];

#[btf_map]
static BARE_FLOWS: HashMap<Key, Counts, 65_536> = HashMap::new();
/// How many flows `in_turn` makes, the first flow's number, the distance to the next number, the program to run.
#[btf_map]
static TURN: Array<[u32; 4], 1> = Array::new();
#[btf_map]
static TARGETS: ProgramArray<4> = ProgramArray::new();

/// Does nothing.
#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    NEXT
}

/// The plainest flow counter: one hash map for all CPUs, atomic additions. IPv4 without options only.
#[classifier]
pub fn bare_hash(ctx: TcContext) -> i32 {
    let Some(packet) = headers(&ctx) else { return NEXT };
    // SAFETY: all within the headers, as compared; the context is the kernel's own.
    let (key, len) = unsafe {
        if packet.add(ETHERTYPE).cast::<u16>().read_unaligned() != 0x0800_u16.to_be() {
            return NEXT;
        }
        let word = |offset| packet.add(offset).cast::<u32>().read_unaligned();
        let protocol = packet.add(PROTOCOL).read();
        let skb: *const __sk_buff = ctx.skb.skb;
        ([(*skb).ifindex, u32::from(protocol), word(SOURCE), word(DESTINATION), word(PORTS)], (*skb).len)
    };
    if let Some(counts) = BARE_FLOWS.get_ptr_mut(key) {
        // SAFETY: the pointer is to an element of the map.
        unsafe {
            add(&raw mut (*counts)[0], 1);
            add(&raw mut (*counts)[1], u64::from(len));
        }
    } else {
        let _ = BARE_FLOWS.insert(key, [1, u64::from(len)], 0);
    }
    NEXT
}

/// Makes the packet one of the next flow, then runs the program under test on it. The mark counts.
#[classifier]
pub fn in_turn(ctx: TcContext) -> i32 {
    let Some(&[flows, first, distance, target]) = TURN.get(0) else { return NEXT };
    let Some(packet) = headers(&ctx) else { return NEXT };
    let skb = ctx.skb.skb;
    // SAFETY: all within the headers, as compared; the context is the kernel's own.
    unsafe {
        let mark = (*skb).mark + 1;
        let turn = if mark < flows { mark } else { 0 };
        let flow = spread(first.wrapping_add(turn.wrapping_mul(distance)));
        packet.add(SOURCE_LOW).cast::<u16>().write_unaligned((flow >> 16) as u16);
        packet.add(PORTS).cast::<u16>().write_unaligned(flow as u16);
        (*skb).mark = turn;
        TARGETS.tail_call(&ctx, target);
    }
    NEXT
}

/// The packet, if it has all headers in its linear part.
#[inline(always)]
fn headers(ctx: &TcContext) -> Option<*mut u8> {
    (ctx.data() + HEADERS <= ctx.data_end()).then_some(ctx.data() as *mut u8)
}

/// `BPF_XADD`.
///
/// # Safety
/// `word` must point to an aligned word of a map's element.
#[inline(always)]
unsafe fn add(word: *mut u64, amount: u64) {
    // SAFETY: by this function's contract; the instruction changes that word only.
    unsafe { asm!("lock *(u64 *)({word} + 0) += {amount}", word = in(reg) word, amount = in(reg) amount) };
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads it.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
