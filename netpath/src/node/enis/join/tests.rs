//! What is known of an ENI from each source alone and from all of them, and what is not decided.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::model::PodAddresses;

const A: &str = "eni-0aaaaaaaaaaaaaaaa";
const B: &str = "eni-0bbbbbbbbbbbbbbbb";

fn link(ifindex: u32, name: &str, altnames: &[&str]) -> Link {
    Link {
        altnames: altnames.iter().map(|name| (*name).to_owned()).collect(),
        mac: Some(mac(ifindex)),
        ..Link::new(ifindex, name, DeviceClass::Eni)
    }
}

fn mac(number: u32) -> String {
    format!("02:00:00:00:00:{number:02x}")
}

fn vlan(ifindex: u32, name: &str, lower: u32, id: u16) -> Link {
    Link { class: DeviceClass::Vlan, lower: Some(lower), vlan_id: Some(id), ..link(ifindex, name, &[]) }
}

fn interface(number: u32, id: &str, device_number: u32) -> imds::Interface {
    let mac = mac(number);
    imds::Interface::new(&mac, id, device_number, &["10.0.0.5".parse().unwrap()])
}

fn facts(interfaces: Vec<imds::Interface>) -> imds::Facts {
    imds::Facts { primary: Some(mac(2)), interfaces, ..imds::Facts::default() }
}

fn managed(id: &str, device_number: u32, is_trunk: bool) -> ipamd::Eni {
    ipamd::Eni {
        id: id.to_owned(),
        device_number,
        network_card: Some(0),
        is_primary: device_number == 0,
        is_trunk,
        prefixes: vec!["10.0.1.16/28".to_owned()],
        pod_addresses: PodAddresses { assigned: 1, total: Some(16), free: Some(15) },
    }
}

fn joined(links: &[Link], imds: Option<&imds::Facts>, ipamd: &[ipamd::Eni]) -> Vec<Eni> {
    let candidates: Vec<_> = links.iter().map(|link| Candidate { link, allowances: None }).collect();
    join(&candidates, imds, ipamd)
}

fn id(eni: &Eni) -> Option<(&str, Origin)> {
    eni.id.as_ref().map(|id| (id.value.as_str(), id.origin))
}

fn role(eni: &Eni) -> Option<EniRole> {
    eni.role.as_ref().map(|role| role.value)
}

#[test]
fn without_any_source_a_device_is_all_there_is() {
    let enis = joined(&[link(2, "eth0", &["enp0s5"])], None, &[]);
    let device = Eni { ifindex: Some(2), device: Some("eth0".to_owned()), mac: Some(mac(2)), ..Eni::default() };
    assert_eq!(enis, [device]);
}

#[test]
fn by_altnames_alone() {
    let enis = joined(&[link(2, "ens5", &["enp0s5", A, "device-number-1.2"])], None, &[]);
    assert_eq!(id(&enis[0]), Some((A, Origin::Altname)));
    assert_eq!(enis[0].device_index, Some(fact(1, Origin::Altname)));
    assert_eq!(enis[0].network_card, Some(fact(2, Origin::Altname)));
    assert_eq!(enis[0].role, Some(fact(EniRole::Secondary, Origin::Altname)));
    let of = |altname| role(&joined(&[link(2, "ens5", &[altname])], None, &[])[0]);
    assert_eq!((of("device-number-0"), of("device-number-0.0")), (Some(EniRole::Primary), Some(EniRole::Primary)));
    assert_eq!((of("device-number-0.1"), of("enp0s5")), (Some(EniRole::Secondary), None));
    let pod = Link { class: DeviceClass::Veth, ..link(3, "veth0", &[A]) };
    assert!(joined(&[pod], None, &[]).is_empty(), "a veth is none, whatever it is called");
    assert_eq!(id(&joined(&[link(2, "ens5", &[A, B])], None, &[])[0]), None, "which of them?");
}

#[test]
fn by_imds_alone() {
    let facts = facts(vec![interface(3, B, 1), interface(2, A, 0), interface(9, "eni-0999999999", 2)]);
    let enis = joined(&[link(2, "eth0", &[]), link(3, "eth1", &[])], Some(&facts), &[]);
    assert_eq!(id(&enis[0]), Some((A, Origin::Imds)));
    assert_eq!((role(&enis[0]), role(&enis[1])), (Some(EniRole::Primary), Some(EniRole::Secondary)));
    assert_eq!(enis[1].device_index, Some(fact(1, Origin::Imds)));
    assert_eq!(enis[1].addresses, Some(fact(vec!["10.0.0.5".parse().unwrap()], Origin::Imds)));
    assert_eq!((enis[2].ifindex, id(&enis[2])), (None, Some(("eni-0999999999", Origin::Imds))), "in a pod, perhaps");
}

/// Seen on EC2 for a while after an ENI is attached.
#[test]
fn only_the_primary_has_number_0() {
    let enis = joined(&[link(3, "eth1", &[])], Some(&facts(vec![interface(3, B, 0)])), &[]);
    assert_eq!(enis[0].device_index, None);
}

#[test]
fn ipamd_adds_to_who_has_an_id() {
    let facts = facts(vec![interface(2, A, 0), interface(3, B, 1)]);
    let links = [link(2, "eth0", &[]), link(3, "eth1", &[])];
    let enis = joined(&links, Some(&facts), &[managed(B, 1, true), managed("eni-0cccccccc", 2, false)]);
    assert_eq!((role(&enis[0]), role(&enis[1])), (Some(EniRole::Primary), Some(EniRole::Trunk)));
    assert_eq!(enis[0].pod_addresses, None, "ipamd does not manage it");
    assert_eq!(enis[1].pod_addresses.as_ref().unwrap().value.free, Some(15));
    assert_eq!(enis[1].prefixes, Some(fact(Vec::new(), Origin::Imds)));
    assert_eq!((enis[2].ifindex, id(&enis[2])), (None, Some(("eni-0cccccccc", Origin::Ipamd))));
    assert_eq!(enis[2].prefixes, Some(fact(vec!["10.0.1.16/28".to_owned()], Origin::Ipamd)));
    assert_eq!(enis.len(), 3);
}

#[test]
fn sources_that_contradict_each_other_name_nobody() {
    let facts = facts(vec![interface(2, B, 0)]);
    let enis = joined(&[link(2, "eth0", &[A])], Some(&facts), &[managed(A, 0, false)]);
    assert_eq!(enis[0].id, None);
    assert_eq!(enis[0].disagreement.as_deref(), Some(format!("its altname says {A}, IMDS says {B}").as_str()));
    assert_eq!(enis[0].pod_addresses, None);
}

#[test]
fn two_with_one_hardware_address_are_not_told_apart() {
    let twin = Link { mac: Some(mac(2)), ..link(3, "bond0", &[]) };
    let enis = joined(&[link(2, "eth0", &[]), twin], Some(&facts(vec![interface(2, A, 0)])), &[]);
    assert_eq!((id(&enis[0]), id(&enis[1])), (None, None));
}

#[test]
fn branches_and_their_trunk() {
    let links = [
        link(5, "eth1", &[]),
        vlan(7, "vlan.eth.1", 5, 1),
        vlan(8, "vlan.eth.9", 5, 2),
        vlan(9, "storage.3", 5, 3),
        vlan(10, "vlan.eth.4", 6, 4),
    ];
    let enis = joined(&links, None, &[]);
    assert_eq!(enis.len(), 2, "a VLAN of somebody else is no branch ENI");
    assert_eq!((role(&enis[0]), role(&enis[1])), (Some(EniRole::Trunk), Some(EniRole::Branch)));
    assert_eq!((enis[1].trunk.as_deref(), enis[1].vlan, id(&enis[1])), (Some("eth1"), Some(1), None));
}
