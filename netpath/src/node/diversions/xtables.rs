//! Which targets of iptables divert packets, by name: in nftables, which can use them, and in legacy tables.

use crate::snapshot::Diversion;

/// How a target diverts packets; `None` if it does not, or by conntrack only. Besides the kernel's, those of xtables-addons,
/// of Jool and of rtpengine.
pub fn diversion(target: &str) -> Option<Diversion> {
    Some(match target {
        "TPROXY" => Diversion::Tproxy,
        "TEE" => Diversion::Copy,
        "NFQUEUE" => Diversion::Queue,
        "SYNPROXY" | "TARPIT" | "DELUDE" => Diversion::Synproxy,
        // The last two are those of ebtables, and rewrite Ethernet addresses.
        "SNPT" | "DNPT" | "RAWSNAT" | "RAWDNAT" | "PROTO" | "JOOL" | "JOOL_SIIT" | "RTPENGINE" | "dnat"
        | "redirect" => Diversion::Rewrite,
        _ => return None,
    })
}
