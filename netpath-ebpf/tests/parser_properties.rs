//! What holds for every packet: the parser finds what was put in, agrees with etherparse, and does not mind where the
//! readable part of a packet ends.
//!
//! In: random frames. Out: test results. It must not repeat the parser's rules: those are in `parser_rules.rs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "parser_properties/frames.rs"]
mod frames;
#[path = "parser_properties/oracle.rs"]
mod oracle;

use netpath_ebpf::{
    Reason,
    parse::{Header, Packet, Start, Stop},
};
use oracle::{check, parse};
use proptest::{collection::vec, prelude::*};

/// A packet of which only the start can be read directly.
struct Linear<'a>(&'a [u8]);

impl Packet for Linear<'_> {
    const IS_WHOLE: bool = false;

    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        self.0.read(offset)
    }
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Ethernet { vlan_tci: None }),
        any::<u16>().prop_map(|tci| Start::Ethernet { vlan_tci: Some(tci) }),
        Just(Start::Ip { ethertype_be: 0x0800_u16.to_be() }),
        Just(Start::Ip { ethertype_be: 0x86dd_u16.to_be() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_was_put_in(frame in frames::frame()) {
        prop_assert_eq!(parse(&frame.bytes[..], frame.start), Ok(frame.flow));
    }

    #[test]
    fn agrees_with_etherparse_on_valid_frames(frame in frames::frame()) {
        check(&frame.bytes, frame.start);
    }

    #[test]
    fn agrees_with_etherparse_wherever_a_frame_is_cut(frame in frames::frame()) {
        for len in 0..frame.bytes.len() {
            check(&frame.bytes[..len], frame.start);
        }
    }

    #[test]
    fn agrees_with_etherparse_on_damaged_frames(
        mut frame in frames::frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        more in vec(any::<u8>(), 0..64),
    ) {
        frame.bytes.extend(more);
        for (at, byte) in damage {
            *at.get_mut(&mut frame.bytes[..]) = byte;
        }
        check(&frame.bytes, frame.start);
    }

    #[test]
    fn agrees_with_etherparse_on_any_bytes(bytes in vec(any::<u8>(), 0..200), start in start()) {
        check(&bytes, start);
    }

    #[test]
    fn a_cut_frame_has_the_same_key_or_none(frame in frames::frame()) {
        for len in 0..frame.bytes.len() {
            match parse(&frame.bytes[..len], frame.start) {
                Ok(flow) => prop_assert_eq!(oracle::Flow { headers_len_bytes: 0, ..flow }, oracle::Flow { headers_len_bytes: 0, ..frame.flow }),
                Err(stop) => prop_assert_eq!(stop, Stop::Unattributed(Reason::Unparsed)),
            }
        }
    }

    #[test]
    fn the_linear_part_says_the_same_or_asks_for_more(
        frame in frames::frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = frame.bytes;
        for (at, byte) in damage {
            *at.get_mut(&mut bytes[..]) = byte;
        }
        let whole = parse(&bytes[..], frame.start);
        for len in 0..=bytes.len() {
            let linear = parse(&Linear(&bytes[..len]), frame.start);
            prop_assert!(linear == Err(Stop::EndedEarly) || linear == whole, "{:?} {:?}", linear, whole);
        }
    }
}
