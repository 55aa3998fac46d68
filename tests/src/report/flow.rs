//! A flow of a report: its ends, where it went, and each hook that its packets passed.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{NameOrigin, show};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Flow {
    pub proto: String,
    pub src: IpAddr,
    pub sport: Option<u16>,
    pub dst: IpAddr,
    pub dport: Option<u16>,
    pub path: String,
    pub src_peer_kind: Option<String>,
    pub dst_peer_kind: Option<String>,
    pub reason: Option<String>,
    pub reason_detail: Option<String>,
    pub scope: Option<String>,
    pub conversation: u64,
    pub from_initiator: Option<bool>,
    pub local_pair_left_node: bool,
    pub own: bool,
    pub packets: u64,
    pub bytes: u64,
    pub carried_bytes: u64,
    pub service: Option<String>,
    pub src_pod: Option<String>,
    pub src_pod_origin: Option<NameOrigin>,
    pub dst_pod: Option<String>,
    pub dst_pod_origin: Option<NameOrigin>,
    pub about: Option<QuotedPacket>,
    pub drops: Vec<FlowDrop>,
    pub hops: Vec<Hop>,
}

/// A hook that the flow passed, and its addresses there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Hop {
    pub device: String,
    pub direction: String,
    pub src: IpAddr,
    pub sport: Option<u16>,
    pub dst: IpAddr,
    pub dport: Option<u16>,
    pub packets: u64,
    pub bytes: u64,
    pub vlans: Vec<u16>,
}

/// Packets of a flow that the kernel dropped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FlowDrop {
    pub reason: Option<String>,
    pub location: Option<String>,
    pub in_node: Option<bool>,
    pub packets: u64,
}

/// The packet that an ICMP error is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QuotedPacket {
    pub src: IpAddr,
    pub dst: IpAddr,
}

show!(Flow, Hop);

impl Flow {
    /// Who sent it; with port 0 where there are no ports.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.sport.unwrap_or_default())
    }

    /// Where it was sent to; with port 0 where there are no ports.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.dst, self.dport.unwrap_or_default())
    }

    /// The hooks that it passed, by device and direction.
    #[must_use]
    pub fn hooks(&self) -> Vec<(&str, &str)> {
        self.hops.iter().map(Hop::hook).collect()
    }

    /// Its hop on a device.
    ///
    /// # Panics
    /// When it passed none of its hooks.
    #[must_use]
    #[track_caller]
    pub fn on(&self, device: &str) -> &Hop {
        let hop = self.hops.iter().find(|hop| hop.device == device);
        hop.unwrap_or_else(|| panic!("it did not pass {device}: {self}"))
    }
}

impl Hop {
    /// Device and direction.
    #[must_use]
    pub fn hook(&self) -> (&str, &str) {
        (&self.device, &self.direction)
    }

    /// Source and destination, with port 0 where there are no ports.
    #[must_use]
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        let end = |address, port: Option<u16>| SocketAddr::new(address, port.unwrap_or_default());
        (end(self.src, self.sport), end(self.dst, self.dport))
    }
}
