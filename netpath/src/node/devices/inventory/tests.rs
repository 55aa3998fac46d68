//! Tests of the bookkeeping, with messages made by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::node::devices::message::LinkInfo;

fn veth(ifindex: u32, name: &str, up: bool) -> RawLink {
    RawLink {
        ifindex,
        name: name.as_bytes().to_vec(),
        altnames: Vec::new(),
        hardware_type: libc::ARPHRD_ETHER,
        flags: u32::from(up),
        info: LinkInfo { kind: Some("veth".to_owned()), ..LinkInfo::default() },
        master: None,
        mac: Some([2, 0, 0, 0, 0, 1]),
        lower: None,
        elsewhere: None,
        xdp: None,
        parent: None,
        counters: KernelCounters::default(),
        moved: false,
    }
}

fn inventory(names: &[&str]) -> Inventory {
    let mut inventory = Inventory::new(EniChoice::default());
    for (ifindex, name) in (1..).zip(names) {
        inventory.apply(Message::NewLink(veth(ifindex, name, true)));
    }
    inventory
}

fn gone(ifindex: u32, counters: KernelCounters, complete: bool) -> Message {
    Message::DelLink { ifindex, counters, complete }
}

fn to(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn new_route(last: u8, metric: u32, ifindex: u32, replaces: bool) -> Message {
    Message::NewRoute { route: HostRoute { to: to(last), table: 254, metric, ifindex }, replaces }
}

fn routed_to(inventory: &Inventory) -> Vec<Vec<IpAddr>> {
    inventory.links().into_iter().map(|link| link.routed).collect()
}

/// What an event is about, in short.
fn short(events: &[LinkEvent]) -> Vec<String> {
    let each = |event: &LinkEvent| match event {
        LinkEvent::Appeared(link) => format!("+{}", link.name),
        LinkEvent::Changed(link) => format!("~{}", link.name),
        LinkEvent::Gone { ifindex, last, .. } => format!("-{ifindex}{}", if last.is_some() { "" } else { "?" }),
        LinkEvent::Lost => "lost".to_owned(),
    };
    events.iter().map(each).collect()
}

#[test]
fn life_of_a_link() {
    let mut inventory = inventory(&[]);
    assert_eq!(short(&inventory.apply(Message::NewLink(veth(1, "a", false)))), ["+a"]);
    let mut counted = veth(1, "a", false);
    counted.counters.rx_bytes = 5;
    assert_eq!(inventory.apply(Message::NewLink(counted)), [], "counters alone are no event");
    assert_eq!(inventory.links()[0].counters.rx_bytes, 5);
    assert_eq!(short(&inventory.apply(Message::NewLink(veth(1, "b", false)))), ["~b"]);
    assert_eq!(short(&inventory.apply(Message::NewLink(veth(1, "b", true)))), ["~b"]);
    let counters = KernelCounters { rx_bytes: 9, ..KernelCounters::default() };
    assert_eq!(
        inventory.apply(gone(1, counters, true)),
        [LinkEvent::Gone { ifindex: 1, last: Some(counters), at_least: counters }]
    );
    assert_eq!(inventory.apply(gone(1, counters, true)), [], "gone before it was known");
}

#[test]
fn what_a_deleted_veth_counted_at_least() {
    let mut inventory = inventory(&["a"]);
    let reported = |rx_bytes, tx_bytes| KernelCounters { rx_bytes, tx_bytes, ..KernelCounters::default() };
    inventory.apply(Message::NewLink(RawLink { counters: reported(100, 50), ..veth(1, "a", true) }));
    assert_eq!(
        inventory.apply(gone(1, reported(0, 70), false)),
        [LinkEvent::Gone { ifindex: 1, last: None, at_least: reported(100, 70) }]
    );
}

#[test]
fn addresses_are_in_order() {
    let mut inventory = inventory(&["a"]);
    for address in ["fd00::1/64", "10.0.0.10/24", "10.0.0.2/32"] {
        inventory.apply(Message::NewAddress { ifindex: 1, address: address.to_owned() });
    }
    assert_eq!(inventory.links()[0].addresses, ["10.0.0.2/32", "10.0.0.10/24", "fd00::1/64"]);
}

#[test]
fn names_that_are_not_text() {
    let mut inventory = inventory(&[]);
    inventory.apply(Message::NewLink(RawLink { name: b"a\xff".to_vec(), ..veth(1, "", true) }));
    assert_eq!(inventory.links()[0].name, "a\u{fffd}");
}

#[test]
fn addresses_come_and_go() {
    let mut inventory = inventory(&["a"]);
    let new = || Message::NewAddress { ifindex: 1, address: "10.0.0.1/24".to_owned() };
    assert_eq!(short(&inventory.apply(new())), ["~a"]);
    assert_eq!(inventory.apply(new()), [], "it was known");
    assert_eq!(inventory.links()[0].addresses, ["10.0.0.1/24"]);
    inventory.apply(Message::NewLink(veth(1, "b", true)));
    assert_eq!(inventory.links()[0].addresses, ["10.0.0.1/24"], "a new name keeps the addresses");
    assert_eq!(short(&inventory.apply(Message::DelAddress { ifindex: 1, address: "10.0.0.1/24".to_owned() })), ["~b"]);
    assert!(inventory.links()[0].addresses.is_empty());
    assert_eq!(inventory.apply(Message::NewAddress { ifindex: 8, address: "10.0.0.1/24".to_owned() }), []);
}

#[test]
fn routes_come_and_go() {
    let mut inventory = inventory(&["a", "b"]);
    assert_eq!(short(&inventory.apply(new_route(21, 0, 1, false))), ["~a"]);
    assert_eq!(routed_to(&inventory), [vec![to(21)], vec![]]);
    // The pod's address is given to the next pod, with `ip route replace`.
    assert_eq!(short(&inventory.apply(new_route(21, 0, 2, true))), ["~a", "~b"]);
    assert_eq!(routed_to(&inventory), [vec![], vec![to(21)]]);
    assert_eq!(
        short(&inventory.apply(Message::DelRoute(HostRoute { to: to(21), table: 254, metric: 0, ifindex: 2 }))),
        ["~b"]
    );
    assert_eq!(routed_to(&inventory), [vec![], vec![]] as [Vec<IpAddr>; 2]);
}

#[test]
fn the_best_of_two_routes_counts() {
    let mut inventory = inventory(&["a", "b"]);
    inventory.apply(new_route(21, 100, 1, false));
    assert_eq!(short(&inventory.apply(new_route(21, 50, 2, false))), ["~a", "~b"]);
    assert_eq!(routed_to(&inventory), [vec![], vec![to(21)]]);
    // The kernel drops the routes of a device that goes down without saying so.
    let events = inventory.apply(Message::NewLink(veth(2, "b", false)));
    assert_eq!(short(&events), ["~a", "~b", "~b"]);
    assert_eq!(routed_to(&inventory), [vec![to(21)], vec![]]);
    // So it does with a device that is gone.
    inventory.apply(new_route(21, 50, 2, false));
    let events = inventory.apply(gone(2, KernelCounters::default(), true));
    assert_eq!(short(&events), ["-2", "~a"]);
}

#[test]
fn a_route_that_comes_before_its_device() {
    let mut inventory = inventory(&[]);
    inventory.apply(new_route(21, 0, 1, false));
    inventory.apply(Message::NewLink(veth(1, "a", true)));
    assert_eq!(routed_to(&inventory), [vec![to(21)]]);
}

#[test]
fn an_own_address_is_not_a_pods() {
    let mut inventory = inventory(&["a"]);
    inventory.apply(new_route(2, 256, 1, false));
    inventory.apply(new_route(21, 256, 1, false));
    assert_eq!(routed_to(&inventory), [vec![to(2), to(21)]]);
    inventory.apply(Message::NewAddress { ifindex: 1, address: "10.0.0.2/32".to_owned() });
    assert_eq!(routed_to(&inventory), [vec![to(21)]]);
}

#[test]
fn what_a_second_reading_tells() {
    let mut old = inventory(&["gone", "same", "renamed", "replaced"]);
    let mut counted = veth(4, "replaced", true);
    counted.counters.tx_packets = 7;
    old.apply(Message::NewLink(counted));
    let mut new = inventory(&[]);
    let mut busy = veth(2, "same", true);
    busy.counters.rx_bytes = 100;
    for link in [busy, veth(3, "new-name", true), veth(4, "replaced", true), veth(5, "new", true)] {
        new.apply(Message::NewLink(link));
    }
    assert_eq!(short(&differences(&old.links, &new.links)), ["-1?", "~new-name", "-4?", "+replaced", "+new"]);
}
