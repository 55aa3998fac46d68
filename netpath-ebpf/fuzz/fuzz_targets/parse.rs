//! Fuzzes the packet parser: whatever the bytes, it must not panic, must agree with etherparse, also on the packet that an ICMP
//! error quotes, and the quick look at plain packets must agree with it.
//!
//! In: one byte that says what the frame starts with (its two lowest bits), two of a VLAN tag beside the frame, and the
//! frame. Out: a crash if the parsers disagree.
#![no_main]

#[path = "../../tests/parser_properties/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;
use netpath_ebpf::parse::Start;

fuzz_target!(|data: &[u8]| {
    let Some((&[kind, high, low], frame)) = data.split_first_chunk() else { return };
    let start = match kind & 3 {
        0 => Start::Ethernet { vlan_tci: None },
        1 => Start::Ethernet { vlan_tci: Some(u16::from_be_bytes([high, low])) },
        2 => Start::Ip { offset: 0, ethertype_be: 0x0800_u16.to_be() },
        _ => Start::Ip { offset: 0, ethertype_be: 0x86dd_u16.to_be() },
    };
    oracle::check(frame, start);
    oracle::check_plain(frame);
});
