//! The devices' root qdiscs and what they counted, and what legacy filters dropped: one `RTM_GETQDISC` dump.
//!
//! In: the network namespace of the calling thread. Out: [`Qdiscs`]. Needs no privilege, and only reads. The counters of a root
//! qdisc include its children's: a classful one counts a drop of its child too (`net/sched/sch_htb.c`, `htb_enqueue`;
//! `qdisc_tree_reduce_backlog`), and `mq` adds its children up when it is asked.

use std::collections::HashMap;
use std::io;

use super::Requester;
use super::attributes::{Attributes, Malformed, u32_at, u64_at};
use super::tc::{TC_H_CLSACT, TC_H_ROOT, TCA_KIND, TCA_STAB, TCA_STATS2, TcMessage};
use crate::model;

// linux/gen_stats.h
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;

/// A qdisc that is there to hold filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterQdisc {
    /// `clsact`: ingress and egress.
    Clsact,
    /// `ingress`: ingress only.
    Ingress,
}

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

/// What the qdiscs of all devices counted.
#[derive(Debug, Default)]
pub struct Qdiscs {
    /// Root qdiscs, by ifindex.
    pub roots: HashMap<u32, RootQdisc>,
    /// Packets that legacy filters dropped (`TC_ACT_SHOT`), at ingress and egress together, by ifindex: what a clsact qdisc
    /// counts as its drops (net/core/dev.c, `tc_run`).
    pub filter_drops: HashMap<u32, u32>,
    /// Packets that wait in a device's qdiscs now, by ifindex: of the root and its children the largest number, since a root
    /// counts those of its children too. 1 at least if there are bytes. Devices where none wait may be missing.
    pub waiting: HashMap<u32, u32>,
    /// What holds filters, by ifindex.
    pub for_filters: HashMap<u32, FilterQdisc>,
}

/// Reads them through a socket of its own. Blocks for the answer.
///
/// # Errors
/// If netlink refuses, or answers with what netpath cannot read.
pub fn read() -> io::Result<Qdiscs> {
    Qdiscs::read(&mut Requester::open()?)
}

impl Qdiscs {
    /// As [`read`], through an open socket.
    pub fn read(netlink: &mut Requester) -> io::Result<Self> {
        let mut all = Self::default();
        // The kernel does not report changes of qdiscs meanwhile. The counters show a device that came or went.
        let request = TcMessage::default().to_bytes();
        let _ = netlink.dump_all(libc::RTM_GETQDISC, &request, "qdiscs", |kind, body| all.add(kind, body))?;
        Ok(all)
    }

    /// Adds a message of the answer.
    pub fn add(&mut self, message_type: u16, body: &[u8]) -> Result<(), Malformed> {
        if message_type != libc::RTM_NEWQDISC {
            return Ok(());
        }
        let message = Message::read(body)?;
        if message.header.parent == TC_H_CLSACT {
            self.for_filters.extend(message.for_filters().map(|qdisc| (message.header.ifindex, qdisc)));
        } else if let Some([packets, bytes, _]) = message.queue {
            let waiting = self.waiting.entry(message.header.ifindex).or_default();
            *waiting = packets.max(bytes.min(1)).max(*waiting);
        }
        match message.qdisc() {
            Some(Qdisc::Root(qdisc)) => drop(self.roots.insert(qdisc.ifindex, qdisc)),
            Some(Qdisc::Clsact { ifindex, dropped_packets }) => {
                self.filter_drops.insert(ifindex, dropped_packets);
            }
            None => {}
        }
        Ok(())
    }

    /// What a device's root qdisc did since `earlier`, or if that is `None` since the device was made. `None` if it is not known,
    /// or another one: what its predecessor did is not known.
    #[must_use]
    pub fn root_since(&self, earlier: Option<&Self>, ifindex: u32) -> Option<model::Qdisc> {
        let before = match earlier {
            Some(earlier) => Some(earlier.roots.get(&ifindex)?),
            None => None,
        };
        self.roots.get(&ifindex)?.since(before)
    }

    /// What legacy filters dropped on a device since `earlier`, where there were none if it is `None`. `None` if they are gone.
    #[must_use]
    pub fn filter_drops_since(&self, earlier: Option<&Self>, ifindex: u32) -> Option<u64> {
        let before = earlier.and_then(|earlier| earlier.filter_drops.get(&ifindex)).copied();
        let now = match (self.filter_drops.get(&ifindex), before) {
            (Some(&now), _) => now,
            (None, None) => 0,
            (None, Some(_)) => return None,
        };
        now.checked_sub(before.unwrap_or(0)).map(u64::from)
    }
}

impl RootQdisc {
    /// What it did since `earlier`, or if there is none since it was made. `None` if it is another one: replaced, or made anew.
    fn since(&self, earlier: Option<&Self>) -> Option<model::Qdisc> {
        if earlier.is_some_and(|earlier| (&earlier.kind, earlier.handle) != (&self.kind, self.handle)) {
            return None;
        }
        let counted = |of: fn(&Self) -> u32| earlier.map_or(0, of);
        let grown = |of: fn(&Self) -> u32| i64::from(of(self)) - i64::from(counted(of));
        Some(model::Qdisc {
            kind: self.kind.clone(),
            passed_bytes: self.passed_bytes.checked_sub(earlier.map_or(0, |earlier| earlier.passed_bytes))?,
            dropped_packets: self.dropped_packets.checked_sub(counted(|qdisc| qdisc.dropped_packets))?.into(),
            queued_packets: grown(|qdisc| qdisc.queued_packets),
            queued_bytes: grown(|qdisc| qdisc.queued_bytes),
        })
    }
}

/// A qdisc that counts what netpath wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Qdisc {
    Root(RootQdisc),
    Clsact { ifindex: u32, dropped_packets: u32 },
}

/// A message about one qdisc.
#[derive(Debug, Default)]
struct Message {
    header: TcMessage,
    kind: String,
    /// It has a size table (`tc qdisc … stab`): its bytes are not those of packets.
    resized: bool,
    passed_bytes: Option<u64>,
    /// `struct gnet_stats_queue`: packets and bytes that wait, packets dropped.
    queue: Option<[u32; 3]>,
}

impl Message {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let (header, attributes) = TcMessage::read(body)?;
        let (mut message, mut kind) = (Self { header, ..Self::default() }, None);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                TCA_KIND => kind = Some(attribute.string()),
                TCA_STAB => message.resized = true,
                TCA_STATS2 => message.read_statistics(attribute.nested())?,
                _ => {}
            }
        }
        Ok(Self { kind: kind.ok_or(Malformed)?, ..message })
    }

    fn read_statistics(&mut self, attributes: Attributes<'_>) -> Result<(), Malformed> {
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                TCA_STATS_BASIC => self.passed_bytes = Some(u64_at(attribute.value, 0)?),
                TCA_STATS_QUEUE => {
                    let at = |index: usize| u32_at(attribute.value, index * 4);
                    self.queue = Some([at(0)?, at(1)?, at(2)?]);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn for_filters(&self) -> Option<FilterQdisc> {
        match self.kind.as_str() {
            "clsact" => Some(FilterQdisc::Clsact),
            "ingress" => Some(FilterQdisc::Ingress),
            _ => None,
        }
    }

    /// `None` for other qdiscs, and for a root with a size table.
    fn qdisc(self) -> Option<Qdisc> {
        let TcMessage { ifindex, handle, parent, .. } = self.header;
        let [queued_packets, queued_bytes, dropped_packets] = self.queue?;
        match parent {
            // An ingress qdisc is in the same place, and has ingress filters only.
            TC_H_CLSACT if self.kind == "clsact" => Some(Qdisc::Clsact { ifindex, dropped_packets }),
            TC_H_ROOT if !self.resized => Some(Qdisc::Root(RootQdisc {
                ifindex,
                kind: self.kind,
                handle,
                passed_bytes: self.passed_bytes?,
                queued_packets,
                queued_bytes,
                dropped_packets,
            })),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attributes::attribute;

    /// As the kernel writes it: `struct tcmsg`, the kind, statistics of which some are of no interest.
    fn message(parent: u32) -> Vec<u8> {
        named(parent, b"tbf\0")
    }

    fn named(parent: u32, kind: &[u8]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let basic = [&1_234_567_890_123_u64.to_ne_bytes()[..], &words(&[99, 0])].concat();
        let stats = [attribute(1, &basic), attribute(9, &[1; 3]), attribute(3, &words(&[4, 5_000, 6, 7, 8]))].concat();
        let attributes = [attribute(1, kind), attribute(2, &[0; 10]), attribute(7, &stats)].concat();
        [words(&[0, 12, 0x10000, parent, 2]), attributes].concat()
    }

    fn qdisc(payload: &[u8]) -> Result<Option<Qdisc>, Malformed> {
        Message::read(payload).map(Message::qdisc)
    }

    fn read(message: &[u8]) -> Option<RootQdisc> {
        match qdisc(message).expect("it is whole") {
            Some(Qdisc::Root(qdisc)) => Some(qdisc),
            _ => None,
        }
    }

    const READ: (u32, u64, u32, u32, u32) = (12, 1_234_567_890_123, 4, 5_000, 6);

    #[test]
    fn the_root_only_and_none_with_a_size_table() {
        let root = read(&message(TC_H_ROOT)).expect("a root");
        let RootQdisc { ifindex, passed_bytes, queued_packets, queued_bytes, dropped_packets, .. } = root;
        assert_eq!((ifindex, passed_bytes, queued_packets, queued_bytes, dropped_packets), READ);
        assert_eq!((root.kind.as_str(), root.handle), ("tbf", 0x10000));
        assert_eq!(read(&message(0x10000)), None);
        assert_eq!(read(&[message(TC_H_ROOT), attribute(TCA_STAB, &[0; 4])].concat()), None);
    }

    #[test]
    fn what_waits_in_a_device() {
        let mut all = Qdiscs::default();
        let mut add = |message: &[u8]| {
            all.add(libc::RTM_NEWQDISC, message).expect("it is whole");
            all.waiting.get(&12).copied()
        };
        assert_eq!(add(&named(TC_H_CLSACT, b"clsact\0")), None, "filters, not packets");
        let child = message(0x10001);
        assert_eq!(add(&child), Some(4), "in a child");
        let at = child.windows(4).position(|word| word == 4_u32.to_ne_bytes()).expect("packets");
        let without_packets = [&child[..at], &[0; 4], &child[at + 4..]].concat();
        assert_eq!(add(&without_packets), Some(4), "the largest");
        let mut all = Qdiscs::default();
        all.add(libc::RTM_NEWQDISC, &without_packets).expect("it is whole");
        assert_eq!(all.waiting[&12], 1, "bytes alone");
        let with_table = [message(TC_H_ROOT), attribute(TCA_STAB, &[0; 4])].concat();
        let mut all = Qdiscs::default();
        all.add(libc::RTM_NEWQDISC, &with_table).expect("it is whole");
        assert_eq!((all.waiting[&12], all.roots.len()), (4, 0));
    }

    #[test]
    fn qdiscs_for_filters() {
        let one = |kind: &[u8]| {
            let mut all = Qdiscs::default();
            all.add(libc::RTM_NEWQDISC, &named(TC_H_CLSACT, kind)).map(|()| all.for_filters.get(&12).copied())
        };
        assert_eq!(one(b"clsact\0"), Ok(Some(FilterQdisc::Clsact)));
        assert_eq!(one(b"ingress\0"), Ok(Some(FilterQdisc::Ingress)));
        assert_eq!(one(b"fq_codel\0"), Ok(None));
        let header = TcMessage { ifindex: 12, ..TcMessage::default() }.to_bytes();
        assert_eq!(Qdiscs::default().add(libc::RTM_NEWQDISC, &header), Err(Malformed), "no kind");
        assert_eq!(Qdiscs::default().add(libc::RTM_NEWQDISC, &[0; 19]), Err(Malformed));
    }

    #[test]
    fn drops_of_filters() {
        let clsact = Some(Qdisc::Clsact { ifindex: 12, dropped_packets: 6 });
        assert_eq!(qdisc(&named(TC_H_CLSACT, b"clsact\0")).expect("it is whole"), clsact);
        assert_eq!(qdisc(&named(TC_H_CLSACT, b"ingress\0")).expect("it is whole"), None);
        let reading =
            |drops: &[(u32, u32)]| Qdiscs { filter_drops: drops.iter().copied().collect(), ..Qdiscs::default() };
        let (earlier, now) = (reading(&[(1, 5), (2, 9), (3, 7)]), reading(&[(1, 8), (2, 1), (4, 2)]));
        let since = |ifindex| now.filter_drops_since(Some(&earlier), ifindex);
        // As they were; made anew; gone; new; none.
        assert_eq!([1, 2, 3, 4, 5].map(since), [Some(3), None, None, Some(2), Some(0)]);
        assert_eq!(now.filter_drops_since(None, 1), Some(8));
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        let whole = message(TC_H_ROOT);
        for length in 0..whole.len() {
            assert!(!matches!(qdisc(&whole[..length]), Ok(Some(_))), "{length}");
        }
    }

    #[test]
    fn another_one_is_not_compared() {
        let earlier = read(&message(TC_H_ROOT)).expect("a root");
        let mut now = RootQdisc { passed_bytes: earlier.passed_bytes + 100, queued_packets: 1, ..earlier.clone() };
        now.queued_bytes -= 3_000;
        now.dropped_packets += 2;
        let moved = now.since(Some(&earlier)).expect("the same");
        assert_eq!((moved.passed_bytes, moved.dropped_packets, moved.queued_packets), (100, 2, -3));
        assert_eq!(moved.queued_bytes, -3_000);
        assert_eq!(now.since(None).expect("new").queued_packets, 1);
        assert_eq!(earlier.since(Some(&now)), None);
        assert_eq!(RootQdisc { handle: 1, ..now.clone() }.since(Some(&earlier)), None);
        assert_eq!(RootQdisc { kind: "htb".to_owned(), ..now }.since(Some(&earlier)), None);
    }
}
