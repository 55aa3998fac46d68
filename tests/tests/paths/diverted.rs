//! Packets that something takes off their way between two hooks. They are not dropped, and not called so.

use aya::programs::TcAttachType;
use aya::programs::tc::TcAttachOptions;
use lab::traffic::{UdpEcho, ask};
use lab::{Answer, Lab, attach};
use serde_json::Value;

use super::watch::{at, watch};

fn of<'a>(flows: &'a [Value], key: &str, address: std::net::Ipv4Addr) -> &'a Value {
    let found = flows.iter().find(|flow| flow["proto"] == "udp" && flow[key] == address.to_string());
    found.unwrap_or_else(|| panic!("no flow with {key} {address} in {flows:?}"))
}

/// A rule rewrites addresses without conntrack: who the service's backend is cannot be known.
#[test]
fn rewritten_without_conntrack() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let service = std::net::Ipv4Addr::new(172, 20, 0, 10);
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
        assert_ne!(flow["path"], "undelivered", "{flow}");
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
    assert_eq!(of(window.flows(), "dst", server.ipv4)["path"], "eni");
    assert_eq!(of(window.flows(), "src", server.ipv4)["path"], "eni");
}
