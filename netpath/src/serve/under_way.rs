//! Packets that are between two hops when a window ends: the flows of both windows have them, and counters must not. Where they went shows in
//! the second one.
//!
//! In: the flows of each window. Out: what of them not to count yet, and what to count now of the window before. Pure.
//!
//! A flow is as large as what came in, or as what left if that is more. What came in and has not left is held back for a window. If
//! the flow then has more that left than what came in, that was it, and is counted there. What is over was dropped.

use std::net::IpAddr;
use std::ops::AddAssign;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::Direction;
use crate::report::{Flow, PathClass, PeerKind, UnderWay};

/// Protocol and ends as the last hop saw them, which is where packets show that were under way.
type Key = (String, IpAddr, Option<u16>, IpAddr, Option<u16>);

/// Bytes and packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// `skb->len`.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

impl Amount {
    /// These numbers, 0 for negative ones.
    fn positive(bytes: i64, packets: i64) -> Self {
        Self { bytes: u64::try_from(bytes).unwrap_or(0), packets: u64::try_from(packets).unwrap_or(0) }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// What is left without the other, nothing if that is more.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), packets: self.packets.saturating_sub(other.packets) }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.packets += other.packets;
    }
}

/// A pod of this node; `None` if its name is not known.
pub type Pod = Option<Arc<str>>;

/// What a flow had that was held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where it went, as its window has it.
    pub path: PathClass,
    /// The pod of this node that it came from.
    pub src: Option<Pod>,
    /// The pod of this node that it was for.
    pub dst: Option<Pod>,
    /// How much.
    pub amount: Amount,
}

impl Held {
    /// A part of a flow.
    #[must_use]
    pub fn of(flow: &Flow, amount: Amount) -> Self {
        let pod = |kind, pod: &Pod| (kind == Some(PeerKind::PodHere)).then(|| pod.clone());
        Self {
            path: flow.path,
            src: pod(flow.src_peer_kind, &flow.src_pod),
            dst: pod(flow.dst_peer_kind, &flow.dst_pod),
            amount,
        }
    }
}

/// What was under way when the last window ended.
#[derive(Debug, Default)]
pub struct Pending(HashMap<Key, Held>);

impl Pending {
    /// The next window. Out: what to hold back of each of its flows, in their order, and what was held back and has not left.
    pub fn roll(&mut self, flows: &[Flow]) -> (Vec<Amount>, Vec<Held>) {
        let (mut before, mut over) = (std::mem::take(&mut self.0), Vec::new());
        let mut of = |flow: &Flow| {
            let UnderWay { bytes, packets } = flow.under_way;
            let Some(key) = key(flow) else { return Amount::default() };
            // If nothing came in any more, all that left was under way.
            let late = if flow.under_way.is_nothing() {
                Amount { bytes: flow.bytes, packets: flow.packets }
            } else {
                Amount::positive(bytes.saturating_neg(), packets.saturating_neg())
            };
            if let Some(held) = before.get_mut(&key) {
                held.amount = held.amount.less(late);
            }
            let amount = Amount::positive(bytes, packets);
            if !amount.is_nothing() {
                over.extend(self.0.insert(key, Held::of(flow, amount)));
            }
            amount
        };
        let amounts = flows.iter().map(&mut of).collect();
        over.extend(before.into_values().filter(|held| !held.amount.is_nothing()));
        (amounts, over)
    }
}

/// `None` if nothing of the flow can have been under way. What is for the node itself never leaves.
fn key(flow: &Flow) -> Option<Key> {
    let only_left = || flow.hops.iter().all(|hop| hop.direction == Direction::Tx);
    if flow.path == PathClass::Host || flow.under_way.is_nothing() && !only_left() {
        return None;
    }
    let last = flow.hops.last()?;
    Some((flow.proto.to_string(), last.src, last.sport, last.dst, last.dport))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::report::{Hop, Nat};

    fn flow(port: u16, path: PathClass, packets: i64) -> Flow {
        let address: IpAddr = "10.0.0.21".parse().expect("an address");
        let (sport, dport) = (Some(port), Some(9));
        let (device, ifindex, direction) = ("eni1".into(), 1, Direction::Rx);
        let (src, dst) = (address, address);
        let hop = Hop {
            device,
            ifindex,
            direction,
            vlans: vec![],
            bytes: 0,
            packets: 0,
            wire_bytes: 0,
            src,
            sport,
            dst,
            dport,
            shown_again: false,
        };
        Flow {
            id: 1,
            conversation: 1,
            proto: Cow::Borrowed("udp"),
            src,
            sport,
            dst,
            dport,
            own: false,
            path,
            nat: Nat::None,
            src_peer_kind: Some(PeerKind::PodHere),
            dst_peer_kind: None,
            eni_tx_bytes: 0,
            eni_rx_bytes: 0,
            reason: None,
            reason_detail: None,
            scope: None,
            local_pair_left_node: false,
            from_initiator: None,
            bytes: 0,
            packets: 0,
            wire_bytes: 0,
            local_bytes: 0,
            carried_bytes: 0,
            again_bytes: 0,
            under_way: UnderWay { bytes: packets * 100, packets },
            about: None,
            src_pod: None,
            dst_pod: None,
            src_pod_origin: None,
            dst_pod_origin: None,
            service: None,
            drops: vec![],
            hops: vec![hop],
            terms: vec![],
        }
    }

    /// Packets that are held back of each flow; packets and path of what is over.
    fn rolled(pending: &mut Pending, flows: &[Flow]) -> (Vec<u64>, Vec<(u64, PathClass)>) {
        let (held, over) = pending.roll(flows);
        assert!(
            held.iter().chain(over.iter().map(|held| &held.amount)).all(|amount| amount.bytes == amount.packets * 100)
        );
        (
            held.iter().map(|amount| amount.packets).collect(),
            over.iter().map(|held| (held.amount.packets, held.path)).collect(),
        )
    }

    #[test]
    fn what_was_under_way_is_counted_once() {
        use PathClass::{Host, Local, Undelivered};
        let mut pending = Pending::default();
        // The first packets of a flow had not left when the window ended: it looks as if they were dropped.
        let first = [flow(1, Undelivered, 2), flow(2, Local, 5), flow(3, Local, 1), flow(4, Host, 7)];
        assert_eq!(rolled(&mut pending, &first), (vec![2, 5, 1, 0], vec![]));
        // They have left; of another flow, one was dropped; of the third, more came in than left again.
        let second = [flow(1, Local, -2), flow(2, Local, -4), flow(3, Local, 3)];
        let (held, mut over) = rolled(&mut pending, &second);
        over.sort_unstable();
        assert_eq!((held, over), (vec![0, 0, 3], vec![(1, Local), (1, Local)]));
        assert_eq!(rolled(&mut pending, &[]), (vec![], vec![(3, Local)]));
        assert_eq!(rolled(&mut pending, &[]), (vec![], vec![]));
    }
}
