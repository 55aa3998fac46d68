//! Nodes that are wired otherwise: routes in a VRF, a bond of network cards, a bridge that takes tags off, and services that IPVS
//! forwards.

use std::net::{Ipv4Addr, SocketAddr};

use lab::traffic::mac;
use lab::{Lab, POD_NAMESPACE, introduce, ip_batch, wait_until};

use super::seen::{DATAGRAMS, FRAMES_BYTES, converse, fetch, measure};
use super::{chosen_way, each_way, lab};

fn listen(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

/// How the node reaches the router by another device: its address there for good, and a default route in `table`.
fn router_by(lab: &Lab, device: &str, table: &str) -> String {
    let router = mac(&lab.vpc, "node-eth0").unwrap().map(|byte| format!("{byte:02x}")).join(":");
    format!(
        "neigh replace 10.0.0.1 lladdr {router} dev {device} nud permanent\n\
         route replace default via 10.0.0.1 dev {device} {table} onlink\n"
    )
}

/// The pod's route is in the VRF's table only, and the pod has its name all the same.
#[test]
#[ignore = "needs the module vrf, which `cargo xtask kernels` has"]
fn an_eni_and_a_pod_in_a_vrf() {
    let lab = lab();
    let (node, client, outside) = (&lab.node.namespace, lab.pod("client"), &lab.outside);
    let (veth, address) = (&client.veth, client.ipv4);
    let pod = mac(&client.namespace, "eth0").unwrap().map(|byte| format!("{byte:02x}")).join(":");
    // A device that comes into a VRF forgets its neighbours and routes.
    let wiring = format!(
        "link add vrf1 type vrf table 10\nlink set vrf1 up\nlink set eth0 master vrf1\nlink set {veth} master vrf1\n\
         neigh replace {address} lladdr {pod} dev {veth} nud permanent\nroute replace {address} dev {veth} table 10\n"
    );
    ip_batch(node, &(wiring + &router_by(&lab, "eth0", "table 10"))).unwrap();
    let main = node.output("ip", &["route", "show", "table", "main"]).unwrap();
    assert!(!main.contains(&address.to_string()), "the VRF's alone: {main}");

    let files = lab.host_files().unwrap();
    let root = ["--host-root", files.path().to_str().unwrap()];
    let seen = measure(&lab, chosen_way(), &root, || {
        fetch(&client.namespace, &outside.namespace, listen(outside.ipv4, 80))?;
        fetch(&outside.namespace, &client.namespace, listen(address, 82))
    });
    let name = format!("{POD_NAMESPACE}/client");
    let name = Some(name.as_str());
    let [out, back] = seen.assert_way("tcp", 80, "eni", &[(veth, "rx"), ("eth0", "tx")]);
    assert_eq!((out.src_pod.as_deref(), back.dst_pod.as_deref()), (name, name));
    let [out, back] = seen.assert_way("tcp", 82, "eni", &[("eth0", "rx"), (veth, "tx")]);
    assert_eq!((out.dst_pod.as_deref(), back.src_pod.as_deref()), (name, name));
}

/// A packet passes the bond and then a card, which is where it crosses an ENI, once.
#[test]
#[ignore = "needs the module bonding, which `cargo xtask kernels` has"]
fn a_bond_of_network_cards() {
    let lab = lab();
    let (node, client, outside) = (&lab.node.namespace, lab.pod("client"), &lab.outside);
    let wiring = format!(
        "addr flush dev eth0\nlink set eth0 down\nlink add bond0 type bond mode active-backup miimon 10 num_grat_arp 0\n\
         link set eth0 master bond0\nlink set bond0 up\naddr add {}/24 dev bond0\n",
        lab.node.ipv4
    );
    node.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    ip_batch(node, &wiring).unwrap();
    wait_until("the bond has a link", || node.output("ip", &["link", "show", "bond0"]).unwrap().contains("LOWER_UP"));
    ip_batch(node, &router_by(&lab, "bond0", "")).unwrap();

    let seen = measure(&lab, chosen_way(), &[], || {
        fetch(&client.namespace, &outside.namespace, listen(outside.ipv4, 80))?;
        fetch(node, &outside.namespace, listen(outside.ipv4, 81))?;
        fetch(&outside.namespace, node, listen(lab.node.ipv4, 82))
    });
    seen.assert_way("tcp", 80, "eni", &[(&client.veth, "rx"), ("eth0", "tx")]);
    seen.assert_way("tcp", 81, "eni", &[("eth0", "tx")]);
    seen.assert_way("tcp", 82, "eni", &[("eth0", "rx")]);
}

/// A pod's second device is at a bridge's port without tags; the ENI, at another, has them.
#[test]
#[ignore = "needs the module 8021q, which `cargo xtask kernels` has"]
fn a_bridge_that_takes_tags_off() {
    let lab = lab();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    for namespace in [node, &client.namespace, &lab.vpc] {
        namespace.write_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")]).unwrap();
    }
    ip_batch(
        node,
        &format!(
            "addr flush dev eth0\nlink add br0 type bridge vlan_filtering 1 vlan_default_pvid 0 mcast_snooping 0\n\
             link add vethb type veth peer name net1 netns {}\nlink set eth0 master br0\nlink set vethb master br0\n\
             link set br0 up\nlink set vethb up\n",
            client.namespace.name()
        ),
    )
    .unwrap();
    for port in ["eth0 vid 100", "vethb vid 100 pvid untagged"] {
        let arguments = format!("vlan add dev {port}");
        node.output("bridge", &arguments.split(' ').collect::<Vec<_>>()).unwrap();
    }
    ip_batch(&client.namespace, "link set net1 up\naddr add 10.44.0.2/24 dev net1\n").unwrap();
    ip_batch(
        &lab.vpc,
        "link add link node-eth0 name tagged type vlan id 100\nlink set tagged up\naddr add 10.44.0.1/24 dev tagged\n",
    )
    .unwrap();
    introduce((&client.namespace, "net1", "10.44.0.2"), (&lab.vpc, "tagged", "10.44.0.1")).unwrap();
    let address = listen([10, 44, 0, 1].into(), 80);
    // The bridge learns where they are.
    converse(&client.namespace, &lab.vpc, address).unwrap();

    each_way(|way| {
        let seen = measure(&lab, way, &[], || converse(&client.namespace, &lab.vpc, address));
        let flows = seen.assert_way("udp", 80, "eni", &[("vethb", "rx"), ("eth0", "tx")]);
        assert_eq!(seen.flows().len(), 2);
        for flow in flows {
            assert_eq!(
                (flow.on("eth0").vlans.as_slice(), flow.on("vethb").vlans.as_slice()),
                (&[100][..], &[][..]),
                "{flow}"
            );
            assert_eq!(flow.packets, DATAGRAMS as u64, "{flow}");
        }
    });
}

/// IPVS keeps connections of its own, and tells conntrack of them only if it shall.
#[test]
#[ignore = "needs the module ip_vs, which `cargo xtask kernels` has"]
fn services_that_ipvs_forwards() {
    let lab = lab();
    let (node, client, server) = (&lab.node.namespace, lab.pod("client"), lab.pod("server"));
    lab.nft("table ip track { chain forward { type filter hook forward priority filter; ct state new accept; }; }")
        .unwrap();
    let (service, backend) = (listen([172, 20, 0, 10].into(), 80), listen(server.ipv4, 8080));
    ip_batch(node, "link add kube-ipvs0 type dummy\naddr add 172.20.0.10/32 dev kube-ipvs0\n").unwrap();
    for arguments in [format!("-A -u {service} -s rr"), format!("-a -u {service} -r {backend} -m")] {
        node.output("ipvsadm", &arguments.split(' ').collect::<Vec<_>>()).unwrap();
    }
    let ask = || {
        let echo = lab::traffic::UdpEcho::start(&server.namespace, backend)?;
        let asked = lab::traffic::ask(&client.namespace, 0, service, [100, DATAGRAMS], |_| Ok(()))?;
        assert_eq!((asked.answers as usize, echo.stop()?), (DATAGRAMS, DATAGRAMS as u64), "IPVS forwards");
        Ok(())
    };
    for (conntrack, known) in [("0", false), ("1", true)] {
        node.write_sysctls(&[("net/ipv4/vs/conntrack", conntrack)]).unwrap();
        // What IPVS remembers goes with its services' clients: each has another port.
        let seen = measure(&lab, chosen_way(), &[], ask);
        let tracked = lab::connections(node).unwrap();
        let translated =
            |entry: &&lab::Connection| entry.original.dst == service.ip() && entry.reply.src == backend.ip();
        assert_eq!(tracked.iter().any(|entry| translated(&entry)), known, "{tracked:?}");
        node.output("conntrack", &["-F"]).unwrap();
        if known {
            let out = seen.report.flow(|flow| flow.dst == service.ip());
            let back = seen.report.flow(|flow| flow.src == backend.ip());
            for flow in [out, back] {
                assert_eq!((flow.path.as_str(), flow.bytes), ("local", FRAMES_BYTES), "{flow}");
            }
            assert_eq!(seen.flows().len(), 2);
            continue;
        }
        assert_eq!(seen.flows().len(), 4, "two sides each way, and nothing that joins them");
        for flow in seen.flows() {
            let judged = (flow.path.as_str(), flow.reason.as_deref(), flow.bytes);
            assert_eq!(judged, ("unresolved", Some("virtual_server"), FRAMES_BYTES), "{flow}");
            assert!(flow.reason_detail.as_deref().unwrap().contains("172.20.0.10 port 80"), "{flow}");
        }
    }
}
