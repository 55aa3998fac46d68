//! Tests of the classes and of `--eni`.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::model::KernelCounters;
use crate::node::devices::message::LinkInfo;

fn raw(name: &str, kind: Option<&str>, hardware_type: u16) -> RawLink {
    RawLink {
        ifindex: 7,
        name: name.as_bytes().to_vec(),
        altnames: Vec::new(),
        hardware_type,
        flags: 0,
        info: LinkInfo { kind: kind.map(str::to_owned), ..LinkInfo::default() },
        master: None,
        mac: None,
        lower: None,
        elsewhere: None,
        xdp: None,
        parent: None,
        counters: KernelCounters::default(),
        moved: false,
    }
}

fn driver(driver: &str, bus: Option<&str>) -> DriverInfo {
    DriverInfo { driver: Some(driver.to_owned()), bus: bus.map(str::to_owned) }
}

fn class_of_kind(kind: &str, hardware_type: u16) -> DeviceClass {
    classify(&raw("x", Some(kind), hardware_type), &DriverInfo::default()).0
}

#[test]
fn a_kind_decides() {
    let ether = libc::ARPHRD_ETHER;
    assert_eq!(class_of_kind("veth", ether), DeviceClass::Veth);
    assert_eq!(class_of_kind("netkit", ether), DeviceClass::Veth);
    assert_eq!(class_of_kind("vlan", ether), DeviceClass::Vlan);
    assert_eq!(class_of_kind("bridge", ether), DeviceClass::Bridge);
    for kind in ["vxlan", "geneve", "gretap", "ip6gretap"] {
        assert_eq!(class_of_kind(kind, ether), DeviceClass::Tunnel, "{kind}");
    }
    for kind in ["gre", "ip6gre", "ipip", "sit", "ip6tnl", "wireguard", "tun", "xfrm", "vti"] {
        assert_eq!(class_of_kind(kind, libc::ARPHRD_NONE), DeviceClass::Tunnel, "{kind}");
    }
    for kind in ["dummy", "ifb", "bond", "macvlan", "ipvlan", "vrf", "a-kind-of-tomorrow"] {
        assert_eq!(class_of_kind(kind, ether), DeviceClass::Other, "{kind}");
    }
}

#[test]
fn names_decide_nothing() {
    // The trap on EKS nodes: this is a pod's veth, not an ENI.
    let veth = raw("eni1a2b3c4d5e6", Some("veth"), libc::ARPHRD_ETHER);
    assert_eq!(classify(&veth, &DriverInfo::default()), (DeviceClass::Veth, None));
    let eth = raw("eth0", None, libc::ARPHRD_ETHER);
    assert_eq!(classify(&eth, &DriverInfo::default()), (DeviceClass::Other, None));
}

#[test]
fn enis() {
    for name in ["ena", "ixgbevf", "vif"] {
        let link = raw("x", None, libc::ARPHRD_ETHER);
        assert_eq!(classify(&link, &driver(name, None)), (DeviceClass::Eni, Some(EniEvidence::Driver)));
    }
    let hardware = (DeviceClass::Eni, Some(EniEvidence::Hardware));
    let mut link = raw("x", None, libc::ARPHRD_ETHER);
    assert_eq!(classify(&link, &driver("virtio_net", Some("0000:00:03.0"))), hardware);
    link.parent = Some("virtio2".to_owned());
    assert_eq!(classify(&link, &DriverInfo::default()), hardware);
    // InfiniBand is hardware, too, but not a device of EC2's network.
    link.hardware_type = 32;
    assert_eq!(classify(&link, &DriverInfo::default()), (DeviceClass::Other, None));
    // A kind wins over a parent: a macvlan or a VLAN may have one.
    link.info.kind = Some("vlan".to_owned());
    assert_eq!(classify(&link, &DriverInfo::default()), (DeviceClass::Vlan, None));
}

#[test]
fn loopback_by_flag() {
    let mut link = raw("anything", None, libc::ARPHRD_LOOPBACK);
    link.flags = 0x49;
    assert_eq!(classify(&link, &DriverInfo::default()), (DeviceClass::Loopback, None));
}

#[test]
fn layers() {
    assert_eq!(layer(1), Layer::Ethernet);
    assert_eq!(layer(772), Layer::Ethernet);
    for ip in [0xfffe, 768, 769, 776, 778, 823, 519] {
        assert_eq!(layer(ip), Layer::Ip, "{ip}");
    }
    for unknown in [32, 512, 280, 801, 824] {
        assert_eq!(layer(unknown), Layer::Unknown, "{unknown}");
    }
}
