//! What the kernel dropped in a window, with the names of reasons and places.
//!
//! In: counts by numbers and addresses. Out: [`KernelDrops`]. Names of functions are read when there is an address that was not
//! seen before.

use std::collections::HashMap;

use netpath_ebpf::NO_REASON;

use super::node::own_netns;
use crate::kernel::flow_counts::{Dropped, FlowCounts};
use crate::kernel::frees::SkbFrees;
use crate::kernel::symbols::SymbolFile;
use crate::snapshot::{KernelDrop, KernelDrops};

/// Names what was dropped.
pub struct DropNamer {
    frees: SkbFrees,
    /// `None` if it may not be read.
    symbols: Option<SymbolFile>,
    /// Functions by address; `None` of those without a name.
    functions: HashMap<u64, Option<String>>,
    /// The inode of this network namespace; 0 if it is not known.
    own_netns: u32,
}

impl DropNamer {
    /// Must be called with the capability that `/proc/kallsyms` takes to be opened (`CAP_SYSLOG`).
    pub fn new(frees: SkbFrees) -> Self {
        Self { frees, symbols: SymbolFile::open().ok(), functions: HashMap::new(), own_netns: own_netns() }
    }

    /// What was dropped in a window.
    pub fn drops(&mut self, flow_counts: &FlowCounts) -> KernelDrops {
        let dropped: Vec<Dropped> = flow_counts.dropped().collect();
        self.read_functions(&dropped);
        KernelDrops {
            watched: self.frees.unseen.is_none(),
            unwatched_reason: self.frees.unseen.clone(),
            lost_packets: flow_counts.drops_lost,
            records: dropped.iter().map(|one| self.record(one)).collect(),
        }
    }

    fn record(&self, dropped: &Dropped) -> KernelDrop {
        let reasons = &self.frees.reasons;
        let reason = |number| reasons.get(&number).cloned().unwrap_or_else(|| format!("reason {number:#x}"));
        let netns = dropped.netns;
        KernelDrop {
            tuple: dropped.tuple,
            reason: Some(dropped.reason).filter(|number| *number != NO_REASON).map(reason),
            location: self.functions.get(&dropped.location).cloned().flatten(),
            in_node: (netns != 0 && self.own_netns != 0).then_some(netns == self.own_netns),
            packets: dropped.packets,
        }
    }

    fn read_functions(&mut self, dropped: &[Dropped]) {
        if dropped.iter().all(|one| self.functions.contains_key(&one.location)) {
            return;
        }
        let Some(symbols) = self.symbols.as_mut().and_then(|file| file.read().ok()) else { return };
        for one in dropped {
            self.functions.entry(one.location).or_insert_with(|| symbols.name(one.location));
        }
    }
}
