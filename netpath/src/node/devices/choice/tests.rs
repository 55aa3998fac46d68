//! Tests of `--eni`, and of IMDS's hardware addresses as evidence.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::node::devices::message::LinkInfo;

#[test]
fn without_globs_evidence_stands() {
    let choice = EniChoice::new(&[]).unwrap();
    let eni = (DeviceClass::Eni, Some(EniEvidence::Driver));
    assert_eq!(choice.decide("ens5", eni.0, eni.1), eni);
    assert_eq!(choice.decide("eth0", DeviceClass::Veth, None), (DeviceClass::Veth, None));
    choice.check(&[]).unwrap();
}

#[test]
fn with_globs_exactly_the_matches_are_enis() {
    let choice = EniChoice::new(&["eth*".to_owned(), "wan[01]".to_owned()]).unwrap();
    let named = (DeviceClass::Eni, Some(EniEvidence::Named));
    assert_eq!(choice.decide("eth0", DeviceClass::Veth, None), named);
    assert_eq!(choice.decide("wan1", DeviceClass::Other, None), named);
    assert_eq!(choice.decide("ens5", DeviceClass::Eni, Some(EniEvidence::Driver)), (DeviceClass::Other, None));
    assert_eq!(choice.decide("wan2", DeviceClass::Vlan, None), (DeviceClass::Vlan, None));
}

#[test]
fn a_glob_that_matches_nothing_is_an_error() {
    let links = [
        Link::new(1, "lo", DeviceClass::Loopback),
        Link::new(2, "veth0", DeviceClass::Veth),
        Link::new(3, "e\u{1b}[1mvil", DeviceClass::Other),
    ];
    let choice = EniChoice::new(&["lo".to_owned(), "ens*".to_owned()]).unwrap();
    assert_eq!(
        choice.check(&links).unwrap_err().to_string(),
        "--eni 'ens*' matches no device; the devices are: lo, e\\u{1b}[1mvil, veth0; \
         name one of them, or leave --eni out"
    );
}

#[test]
fn the_error_stays_readable_on_a_full_node() {
    let mut links: Vec<_> = (2..252).map(|i| Link::new(i, &format!("eni{i}"), DeviceClass::Veth)).collect();
    links.push(Link::new(300, "ens5", DeviceClass::Eni));
    let text = EniChoice::new(&["x".to_owned()]).unwrap().check(&links).unwrap_err().to_string();
    assert!(text.contains("devices are: ens5, eni2, ") && text.contains(", and 231 more;"), "{text}");
}

#[test]
fn a_bad_glob_is_named() {
    let error = EniChoice::new(&["eth[".to_owned()]).unwrap_err();
    assert!(
        format!("{error:#}").starts_with("--eni 'eth[' is not a glob; write it like 'eth*' or 'ens5': "),
        "{error:#}"
    );
}

/// A veth as a CNI plugin leaves it on the node.
fn pods_veth(ifindex: u32, name: &str, routed: &[&str]) -> Link {
    Link {
        kind: Some("veth".to_owned()),
        routed: routed.iter().map(|address| address.parse().unwrap()).collect(),
        ..Link::new(ifindex, name, DeviceClass::Veth)
    }
}

fn with_address(link: Link, address: &str) -> Link {
    Link { addresses: vec![address.to_owned()], ..link }
}

/// What is said against these globs on a node with these devices, all of whose veths lead elsewhere.
fn against(globs: &[&str], links: &[Link], uplinks: Uplinks) -> Option<String> {
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    let elsewhere = links.iter().filter(|link| link.kind.is_some()).map(|link| link.ifindex).collect();
    let mut choice = EniChoice::new(&globs).unwrap();
    choice.check_veths(links, &Surroundings { uplinks, elsewhere }).err().map(|error| error.to_string())
}

#[test]
fn veths_of_pods_are_not_enis() {
    let main = |ifindexes: &[u32]| Uplinks { main: ifindexes.to_vec(), ..Uplinks::default() };
    let hardware = Link::new(2, "ens5", DeviceClass::Other);
    let uplink = with_address(pods_veth(3, "eth0", &[]), "10.0.0.5/24");
    let routed = pods_veth(4, "eni1a2b3c4d5e6", &["10.0.0.21"]);
    let bridged = pods_veth(5, "eni2b3c4d5e6f7", &[]);
    let point_to_point = with_address(pods_veth(6, "vethf00", &["10.99.0.11"]), "10.99.0.1/32");
    let link_local = with_address(pods_veth(7, "cali1234", &[]), "fe80::1/64");
    let links = [hardware, uplink, routed, bridged, point_to_point, link_local];
    assert_eq!(
        against(&["eni*"], &links, main(&[3])).unwrap(),
        "--eni 'eni*' matches eni1a2b3c4d5e6 and 1 more like it, which is not an ENI but the host's end of a pod's veth pair \
         (10.0.0.21 is routed to it); the default route leaves by eth0: if that is the ENI, write --eni eth0, or leave --eni out"
    );
    for glob in ["e*", "*", "eni1a2b3c4d5e6", "eni2b*", "vethf00", "cali*"] {
        assert!(against(&["ens5", glob], &links, main(&[2])).is_some(), "{glob}");
    }
    // There is hardware, if no route.
    assert!(against(&["eni*"], &links, main(&[])).unwrap().contains("; name the ENIs alone, or leave --eni out"));
    for glob in ["eth0", "ens5", "et*", "ens*"] {
        for uplinks in [main(&[3]), main(&[2]), main(&[])] {
            assert_eq!(against(&[glob], &links, uplinks), None, "{glob}");
        }
    }
    let mut links = links;
    for (name, option) in [("v;id", "write --eni 'v;id', or"), ("v\u{1b}", "name the ENIs alone, or")] {
        name.clone_into(&mut links[1].name);
        assert!(against(&["eni*"], &links, main(&[3])).unwrap().contains(option), "{option}");
    }
}

/// Where the veth is all there is, or what the default route stands on, the user knows best.
#[test]
fn veths_that_may_be_uplinks() {
    let routed = pods_veth(4, "eth1", &["10.0.1.31"]);
    assert_eq!(against(&["eth1"], std::slice::from_ref(&routed), Uplinks::default()), None, "the only candidate");
    let uplinks = Uplinks { main: vec![4], ..Uplinks::default() };
    assert_eq!(against(&["eth1"], &[routed], uplinks), None, "the default route");
    let bridge = Link { kind: Some("bridge".to_owned()), ..Link::new(2, "br0", DeviceClass::Bridge) };
    let links = [bridge, pods_veth(5, "eth0", &[])];
    let uplinks = Uplinks { main: vec![2], masters: BTreeMap::from([(5, 2)]), ..Uplinks::default() };
    assert_eq!(against(&["eth0"], &links, uplinks), None, "a port of the bridge with the default route");
    let policy = Uplinks { main: vec![2], other: vec![5], ..Uplinks::default() };
    assert_eq!(against(&["eth0"], &links, policy), None, "the default route of another table");
}

fn raw(ifindex: u32, elsewhere: Option<i32>) -> RawLink {
    RawLink {
        ifindex,
        name: b"eth7".to_vec(),
        altnames: Vec::new(),
        hardware_type: libc::ARPHRD_ETHER,
        flags: 0,
        info: LinkInfo { kind: Some("veth".to_owned()), ..LinkInfo::default() },
        master: None,
        mac: Some([2, 0, 0, 0, 0, 1]),
        lower: None,
        elsewhere,
        xdp: None,
        parent: None,
        counters: crate::model::KernelCounters::default(),
        moved: false,
    }
}

/// A pod that starts later may have a veth whose name matches.
#[test]
fn veths_that_come_later() {
    let mut choice = EniChoice::new(&["eth*".to_owned()]).unwrap();
    let class = |choice: &EniChoice, raw: &RawLink| choice.decide_link(raw, "eth7", DeviceClass::Veth, None).0;
    assert_eq!(class(&choice, &raw(7, Some(0))), DeviceClass::Eni, "not checked yet");
    choice.check_veths(&[with_address(pods_veth(7, "eth7", &[]), "10.0.0.5/24")], &Surroundings::default()).unwrap();
    assert_eq!(class(&choice, &raw(7, Some(0))), DeviceClass::Eni);
    assert_eq!(class(&choice, &raw(8, Some(0))), DeviceClass::Veth);
    assert_eq!(class(&choice, &raw(8, None)), DeviceClass::Eni, "both ends are here");
    choice.forget(7);
    assert_eq!(class(&choice, &raw(7, Some(0))), DeviceClass::Veth, "another with its index");
}

const MAC: &str = "02:00:00:00:00:01";

fn carrier(ifindex: u32, kind: Option<&str>) -> Link {
    let class = if kind == Some("veth") { DeviceClass::Veth } else { DeviceClass::Other };
    Link { kind: kind.map(str::to_owned), mac: Some(MAC.to_owned()), ..Link::new(ifindex, "x", class) }
}

/// The indices of the devices that are the ENI with [`MAC`].
fn enis(links: &[Link], uplinks: &Uplinks) -> Vec<u32> {
    by_mac(MAC, links, uplinks).into_iter().map(|(ifindex, _)| ifindex).collect()
}

#[test]
fn imds_names_the_lowest_device_with_the_address() {
    let alone = Uplinks::default();
    let way = |ifindex| Uplinks { main: vec![ifindex], ..Uplinks::default() };
    let below = |link: Link, lower| Link { lower: Some(lower), ..link };
    let (hardware, bond, veth) = (carrier(2, None), carrier(3, Some("bond")), carrier(5, Some("veth")));
    assert_eq!(enis(std::slice::from_ref(&hardware), &alone), [2]);
    assert_eq!(enis(std::slice::from_ref(&veth), &alone), [5], "nothing better");
    assert_eq!(enis(&[veth.clone(), hardware.clone()], &way(5)), [2], "a veth that was given the address");
    assert_eq!(enis(&[veth.clone(), carrier(6, Some("bridge"))], &alone), [6]);
    // The bond's port, also if that is a veth.
    let port = Uplinks { masters: BTreeMap::from([(5, 3)]), ..Uplinks::default() };
    assert_eq!(
        (enis(&[bond.clone(), veth.clone()], &port), enis(std::slice::from_ref(&bond), &port)),
        (vec![5], vec![3])
    );
    for upper in ["vlan", "macvlan", "ipvlan"] {
        assert_eq!(enis(&[below(carrier(7, Some(upper)), 3), bond.clone()], &alone), [3], "{upper}");
    }
    // Two veths: the one with the default route, or none.
    let two = [veth.clone(), carrier(8, Some("veth"))];
    assert_eq!((enis(&two, &alone), enis(&two, &way(8))), (vec![], vec![8]));
    // Veths of pods, dummies and tunnels are none; nor is anything if a device is the ENI by its own evidence.
    let pods = Link { routed: vec!["10.0.0.21".parse().unwrap()], ..veth.clone() };
    assert_eq!(enis(&[pods, carrier(9, Some("dummy")), carrier(10, Some("vxlan"))], &alone), [0; 0]);
    let eni = Link { class: DeviceClass::Eni, ..carrier(11, None) };
    assert_eq!(enis(&[eni, hardware, veth], &alone), [0; 0]);
}

#[test]
fn what_imds_names_stays_an_eni() {
    let mut choice = EniChoice::new(&[]).unwrap();
    let evidence = |choice: &EniChoice, raw: &RawLink| choice.decide_link(raw, "eth7", DeviceClass::Veth, None).1;
    assert_eq!(evidence(&choice, &raw(7, None)), None);
    let learned = choice.learn(&[MAC.to_owned()], &[carrier(7, Some("veth"))], &Uplinks::default());
    assert_eq!(learned, BTreeSet::from([7]));
    assert_eq!(evidence(&choice, &raw(7, None)), Some(EniEvidence::Imds));
    assert_eq!(evidence(&choice, &RawLink { mac: None, ..raw(7, None) }), None, "another address");
    assert_eq!(evidence(&choice, &raw(8, None)), None, "another device");
}
