//! Through a tunnel: it leaves the node within the tunnel's own packets, which are what crosses the ENI.

use lab::Lab;
use lab::report::{Flow, Hop};

use super::expected::Expected;
use super::watch::{VXLAN, at, tcp, track};

#[test]
fn vxlan() {
    for port in [4789, 8472] {
        let lab = Lab::builder().pod("client").start().unwrap();
        track(&lab);
        let client = lab.pod("client");
        let far = lab.overlay(port).unwrap();
        let listen = at(far, 8080);
        let (window, ends) = tcp(&lab, &client.namespace, listen, &lab.remote.namespace, listen);
        let outer = |flow: &Flow| flow.proto == "udp" && flow.dport == Some(port);
        Expected::of(&window)
            .apart_from(&outer)
            .conversation(&ends, "eni", &[(&client.veth, "rx"), ("overlay", "tx")], "")
            .assert();
        // What crossed the ENI is the tunnel's packets; their load is apart.
        let totals = &window.report.totals;
        let load: Vec<_> = window.flows().iter().filter(|flow| !outer(flow)).collect();
        let bytes = load.iter().map(|flow| flow.bytes).sum::<u64>();
        assert_eq!((totals.in_tunnels.bytes, totals.in_tunnels.flows), (bytes, 2));

        let eth0 = window.devices["eth0"];
        assert_eq!(window.report.path("eni").bytes, eth0.rx_bytes + eth0.tx_bytes);

        let overlay = window.devices[VXLAN];
        for (direction, inner) in
            [("tx", (overlay.tx_bytes, overlay.tx_packets)), ("rx", (overlay.rx_bytes, overlay.rx_packets))]
        {
            let flows: Vec<_> = window.flows().iter().filter(|flow| outer(flow)).collect();
            let hops = flows.iter().flat_map(|flow| &flow.hops);
            let hops: Vec<_> = hops.filter(|hop| hop.direction == direction).collect();
            assert!(hops.iter().all(|hop| hop.device == "eth0"), "{hops:?}");
            let sum = |count: fn(&Hop) -> u64| hops.iter().map(|hop| count(hop)).sum::<u64>();
            // IPv4 20, UDP 8, VXLAN 8, two Ethernet headers of 14, neither of which is in the device's own figure.
            assert_eq!(
                (sum(|hop| hop.packets), sum(|hop| hop.bytes)),
                (inner.1, inner.0 + 64 * inner.1),
                "{direction}"
            );
        }
    }
}
