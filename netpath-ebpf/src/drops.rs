//! The programs at the tracepoint `skb:kfree_skb`: they count packets that the kernel drops, by flow, reason and place.
//!
//! In: each packet that is dropped, anywhere on the node. Out: the maps. A packet that is not dropped costs nothing.
//!
//! Minimum kernel: 5.10, with BTF.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::{btf_map, raw_tracepoint};
use aya_ebpf::programs::RawTracePointContext;
use netpath_ebpf::parse::{Network, Start, ipv4, ipv6, network};
use netpath_ebpf::{Direction, DropKey, Hook, MAX_DROPS, NO_REASON, SkbOffsets};

use crate::kernel_skb::{KernelSkb, netns};
use crate::{add_word, epoch};

const DROPS: usize = MAX_DROPS as usize;

#[btf_map]
static NETPATH_DROPS_0: HashMap<DropKey, u64, DROPS> = HashMap::new();
#[btf_map]
static NETPATH_DROPS_1: HashMap<DropKey, u64, DROPS> = HashMap::new();
#[btf_map]
static NETPATH_DRPLOST: Array<u64, 2> = Array::new();

/// Set before loading, by the running kernel's BTF.
#[unsafe(no_mangle)]
static NETPATH_OFFSETS: SkbOffsets = SkbOffsets::UNKNOWN;

/// `skb:kfree_skb` with the packet and the place. Kernel 5.10.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn netpath_freed(ctx: RawTracePointContext) -> i32 {
    count(ctx.arg(0), ctx.arg(1), NO_REASON);
    0
}

/// `skb:kfree_skb` with the reason as well. Kernel 5.17.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn netpath_dropped(ctx: RawTracePointContext) -> i32 {
    count(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn count(skb: u64, location: u64, reason: u32) {
    // SAFETY: set before loading, and never again. Volatile: the compiler must not take zeros for granted.
    let offsets = unsafe { (&raw const NETPATH_OFFSETS).read_volatile() };
    let Some(key) = key(skb, &offsets, location, reason) else { return };
    let epoch = epoch();
    let map = if epoch & 1 == 0 { &NETPATH_DROPS_0 } else { &NETPATH_DROPS_1 };
    if let Some(packets) = map.get_ptr_mut(&key) {
        // SAFETY: the pointer is to an element of the map; elements go only from epochs at rest.
        unsafe { add_word(packets, 1) };
    } else if map.insert(&key, &1, u64::from(BPF_NOEXIST)).is_err() {
        // No room; or another CPU was first.
        let packets = map.get_ptr_mut(&key).or_else(|| NETPATH_DRPLOST.get_ptr_mut(epoch & 1));
        if let Some(packets) = packets {
            // SAFETY: as above.
            unsafe { add_word(packets, 1) };
        }
    }
}

/// `None` if it is no IP packet.
#[inline(always)]
fn key(skb: u64, offsets: &SkbOffsets, location: u64, reason: u32) -> Option<DropKey> {
    let packet = KernelSkb::read(skb, offsets)?;
    let netns = netns(skb, offsets);
    // The key has a hook, which is of no use here.
    let hook = Hook::new(0, Direction::Rx);
    let start = Start::Ip { offset: 0, ethertype_be: packet.ethertype_be };
    Some(match network(&packet, start).ok()? {
        Network::V4(link) => {
            let key = ipv4(&packet, link, hook).ok()?.key;
            let (src_be, dst_be) = ([key.src_be, 0, 0, 0], [key.dst_be, 0, 0, 0]);
            DropKey { src_be, dst_be, ports: key.ports, tag: key.tag, family: 4, reason, netns, padding: 0, location }
        }
        Network::V6(link) => {
            let key = ipv6(&packet, link, hook).ok()?.key;
            let (src_be, dst_be) = (key.src_be, key.dst_be);
            DropKey { src_be, dst_be, ports: key.ports, tag: key.tag, family: 6, reason, netns, padding: 0, location }
        }
    })
}
