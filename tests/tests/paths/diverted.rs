//! Packets that something takes off their way between two hooks. They are not dropped, and not called so.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use aya::programs::TcAttachType;
use aya::programs::tc::TcAttachOptions;
use lab::report::Flow;
use lab::traffic::{UdpEcho, ask};
use lab::{Answer, Lab, Report, attach, ip, tc};
use socket2::{Domain, Socket, Type};

use super::watch::{at, track, watch};

fn udp_to(report: &Report, address: Ipv4Addr) -> &Flow {
    report.flow(|flow| flow.proto == "udp" && flow.dst == address)
}

/// A rule rewrites addresses without conntrack: who the service's backend is cannot be known.
#[test]
fn rewritten_without_conntrack() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let service = Ipv4Addr::new(172, 20, 0, 10);
    lab.nft(&format!(
        "table ip raw {{
           chain pre {{
             type filter hook prerouting priority raw
             ip daddr {service} udp dport 80 ip daddr set {} notrack
             ip saddr {} udp sport 80 ip saddr set {service} notrack
           }}
         }}",
        server.ipv4, server.ipv4
    ))
    .unwrap();
    let echo = UdpEcho::start(&server.namespace, at(server.ipv4, 80)).unwrap();
    let window = watch(&lab, || {
        assert_eq!(ask(&client.namespace, 0, at(service, 80), [100, 5], |_| Ok(()))?.answers, 5);
        Ok(())
    });
    assert_eq!(echo.stop().unwrap(), 5);
    for flow in window.flows() {
        let reason = (flow.path.as_str(), flow.reason.as_deref());
        assert_eq!(reason, ("unresolved", Some("rewritten_without_conntrack")), "{flow}");
        assert!(flow.reason_detail.as_deref().unwrap().contains("raw"), "the table of the rule: {flow}");
    }
}

/// A program behind netpath's hands packets to the pod past its veth's hooks, as Cilium does.
#[test]
fn redirected_past_the_veth() {
    let lab = Lab::builder().pod("server").start().unwrap();
    let server = lab.pod("server");
    let ifindex = lab.node.namespace.ifindex(&server.veth).unwrap();
    let mut program = Answer::RedirectPeer { ifindex }.load("to_peer").unwrap();
    let last = TcAttachOptions::TcxOrder(aya::programs::LinkOrder::default());
    attach(&mut program, &lab.node.namespace, "eth0", TcAttachType::Ingress, last).unwrap();
    let echo = UdpEcho::start(&server.namespace, at(server.ipv4, 80)).unwrap();
    let window = watch(&lab, || {
        assert_eq!(ask(&lab.vpc, 0, at(server.ipv4, 80), [100, 5], |_| Ok(()))?.answers, 5);
        Ok(())
    });
    assert_eq!(echo.stop().unwrap(), 5);
    assert_eq!(window.devices[&server.veth].tx_packets, 0, "past the host's end");
    assert_eq!(udp_to(&window.report, server.ipv4).path, "eni");
    assert_eq!(window.report.flow(|flow| flow.proto == "udp" && flow.src == server.ipv4).path, "eni");
}

/// TPROXY gives a pod's connection to any address to a process of this node.
#[test]
fn taken_by_a_transparent_proxy() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    let anywhere = at(Ipv4Addr::new(203, 0, 113, 80), 80);
    lab.nft(&format!(
        "table ip proxy {{
           chain pre {{
             type filter hook prerouting priority mangle
             iifname \"{}\" tcp dport 80 tproxy to 127.0.0.1:15001 meta mark set 1 accept
           }}
         }}",
        client.veth
    ))
    .unwrap();
    ip(node, "rule add fwmark 1 lookup 100").unwrap();
    ip(node, "route add local 0.0.0.0/0 dev lo table 100").unwrap();
    let listen = || -> anyhow::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_ip_transparent_v4(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&at(Ipv4Addr::LOCALHOST, 15001).into())?;
        socket.listen(1)?;
        Ok(socket.into())
    };
    let listener = node.run(listen).unwrap().unwrap();
    let window = watch(&lab, || {
        let mut stream = client.namespace.run(|| TcpStream::connect(anywhere))??;
        let (mut accepted, _) = listener.accept()?;
        assert_eq!(accepted.local_addr()?, anywhere, "the proxy has the address");
        stream.write_all(&[1; 100])?;
        accepted.read_exact(&mut [0; 100])?;
        accepted.write_all(&vec![2; 50_000])?;
        stream.read_exact(&mut vec![0; 50_000])?;
        Ok(())
    });
    let paths: Vec<_> = window.flows().iter().map(|flow| (flow.src, flow.path.as_str())).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert!(paths.iter().all(|(_, path)| *path == "host"), "{paths:?}");
}

/// A mirror copies a pod's packets to another pod, which is neither their end nor another place where they went.
#[test]
fn mirrored_to_another_pod() {
    let lab = Lab::builder().pod("client").pod("ids").start().unwrap();
    let (node, client, ids) = (&lab.node.namespace, lab.pod("client"), lab.pod("ids"));
    tc(node, &format!("qdisc add dev {} clsact", client.veth)).unwrap();
    tc(
        node,
        &format!(
            "filter add dev {} ingress protocol ip u32 match u32 0 0 action mirred egress mirror dev {}",
            client.veth, ids.veth
        ),
    )
    .unwrap();
    let outside = UdpEcho::start(&lab.outside.namespace, at(lab.outside.ipv4, 80)).unwrap();
    let own = UdpEcho::start(node, at(lab.node.ipv4, 81)).unwrap();
    let window = watch(&lab, || {
        for to in [outside.address(), own.address()] {
            assert_eq!(ask(&client.namespace, 0, to, [100, 5], |_| Ok(()))?.answers, 5);
        }
        Ok(())
    });
    assert_eq!(window.devices[&ids.veth].tx_packets, 10, "the copies");
    let of_ids = |flow: &&Flow| flow.dst_pod.as_deref().is_some_and(|pod| pod.ends_with("/ids"));
    assert_eq!(window.flows().iter().find(of_ids), None, "nothing was for it");
    let sent = window.devices["eth0"].tx_bytes;
    let (away, here) = (udp_to(&window.report, lab.outside.ipv4), udp_to(&window.report, lab.node.ipv4));
    assert_eq!((away.path.as_str(), away.bytes), ("eni", sent), "{away}");
    assert_eq!(here.path, "host", "{here}");
}

/// ICMP errors about packets that NAT translated are translated too. They belong to that conversation, and count once.
#[test]
fn refused_behind_a_service() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    track(&lab);
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for (service, backend) in [
        (at(Ipv4Addr::new(172, 20, 0, 10), 53), at(server.ipv4, 53)),
        (at("fd00:aaaa::10".parse::<std::net::Ipv6Addr>().unwrap(), 53), at(server.ipv6, 53)),
    ] {
        let (family, hook) = if service.is_ipv4() { ("ip", "nat4") } else { ("ip6", "nat6") };
        lab.nft(&format!(
            "table {family} {hook} {{
               chain pre {{ type nat hook prerouting priority dstnat; {family} daddr {} udp dport 53 dnat to {backend}; }}
             }}",
            service.ip()
        ))
        .unwrap();
        lab.node
            .namespace
            .write_sysctls(&[("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")])
            .unwrap();
        server.namespace.write_sysctls(&[("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")]).unwrap();
        let window = watch(&lab, || {
            let asked = ask(&client.namespace, 0, service, [100, 5], |_| Ok(()))?;
            assert_eq!((asked.answers, asked.refusals), (0, 5), "the client's socket gets them");
            Ok(())
        });
        let icmp = if service.is_ipv4() { "icmp" } else { "icmpv6" };
        let is_error = |flow: &&Flow| flow.proto == icmp && flow.about.is_some();
        let errors: Vec<_> = window.flows().iter().filter(is_error).collect();
        let [error] = errors[..] else { panic!("one flow of errors: {:?}", window.flows()) };
        let asked = window.report.flow(|flow| flow.proto == "udp");
        assert_eq!((error.path.as_str(), error.conversation), ("local", asked.conversation), "{error}");
        assert_eq!(error.packets, 5, "{error}");
        let hops: Vec<_> = error.hops.iter().map(|hop| hop.device.as_str()).collect();
        assert_eq!(hops, [&server.veth, &client.veth], "{error}");
        assert_eq!(error.about.as_ref().unwrap().dst, backend.ip(), "as it left the node: {error}");
    }
}
