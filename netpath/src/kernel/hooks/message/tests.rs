//! Tests of the decoder, against messages that are put together byte by byte as linux/rtnetlink.h describes them.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::netlink::attributes::attribute;

fn body(ifindex: u32, handle: u32, parent: u32, info: [u8; 4], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend([ifindex, handle, parent].into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(info);
    bytes.extend(attributes.concat());
    bytes
}

/// Priority 5 and `ETH_P_ALL`, as the kernel packs them: the protocol in network byte order.
fn info() -> [u8; 4] {
    (5u32 << 16 | u32::from(3u16.to_be())).to_ne_bytes()
}

fn options(attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(0x8000 | TCA_OPTIONS, &attributes.concat())
}

#[test]
fn a_direct_action_program() {
    let options = options(&[
        attribute(7, b"agent.o:[handle_ingress]\0"),
        attribute(11, &77u32.to_ne_bytes()),
        attribute(10, &[1, 2, 3, 4, 5, 6, 7, 8]),
        attribute(8, &1u32.to_ne_bytes()),
        attribute(9, &4u32.to_ne_bytes()),
        attribute(999, b"something newer"),
    ]);
    let body = body(9, 1, 0xffff_fff2, info(), &[attribute(1, b"bpf\0"), attribute(11, &[0; 4]), options]);
    let expected = Filter {
        kind: "bpf".to_owned(),
        parent: 0xffff_fff2,
        shared_block: None,
        priority: 5,
        handle: 1,
        protocol: 3,
        chain: 0,
        bpf: Some(BpfFilter {
            name: Some("agent.o:[handle_ingress]".to_owned()),
            direct_action: true,
            skip_sw: false,
            in_hw: true,
            program: Some(Program { id: 77, name: None, tag: Some([1, 2, 3, 4, 5, 6, 7, 8]) }),
        }),
    };
    assert_eq!(filter(44, &body), Ok(Some(expected)));
    assert_eq!(filter(45, &body), Ok(None), "another message");
}

#[test]
fn filters_of_other_kinds() {
    let one = |kind: &[u8], handle, attributes: &[Vec<u8>]| {
        let attributes = [&[attribute(1, kind), attribute(11, &2u32.to_ne_bytes())], attributes].concat();
        filter(44, &body(0xffff_ffff, handle, 22, info(), &attributes))
    };
    let flower = one(b"flower\0", 1, &[options(&[])]).unwrap().unwrap();
    assert_eq!((flower.kind.as_str(), flower.chain, flower.shared_block), ("flower", 2, Some(22)));
    assert_eq!(flower.bpf, None);
    assert_eq!(one(b"flower\0", 0, &[]), Ok(None), "the priority as a whole");
    assert_eq!(one(b"u32\0", 0x8000_0000, &[options(&[])]), Ok(None), "a table");
    assert!(one(b"u32\0", 0x8000_0800, &[options(&[])]).unwrap().is_some(), "an entry");
    // Classic BPF has no id.
    assert_eq!(one(b"bpf\0", 1, &[options(&[])]).unwrap().unwrap().bpf, Some(BpfFilter::default()));
}

#[test]
fn what_is_not_as_described_is_not_skipped() {
    for (kind, value) in [(8, vec![1, 0]), (9, vec![]), (10, vec![1; 7]), (11, vec![1; 5])] {
        let options = options(&[attribute(kind, &value)]);
        let body = body(9, 1, 0xffff_fff2, info(), &[attribute(1, b"bpf\0"), options]);
        assert_eq!(filter(44, &body), Err(Malformed), "{kind}");
    }
    let cut = body(9, 1, 0, info(), &[attribute(1, b"bpf\0"), vec![200, 0, 2, 0]]);
    assert_eq!(filter(44, &cut), Err(Malformed));
    assert_eq!(filter(44, &body(9, 1, 0, info(), &[])), Err(Malformed), "no kind");
}

proptest! {
    /// Any bytes: reading ends, without panicking.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 30u16..50) {
        let _ = filter(kind, &bytes);
    }

    /// A valid message with any of its bytes changed.
    #[test]
    fn damaged(at in 0usize..80, to: u8) {
        let options = options(&[attribute(7, b"a\0"), attribute(11, &[1; 4]), attribute(10, &[1; 8])]);
        let mut bytes = body(9, 1, 0xffff_fff2, info(), &[attribute(1, b"bpf\0"), attribute(11, &[0; 4]), options]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        let _ = filter(44, &bytes);
    }
}
