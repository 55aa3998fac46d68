//! Snapshots of the list, from fixed devices.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::model::KernelCounters;
use crate::node::devices::Layer;

fn link(ifindex: u32, name: &str, class: DeviceClass) -> Link {
    Link {
        mac: Some("02:00:00:00:00:01".to_owned()),
        counters: KernelCounters { rx_bytes: 1, rx_packets: 2, tx_bytes: 3, tx_packets: 4 },
        ..Link::new(ifindex, name, class)
    }
}

fn eni(ifindex: u32, name: &str, driver: &str, evidence: EniEvidence) -> Link {
    Link {
        eni_evidence: Some(evidence),
        driver: Some(driver.to_owned()),
        addresses: vec!["10.0.0.5/24".to_owned(), "fe80::1/64".to_owned()],
        ..link(ifindex, name, DeviceClass::Eni)
    }
}

fn veth(ifindex: u32, name: &str, pod: [u8; 4]) -> Link {
    Link { kind: Some("veth".to_owned()), routed: vec![pod.into()], ..link(ifindex, name, DeviceClass::Veth) }
}

/// A node as the VPC CNI sets it up, with a few things that are not nice.
fn node() -> Vec<Link> {
    let services = (0..5).map(|i| format!("172.20.0.{i}/32")).collect();
    vec![
        Link { mac: None, addresses: vec!["127.0.0.1/8".to_owned()], ..link(1, "lo", DeviceClass::Loopback) },
        eni(2, "ens5", "ena", EniEvidence::Driver),
        veth(3, "eni1a2b3c4d5e6", [10, 0, 0, 21]),
        veth(4, "eni0f0f0f0f0f0", [10, 0, 0, 22]),
        eni(5, "ens6", "ena", EniEvidence::Driver),
        veth(6, "vlan0f0f0f0f0f0", [10, 0, 0, 23]),
        Link { kind: Some("vlan".to_owned()), lower: Some(5), ..link(7, "vlan.eth.1", DeviceClass::Vlan) },
        Link { kind: Some("dummy".to_owned()), addresses: services, ..link(8, "kube-ipvs0", DeviceClass::Other) },
        Link { kind: Some("bridge".to_owned()), ..link(9, "docker0", DeviceClass::Bridge) },
        Link {
            kind: Some("tun".to_owned()),
            mac: None,
            layer: Layer::Ip,
            ..link(10, "a\u{1b}[2J", DeviceClass::Tunnel)
        },
    ]
}

fn table_of(links: &[Link]) -> String {
    on(&Screen::default(), links)
}

fn on(screen: &Screen, links: &[Link]) -> String {
    let mut text = Vec::new();
    table(links, &Known::default(), &mut text, screen).unwrap();
    String::from_utf8(text).unwrap()
}

/// What has no room in a line stands below it.
#[test]
fn table_of_80_columns() {
    let text = on(&Screen { width: Some(80), unicode: false, ..Screen::default() }, &node());
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn table_of_a_node() {
    insta::assert_snapshot!(table_of(&node()));
}

#[test]
fn table_without_an_eni() {
    insta::assert_snapshot!(table_of(&[link(1, "lo", DeviceClass::Loopback), veth(2, "eth0", [10, 0, 0, 21])]));
}

#[test]
fn table_with_every_reason() {
    insta::assert_snapshot!(table_of(&[
        eni(2, "ens5", "ena", EniEvidence::Driver),
        eni(3, "eth0", "virtio_net", EniEvidence::Hardware),
        Link { driver: None, ..eni(4, "eth1", "", EniEvidence::Hardware) },
        eni(5, "wan0", "x", EniEvidence::Named),
        veth(6, "eni1a2b3c4d5e6", [10, 0, 0, 21]),
    ]));
}

#[test]
fn json_of_a_node() {
    let mut text = Vec::new();
    json(&node()[..3], &Known::default(), &mut text).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["netpath_version"].take(), env!("CARGO_PKG_VERSION"));
    insta::assert_json_snapshot!(value);
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let foul = || Some("\u{1b}[2J".to_owned());
    let all = Link { kind: foul(), driver: foul(), mac: foul(), ..link(11, "\u{9b}31m", DeviceClass::Other) };
    let text = table_of(&[node(), vec![Link { addresses: foul().into_iter().collect(), ..all }]].concat());
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}
