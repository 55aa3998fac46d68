//! Legacy filters that a killed netpath left behind: finds them, and removes them.
//!
//! In: ifindexes, in the network namespace of the calling thread. It touches only filters that are eBPF, have the name of a
//! netpath program, and the handle of a netpath that is not running. Their clsact qdisc stays: it may be in use.

use std::io;

use netpath_ebpf::map;

use super::filter_owner;
use super::hooks::{Filter, HookReader};
use crate::model::Direction;
use crate::netlink::Requester;
use crate::netlink::tc::TcMessage;

/// A filter that netpath added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFilter {
    /// The device that it is on.
    pub ifindex: u32,
    /// The hook.
    pub direction: Direction,
    /// The program's name.
    pub program: &'static str,
    /// Its place in the chain.
    pub priority: u16,
    /// Its handle, which names its owner.
    pub handle: u32,
    /// Whether the process that added it is running.
    pub is_used: bool,
    parent: u32,
    protocol: u16,
}

/// All filters of any netpath on these devices. Needs `CAP_SYS_ADMIN` if there are any (else `EPERM`).
pub fn find(ifindexes: impl IntoIterator<Item = u32>) -> io::Result<Vec<OwnFilter>> {
    let mut reader = HookReader::open()?;
    let with_qdisc = reader.qdiscs()?;
    let devices = reader.read(ifindexes.into_iter().filter(|ifindex| with_qdisc.contains_key(ifindex)))?;
    let mut found = Vec::new();
    for (ifindex, hooks) in devices {
        for (direction, hook) in [(Direction::Rx, &hooks.rx), (Direction::Tx, &hooks.tx)] {
            for filter in &hook.filters {
                found.extend(own(ifindex, direction, filter)?);
            }
        }
    }
    Ok(found)
}

fn own(ifindex: u32, direction: Direction, filter: &Filter) -> io::Result<Option<OwnFilter>> {
    let name = filter.bpf.as_ref().and_then(|bpf| bpf.name.as_deref());
    let program = map::PROGRAMS.into_iter().find(|program| name == Some(program));
    let Some(program) = program.filter(|_| filter.shared_block.is_none() && filter.chain == 0) else { return Ok(None) };
    let &Filter { priority, handle, parent, protocol, .. } = filter;
    let own = |is_used| OwnFilter { ifindex, direction, program, priority, handle, is_used, parent, protocol };
    Ok(filter_owner::is_held(handle)?.map(own))
}

/// Removes filters that are not in use. Returns how many it removed: another netpath may be faster.
pub fn remove<'a>(filters: impl IntoIterator<Item = &'a OwnFilter>) -> io::Result<usize> {
    let mut netlink = Requester::open()?;
    let mut removed = 0;
    for filter in filters.into_iter().filter(|filter| !filter.is_used) {
        match netlink.get(libc::RTM_DELTFILTER, &filter.tcmsg(), |_, _| {}) {
            Ok(()) => removed += 1,
            // The filter or its device is gone: the kernel's errors for a qdisc, a priority, and a handle that is not there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ENOENT)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

impl OwnFilter {
    /// The header that names exactly this filter.
    fn tcmsg(&self) -> Vec<u8> {
        let &Self { ifindex, handle, parent, priority, protocol, .. } = self;
        TcMessage { ifindex, handle, parent, info: TcMessage::filter_info(priority, protocol) }.to_bytes()
    }
}
