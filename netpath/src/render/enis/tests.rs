//! Snapshots of what is shown of a node as the VPC CNI sets it up, and of everything that can be wrong with it.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::block::Screen;
use super::*;
use crate::model::{Fact, IpamMetric, Origin};

#[expect(clippy::unnecessary_wraps, reason = "the fields are options")]
fn fact<T>(value: T) -> Option<Fact<T>> {
    Some(Fact { value, origin: Origin::Imds })
}

fn eni(device: &str, id: &str, index: u32, role: EniRole) -> Eni {
    Eni {
        ifindex: Some(index + 2),
        device: Some(device.to_owned()),
        mac: Some(format!("02:00:00:00:00:{index:02x}")),
        id: fact(id.to_owned()),
        device_index: fact(index),
        role: fact(role),
        addresses: fact((5..9).map(|last| std::net::IpAddr::from([10, 0, 0, last])).collect()),
        prefixes: fact(Vec::new()),
        pod_addresses: fact(PodAddresses { assigned: 3, total: Some(14), free: Some(11) }),
        ..Eni::default()
    }
}

const CALM: Allowances = Allowances {
    bw_in_allowance_exceeded: Some(0),
    bw_out_allowance_exceeded: Some(0),
    pps_allowance_exceeded: Some(0),
    conntrack_allowance_exceeded: Some(0),
    linklocal_allowance_exceeded: Some(0),
    conntrack_allowance_available: Some(136_812),
};

fn enis() -> Vec<Eni> {
    let primary = Eni { allowances: Some(CALM), ..eni("ens5", "eni-0aaaaaaaaaaaaaaaa", 0, EniRole::Primary) };
    let trunk = Eni {
        network_card: fact(1),
        prefixes: fact(vec!["10.0.7.16/28".to_owned(), "2001:db8:0:7::/80".to_owned()]),
        pod_addresses: fact(PodAddresses { assigned: 1, total: None, free: None }),
        allowances: Some(Allowances {
            bw_in_allowance_exceeded: Some(12),
            pps_allowance_exceeded: Some(3),
            linklocal_allowance_exceeded: None,
            conntrack_allowance_available: None,
            ..CALM
        }),
        ..eni("ens6", "eni-0bbbbbbbbbbbbbbbb", 1, EniRole::Trunk)
    };
    let branch = Eni {
        ifindex: Some(9),
        device: Some("vlan.eth.1".to_owned()),
        mac: Some("02:00:00:00:b0:01".to_owned()),
        role: fact(EniRole::Branch),
        trunk: Some("ens6".to_owned()),
        vlan: Some(1),
        ..Eni::default()
    };
    let in_a_pod = Eni { device: None, ..eni("", "eni-0cccccccccccccccc", 2, EniRole::Secondary) };
    vec![primary, trunk, branch, in_a_pod]
}

fn ipam() -> Ipam {
    let metric = |name: &str, helper: Option<&str>, value, in_window: Option<u64>| IpamMetric {
        name: name.to_owned(),
        helper_name: helper.map(str::to_owned),
        value,
        counter: in_window.is_some(),
        in_window,
    };
    Ipam {
        metrics: vec![
            metric("awscni_eni_allocated", Some("eniAllocated"), 3, None),
            metric("awscni_eni_max", Some("eniMaxAvailable"), 4, None),
            metric("awscni_ipamd_action_inprogress", Some("ipamdActionInProgress"), 0, None),
            metric("awscni_no_available_ip_addresses", None, 5, Some(2)),
            metric("awscni_ipamd_error_count", Some("ipamdErr"), 0, Some(0)),
            metric("awscni_pod_eni_error_count", Some("podENIErr"), 0, Some(0)),
        ],
    }
}

fn source(name: SourceName, state: SourceState, reason: &str) -> Source {
    Source { name, state, reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()) }
}

fn text(enis: &[Eni], ipam: Option<&Ipam>, instance: Option<&str>, sources: &[Source]) -> String {
    let lines = |block: Block| {
        let mut text = Vec::new();
        block.write(&mut text, &Screen::default()).unwrap();
        String::from_utf8(text).unwrap()
    };
    let blocks = blocks(enis, ipam, instance).into_iter().map(lines);
    blocks.chain(warnings(enis, ipam, sources)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_node() {
    let sources =
        [source(SourceName::Altnames, SourceState::Absent, "none"), source(SourceName::Imds, SourceState::Ok, "")];
    insta::assert_snapshot!(text(&enis(), Some(&ipam()), Some("i-0123456789abcdef0"), &sources));
}

/// What has no room in a line stands below it.
#[test]
fn a_node_on_80_columns() {
    let screen = Screen { width: Some(80), ..Screen::default() };
    let mut text = Vec::new();
    for block in blocks(&enis(), Some(&ipam()), None) {
        block.write(&mut text, &screen).unwrap();
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_wrong() {
    let mut over = eni("ens5", "", 0, EniRole::Primary);
    over.id = None;
    over.disagreement = Some("its altname says eni-1a2b3c4d, IMDS says eni-5e6f7a8b".to_owned());
    over.allowances = Some(Allowances {
        bw_in_allowance_exceeded: Some(1),
        bw_out_allowance_exceeded: Some(2),
        pps_allowance_exceeded: Some(3),
        conntrack_allowance_exceeded: Some(4),
        linklocal_allowance_exceeded: Some(5),
        conntrack_allowance_available: Some(0),
    });
    let sources = [
        source(SourceName::Imds, SourceState::TimedOut, "it did not answer within 1500 ms"),
        source(SourceName::IpamdEnis, SourceState::Refused, "it answers with status 500"),
        source(SourceName::IpamdMetrics, SourceState::Malformed, "its metrics are no text"),
    ];
    insta::assert_snapshot!(text(&[over], None, None, &sources));
}

#[test]
fn devices_alone_are_no_news() {
    let device = Eni {
        ifindex: Some(2),
        device: Some("eth0".to_owned()),
        mac: Some("02:00:00:00:00:02".to_owned()),
        ..Eni::default()
    };
    let sources = [source(SourceName::Imds, SourceState::Absent, "nothing is at its address")];
    assert_eq!(text(&[device], None, None, &sources), "");
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let bad = "\u{1b}[2J\u{202e}";
    let mut hostile = eni(bad, bad, 0, EniRole::Branch);
    (hostile.trunk, hostile.vlan, hostile.disagreement) = (Some(bad.to_owned()), Some(1), Some(bad.to_owned()));
    hostile.prefixes = fact(vec![bad.to_owned()]);
    hostile.allowances = Some(Allowances { pps_allowance_exceeded: Some(1), ..Allowances::default() });
    let ipam = Ipam {
        metrics: vec![IpamMetric {
            name: bad.to_owned(),
            helper_name: Some(bad.to_owned()),
            value: 1,
            counter: false,
            in_window: None,
        }],
    };
    let text = text(&[hostile], Some(&ipam), Some(bad), &[source(SourceName::Imds, SourceState::Refused, bad)]);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
}
