//! What the targets of iptables do to a packet's way, by their names: the same in nftables, which can use them, and in its
//! legacy tables.

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
