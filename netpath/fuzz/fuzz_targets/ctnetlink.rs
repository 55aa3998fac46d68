//! Any bytes as a datagram of conntrack: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::conntrack::message::messages;

fuzz_target!(|datagram: &[u8]| {
    // A message is at least its header of 16 bytes.
    assert!(messages(datagram).count() <= datagram.len() / 16 + 1);
});
