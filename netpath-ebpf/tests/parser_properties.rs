//! What holds for every packet: the parser finds what was put in, and agrees with etherparse.
//!
//! In: random frames. Out: test results. It must not repeat the parser's rules: those are in `parser_rules.rs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "parser_properties/frames.rs"]
mod frames;
#[path = "parser_properties/oracle.rs"]
mod oracle;

use netpath_ebpf::{
    Reason,
    parse::{Fragment, Start, inner_len},
};
use oracle::{check, check_plain, parse};
use proptest::{collection::vec, prelude::*};

#[test]
fn plain_packets_are_found() {
    use etherparse::PacketBuilder;
    let payload = [0; 8];
    let found = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        check_plain(&bytes)
    };
    let ethernet = || PacketBuilder::ethernet2([1; 6], [2; 6]);
    assert!(found(&|out| ethernet()
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
        .tcp(1, 2, 3, 4)
        .write(out, &payload)
        .unwrap()));
    assert!(found(&|out| ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9).udp(1, 2).write(out, &payload).unwrap()));
    assert!(found(&|out| ethernet().ipv6([1; 16], [2; 16], 9).tcp(1, 2, 3, 4).write(out, &payload).unwrap()));
    assert!(found(&|out| ethernet().ipv6([1; 16], [2; 16], 9).udp(1, 2).write(out, &payload).unwrap()));
    assert!(found(&|out| ethernet()
        .single_vlan(5.try_into().unwrap())
        .ipv4([1; 4], [2; 4], 9)
        .udp(1, 2)
        .write(out, &payload)
        .unwrap()));
    assert!(found(&|out| ethernet()
        .single_vlan(5.try_into().unwrap())
        .ipv6([1; 16], [2; 16], 9)
        .tcp(1, 2, 3, 4)
        .write(out, &payload)
        .unwrap()));
    // This is for the rest of the parser.
    assert!(!found(&|out| ethernet().ipv4([1; 4], [2; 4], 9).icmpv4_echo_request(1, 2).write(out, &payload).unwrap()));
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        Just(Start::Ethernet { vlan_tci: None }),
        any::<u16>().prop_map(|tci| Start::Ethernet { vlan_tci: Some(tci) }),
        any::<u8>().prop_map(|offset| Start::Ip { offset, ethertype_be: 0x0800_u16.to_be() }),
        Just(Start::Ip { offset: 0, ethertype_be: 0x86dd_u16.to_be() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_was_put_in(frame in frames::frame()) {
        prop_assert_eq!(parse(&frame.bytes[..], frame.start), Ok(frame.flow));
    }

    /// Any frame in any tunnel: behind the outer headers are the tunnel's and all of the frame's own.
    #[test]
    fn a_tunnel_carries_any_packet(
        frame in frames::frame(), tunnel in 0..5_u8, words in 0..4_u8, ipv6 in any::<bool>(),
    ) {
        let ethertype = match frame.start {
            Start::Ethernet { vlan_tci: None } => 0x6558,
            Start::Ip { ethertype_be, .. } => u16::from_be(ethertype_be),
            // A tag is beside a packet only outside of tunnels.
            Start::Ethernet { .. } => return Ok(()),
        };
        let [high, low] = u16::to_be_bytes(ethertype);
        let options = vec![0; usize::from(words) * 4];
        let carry = |header: &[u8]| [header, &options, &frame.bytes].concat();
        let (protocol, port, payload) = match tunnel {
            0 if ethertype == 0x6558 && words == 0 => (17, 8472, carry(&[0x08, 0, 0, 0, 0, 0, 7, 0])),
            1 => (17, 6081, carry(&[words, 0, high, low, 0, 0, 7, 0])),
            2 => (47, 0, carry(&[[0, 0x20, 0xa0, 0xb0][usize::from(words)], 0, high, low])),
            3 if ethertype == 0x0800 && words == 0 => (4, 0, carry(&[])),
            4 if ethertype == 0x86dd && words == 0 => (41, 0, carry(&[])),
            _ => return Ok(()),
        };
        let expected = payload.len() - frame.bytes.len() + frame.flow.headers_len_bytes as usize;
        let ethernet = etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = if ipv6 { ethernet.ipv6([1; 16], [2; 16], 9) } else { ethernet.ipv4([1; 4], [2; 4], 9) };
        let mut outer = Vec::new();
        if protocol == 17 {
            ip.udp(50_000, port).write(&mut outer, &payload).unwrap();
        } else {
            ip.write(&mut outer, protocol.into(), &payload).unwrap();
        }
        prop_assert_eq!(inner_len(&outer[..], Start::Ethernet { vlan_tci: None }), Some(u32::try_from(expected).unwrap()));
        for len in 0..outer.len() {
            let cut = inner_len(&outer[..len], Start::Ethernet { vlan_tci: None });
            prop_assert!(cut.is_none_or(|cut| cut as usize <= expected), "{:?}", cut);
        }
    }

    /// A cut quote has the same flow, or none.
    #[test]
    fn an_icmp_error_is_about_the_packet_that_it_quotes((frame, about, len) in frames::icmp_error()) {
        prop_assert_eq!(parse(&frame.bytes[..], frame.start), Ok(frame.flow));
        let quoted = oracle::quoted(&frame.bytes, &frame.flow);
        let needed = about.headers_len_bytes as usize;
        prop_assert!(quoted.is_some() || len < needed + 8, "{} of {}", len, needed);
        if let Some(quoted) = quoted {
            let later_v6 = about.fragment == Fragment::Later && about.protocol == 0;
            let protocol = if later_v6 { quoted.protocol } else { about.protocol };
            let (fragment, part, is_icmp_error) = (Fragment::Whole, (0, 0, 0), false);
            let expected = oracle::Flow { protocol, fragment, part, is_icmp_error, headers_len_bytes: 0, ..about };
            prop_assert_eq!(quoted, expected);
        }
        check(&frame.bytes, frame.start);
    }

    /// What is before a packet's own first header is not looked at.
    #[test]
    fn a_packet_may_begin_with_what_is_not_its_own(
        frame in frames::frame(), mut before in vec(any::<u8>(), 0..=255),
    ) {
        if let Start::Ip { ethertype_be, .. } = frame.start {
            let offset = u8::try_from(before.len()).unwrap();
            before.extend(&frame.bytes);
            let start = Start::Ip { offset, ethertype_be };
            let headers_len_bytes = frame.flow.headers_len_bytes + u32::from(offset);
            prop_assert_eq!(parse(&before[..], start), Ok(oracle::Flow { headers_len_bytes, ..frame.flow }));
            prop_assert_eq!(Start::of_word(start.word()), start);
            prop_assert_eq!(start.offset(), u32::from(offset));
        } else {
            prop_assert_eq!(Start::of_word(frame.start.word()), frame.start);
            prop_assert_eq!(frame.start.offset(), 0);
        }
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
    fn plain_packets_are_as_the_whole_parser_has_them(
        frame in frames::frame(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = frame.bytes;
        for (at, byte) in damage {
            *at.get_mut(&mut bytes[..]) = byte;
        }
        for len in 0..=bytes.len() {
            check_plain(&bytes[..len]);
        }
    }

    #[test]
    fn a_cut_frame_has_the_same_key_or_none(frame in frames::frame()) {
        for len in 0..frame.bytes.len() {
            match parse(&frame.bytes[..len], frame.start) {
                Ok(flow) => prop_assert_eq!(oracle::Flow { headers_len_bytes: 0, ..flow }, oracle::Flow { headers_len_bytes: 0, ..frame.flow }),
                Err(stop) => prop_assert_eq!(stop, Reason::Unparsed),
            }
        }
    }
}
