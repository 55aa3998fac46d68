//! The devices' root qdiscs and what they counted: one `RTM_GETQDISC` dump.
//!
//! In: the network namespace of the calling thread. Out: [`RootQdisc`]s. Needs no privilege, and only reads. What a root
//! qdisc says includes its children: a classful one counts a drop of its child too (net/sched/sch_htb.c, `htb_enqueue`;
//! `qdisc_tree_reduce_backlog`), and `mq` adds its children up when it is asked.

use std::collections::HashMap;

use netlink_packet_core::NlasIterator;

use super::message::{Malformed, Message, field, lossy};
use super::socket::{self, Subject};
use crate::snapshot::Qdisc;

// linux/rtnetlink.h, linux/pkt_sched.h, linux/gen_stats.h
const TCA_KIND: u16 = 1;
const TCA_STATS2: u16 = 7;
const TCA_STAB: u16 = 8;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TC_H_ROOT: u32 = 0xffff_ffff;

/// A device's root qdisc, and what it counted since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootQdisc {
    /// The device.
    pub ifindex: u32,
    /// `TCA_KIND` ("tbf").
    pub kind: String,
    /// Chosen by whoever made it, or by the kernel; 0 for one that came with the device.
    pub handle: u32,
    /// `TCA_STATS_BASIC`: bytes that were taken out of it.
    pub passed_bytes: u64,
    /// `TCA_STATS_QUEUE`: packets that wait in it now.
    pub queued_packets: u32,
    /// The same in bytes.
    pub queued_bytes: u32,
    /// Packets that it dropped.
    pub dropped_packets: u32,
}

/// Reads the root qdiscs of all devices, by ifindex.
///
/// # Errors
/// If netlink refuses, or answers with what netpath cannot read.
pub fn read() -> anyhow::Result<HashMap<u32, RootQdisc>> {
    let qdisc = |message| match message {
        Message::Qdisc(qdisc) => Some((qdisc.ifindex, qdisc)),
        _ => None,
    };
    Ok(socket::dump(Subject::Qdiscs)?.into_iter().filter_map(qdisc).collect())
}

impl RootQdisc {
    /// What it did since `earlier`, or if there is none since it was made. `None` if it is another one: replaced, or made anew.
    pub fn since(&self, earlier: Option<&Self>) -> Option<Qdisc> {
        if earlier.is_some_and(|earlier| (&earlier.kind, earlier.handle) != (&self.kind, self.handle)) {
            return None;
        }
        let counted = |of: fn(&Self) -> u32| earlier.map_or(0, of);
        let grown = |of: fn(&Self) -> u32| i64::from(of(self)) - i64::from(counted(of));
        Some(Qdisc {
            kind: self.kind.clone(),
            passed_bytes: self.passed_bytes.checked_sub(earlier.map_or(0, |earlier| earlier.passed_bytes))?,
            dropped_packets: self.dropped_packets.checked_sub(counted(|qdisc| qdisc.dropped_packets))?.into(),
            queued_packets: grown(|qdisc| qdisc.queued_packets),
            queued_bytes: grown(|qdisc| qdisc.queued_bytes),
        })
    }
}

/// `struct tcmsg` and attributes. `None` unless it is a root qdisc, and one whose bytes are those of packets: a size table
/// (`tc qdisc … stab`) makes them something else.
pub(super) fn root_qdisc(payload: &[u8]) -> Result<Option<RootQdisc>, Malformed> {
    let ifindex = u32::from_ne_bytes(field(payload, 4)?);
    let handle = u32::from_ne_bytes(field(payload, 8)?);
    if u32::from_ne_bytes(field(payload, 12)?) != TC_H_ROOT {
        return Ok(None);
    }
    let (mut kind, mut passed_bytes, mut queue) = (None, None, None);
    for attribute in NlasIterator::new(payload.get(20..).ok_or(Malformed)?) {
        let attribute = attribute?;
        match attribute.kind() {
            TCA_KIND => kind = Some(lossy(attribute.value())),
            TCA_STAB => return Ok(None),
            TCA_STATS2 => {
                for attribute in NlasIterator::new(attribute.value()) {
                    let attribute = attribute?;
                    let value = attribute.value();
                    match attribute.kind() {
                        TCA_STATS_BASIC => passed_bytes = Some(u64::from_ne_bytes(field(value, 0)?)),
                        // struct gnet_stats_queue: qlen, backlog, drops, …
                        TCA_STATS_QUEUE => {
                            let at = |index: usize| field(value, index * 4).map(u32::from_ne_bytes);
                            queue = Some([at(0)?, at(1)?, at(2)?]);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let qdisc = kind.zip(passed_bytes).zip(queue).map(
        |((kind, passed_bytes), [queued_packets, queued_bytes, dropped_packets])| RootQdisc {
            ifindex,
            kind,
            handle,
            passed_bytes,
            queued_packets,
            queued_bytes,
            dropped_packets,
        },
    );
    Ok(qdisc)
}
