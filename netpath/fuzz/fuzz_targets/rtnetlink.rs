//! Any bytes as a datagram about links, addresses and routes: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::node::devices::message::messages;
use netpath::node::devices::uplink;

fuzz_target!(|datagram: &[u8]| {
    // A message is at least its header of 16 bytes.
    assert!(messages(datagram).len() <= datagram.len() / 16 + 1);
    // A next hop has 8 bytes, and an attribute with a device, too.
    assert!(uplink::default_route(datagram).is_none_or(|route| route.ifindexes.len() <= datagram.len() / 8));
    let _ = uplink::port(datagram);
});
