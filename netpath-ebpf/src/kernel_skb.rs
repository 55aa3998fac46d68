//! How a tracepoint's program reads a packet: in the kernel's memory, from its IP header on.
//!
//! In: the address of a `struct sk_buff`, and where the running kernel has its fields. Out: headers at offsets, for
//! `netpath_ebpf::parse`. What cannot be read is not there.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use netpath_ebpf::SkbOffsets;
use netpath_ebpf::parse::{EtherType, Header, Packet};

/// An IP packet.
pub struct KernelSkb {
    /// The address of its IP header.
    start: u64,
    /// `skb->protocol`: that of IPv4 or IPv6, network byte order.
    pub ethertype_be: u16,
}

impl KernelSkb {
    /// `None` if it is no IP packet, or the offsets are unknown.
    #[inline(always)]
    pub fn read(address: u64, offsets: &SkbOffsets) -> Option<Self> {
        if offsets.head == 0 {
            return None;
        }
        let head: u64 = read_kernel(address + u64::from(offsets.head))?;
        let network_header: u16 = read_kernel(address + u64::from(offsets.network_header))?;
        let ethertype_be: u16 = read_kernel(address + u64::from(offsets.protocol))?;
        let is_ip = ethertype_be == EtherType::IPV4_BE || ethertype_be == EtherType::IPV6_BE;
        is_ip.then_some(Self { start: head + u64::from(network_header), ethertype_be })
    }
}

impl Packet for KernelSkb {
    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        read_kernel(self.start + u64::from(offset))
    }
}

/// The network namespace of a packet's device, by its inode; 0 if it is not known. A socket's packet has something else in that field, at
/// which nothing can be read.
#[inline(always)]
pub fn netns(skb: u64, offsets: &SkbOffsets) -> u32 {
    let read = || {
        let device: u64 = read_kernel(skb + u64::from(offsets.dev))?;
        let net: u64 = read_kernel(device + u64::from(offsets.nd_net))?;
        read_kernel(net + u64::from(offsets.inum))
    };
    read().unwrap_or(0)
}

/// Reads the kernel's memory; `None` where nothing can be read.
#[inline(always)]
pub fn read_kernel<T>(address: u64) -> Option<T> {
    // SAFETY: the helper fails where nothing can be read.
    unsafe { bpf_probe_read_kernel(address as *const T).ok() }
}
