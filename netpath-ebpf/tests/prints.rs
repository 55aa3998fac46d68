//! What a packet is recognised by: the same behind NAT and forwarding, another for any other packet.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use etherparse::{IcmpEchoHeader, Icmpv4Type, PacketBuilder};
use netpath_ebpf::trace::{Prints, prints};
use proptest::prelude::*;

const IP: u32 = 14;

/// What NAT and forwarding change.
#[derive(Clone, Copy, Debug)]
struct Changed {
    addresses: [[u8; 4]; 2],
    ports: [u16; 2],
    ttl: u8,
}

/// What they leave alone.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    kind: u8,
    id: u16,
    seq: u32,
    payload: Vec<u8>,
}

fn packet(changed: Changed, kept: &Kept) -> Vec<u8> {
    let Changed { addresses: [source, destination], ports: [sport, dport], ttl } = changed;
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(source, destination, ttl);
    let mut frame = Vec::new();
    match kept.kind {
        0 => builder.tcp(sport, dport, kept.seq, 1_000).ack(7).write(&mut frame, &kept.payload).unwrap(),
        1 => builder.udp(sport, dport).write(&mut frame, &kept.payload).unwrap(),
        _ => {
            let seq = u16::try_from(kept.seq).unwrap();
            let echo = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: sport, seq });
            builder.icmpv4(echo).write(&mut frame, &kept.payload).unwrap();
        }
    }
    frame[18..20].copy_from_slice(&kept.id.to_be_bytes());
    frame
}

fn print(frame: &[u8]) -> Prints {
    prints(frame, IP, true, u32::try_from(frame.len()).unwrap()).unwrap()
}

fn changed() -> impl Strategy<Value = Changed> {
    (any::<[[u8; 4]; 2]>(), any::<[u16; 2]>(), any::<u8>()).prop_map(|(addresses, ports, ttl)| Changed {
        addresses,
        ports,
        ttl,
    })
}

fn kept() -> impl Strategy<Value = Kept> {
    // Of sixteen bytes on, the first sixteen are in the print.
    let payload = prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 16)];
    (0..3_u8, any::<u16>(), any::<u16>().prop_map(u32::from), payload).prop_map(|(kind, id, seq, payload)| Kept {
        kind,
        // UDP has no sequence number.
        seq: if kind == 1 { 0 } else { seq },
        // TCP's numbers stand for its payload.
        payload: if kind == 0 { vec![0; payload.len()] } else { payload },
        id,
    })
}

proptest! {
    #[test]
    fn what_is_translated_and_forwarded_stays_the_same(one in changed(), other in changed(), kept in kept()) {
        let (here, there) = (print(&packet(one, &kept)), print(&packet(other, &kept)));
        prop_assert_eq!((here.headers, here.whole), (there.headers, there.whole));
        // All that is behind the IP header, where there are no ports.
        let header = if kept.kind == 2 { 8 } else { 0 };
        prop_assert_eq!(here.payload_bytes as usize, kept.payload.len() + header);
    }

    #[test]
    fn another_packet_is_another(changed in changed(), kept in kept(), other in kept()) {
        prop_assume!(kept != other);
        prop_assert_ne!(print(&packet(changed, &kept)).whole, print(&packet(changed, &other)).whole);
    }

    /// The kernel's memory has the headers alone, where a packet is freed.
    #[test]
    fn headers_are_enough_for_their_print(changed in changed(), kept in kept()) {
        let whole = packet(changed, &kept);
        let headers = &whole[..whole.len() - kept.payload.len()];
        prop_assert_eq!(print(headers).headers, print(&whole).headers);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80), offset in 0..90_u32, is_v4: bool) {
        let _ = prints(&bytes[..], offset, is_v4, 80);
    }
}
