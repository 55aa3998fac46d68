//! Any bytes as the kernel's answer about counters, qdiscs, filters, conntrack, network namespaces, rules of nftables, IPsec
//! policies and a driver's statistics: reading must end, without panicking, and find no more than there is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netpath::kernel::hooks::message::filter;
use netpath::netlink::answers;
use netpath::netlink::counters::stats;
use netpath::netlink::qdiscs::Qdiscs;
use netpath::node::conntrack::statistics::Statistics;
use netpath::node::diversions::{netfilter, xfrm};
use netpath::node::enis::allowances;
use netpath::node::ethtool::statistics;
use netpath::node::pods::netns;

fuzz_target!(|datagram: &[u8]| {
    // The first message's number, so that it is an answer.
    let sequence = word(datagram, 8).unwrap_or(0);
    let (mut bodies, mut qdiscs, mut conntrack) = (0, Qdiscs::default(), Statistics::default());
    let _ = answers(datagram, sequence, &mut false, |kind, body| {
        bodies += 1;
        let _ = stats(kind, body);
        let _ = qdiscs.add(kind, body);
        let _ = conntrack.apply(kind, body);
        let _ = filter(kind, body);
        assert!(xfrm::policies(kind, body).is_none_or(|found| found.len() <= 2));
        if let [family, _, _, _, attributes @ ..] = body {
            for rule in netfilter::rules(*family, attributes, &|_| None) {
                assert!(rule.ipv4 || rule.ipv6);
                assert!([rule.src, rule.dst].iter().flatten().all(|network| network.addr().is_ipv4() == rule.ipv4));
            }
        }
        assert!(netns::netnsid(kind, body).is_none_or(|number| number >= 0));
    });
    assert!(bodies <= datagram.len() / 16);
    assert!(qdiscs.roots.len() + qdiscs.filter_drops.len() <= bodies);
    driver(datagram);
});

/// `struct ethtool_gstrings`, which has the number of names behind two others, and `struct ethtool_stats` behind it.
fn driver(bytes: &[u8]) {
    let Some(count) = word(bytes, 8) else { return };
    let names = usize::try_from(count).ok().and_then(|count| count.checked_mul(32)?.checked_add(12));
    let Some((names, numbers)) = names.and_then(|names| bytes.split_at_checked(names)) else { return };
    let Some(all) = statistics::of(names, numbers, count) else { return };
    assert_eq!(all.len(), count as usize);
    if allowances::of(&all).is_some() {
        assert!(all.iter().any(|(name, _)| name.contains("_allowance_")));
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}
