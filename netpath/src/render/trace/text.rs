//! A trip for people: one line for the packet, one for each hop, and one for how it ended.

use std::io::{self, Write};

use crate::model::Direction;
use crate::render::block::Screen;
use crate::render::labels::address_and_port;
use crate::render::tone::Tone;
use crate::render::units::elapsed;
use crate::sanitise::sanitise;
use crate::trace::{End, Fragment, Hop, Summary, Translation, Trip};

/// Columns for what is before the addresses of a hop.
const HOP_WIDTH: usize = 30;

/// Writes a trip.
pub fn trip(trip: &Trip, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let (Some(first), Some(last)) = (trip.hops.first(), trip.hops.last()) else { return Ok(()) };
    let from = party(trip.src_pod.as_deref(), &address_and_port(first.src, port(trip, first.sport)), first.sport, trip);
    let to = party(trip.dst_pod.as_deref(), &address_and_port(last.dst, port(trip, last.dport)), last.dport, trip);
    let time = trip.at.get(11..26).unwrap_or(&trip.at);
    let head = format!("#{} {time} {} {from} → {to}{}", trip.trip, trip.proto, details(trip));
    line(screen, Tone::Strong, &head, out)?;
    for (index, hop) in trip.hops.iter().enumerate() {
        line(screen, Tone::Plain, &format!("    {}", self::hop(trip, index, hop)), out)?;
    }
    for (tone, text) in ending(trip) {
        line(screen, tone, &format!("    {text}"), out)?;
    }
    Ok(())
}

/// Writes what was traced, and what was not.
pub fn summary(summary: &Summary, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let Summary { trips, not_shown, hops, no_room, over_rate, sampled_out, .. } = summary;
    let packets = if *trips == 1 { "packet" } else { "packets" };
    let mut parts = vec![format!("{trips} {packets}, {hops} hops")];
    if *not_shown > 0 {
        parts.push(format!("{not_shown} more packets not shown"));
    }
    if *sampled_out > 0 {
        parts.push(format!("{sampled_out} events not in the sample"));
    }
    if *over_rate > 0 {
        parts.push(format!("{over_rate} events over --rate"));
    }
    parts.push(match no_room {
        0 => "none lost".to_owned(),
        lost => format!("{lost} events lost for want of room (--buffer, --rate, --sample)"),
    });
    let is_whole = *no_room == 0 && *over_rate == 0;
    line(screen, if is_whole { Tone::Plain } else { Tone::Warning }, &parts.join(", "), out)?;
    if let Some(why) = &summary.drops_unseen {
        line(screen, Tone::Warning, &format!("drops were not seen: {}", sanitise(why)), out)?;
    }
    for device in &summary.unwatched {
        line(screen, Tone::Warning, &format!("not watched: {}", sanitise(device)), out)?;
    }
    Ok(())
}

fn line(screen: Screen, tone: Tone, text: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", screen.styled(&screen.text(text), tone))
}

/// Protocols with ports have them shown.
fn port(trip: &Trip, port: u16) -> Option<u16> {
    let has_ports = matches!(trip.protocol, 6 | 17 | 33 | 132 | 136) && trip.fragment != Some(Fragment::Later);
    has_ports.then_some(port)
}

fn party(pod: Option<&str>, address: &str, number: u16, trip: &Trip) -> String {
    match (pod, port(trip, number)) {
        (None, _) => address.to_owned(),
        (Some(pod), Some(port)) => format!("{}:{port}", sanitise(pod)),
        (Some(pod), None) => sanitise(pod).into_owned(),
    }
}

fn details(trip: &Trip) -> String {
    let mut parts = Vec::new();
    parts.extend(trip.flags.as_ref().map(|flags| format!(" [{flags}]")));
    parts.extend(trip.icmp.map(|[kind, code]| match code {
        0 => format!(" type {kind}"),
        code => format!(" type {kind} code {code}"),
    }));
    parts.extend(trip.seq.map(|seq| format!(" seq {seq}")));
    parts.push(format!(" len {}", trip.payload));
    parts.extend(trip.fragment.map(|fragment| {
        match fragment {
            Fragment::First => ", first fragment",
            Fragment::Later => ", later fragment",
        }
        .to_owned()
    }));
    parts.extend(trip.service.as_ref().map(|service| format!(" ({})", sanitise(service))));
    parts.extend(trip.retransmission_of.map(|original| format!(", retransmission of #{original}")));
    parts.extend(trip.retransmitted_after_ns.map(|after| format!(", {} later", elapsed(after))));
    parts.concat()
}

fn hop(trip: &Trip, index: usize, hop: &Hop) -> String {
    let since = if index == 0 { String::new() } else { format!("+{} ", elapsed(hop.since_ns)) };
    let place = format!(
        "{since}{} {}",
        sanitise(&hop.device),
        match hop.direction {
            Direction::Rx => "rx",
            Direction::Tx => "tx",
        }
    );
    let ends = format!(
        "{} → {}",
        address_and_port(hop.src, port(trip, hop.sport)),
        address_and_port(hop.dst, port(trip, hop.dport))
    );
    let nat = match hop.nat {
        None => "",
        Some(Translation::Snat) => "  source translated",
        Some(Translation::Dnat) => "  destination translated",
        Some(Translation::Both) => "  both translated",
    };
    format!("{place:<HOP_WIDTH$}{ends}{nat}")
}

fn ending(trip: &Trip) -> Vec<(Tone, String)> {
    let after = trip.freed_after_ns.map(|ns| format!("+{} ", elapsed(ns))).unwrap_or_default();
    let place = trip.location.as_deref().map(|place| format!(" at {}", sanitise(place))).unwrap_or_default();
    let mut lines = Vec::new();
    match trip.end {
        End::Dropped => {
            let reason = trip.reason.as_deref().unwrap_or("no reason given");
            lines.push((Tone::Bad, format!("{after}dropped: {}{place}", sanitise(reason))));
        }
        End::Host => lines.push((Tone::Plain, "delivered to this node".to_owned())),
        End::Pod | End::Forwarded if trip.reason.is_some() => {
            let (reason, whose) = (
                trip.reason.as_deref().unwrap_or_default(),
                if trip.end == End::Pod { "in the pod" } else { "behind it" },
            );
            lines.push((Tone::Plain, format!("{after}freed {whose}: {}{place}", sanitise(reason))));
        }
        End::Unknown if !place.is_empty() => lines.push((Tone::Warning, format!("{after}freed{place}"))),
        End::Forwarded | End::Pod | End::Unknown => {}
    }
    if let Some(note) = &trip.note {
        lines.push((Tone::Warning, note.clone()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;

    use super::*;
    use crate::model::DeviceClass;
    use crate::trace::SCHEMA;

    fn hop(device: &str, direction: Direction, ends: [[u8; 4]; 2], ports: [u16; 2], since_ns: u64) -> Hop {
        Hop {
            device: device.to_owned(),
            ifindex: 2,
            class: DeviceClass::Eni,
            pod: None,
            direction,
            src: IpAddr::from(ends[0]),
            sport: ports[0],
            dst: IpAddr::from(ends[1]),
            dport: ports[1],
            ttl: 64,
            since_ns,
            nat: (since_ns > 0).then_some(Translation::Dnat),
            before_match: false,
            at_ns: 0,
            bytes: Bytes::new(),
            len_bytes: 1_514,
        }
    }

    fn segment() -> Trip {
        Trip {
            schema: SCHEMA.to_owned(),
            trip: 17,
            at: "2026-01-02T12:03:04.512345678Z".to_owned(),
            proto: "tcp".to_owned(),
            protocol: 6,
            length: 1_514,
            payload: 1_448,
            seq: Some(75_297),
            ack: Some(1),
            flags: Some("P.".to_owned()),
            icmp: None,
            ip_id: Some(7),
            fragment: None,
            hops: vec![
                hop("eth0", Direction::Rx, [[198, 51, 100, 7], [10, 0, 0, 5]], [8080, 59_703], 0),
                hop("eni\u{1b}1", Direction::Tx, [[198, 51, 100, 7], [10, 0, 0, 21]], [8080, 47_620], 21_300),
            ],
            end: End::Pod,
            reason: None,
            location: None,
            freed_after_ns: None,
            note: None,
            retransmission_of: Some(12),
            retransmitted_after_ns: Some(204_000_000),
            joined: true,
            complete: true,
            src_pod: None,
            dst_pod: Some("default/client".to_owned()),
            service: None,
        }
    }

    fn written(trip: &Trip, screen: Screen) -> String {
        let mut out = Vec::new();
        super::trip(trip, screen, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_trip_is_a_line_and_one_for_each_hop() {
        let expected = "\
#17 12:03:04.512345 tcp 198.51.100.7:8080 → default/client:47620 [P.] seq 75297 len 1448, retransmission of #12, 204 ms later
    eth0 rx                       198.51.100.7:8080 → 10.0.0.5:59703
    +21.3 µs eni\\u{1b}1 tx        198.51.100.7:8080 → 10.0.0.21:47620  destination translated
";
        assert_eq!(written(&segment(), Screen::default()), expected);
        let plain = written(&segment(), Screen { unicode: false, ..Screen::default() });
        assert!(plain.is_ascii() && plain.contains("7:8080 -> 10.0.0.5") && plain.contains("+21.3 us"), "{plain}");
    }

    #[test]
    fn how_it_ended_is_the_last_line() {
        let dropped = Trip {
            end: End::Dropped,
            reason: Some("NETFILTER_DROP".to_owned()),
            location: Some("nf_hook_slow+0x9c".to_owned()),
            freed_after_ns: Some(3_100),
            ..segment()
        };
        let last = |trip: &Trip| written(trip, Screen::default()).lines().last().map(ToOwned::to_owned);
        assert_eq!(last(&dropped).as_deref(), Some("    +3.1 µs dropped: NETFILTER_DROP at nf_hook_slow+0x9c"));
        let in_the_pod = Trip { end: End::Pod, ..dropped.clone() };
        assert_eq!(
            last(&in_the_pod).as_deref(),
            Some("    +3.1 µs freed in the pod: NETFILTER_DROP at nf_hook_slow+0x9c")
        );
        let unknown = Trip { end: End::Unknown, reason: None, note: Some("no reasons here".to_owned()), ..dropped };
        let text = written(&unknown, Screen::default());
        assert!(text.ends_with("    +3.1 µs freed at nf_hook_slow+0x9c\n    no reasons here\n"), "{text}");
    }

    #[test]
    fn the_summary_has_what_is_not_there() {
        let summary = Summary {
            trips: 1,
            hops: 2,
            not_shown: 3,
            no_room: 4,
            over_rate: 5,
            drops_unseen: Some("no BTF".to_owned()),
            unwatched: vec!["eth9: why".to_owned()],
            ..Summary::default()
        };
        let mut out = Vec::new();
        super::summary(&summary, Screen::default(), &mut out).expect("written");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "1 packet, 2 hops, 3 more packets not shown, 5 events over --rate, 4 events lost for want of room (--buffer, --rate, \
             --sample)\ndrops were not seen: no BTF\nnot watched: eth9: why\n"
        );
    }
}
