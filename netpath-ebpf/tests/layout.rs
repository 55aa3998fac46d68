//! The layout that both sides share: packed numbers come apart again, a slot knows its flow by words of memory, and flows
//! spread over the slots whatever they differ in.
//!
//! In: random keys. Out: test results. No kernel: what the programs make of it is in the lab's `programs` test.
use std::collections::HashSet;

use netpath_ebpf::{
    BLOCK_SLOTS, BLOCKS, Counts, Direction, FlowKey, Hook, KeyV4, KeyV6, Ports, SLOTS, Slot, Tag, first_block,
    slot_index,
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn hook() -> impl Strategy<Value = Hook> {
    // The kernel's ifindex is a positive `int`.
    (1..1_u32 << 31, any::<bool>())
        .prop_map(|(ifindex, rx)| Hook::new(ifindex, if rx { Direction::Rx } else { Direction::Tx }))
}

fn tag() -> impl Strategy<Value = Tag> {
    (0..0x1000_u16, 0..0x1000_u16, any::<u8>()).prop_map(|(outer, inner, protocol)| Tag::new(outer, inner, protocol))
}

fn ports() -> impl Strategy<Value = Ports> {
    (any::<u16>(), any::<u16>()).prop_map(|(src_be, dst_be)| Ports { src_be, dst_be })
}

fn key_v4() -> impl Strategy<Value = KeyV4> {
    (hook(), tag(), any::<(u32, u32)>(), ports()).prop_map(|(hook, tag, (src_be, dst_be), ports)| KeyV4 {
        hook,
        tag,
        src_be,
        dst_be,
        ports,
    })
}

fn key_v6() -> impl Strategy<Value = KeyV6> {
    (hook(), tag(), any::<([u32; 4], [u32; 4])>(), ports()).prop_map(|(hook, tag, (src_be, dst_be), ports)| KeyV6 {
        hook,
        tag,
        src_be,
        dst_be,
        ports,
    })
}

/// The key and the epoch as they lie in a slot's memory.
fn memory<K: Copy>(slot: &Slot<K>) -> Vec<u8> {
    // SAFETY: key and epoch are integers without padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(slot).cast(), size_of::<K>() + size_of::<u32>()) }.to_vec()
}

fn slot_of<K>(key: K, epoch: u32) -> Slot<K> {
    Slot { key, epoch, counts: Counts::default() }
}

/// Its slot is its own, and no longer when any bit of it, or of the epoch, is another.
fn check_slot<K: FlowKey + PartialEq + std::fmt::Debug>(key: K, epoch: u32, bit: Index) {
    let slot = slot_of(key, epoch);
    let words = key.words(epoch);
    assert!(slot.is_of(&words));
    // SAFETY: words are integers.
    let of_words =
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&words).cast::<u8>(), size_of::<K::Words>()) };
    assert_eq!(memory(&slot), of_words);
    let mut other = slot;
    let bit = bit.index(of_words.len() * 8);
    // SAFETY: within the slot, whose first fields are integers without padding, of which every bit pattern is valid.
    unsafe { *std::ptr::from_mut(&mut other).cast::<u8>().add(bit / 8) ^= 1 << (bit % 8) };
    assert!(!other.is_of(&words), "{other:?} {slot:?}");
    assert!(!slot.is_of(&other.key.words(other.epoch)), "{other:?} {slot:?}");

    let (block, place) = slot_index(&key, epoch);
    assert!(place < BLOCK_SLOTS as usize);
    let first = if epoch.is_multiple_of(2) { 0 } else { BLOCKS };
    assert!((first..first + BLOCKS).contains(&block), "{block}");
    assert_eq!(slot_index(&key, epoch.wrapping_add(2)), (block, place), "an epoch's number is no part of the place");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hooks_and_tags_come_apart(
        ifindex in 0..1_u32 << 31, vlans in any::<(u16, u16)>(), protocols in any::<(u8, u8)>(),
    ) {
        for direction in [Direction::Rx, Direction::Tx] {
            let hook = Hook::new(ifindex, direction);
            prop_assert_eq!((hook.ifindex(), hook.direction()), (ifindex, direction));
        }
        let tag = Tag::new(vlans.0, vlans.1, protocols.0);
        // Only twelve bits are an id.
        let expected = (vlans.0 & 0xfff, vlans.1 & 0xfff);
        prop_assert_eq!((tag.outer_vlan(), tag.inner_vlan(), tag.protocol()), (expected.0, expected.1, protocols.0));
        let other = tag.with_protocol(protocols.1);
        prop_assert_eq!((other.outer_vlan(), other.inner_vlan(), other.protocol()), (expected.0, expected.1, protocols.1));
        prop_assert_eq!(other, Tag::new(vlans.0, vlans.1, protocols.1));
    }

    #[test]
    fn a_slot_knows_its_ipv4_flow(key in key_v4(), epoch in any::<u32>(), bit in any::<Index>()) {
        check_slot(key, epoch, bit);
        prop_assert_eq!(key.hook(), key.hook);
    }

    #[test]
    fn a_slot_knows_its_ipv6_flow(key in key_v6(), epoch in any::<u32>(), bit in any::<Index>()) {
        check_slot(key, epoch, bit);
        prop_assert_eq!(key.hook(), key.hook);
    }

    #[test]
    fn wire_bytes_are_a_sum_that_does_not_wrap(bytes in any::<u64>(), wire_overhead_bytes in any::<u64>()) {
        let expected = u64::try_from(u128::from(bytes) + u128::from(wire_overhead_bytes)).unwrap_or(u64::MAX);
        prop_assert_eq!(Counts { packets: 1, bytes, wire_overhead_bytes }.wire_bytes(), expected);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random flows are spread like random numbers: 512 of them have 454 of 2,048 slots on average.
    #[test]
    fn random_flows_spread(v4 in vec(key_v4(), 512), v6 in vec(key_v6(), 512)) {
        check_spread("IPv4", 400, v4.iter().map(|key| slot_index(key, 1)));
        check_spread("IPv6", 400, v6.iter().map(|key| slot_index(key, 1)));
    }
}

/// These slots of 512 flows are at `least` so many.
fn check_spread(what: &str, least: usize, slots: impl Iterator<Item = (u32, usize)>) {
    let slots: Vec<_> = slots.collect();
    assert_eq!(slots.len(), 512);
    let used = slots.iter().collect::<HashSet<_>>().len();
    assert!(used >= least, "{what}: {used} slots");
}

/// Flows that differ in one thing alone, next to each other or by bits at the other end of the word, with all bits of the rest
/// set or none.
#[test]
fn flows_spread_whatever_they_differ_in() {
    assert_eq!((SLOTS, first_block(6), first_block(7)), (2_048, 0, BLOCKS));
    let number = |n: u32, reversed: bool| if reversed { n.reverse_bits() } else { n };
    for (reversed, rest) in [(false, 0), (true, 0), (false, u32::MAX), (true, u32::MAX)] {
        let ports = |n: u32| Ports { src_be: (n >> 16) as u16, dst_be: (n & 0xffff) as u16 };
        let hook = |n: u32| Hook::new(n >> 1, if n & 1 == 0 { Direction::Rx } else { Direction::Tx });
        let tag = Tag::new(0, 0, 6);
        let v4 = KeyV4 { hook: hook(rest), tag, src_be: rest, dst_be: rest, ports: ports(rest) };
        let v6 = KeyV6 { hook: hook(rest), tag, src_be: [rest; 4], dst_be: [rest; 4], ports: ports(rest) };
        let numbers = || (0..512).map(|n| number(n, reversed));
        let check_v4 = |what, key: &dyn Fn(u32) -> KeyV4| {
            check_spread(what, 200, numbers().map(|n| slot_index(&key(n), 1)));
        };
        let check_v6 = |what, key: &dyn Fn(u32) -> KeyV6| {
            check_spread(what, 200, numbers().map(|n| slot_index(&key(n), 1)));
        };
        check_v4("IPv4 source", &|n| KeyV4 { src_be: n, ..v4 });
        check_v4("IPv4 destination", &|n| KeyV4 { dst_be: n, ..v4 });
        check_v4("IPv4 ports", &|n| KeyV4 { ports: ports(n), ..v4 });
        check_v4("IPv4 hook", &|n| KeyV4 { hook: hook(n), ..v4 });
        check_v6("IPv6 source", &|n| KeyV6 { src_be: [rest, rest, n, rest], ..v6 });
        check_v6("IPv6 source's end", &|n| KeyV6 { src_be: [rest, rest, rest, n], ..v6 });
        check_v6("IPv6 destination", &|n| KeyV6 { dst_be: [rest, rest, n, rest], ..v6 });
        check_v6("IPv6 destination's end", &|n| KeyV6 { dst_be: [rest, rest, rest, n], ..v6 });
        check_v6("IPv6 ports", &|n| KeyV6 { ports: ports(n), ..v6 });
        check_v6("IPv6 hook", &|n| KeyV6 { hook: hook(n), ..v6 });
    }
}
