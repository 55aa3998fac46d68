//! Tests of the bookkeeping, with messages made by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::node::devices::message::{DeliveringRoute, LinkInfo, Rule, RuleTable};

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

fn rule(priority: u32, table: RuleTable, unconditional: bool) -> Rule {
    Rule { ipv6: false, priority, table, unconditional }
}

fn delivery(network: &str, table: u32) -> DeliveringRoute {
    DeliveringRoute { network: network.parse().unwrap(), table }
}

/// The routes that deliver here, and whether every packet takes them.
fn delivered(inventory: &Inventory) -> Vec<(String, u32, bool)> {
    let each = |route: LocalRoute| (route.network.to_string(), route.table, route.unconditional);
    inventory.local_routes().into_iter().map(each).collect()
}

#[test]
fn what_was_delivered_here_at_some_time() {
    let mut inventory = inventory(&[]);
    let usual = [(0, 255), (32766, 254), (32767, 253)].map(|(at, table)| rule(at, RuleTable::Table(table), true));
    for rule in usual {
        inventory.apply(Message::NewRule(rule));
    }
    for route in [delivery("10.0.0.5/32", 255), delivery("192.0.2.0/24", 100), delivery("192.0.3.0/24", 101)] {
        inventory.apply(Message::NewDelivery(route));
    }
    inventory.apply(Message::DelDelivery(delivery("10.0.0.5/32", 255)));
    let of_100 = |unconditional| {
        let routes = [("10.0.0.5/32", 255, true), ("192.0.2.0/24", 100, unconditional), ("192.0.3.0/24", 101, false)];
        routes.map(|(network, table, unconditional)| (network.to_owned(), table, unconditional)).to_vec()
    };
    assert_eq!(delivered(&inventory), of_100(false));
    inventory.apply(Message::NewRule(rule(99, RuleTable::Table(100), false)));
    assert_eq!(delivered(&inventory), of_100(false), "by a mark, for example");
    inventory.apply(Message::NewRule(rule(40000, RuleTable::Table(101), true)));
    assert_eq!(delivered(&inventory), of_100(false), "behind main, and its default route");
    let always = rule(100, RuleTable::Table(100), true);
    inventory.apply(Message::NewRule(always));
    inventory.apply(Message::DelRule(always));
    assert_eq!(delivered(&inventory), of_100(true), "at some time it was");
}

#[test]
fn a_vrf_has_a_table_of_its_own() {
    let mut inventory = inventory(&["a", "b"]);
    let route_in = |table, ifindex| HostRoute { to: to(21), table, metric: 0, ifindex };
    for route in [route_in(254, 1), route_in(10, 2)] {
        inventory.apply(Message::NewRoute { route, replaces: false });
    }
    inventory.apply(Message::NewDelivery(delivery("10.0.0.5/32", 10)));
    let one = vec![to(21)];
    assert_eq!(routed_to(&inventory), [one.clone(), vec![]]);
    let mut vrf = veth(3, "vrf", true);
    vrf.info = LinkInfo { kind: Some("vrf".to_owned()), vrf_table: Some(10), ..LinkInfo::default() };
    assert_eq!(short(&inventory.apply(Message::NewLink(vrf))), ["+vrf", "~b"]);
    // The same address twice: they are two pods.
    assert_eq!(routed_to(&inventory)[..2], [one.clone(), one]);
    assert_eq!(delivered(&inventory), [("10.0.0.5/32".to_owned(), 10, true)]);
    assert_eq!(short(&inventory.apply(gone(3, KernelCounters::default(), true))), ["-3", "~b"]);
}

#[test]
fn tables_come_in_the_order_of_their_rules() {
    let mut inventory = inventory(&["a", "b"]);
    for (priority, table, unconditional) in [(0, 255, true), (32766, 254, true), (100, 7, true), (99, 8, false)] {
        inventory.apply(Message::NewRule(rule(priority, RuleTable::Table(table), unconditional)));
    }
    let route_in = |table, ifindex| HostRoute { to: to(21), table, metric: 0, ifindex };
    let add = |inventory: &mut Inventory, route| {
        inventory.apply(Message::NewRoute { route, replaces: false });
        routed_to(inventory).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(add(&mut inventory, route_in(8, 1)), [1, 0], "packets with a mark go there");
    assert_eq!(add(&mut inventory, route_in(254, 2)), [0, 1], "all others, here");
    assert_eq!(add(&mut inventory, route_in(7, 1)), [1, 0], "before main");
    inventory.apply(Message::NewDelivery(delivery("10.0.0.0/24", 255)));
    assert_eq!(routed_to(&inventory), [vec![], Vec::<IpAddr>::new()], "the node's own, by the first rule");
}

#[test]
fn ipv4_tables_are_one_without_other_rules() {
    let mut inventory = inventory(&["a"]);
    inventory.apply(new_route(21, 0, 1, false));
    inventory.apply(Message::NewDelivery(delivery("10.0.0.0/24", 255)));
    assert_eq!(routed_to(&inventory)[0].len(), 1, "the longer prefix wins");
}

#[test]
fn a_peer_that_moves_away() {
    let mut inventory = inventory(&[]);
    for (ifindex, peer) in [(1, 2), (2, 1)] {
        inventory.apply(Message::NewLink(RawLink { lower: Some(peer), ..veth(ifindex, "x", true) }));
    }
    assert_eq!(short(&inventory.apply(gone(2, KernelCounters::default(), true))), ["-2", "~x"]);
    assert_eq!(inventory.links()[0].lower, None);
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
