//! Conversations as people ask about them: who talked to whom, whatever the client's ports.
//!
//! In: made by `path::conversations`. Out: serialised as it stands. It must not compute anything.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Nat, PathClass, PathReason, PeerKind, Scope};

/// All connections of one client to one port of one server that went the same way.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Conversation {
    /// Protocol name or its number.
    pub proto: String,
    /// The client: the initiator by conntrack; where that is not known, the end with the higher port.
    pub from: End,
    /// The server.
    pub to: End,
    /// Where its flows went: one path, or one for each direction.
    pub paths: Vec<PathClass>,
    /// What NAT made of its addresses.
    pub nat: Nat,
    /// Why it is `undelivered` or `unresolved`; `null` for other paths.
    pub reason: Option<PathReason>,
    /// What the reason is about; `null` if there is no more to it.
    pub reason_detail: Option<String>,
    /// What is special about its addresses.
    pub scope: Option<Scope>,
    /// Both ends are pods of this node, and yet it crossed an ENI.
    pub local_pair_left_node: bool,
    /// How many there are.
    pub connections: u64,
    /// Ids of the two flows with the most bytes, the client's first.
    pub flows: Vec<u64>,
    /// `sent_bytes + received_bytes`.
    pub bytes: u64,
    /// Packets of both directions.
    pub packets: u64,
    /// What the client sent; `null` if nothing was seen of it.
    pub sent_bytes: Option<u64>,
    /// What the client received; `null` if nothing was seen of it.
    pub received_bytes: Option<u64>,
    /// Of `bytes`, ICMP errors about these connections.
    pub icmp_error_bytes: u64,
    /// Packets that the kernel was seen to drop on their way through this node.
    #[serde(default)]
    pub dropped_packets: u64,
    /// What left this node by ENIs.
    pub eni_tx_bytes: u64,
    /// What came in by ENIs.
    pub eni_rx_bytes: u64,
}

/// One end of conversations. What differs between them is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct End {
    /// `namespace/name` of the pod.
    pub pod: Option<String>,
    /// Of a server, the service that the client asked for: `namespace/name:port`.
    pub service: Option<String>,
    /// Address, as the client sees it.
    pub address: Option<IpAddr>,
    /// Port, as the client sees it; of a client with one connection only.
    pub port: Option<u16>,
    /// Where it is; `null` if that is not known.
    pub peer_kind: Option<PeerKind>,
}
