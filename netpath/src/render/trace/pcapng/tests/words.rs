//! What comments say.

use super::*;
use crate::trace::Translation;

fn comment_of(trip: Trip) -> String {
    let trips = [trip];
    packets(HopChoice::Last, &trips)[0].text(1).to_owned()
}

const LAST: &str = "#17 hop 2 of 2, +21.3 µs, dst was 10.0.0.5:59703, default/client";

#[test]
fn ends() {
    let dropped = |reason: Option<&str>, location: Option<&str>| Trip {
        end: End::Dropped,
        reason: reason.map(str::to_owned),
        location: location.map(str::to_owned),
        freed_after_ns: Some(3_100),
        ..trip()
    };
    for (trip, end) in [
        (Trip { end: End::Forwarded, ..trip() }, ", forwarded"),
        (Trip { end: End::Host, ..trip() }, ", delivered to this node"),
        (Trip { end: End::Pod, ..trip() }, ", delivered to the pod"),
        (Trip { end: End::Unknown, ..trip() }, ""),
        (Trip { end: End::Unknown, note: Some("it was redirected".to_owned()), ..trip() }, ", it was redirected"),
        (
            dropped(Some("NETFILTER_DROP"), Some("nf_hook_slow+0x9c")),
            ", dropped: NETFILTER_DROP at nf_hook_slow+0x9c, 3.1 µs later",
        ),
        (dropped(Some("NETFILTER_DROP"), None), ", dropped: NETFILTER_DROP, 3.1 µs later"),
        // Kernels before 5.17 give no reason, and free what they do not drop.
        (dropped(None, Some("nf_hook_slow+0x9c")), ", freed at nf_hook_slow+0x9c, 3.1 µs later"),
        (Trip { end: End::Unknown, location: Some("ip_rcv+0x1".to_owned()), ..trip() }, ", freed at ip_rcv+0x1"),
        (
            Trip { joined: false, complete: false, note: Some("too many tunnels".to_owned()), ..trip() },
            ", delivered to the pod, not all that was seen of it could be put together, an event of it was lost, too many tunnels",
        ),
    ] {
        assert_eq!(comment_of(trip), format!("{LAST}{end}"));
    }
    // The time is since the last hop, which is not this one.
    let first = packets(HopChoice::First, &[dropped(Some("NO_ROUTE"), None)]);
    assert_eq!(first[0].text(1), "#17 hop 1 of 2, dropped: NO_ROUTE");
}

#[test]
fn a_retransmission_is_named_at_every_hop() {
    let again = Trip { retransmission_of: Some(12), retransmitted_after_ns: Some(204_000_000), ..trip() };
    for packet in packets(HopChoice::All, &[again]) {
        assert!(packet.text(1).contains(", retransmission of #12, 204 ms later"), "{}", packet.text(1));
    }
}

#[test]
fn translations() {
    for (nat, words) in [
        (Some(Translation::Snat), "src was 198.51.100.7:8080, "),
        (Some(Translation::Dnat), "dst was 10.0.0.5:59703, "),
        (Some(Translation::Both), "src was 198.51.100.7:8080, dst was 10.0.0.5:59703, "),
        (None, ""),
    ] {
        let mut trip = trip();
        trip.hops[1].nat = nat;
        assert_eq!(comment_of(trip), format!("#17 hop 2 of 2, +21.3 µs, {words}default/client, delivered to the pod"));
    }
    let mut echo = trip();
    echo.icmp = Some([8, 0]);
    assert!(comment_of(echo).contains(", dst was 10.0.0.5, "), "its identifier is no port");
}

#[test]
fn names_from_elsewhere_are_safe_to_print() {
    let mut hostile = trip();
    hostile.hops[1].pod = Some("default/\u{1b}]0;x\u{7}\u{202e}".to_owned());
    hostile.note = Some("a\nb".to_owned());
    let comment = comment_of(hostile);
    assert!(!comment.contains(crate::sanitise::is_unsafe), "{comment:?}");
    assert!(comment.contains("default/\\u{1b}]0;x\\u{7}\\u{202e}") && comment.ends_with("a\\u{a}b"), "{comment}");
}
