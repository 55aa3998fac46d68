//! Traffic control: the header of its messages, and the request for a qdisc.
//!
//! Protocols are in network byte order in the kernel's structures, all other numbers in the machine's.

use super::attributes::{Attributes, Malformed, attribute, u32_at};

/// `struct tcmsg` (linux/rtnetlink.h): family, padding, ifindex, handle, parent, info.
pub const TCMSG_BYTES: usize = 20;

// linux/rtnetlink.h
/// The kind of a qdisc or filter ("clsact", "bpf").
pub const TCA_KIND: u16 = 1;
/// What a kind adds.
pub const TCA_OPTIONS: u16 = 2;
/// Statistics of a qdisc.
pub const TCA_STATS2: u16 = 7;
/// A qdisc's size table.
pub const TCA_STAB: u16 = 8;
/// The chain of a filter.
pub const TCA_CHAIN: u16 = 11;

// linux/pkt_sched.h
/// The parent of a root qdisc.
pub const TC_H_ROOT: u32 = 0xffff_ffff;
/// The parent of a qdisc for filters, be it `clsact` or `ingress`.
pub const TC_H_CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MIN_INGRESS` of a clsact qdisc: the parent of its filters at ingress.
pub const INGRESS: u32 = 0xffff_fff2;
/// `TC_H_MIN_EGRESS` of a clsact qdisc: the parent of its filters at egress.
pub const EGRESS: u32 = 0xffff_fff3;
/// The handle of a clsact qdisc, as tc chooses it.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// `struct tcmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcMessage {
    /// The device; 0 for all.
    pub ifindex: u32,
    /// The kernel's number for a qdisc or filter.
    pub handle: u32,
    /// What it hangs on.
    pub parent: u32,
    /// Of a filter: its priority and protocol.
    pub info: u32,
}

impl TcMessage {
    /// Reads a message: its header, and its attributes.
    pub fn read(body: &[u8]) -> Result<(Self, Attributes<'_>), Malformed> {
        let [ifindex, handle, parent, info] = [4, 8, 12, 16].map(|at| u32_at(body, at));
        let message = Self { ifindex: ifindex?, handle: handle?, parent: parent?, info: info? };
        Ok((message, Attributes::after(TCMSG_BYTES, body)?))
    }

    /// The header as it is sent.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [0, self.ifindex, self.handle, self.parent, self.info].into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    /// The `info` of a filter.
    #[must_use]
    pub fn filter_info(priority: u16, protocol: u16) -> u32 {
        u32::from(priority) << 16 | u32::from(protocol.to_be())
    }

    /// The priority and protocol of a filter.
    #[must_use]
    pub fn priority_and_protocol(self) -> (u16, u16) {
        let [high, low] = [self.info >> 16, self.info & 0xffff].map(|half| u16::try_from(half).unwrap_or_default());
        (high, u16::from_be(low))
    }
}

/// The body of a request for a clsact qdisc (`RTM_NEWQDISC`).
#[must_use]
pub fn new_clsact(ifindex: u32) -> Vec<u8> {
    let header = TcMessage { ifindex, handle: CLSACT_HANDLE, parent: TC_H_CLSACT, info: 0 };
    [header.to_bytes(), attribute(TCA_KIND, b"clsact\0")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = TcMessage { ifindex: 9, handle: 1, parent: INGRESS, info: TcMessage::filter_info(5, 3) };
        let bytes = message.to_bytes();
        assert_eq!(bytes.len(), TCMSG_BYTES);
        assert_eq!(TcMessage::read(&bytes).map(|(read, _)| read), Ok(message));
        assert_eq!(message.priority_and_protocol(), (5, 3));
        assert_eq!(TcMessage::read(&bytes[..TCMSG_BYTES - 1]).err(), Some(Malformed));
        let (clsact, attributes) =
            TcMessage::read(&new_clsact(9)).map(|(read, all)| (read, all.count())).expect("whole");
        assert_eq!((clsact.ifindex, clsact.parent, attributes), (9, TC_H_CLSACT, 1));
    }
}
