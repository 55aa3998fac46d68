//! What diverts packets, a line each: IPsec policies, netfilter rules, IPVS services.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netpath::snapshot::{Diversion, NetfilterRule, VirtualServer, XfrmDirection, XfrmPolicy, XfrmTemplate};

use super::lines::{end, protocol};

/// `in|out|forward NETWORK > NETWORK [PROTO] [sport PORT] [dport PORT] [priority N] [interface N] [marked] [block]
/// [esp [tunnel ADDRESS > ADDRESS]]`
pub(super) fn xfrm_policy(line: &str) -> Option<XfrmPolicy> {
    let mut words = line.split_whitespace().peekable();
    let direction = match words.next()? {
        "in" => XfrmDirection::In,
        "out" => XfrmDirection::Out,
        "forward" => XfrmDirection::Forward,
        _ => return None,
    };
    let src: IpNet = words.next()?.parse().ok()?;
    (words.next()? == ">").then_some(())?;
    let dst: IpNet = words.next()?.parse().ok()?;
    let mut policy = XfrmPolicy {
        direction,
        src,
        dst,
        proto: None,
        sport: None,
        dport: None,
        blocks: false,
        if_id: 0,
        marked: false,
        templates: Vec::new(),
        priority: 0,
    };
    while let Some(word) = words.next() {
        match word {
            "sport" => policy.sport = Some(words.next()?.parse().ok()?),
            "dport" => policy.dport = Some(words.next()?.parse().ok()?),
            "priority" => policy.priority = words.next()?.parse().ok()?,
            "interface" => policy.if_id = words.next()?.parse().ok()?,
            "marked" => policy.marked = true,
            "block" => policy.blocks = true,
            "esp" if policy.templates.is_empty() => {
                let tunnel = words.next_if_eq(&"tunnel").is_some();
                let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let (src, dst) = if tunnel {
                    let src = words.next()?.parse().ok()?;
                    (words.next()? == ">").then_some(())?;
                    (src, words.next()?.parse().ok()?)
                } else {
                    (any, any)
                };
                policy.templates.push(XfrmTemplate { proto: 50, tunnel, src, dst });
            }
            proto => policy.proto = Some(protocol(proto)?),
        }
    }
    Some(policy)
}

/// `tproxy|rewrite|copy|redirect|queue|synproxy [PROTO] [from NETWORK] [to NETWORK] [sport PORT] [dport PORT] [by DEVICE]
/// [ipv4|ipv6]`, of both families without one.
pub(super) fn netfilter_rule(line: &str) -> Option<NetfilterRule> {
    let mut words = line.split_whitespace();
    let diversion = match words.next()? {
        "tproxy" => Diversion::Tproxy,
        "rewrite" => Diversion::Rewrite,
        "copy" => Diversion::Copy,
        "redirect" => Diversion::Redirect,
        "queue" => Diversion::Queue,
        "synproxy" => Diversion::Synproxy,
        _ => return None,
    };
    let mut rule = NetfilterRule::new(diversion, "nft table ip raw, chain pre");
    while let Some(word) = words.next() {
        match word {
            "from" => rule.src = Some(words.next()?.parse().ok()?),
            "to" => rule.dst = Some(words.next()?.parse().ok()?),
            "sport" => rule.sport = Some(words.next()?.parse().ok()?),
            "dport" => rule.dport = Some(words.next()?.parse().ok()?),
            "by" => rule.input_device = Some(words.next()?.to_owned()),
            "ipv4" => rule.ipv6 = false,
            "ipv6" => rule.ipv4 = false,
            proto => rule.proto = Some(protocol(proto)?),
        }
    }
    Some(rule)
}

/// `PROTO END > END…`, or `marked > END…`: an IPVS service, of an address or of marked packets, and its backends.
pub(super) fn virtual_server(line: &str) -> Option<VirtualServer> {
    let mut words = line.split_whitespace();
    let (proto, address, port) = match words.next()? {
        "marked" => (None, None, 0),
        proto => {
            let (address, port) = end(words.next()?)?;
            (Some(protocol(proto)?), Some(address), port)
        }
    };
    (words.next()? == ">").then_some(())?;
    Some(VirtualServer { proto, address, port, backends: words.map(end).collect::<Option<_>>()? })
}
