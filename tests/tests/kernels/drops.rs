//! Packets that the kernel drops, in the report: the reason where the kernel gives one, the place, and as many as were sent.

use std::net::SocketAddr;

use lab::traffic::send_datagrams;

use super::{each_way, has_drop_reasons, lab};

#[test]
fn dropped_flows_are_proven() {
    each_way(|way| {
        let lab = lab();
        let (client, server) = (lab.pod("client"), lab.pod("server"));
        let service = SocketAddr::from(([172, 20, 0, 10], 53));
        lab.cluster_ip(service, (server.ipv4, 9).into()).unwrap();
        lab.nft(
            "add table inet rules1\nadd chain inet rules1 forward1 { type filter hook forward priority 0; }\n\
             add rule inet rules1 forward1 udp dport 9 drop",
        )
        .unwrap();
        let [ipv4, ipv6] = server.addresses().map(|address| SocketAddr::new(address, 9));
        let mut sent = Vec::new();
        let report = lab
            .measure(way.arguments, || {
                for to in [ipv4, ipv6, service] {
                    sent.push(send_datagrams(&client.namespace, to, 100, 20)?);
                }
                Ok(())
            })
            .unwrap()
            .report;
        assert_eq!(report.health.drops_unseen, None);
        for socket in sent {
            let flow = report.flow_from(socket);
            assert_eq!((flow.path.as_str(), flow.reason.as_deref()), ("undelivered", Some("dropped")), "{flow}");
            let [one] = &flow.drops[..] else { panic!("{flow}") };
            let reason = has_drop_reasons().then_some("NETFILTER_DROP");
            assert_eq!((one.reason.as_deref(), one.in_node, one.packets), (reason, Some(true), 20), "{flow}");
            assert!(one.location.as_deref().is_some_and(|place| place.starts_with("nf")), "{flow}");
        }
    });
}
