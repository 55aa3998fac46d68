//! The ways of flows as pictures: hop by hop, with addresses as the packets had them there, and the same in sentences.

use maud::{Markup, html};

use super::super::explain;
use super::super::labels::{address_and_port, device_class};
use super::super::report::View;
use super::super::units::Scale;
use super::ROWS;
use super::timeline::class;
use super::width::{fit, pixels};
use crate::model::DeviceClass;
use crate::path::conversations::{flow, is_icmp, of_report};
use crate::report::{Flow, Hop, PathClass, PeerKind, Report};
use crate::sanitise::sanitise;

/// The flows of the conversations with the most bytes.
pub fn section(report: &Report, view: &View, count: usize) -> Markup {
    let all = of_report(report, view.merge());
    let scale = view.scale(report);
    html! {
        section id="flows" class="wide" {
            h2 { "The paths of flows" }
            p class="note" {
                @if count < all.len() {
                    "Of the " (count) " largest of " (all.len()) " conversations (" code { "--top N" } ", " code { "--all" }
                    ": of up to " (ROWS) "), "
                } @else { "Of each conversation " }
                "the largest flow in either direction. NAT marks an address that is not what it was at the hop before."
            }
            @for one in all.iter().take(count) {
                @for flow in one.flows.iter().filter_map(|id| flow(&report.flows, *id)) { (details(flow, report, scale)) }
            }
        }
    }
}

fn details(flow: &Flow, report: &Report, scale: Scale) -> Markup {
    html! {
        details class="flow" {
            summary {
                span class={ "key " (class(flow.path)) } { (flow.path.name()) } " "
                span class="ends" { (explain::ends(flow)) } " "
                span class="amount" { (scale.bytes(flow.bytes)) ", flow " (flow.id) }
            }
            div class="scroll" tabindex="0" role="region" aria-label={ "Path of flow " (flow.id) } { (picture(flow, report, scale)) }
            p { (explain::explain_flow(flow, report, scale).trim_end()) }
        }
    }
}

/// A box of the picture.
struct Stop {
    class: &'static str,
    /// In the box.
    lines: [String; 2],
    /// Below it, and whether NAT changed it.
    below: Vec<(String, bool)>,
}

const HEIGHT: f64 = 46.0;
const ARROW: f64 = 34.0;
/// The most room of a name, and that of a letter of an address.
const NAME: f64 = 220.0;
const ADDRESS: f64 = 7.4;

fn picture(flow: &Flow, report: &Report, scale: Scale) -> Markup {
    let stops = stops(flow, report, scale);
    let mut x = 4.0;
    let mut places = Vec::new();
    for stop in &stops {
        let width = width(stop);
        places.push((x, width));
        x += width + ARROW;
    }
    let (all, high) = (x - ARROW + 4.0, HEIGHT + 58.0);
    html! {
        svg class="way" role="img" aria-label={ "Flow " (flow.id) ": " (words(&stops)) }
            width=(format!("{all:.0}")) height=(high) viewBox={ "0 0 " (format!("{all:.0}")) " " (high) } {
            @for (index, (stop, (x, width))) in stops.iter().zip(&places).enumerate() {
                @let middle = format!("{:.1}", x + width / 2.0);
                @if index > 0 {
                    path class="arrow" d={ "M" (format!("{:.1}", x - ARROW + 3.0)) " 25h" (ARROW - 10.0) "m-6 -5l6 5l-6 5" } {}
                }
                rect class={ "stop " (stop.class) } x=(format!("{x:.1}")) y="2" width=(format!("{width:.1}")) height=(HEIGHT)
                    rx="6" {}
                text x=(middle) y="20" { (stop.lines[0]) }
                text class="small" x=(middle) y="38" { (stop.lines[1]) }
                @for ((text, nat), y) in stop.below.iter().zip([66, 84, 100]) {
                    text class=(if *nat { "address nat" } else { "address" }) x=(middle) y=(y) {
                        @if *nat { "NAT " } (text)
                    }
                }
            }
        }
    }
}

fn words(stops: &[Stop]) -> String {
    let word = |stop: &Stop| {
        let below: Vec<_> =
            stop.below.iter().map(|(text, nat)| format!("{text}{}", if *nat { " by NAT" } else { "" })).collect();
        let below = if below.is_empty() { String::new() } else { format!(": {}", below.join(" ")) };
        format!("{}, {}{below}", stop.lines[0], stop.lines[1])
    };
    stops.iter().map(word).collect::<Vec<_>>().join("; ")
}

/// Room for the longest of its texts.
fn width(stop: &Stop) -> f64 {
    let below = stop.below.iter().map(|(text, nat)| ADDRESS * columns(text) + if *nat { 30.0 } else { 0.0 });
    below.chain(stop.lines.iter().map(|line| pixels(line))).fold(90.0, f64::max) + 20.0
}

/// Of addresses, whose letters have one width.
#[expect(clippy::cast_precision_loss, reason = "some dozens of characters")]
fn columns(text: &str) -> f64 {
    text.chars().count() as f64
}

/// The source, the hops, and the destination or the drop.
fn stops(flow: &Flow, report: &Report, scale: Scale) -> Vec<Stop> {
    let mut stops = vec![end(flow.src_pod.as_deref(), flow.src_peer_kind, "source")];
    let mut before: Option<&Hop> = None;
    for hop in &flow.hops {
        stops.push(stop(hop, before, flow, report, scale));
        before = Some(hop);
    }
    stops.push(match flow.path {
        PathClass::Undelivered => {
            Stop { class: "bad", lines: ["dropped".to_owned(), "on this node".to_owned()], below: Vec::new() }
        }
        PathClass::Unresolved => {
            Stop { class: "warn", lines: ["not known".to_owned(), "not seen further".to_owned()], below: Vec::new() }
        }
        _ => end(flow.dst_pod.as_deref(), flow.dst_peer_kind, "destination"),
    });
    stops
}

fn end(pod: Option<&str>, kind: Option<PeerKind>, what: &str) -> Stop {
    let place = kind.map_or("not known", super::super::labels::peer);
    let name = pod.map_or_else(|| place.to_owned(), |pod| fit(&sanitise(pod), NAME));
    Stop { class: "end", lines: [name, what.to_owned()], below: Vec::new() }
}

fn stop(hop: &Hop, before: Option<&Hop>, flow: &Flow, report: &Report, scale: Scale) -> Stop {
    let device = report.devices.iter().find(|device| device.facts.ifindex == hop.ifindex);
    let kind = device.map(|device| device.facts.class);
    let what = kind.map_or("device", device_class);
    let port = |port: Option<u16>| port.filter(|_| !is_icmp(&flow.proto));
    let changed = |differs: fn(&Hop, &Hop) -> bool| before.is_some_and(|before| differs(hop, before));
    let src = changed(|one, other| (one.src, one.sport) != (other.src, other.sport));
    let dst = changed(|one, other| (one.dst, one.dport) != (other.dst, other.dport));
    Stop {
        class: match kind {
            Some(DeviceClass::Eni) => "eni",
            Some(DeviceClass::Veth) => "local",
            _ => "other",
        },
        lines: [fit(&sanitise(&hop.device), NAME), format!("{what}, {}", explain::direction(hop.direction))],
        below: vec![
            (address_and_port(hop.src, port(hop.sport)), src),
            (format!("→ {}", address_and_port(hop.dst, port(hop.dport))), dst),
            (scale.bytes(hop.bytes), false),
        ],
    }
}
