//! The causes in words, and which of them become terms.

use super::clamped;
use crate::report::{Cause, CauseKind};

/// Those that become terms of their own. What passed a hook again is none: it is no part of what the hooks saw, there.
pub const TERMS: [CauseKind; 11] = [
    CauseKind::GroGsoHeaders,
    CauseKind::EthernetHeaders,
    CauseKind::Encryption,
    CauseKind::VlanTags,
    CauseKind::DroppedBeforeHook,
    CauseKind::DroppedAfterHook,
    CauseKind::DroppedByFilter,
    CauseKind::DroppedByQdisc,
    CauseKind::Queued,
    CauseKind::AttachWindow,
    CauseKind::Sampling,
];

/// A cause that explains so many bytes and packets.
pub fn cause_of(name: CauseKind, bytes: Option<i128>, packets: Option<u64>) -> Cause {
    Cause { name, bytes: bytes.map(clamped), packets, explanation: explanation(name).to_owned() }
}

/// One sentence for people.
pub fn explanation(kind: CauseKind) -> &'static str {
    match kind {
        CauseKind::NotAttached => "counted by the kernel on devices that netpath did not watch",
        CauseKind::ShownAgain => {
            "packets that pass the ingress hook a second time, decrypted (IPsec) or as copies of the node's own to many, and that the \
             device counted once"
        }
        CauseKind::GroGsoHeaders => {
            "headers of frames that the kernel handles merged (GRO, GSO): the device counts each frame's, netpath's hook \
             sees one for many"
        }
        CauseKind::EthernetHeaders => {
            "Ethernet headers that the device leaves out of its count, as tunnels do, bridges and VLAN devices of what they \
             receive, and a veth that merges frames (GRO)"
        }
        CauseKind::Encryption => {
            "what WireGuard puts around each packet, and its own messages: the device counts messages, netpath's hook sees \
             what is in them"
        }
        CauseKind::VlanTags => {
            "VLAN tags, which the kernel keeps beside the packet, so that one of the two counts has them and the other \
             does not"
        }
        CauseKind::DroppedBeforeHook => "counted by the device as received, then dropped before netpath's hook",
        CauseKind::DroppedAfterHook => {
            "seen by netpath's hook on the way out, then dropped before the device counted it"
        }
        CauseKind::DroppedByFilter => {
            "seen by netpath's hook on the way out, then dropped by a tc filter behind it, as those of a network policy do"
        }
        CauseKind::XdpProgram => {
            "possibly dropped, redirected or sent by an XDP program on the device, which netpath's hooks cannot see"
        }
        CauseKind::OtherProgram => {
            "possibly dropped or redirected by another program on the same hook, before netpath's saw it or behind it"
        }
        CauseKind::HardwareOffload => {
            "possibly passed by the network card alone, to which a filter is offloaded, so that netpath's hook did not see it"
        }
        CauseKind::DroppedByQdisc => {
            "seen by netpath's hook on the way out, then dropped by the device's queue (qdisc), which comes before its counter"
        }
        CauseKind::Queued => {
            "waiting in the device's queue (qdisc) at the end of the window, less what waited there at its start: seen by \
             netpath's hook and not yet counted by the device, or the reverse"
        }
        CauseKind::AttachWindow => "counted on a new device before netpath was attached to it",
        CauseKind::Sampling => {
            "passed while the window was being opened or closed: the devices' counters and netpath's own cannot be read \
             at the same moment"
        }
    }
}
