//! Any bytes as the kernel's answer about counters, qdiscs, filters and conntrack: reading must end, without panicking.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::kernel::hooks::message::{filter, qdisc};
use netpath::node::conntrack::statistics::Statistics;
use netpath::node::devices::counters::stats;
use netpath::node::devices::qdiscs::Qdiscs;
use netpath::node::netlink::answers;

fuzz_target!(|datagram: &[u8]| {
    // The first message's number, so that it is an answer.
    let sequence = datagram.get(8..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let (mut bodies, mut qdiscs, mut conntrack) = (0, Qdiscs::default(), Statistics::default());
    let _ = answers(datagram, sequence, &mut false, |kind, body| {
        bodies += 1;
        let _ = stats(kind, body);
        let _ = qdiscs.take(kind, body);
        let _ = conntrack.take(kind, body);
        let _ = (qdisc(kind, body), filter(kind, body));
    });
    assert!(bodies <= datagram.len() / 16);
});
