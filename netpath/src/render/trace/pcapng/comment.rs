//! What a packet's comment says: `#17 hop 2 of 2, +21.3 µs, dst was 10.0.0.5:59703, default/client, forwarded`.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::render::labels::address_and_port;
use crate::render::units;
use crate::trace::{End, Hop, Summary, Translation, Trip};

/// Of a hop. The last one that is written has how the trip ended. Not sanitised.
pub fn of(trip: &Trip, index: usize, is_rebuilt: bool, is_last: bool) -> String {
    let hop = &trip.hops[index];
    let mut parts = vec![format!("#{} hop {} of {}", trip.trip, index + 1, trip.hops.len())];
    if let Some(before) = index.checked_sub(1) {
        parts.push(format!("+{}", units::elapsed(hop.since_ns)));
        parts.extend(translation(trip, hop, &trip.hops[before]));
    }
    parts.extend(hop.pod.clone());
    if let Some(original) = trip.retransmission_of {
        let later = trip.retransmitted_after_ns.map(|ns| format!(", {} later", units::elapsed(ns)));
        parts.push(format!("retransmission of #{original}{}", later.unwrap_or_default()));
    }
    if is_rebuilt {
        parts.push("rebuilt: its bytes were not kept".to_owned());
    }
    if is_last {
        parts.extend(end(trip, index + 1 == trip.hops.len()));
        if !trip.joined {
            parts.push("not all that was seen of it could be put together".to_owned());
        }
        if !trip.complete {
            parts.push("an event of it was lost".to_owned());
        }
        parts.extend(trip.note.clone());
    }
    parts.join(", ")
}

/// The addresses that NAT replaced; the packet has those that it put there. Whether it was a translation or the way back of one
/// cannot be seen.
fn translation(trip: &Trip, hop: &Hop, before: &Hop) -> Option<String> {
    let has_ports = trip.icmp.is_none() && (before.sport, before.dport) != (0, 0);
    let shown = |address: IpAddr, port: u16| address_and_port(address, has_ports.then_some(port));
    let src = || format!("src was {}", shown(before.src, before.sport));
    let dst = || format!("dst was {}", shown(before.dst, before.dport));
    Some(match hop.nat? {
        Translation::Snat => src(),
        Translation::Dnat => dst(),
        Translation::Both => format!("{}, {}", src(), dst()),
    })
}

/// How a trip ended; `None` if that is not known.
fn end(trip: &Trip, since_this_hop: bool) -> Option<String> {
    let mut text = match trip.end {
        End::Forwarded => return Some("forwarded".to_owned()),
        End::Host => return Some("delivered to this node".to_owned()),
        End::Pod => return Some("delivered to the pod".to_owned()),
        End::Dropped => match (&trip.reason, &trip.location) {
            (Some(reason), Some(location)) => format!("dropped: {reason} at {location}"),
            (Some(reason), None) => format!("dropped: {reason}"),
            (None, Some(location)) => format!("freed at {location}"),
            (None, None) => "dropped".to_owned(),
        },
        End::Unknown => format!("freed at {}", trip.location.as_ref()?),
    };
    if let Some(ns) = trip.freed_after_ns.filter(|_| since_this_hop) {
        // A write to a string cannot fail.
        let _ = write!(text, ", {} later", units::elapsed(ns));
    }
    Some(text)
}

/// Of the statistics of an interface: what was traced, on all devices together.
pub fn account(summary: &Summary, without_bytes: u64) -> String {
    let Summary { trips, hops, matched, received, no_room, over_rate, sampled_out, not_shown, .. } = summary;
    let mut text = format!(
        "on all devices: {trips} trips, {hops} hops; {matched} events matched: {received} received, {no_room} had no room, \
         {over_rate} over the rate, {sampled_out} not in the sample; {not_shown} trips not shown"
    );
    if without_bytes > 0 {
        let _ = write!(text, "; {without_bytes} hops are missing, their bytes were not kept");
    }
    if !summary.unwatched.is_empty() {
        let _ = write!(text, "; not watched: {}", summary.unwatched.join(", "));
    }
    if let Some(why) = &summary.drops_unseen {
        let _ = write!(text, "; drops were not seen: {why}");
    }
    text
}
