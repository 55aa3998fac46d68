//! Any bytes as a netlink datagram: reading must end, without panicking. Run from `netpath`:
//! `cargo +nightly fuzz run ctnetlink fuzz/corpus/ctnetlink fuzz/seeds/ctnetlink`
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::conntrack::message::messages;

fuzz_target!(|datagram: &[u8]| {
    // A message is at least its header of 16 bytes.
    assert!(messages(datagram).count() <= datagram.len() / 16 + 1);
});
