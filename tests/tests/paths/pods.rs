//! Between pods of one node.

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Eni, Lab, Report, ip, ip_batch, netpath_hooks, read, wait_until};

use super::expected::Expected;
use super::watch::{at, echoes, tcp, track, udp, watch};

/// Conntrack is in the kernel, but no rule needs it: nothing is tracked, and equal tuples join.
#[test]
fn without_any_rule_nothing_is_tracked_and_flows_join() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for family in 0..2 {
        let listen = at(server.addresses()[family], 8080);
        let (window, ends) = tcp(&lab, &client.namespace, listen, &server.namespace, listen);
        assert!(window.tracked.is_empty());
        let way = [(client.veth.as_str(), "rx"), (&server.veth, "tx")];
        Expected::of(&window).conversation(&ends, "local", &way, "").assert();
    }
}

#[test]
fn tracked_without_translation() {
    // The second ENI's pods talk to the first one's without leaving the node.
    for eni in [Eni::Primary, Eni::Secondary] {
        let lab = Lab::builder().pod("client").pod_on("server", eni).start().unwrap();
        track(&lab);
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        let way = [(client.veth.as_str(), "rx"), (&server.veth, "tx")];
        for family in 0..2 {
            let listen = at(server.addresses()[family], 8080);
            let (window, ends) = tcp(&lab, &client.namespace, listen, &server.namespace, listen);
            Expected::of(&window).conversation(&ends, "local", &way, "").assert();
            let (window, ends) = udp(&lab, &client.namespace, listen, &server.namespace, listen);
            Expected::of(&window).one_way(&ends, "local", &way, "").assert();
            let (window, ends) = echoes(&lab, &client.namespace, listen.ip(), 300);
            Expected::of(&window).conversation(&ends, "local", &way, "").assert();
        }
    }
}

/// Its device and route are gone when the window ends; what it moved before is a pod's all the same.
#[test]
fn of_a_pod_that_goes_in_the_window() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    lab.wait_until_quiet().unwrap();
    let window = lab.open_window(&[]).unwrap();
    let from = send_datagrams(&client.namespace, sink.address(), 100, 40).unwrap();
    lab.wait_until_quiet().unwrap();
    ip_batch(&lab.node.namespace, &format!("link delete {}\n", client.veth)).unwrap();
    wait_until("netpath has left it", || netpath_hooks(&lab.node.namespace).unwrap() == 4);
    let (json, ..) = window.finish().unwrap();
    let report: Report = read(&json).unwrap();
    let flow = report.flow_from(from);
    assert_eq!((flow.path.as_str(), flow.packets), ("local", 40), "{flow}");
    let kinds = [&flow.src_peer_kind, &flow.dst_peer_kind].map(|kind| kind.as_deref());
    assert_eq!(kinds, [Some("pod_here"); 2], "{flow}");
}

/// A network policy drops it: it entered the node and went nowhere.
#[test]
fn a_policys_drop_is_undelivered() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    track(&lab);
    lab.deny("client").unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for address in [server.addresses(), lab.outside.addresses()].concat() {
        let mut local = None;
        let window = watch(&lab, || {
            local = Some(send_datagrams(&client.namespace, at(address, 9), 100, 5)?);
            Ok(())
        });
        // What is dropped before it is confirmed is in no table.
        assert!(window.tracked.is_empty());
        let to = at(address, 9);
        let local = local.unwrap();
        let ends = super::watch::Ends { proto: "udp", client: local, dialled: to, server: to, peer: local };
        Expected::of(&window).one_way(&ends, "undelivered", &[(&client.veth, "rx")], "").assert();
    }
}

/// As with security group pods in strict mode: what one pod of the node sends to another goes by the ENI and the VPC.
#[test]
fn by_way_of_the_vpc_is_flagged() {
    for tracked in [false, true] {
        let lab = Lab::builder().pod("client").pod("server").start().unwrap();
        if tracked {
            track(&lab);
        }
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        for (family, router) in [("-4", "10.0.0.1"), ("-6", "2001:db8:a:1::1")] {
            ip(&lab.node.namespace, &format!("{family} route add default via {router} dev eth0 table 100")).unwrap();
            for pod in [client, server] {
                ip(&lab.node.namespace, &format!("{family} rule add pref 100 iif {} lookup 100", pod.veth)).unwrap();
            }
        }
        for family in 0..2 {
            let listen = at(server.addresses()[family], 8080);
            let (window, ends) = tcp(&lab, &client.namespace, listen, &server.namespace, listen);
            assert_eq!(window.tracked.is_empty(), !tracked);
            let way = [(client.veth.as_str(), "rx"), ("eth0", "tx"), ("eth0", "rx"), (&server.veth, "tx")];
            Expected::of(&window).conversation(&ends, "eni", &way, "left-node").assert();
        }
    }
}
