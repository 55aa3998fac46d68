//! Why a flow's path is not known, or why it was dropped, in words; and what to run next.

use crate::report::{Flow, PathReason};
use crate::sanitise::sanitise;
use crate::shell;

/// The flow's reason and what it is about, as a clause; `None` for a path that needs none.
pub fn reason(flow: &Flow) -> Option<String> {
    flow.reason.map(|reason| clause(reason, flow.reason_detail.as_deref()))
}

/// A reason and what it is about.
pub fn clause(reason: PathReason, detail: Option<&str>) -> String {
    match detail {
        Some(detail) if reason == PathReason::Dropped => format!("dropped: {}", sanitise(detail)),
        Some(detail) => format!("{} ({})", words(reason), sanitise(detail)),
        None => words(reason).to_owned(),
    }
}

/// Commands that show more, which a shell takes as they are printed.
pub fn next(reason: PathReason, flow: &Flow) -> String {
    let hop = flow.hops.first();
    let Some(device) = hop.and_then(|hop| shell::word(&hop.device)) else {
        let commands = commands(reason, flow, DEVICE);
        return match hop.filter(|_| commands.contains(DEVICE)) {
            Some(hop) => {
                format!("{commands} ({DEVICE}: number {} of ip link, whose name cannot be typed)", hop.ifindex)
            }
            None => commands,
        };
    };
    commands(reason, flow, &device)
}

/// What stands for a name.
const DEVICE: &str = "DEVICE";

fn commands(reason: PathReason, flow: &Flow, device: &str) -> String {
    match reason {
        PathReason::NeverLeft | PathReason::NotSeenAgain => {
            format!("{}; ip neigh; nft list ruleset", route(flow, device))
        }
        PathReason::Dropped => after_drop(flow, device),
        PathReason::DroppedByFilter => format!("tc -s filter show dev {device} ingress"),
        PathReason::DroppedByIpsecPolicy | PathReason::IpsecPolicy => "ip xfrm policy".to_owned(),
        PathReason::PolicyRoute => "ip rule; ip route show table all type local".to_owned(),
        PathReason::Tproxy
        | PathReason::RewrittenWithoutConntrack
        | PathReason::RedirectedByRule
        | PathReason::QueuedToProcess
        | PathReason::Synproxy => "nft list ruleset; iptables-save".to_owned(),
        // The node also answers for a neighbour that does not.
        PathReason::Answered => "ip neigh; nft list ruleset; iptables-save".to_owned(),
        PathReason::VirtualServer => "ipvsadm -Ln".to_owned(),
        PathReason::OtherProgram => format!("bpftool net show dev {device}"),
        PathReason::ConntrackUnavailable | PathReason::ConntrackOverrun | PathReason::DiversionsUnread => {
            "netpath doctor".to_owned()
        }
        PathReason::AmbiguousTranslation => "netpath report --duration 1s".to_owned(),
        PathReason::RecordsLost => "netpath report --max-flows 1000000".to_owned(),
        PathReason::LoopbackDestination => format!("cat /proc/sys/net/ipv4/conf/{device}/route_localnet"),
        PathReason::UnwatchedDevice | PathReason::OneSided => "netpath report --devices".to_owned(),
    }
}

fn route(flow: &Flow, device: &str) -> String {
    format!("ip route get {} from {} iif {device}", flow.dst, flow.src)
}

/// By the kernel's reason.
fn after_drop(flow: &Flow, device: &str) -> String {
    let reason = flow.reason_detail.as_deref().unwrap_or_default();
    let is = |word: &str| reason.contains(word);
    if is("NETFILTER") || is("nft_") || is("nf_") {
        "nft list ruleset; iptables-save".to_owned()
    } else if is("ROUTE") || is("RPFILTER") {
        route(flow, device)
    } else if is("NEIGH") {
        "ip neigh".to_owned()
    } else if is("QDISC") || is("TC_") {
        "tc -s qdisc; tc -s filter".to_owned()
    } else {
        let filter = format!("host {} and host {}", flow.src, flow.dst);
        format!("netpath trace --drops {}", shell::word(&filter).unwrap_or_default())
    }
}

const fn words(reason: PathReason) -> &'static str {
    match reason {
        PathReason::NeverLeft => "came in and was not sent on; nothing here diverts it",
        PathReason::Dropped => "dropped",
        PathReason::NotSeenAgain => "came in, and was seen neither to leave nor to be dropped",
        PathReason::DroppedByFilter => "dropped by a tc filter where it came in",
        PathReason::DroppedByIpsecPolicy => "dropped by an IPsec policy",
        PathReason::Answered => {
            "answered where it came in, by its receiver or a rule that rejects it; its onward path was not seen"
        }
        PathReason::IpsecPolicy => "an IPsec policy applies to it, but no such ESP was seen",
        PathReason::PolicyRoute => "a policy route may have delivered it to this node",
        PathReason::Tproxy => "a TPROXY rule may have given it to a process of this node",
        PathReason::RewrittenWithoutConntrack => "a rule may have rewritten its addresses without conntrack",
        PathReason::RedirectedByRule => "a netfilter rule may have sent it elsewhere",
        PathReason::QueuedToProcess => "a rule leaves it to a process (NFQUEUE)",
        PathReason::Synproxy => "a SYNPROXY rule may have answered it",
        PathReason::VirtualServer => "IPVS may have forwarded it under other addresses",
        PathReason::OtherProgram => "another program on the hook may have redirected or dropped it",
        PathReason::ConntrackUnavailable => "NAT cannot be followed without conntrack",
        PathReason::ConntrackOverrun => "conntrack messages were lost, so NAT is not fully known",
        PathReason::AmbiguousTranslation => "conntrack translates it in several ways",
        PathReason::RecordsLost => "a hook had no room to record every flow",
        PathReason::UnwatchedDevice => "it may have passed a device that is not fully watched",
        PathReason::DiversionsUnread => "the rules that may divert it could not be read",
        PathReason::LoopbackDestination => "to a loopback address: dropped, unless route_localnet permits it",
        PathReason::OneSided => "where it came from was not seen",
    }
}
