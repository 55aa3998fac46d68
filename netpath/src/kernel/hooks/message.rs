//! Reads rtnetlink's messages about qdiscs and filters.
//!
//! In: one message's type and body. Out: the few facts netpath needs. Pure. A message that is not as the kernel's headers
//! describe it is [`Malformed`], never skipped: the caller has to know that it missed something. Numbers are in the
//! machine's byte order, protocols in network byte order.

use netlink_packet_core::{DecodeError, NlasIterator, parse_u32};

use super::{BpfFilter, Filter, Program, Qdisc};
use crate::node::netlink::{c_string, lossy};

pub(super) const RTM_GETQDISC: u16 = libc::RTM_GETQDISC;
pub(super) const RTM_GETTFILTER: u16 = libc::RTM_GETTFILTER;

/// `struct tcmsg`: family, padding, ifindex, handle, parent, info.
const TCMSG_BYTES: usize = 20;
// linux/rtnetlink.h
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;
/// `tcm_ifindex` of a filter in a shared block; the block's number is in the place of the parent.
const TCM_IFINDEX_MAGIC_BLOCK: u32 = 0xffff_ffff;
// linux/pkt_cls.h
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const TCA_CLS_FLAGS_SKIP_SW: u32 = 1 << 1;
const TCA_CLS_FLAGS_IN_HW: u32 = 1 << 2;

/// A message is not as the kernel's headers describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Self
    }
}

/// The body of a request: a device (0 for all), and the hook.
pub(super) fn tcmsg(ifindex: u32, parent: u32) -> [u8; TCMSG_BYTES] {
    let mut bytes = [0; TCMSG_BYTES];
    bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes
}

/// The body of a request for a clsact qdisc on a device (`RTM_NEWQDISC`).
pub(in crate::kernel) fn new_clsact(ifindex: u32) -> Vec<u8> {
    // The handle that tc gives it, too.
    let mut bytes = tcmsg(ifindex, TC_H_CLSACT).to_vec();
    bytes[8..12].copy_from_slice(&CLSACT_HANDLE.to_ne_bytes());
    let kind = b"clsact\0";
    let length = u16::try_from(4 + kind.len()).unwrap_or_default();
    bytes.extend([length.to_ne_bytes(), TCA_KIND.to_ne_bytes()].concat());
    bytes.extend(kind);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A device and its qdisc for filters. `None` for a qdisc of another kind.
pub fn qdisc(message_type: u16, body: &[u8]) -> Result<Option<(u32, Qdisc)>, Malformed> {
    if message_type != libc::RTM_NEWQDISC {
        return Ok(None);
    }
    let ifindex = word(body, 4)?;
    for attribute in attributes(body)? {
        let attribute = attribute?;
        if attribute.kind() == TCA_KIND {
            return Ok(match c_string(attribute.value()) {
                b"clsact" => Some((ifindex, Qdisc::Clsact)),
                b"ingress" => Some((ifindex, Qdisc::Ingress)),
                _ => None,
            });
        }
    }
    Err(Malformed)
}

/// A filter. `None` for what is none: the kernel also tells of each priority as a whole, and of the tables of a u32 filter.
pub fn filter(message_type: u16, body: &[u8]) -> Result<Option<Filter>, Malformed> {
    if message_type != libc::RTM_NEWTFILTER {
        return Ok(None);
    }
    let (handle, parent) = (word(body, 8)?, word(body, 12)?);
    let shared_block = (word(body, 4)? == TCM_IFINDEX_MAGIC_BLOCK).then_some(parent);
    // The protocol is in network byte order in the lower half, the priority in the upper one.
    let info = word(body, 16)?;
    let [low, high] = [info & 0xffff, info >> 16].map(|half| u16::try_from(half).unwrap_or_default());
    let (mut kind, mut chain, mut options) = (None, 0, None);
    for attribute in attributes(body)? {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            TCA_KIND => kind = Some(lossy(value)),
            TCA_CHAIN => chain = parse_u32(value)?,
            TCA_OPTIONS => options = Some(value.to_vec()),
            _ => {}
        }
    }
    let kind = kind.ok_or(Malformed)?;
    let is_table = kind == "u32" && handle.trailing_zeros() >= 12;
    if is_table || (handle == 0 && options.is_none()) {
        return Ok(None);
    }
    let bpf = if kind == "bpf" { Some(bpf_options(options.as_deref().unwrap_or_default())?) } else { None };
    Ok(Some(Filter { kind, parent, shared_block, priority: high, handle, protocol: u16::from_be(low), chain, bpf }))
}

fn bpf_options(options: &[u8]) -> Result<BpfFilter, Malformed> {
    let mut filter = BpfFilter::default();
    let (mut id, mut tag) = (None, None);
    for attribute in NlasIterator::new(options) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            TCA_BPF_NAME => filter.name = Some(lossy(value)),
            TCA_BPF_FLAGS => filter.direct_action = parse_u32(value)? & TCA_BPF_FLAG_ACT_DIRECT != 0,
            TCA_BPF_FLAGS_GEN => {
                let flags = parse_u32(value)?;
                filter.skip_sw = flags & TCA_CLS_FLAGS_SKIP_SW != 0;
                filter.in_hw = flags & TCA_CLS_FLAGS_IN_HW != 0;
            }
            TCA_BPF_TAG => tag = Some(value.try_into().map_err(|_| Malformed)?),
            TCA_BPF_ID => id = Some(parse_u32(value)?),
            _ => {}
        }
    }
    filter.program = id.map(|id| Program { id, name: None, tag });
    Ok(filter)
}

fn attributes(body: &[u8]) -> Result<NlasIterator<&[u8]>, Malformed> {
    body.get(TCMSG_BYTES..).map(NlasIterator::new).ok_or(Malformed)
}

fn word(body: &[u8], at: usize) -> Result<u32, Malformed> {
    body.get(at..at + 4).ok_or(Malformed).and_then(|bytes| Ok(parse_u32(bytes)?))
}

#[cfg(test)]
mod tests;
