//! Reads rtnetlink's messages about filters.
//!
//! In: one message's type and body. Out: the few facts netpath needs. Pure. A message that is not as the kernel's headers
//! describe it is [`Malformed`], never skipped: the caller has to know that it missed something. Numbers are in the
//! machine's byte order, protocols in network byte order.

use super::{BpfFilter, Filter, Program};
use crate::netlink::tc::{TCA_CHAIN, TCA_KIND, TCA_OPTIONS, TcMessage};
use crate::netlink::{Attributes, Malformed};

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

/// A filter. `None` for other messages: the kernel also describes each priority as a whole, and the tables of a u32 filter.
pub fn filter(message_type: u16, body: &[u8]) -> Result<Option<Filter>, Malformed> {
    if message_type != libc::RTM_NEWTFILTER {
        return Ok(None);
    }
    let (header, attributes) = TcMessage::read(body)?;
    let TcMessage { ifindex, handle, parent, .. } = header;
    let (mut kind, mut chain, mut options) = (None, 0, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            TCA_KIND => kind = Some(attribute.string()),
            TCA_CHAIN => chain = attribute.u32()?,
            TCA_OPTIONS => options = Some(attribute.nested()),
            _ => {}
        }
    }
    let kind = kind.ok_or(Malformed)?;
    let is_table = kind == "u32" && handle.trailing_zeros() >= 12;
    if is_table || (handle == 0 && options.is_none()) {
        return Ok(None);
    }
    let bpf = if kind == "bpf" { Some(bpf_options(options.unwrap_or(Attributes::new(&[])))?) } else { None };
    let shared_block = (ifindex == TCM_IFINDEX_MAGIC_BLOCK).then_some(parent);
    let (priority, protocol) = header.priority_and_protocol();
    Ok(Some(Filter { kind, parent, shared_block, priority, handle, protocol, chain, bpf }))
}

fn bpf_options(options: Attributes<'_>) -> Result<BpfFilter, Malformed> {
    let mut filter = BpfFilter::default();
    let (mut id, mut tag) = (None, None);
    for attribute in options {
        let attribute = attribute?;
        match attribute.kind {
            TCA_BPF_NAME => filter.name = Some(attribute.string()),
            TCA_BPF_FLAGS => filter.direct_action = attribute.u32()? & TCA_BPF_FLAG_ACT_DIRECT != 0,
            TCA_BPF_FLAGS_GEN => {
                let flags = attribute.u32()?;
                filter.skip_sw = flags & TCA_CLS_FLAGS_SKIP_SW != 0;
                filter.in_hw = flags & TCA_CLS_FLAGS_IN_HW != 0;
            }
            TCA_BPF_TAG => tag = Some(attribute.array()?),
            TCA_BPF_ID => id = Some(attribute.u32()?),
            _ => {}
        }
    }
    filter.program = id.map(|id| Program { id, name: None, tag });
    Ok(filter)
}

#[cfg(test)]
mod tests;
