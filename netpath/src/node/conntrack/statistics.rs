//! How full conntrack's table is, and what conntrack has counted: two questions to ctnetlink.
//!
//! In: the network namespace of the calling thread, in which conntrack is loaded (a request would load its netlink part). Out:
//! [`Statistics`]. Needs `CAP_NET_ADMIN`, and only reads.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::message::NFGENMSG_BYTES;
use crate::model::ConntrackTable;
use crate::netlink::{Attributes, Requester};

// linux/netfilter/nfnetlink_conntrack.h, of NFNL_SUBSYS_CTNETLINK.
const CT_GET_STATS_CPU: u16 = 0x0104;
const CT_GET_STATS: u16 = 0x0105;
const CTA_STATS_INSERT_FAILED: u16 = 9;
const CTA_STATS_DROP: u16 = 10;
const CTA_STATS_EARLY_DROP: u16 = 11;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const CTA_STATS_GLOBAL_MAX_ENTRIES: u16 = 2;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections in the table.
    pub connections: u32,
    /// The limit on connections; 0 if there is none.
    pub limit: u32,
    /// `drop`, since the namespace was made. The kernel counts in 32 bits on each CPU, and this is their sum in 32 bits.
    pub drop: u32,
    /// `early_drop`, in the same way.
    pub early_drop: u32,
    /// `insert_failed`, in the same way.
    pub insert_failed: u32,
}

/// Reads them. Blocks for the answers.
///
/// # Errors
/// If netlink refuses, or answers with what netpath cannot read.
pub fn read() -> io::Result<Statistics> {
    let mut requester = Requester::open_to(NETLINK_NETFILTER)?;
    let (mut all, mut cpus, mut tables) = (Statistics::default(), Some(0), Some(0));
    // The number of answers; `None` if one is incomplete.
    let mut count = |answers: &mut Option<u32>, kind, body: &[u8]| {
        *answers = all.apply(kind, body).and(*answers).map(|answers| answers + 1);
    };
    let anything = [0; NFGENMSG_BYTES];
    requester.dump(CT_GET_STATS_CPU, &anything, |kind, body| count(&mut cpus, kind, body))?;
    requester.get(CT_GET_STATS, &anything, |kind, body| count(&mut tables, kind, body))?;
    match (cpus, tables) {
        (Some(1..), Some(1)) => Ok(all),
        _ => Err(io::Error::other("conntrack statistics that netpath cannot read")),
    }
}

impl Statistics {
    /// Applies a message of an answer; `None` if it lacks something.
    pub fn apply(&mut self, message_type: u16, body: &[u8]) -> Option<()> {
        let mut values = [None; CTA_STATS_EARLY_DROP as usize + 1];
        for attribute in Attributes::after(NFGENMSG_BYTES, body).ok()? {
            let attribute = attribute.ok()?;
            if let Some(value) = values.get_mut(usize::from(attribute.kind)) {
                *value = Some(attribute.be32().ok()?);
            }
        }
        let value = |attribute: u16| values[usize::from(attribute)];
        match message_type {
            CT_GET_STATS_CPU => {
                self.drop = self.drop.wrapping_add(value(CTA_STATS_DROP)?);
                self.early_drop = self.early_drop.wrapping_add(value(CTA_STATS_EARLY_DROP)?);
                self.insert_failed = self.insert_failed.wrapping_add(value(CTA_STATS_INSERT_FAILED)?);
            }
            CT_GET_STATS => {
                self.connections = value(CTA_STATS_GLOBAL_ENTRIES)?;
                self.limit = value(CTA_STATS_GLOBAL_MAX_ENTRIES)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The table now, and what was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> ConntrackTable {
        let since = |of: fn(Self) -> u32| u64::from(of(self).wrapping_sub(of(earlier)));
        ConntrackTable {
            connections: self.connections.into(),
            limit: (self.limit > 0).then_some(self.limit.into()),
            drop: since(|one| one.drop),
            early_drop: since(|one| one.early_drop),
            insert_failed: since(|one| one.insert_failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attributes::attribute;

    /// `struct nfgenmsg`, and attributes of four bytes.
    fn body(attributes: &[(u16, u32)]) -> Vec<u8> {
        let mut body = vec![0; NFGENMSG_BYTES];
        body.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, &value.to_be_bytes())));
        body
    }

    #[test]
    fn cpus_are_added_up_beyond_32_bits() {
        let mut all = Statistics::default();
        let cpu = |drop, insert_failed| body(&[(2, 99), (9, insert_failed), (10, drop), (11, 2), (15, 99)]);
        assert_eq!(all.apply(CT_GET_STATS_CPU, &cpu(u32::MAX, 4)), Some(()));
        let earlier = all;
        assert_eq!(all.apply(CT_GET_STATS_CPU, &cpu(7, 0)), Some(()));
        assert_eq!(all.apply(CT_GET_STATS, &body(&[(1, 50), (2, 100)])), Some(()));
        let expected = ConntrackTable { connections: 50, limit: Some(100), drop: 7, early_drop: 2, insert_failed: 0 };
        assert_eq!(all.since(earlier), expected);
        assert_eq!(Statistics::default().since(Statistics::default()).limit, None, "any number");
    }

    #[test]
    fn what_lacks_is_not_zero() {
        let whole = body(&[(9, 1), (10, 1), (11, 1)]);
        for length in 0..whole.len() {
            assert_eq!(Statistics::default().apply(CT_GET_STATS_CPU, &whole[..length]), None, "{length}");
        }
        assert_eq!(Statistics::default().apply(CT_GET_STATS, &body(&[(1, 50)])), None);
        assert_eq!(Statistics::default().apply(0x0100, &whole), None, "another message");
    }
}
