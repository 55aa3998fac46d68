//! Any bytes as a datagram about links, addresses and routes: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::devices::message::messages;

fuzz_target!(|datagram: &[u8]| {
    // A message is at least its header of 16 bytes, and may be preceded by that it was interrupted.
    assert!(messages(datagram).len() <= datagram.len() / 16 * 2 + 1);
});
