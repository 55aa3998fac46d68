//! How the programs read a packet: its linear part directly, the rest by a helper, and what its bytes begin with.
//!
//! In: a program's context. Out: headers at offsets, for `netpath_ebpf::parse`. It changes nothing.

use core::arch::asm;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use netpath_ebpf::parse::{self, EtherType, Family, Header, Packet, Start};

/// The linear part of a packet, by direct access.
pub struct Linear {
    data: usize,
    data_end: usize,
}

impl Linear {
    #[inline(always)]
    pub fn of(skb: *mut __sk_buff) -> Self {
        // SAFETY: the kernel passes a valid context.
        unsafe { Self { data: (*skb).data as usize, data_end: (*skb).data_end as usize } }
    }
}

impl Linear {
    /// Bytes of it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        let mut len = self.data_end - self.data;
        // SAFETY: no instruction. It keeps the compiler from taking the difference apart: with pointers the verifier allows
        // nothing but that.
        unsafe { asm!("/* {len} */", len = inout(reg) len, options(nomem, nostack, preserves_flags)) };
        len as u32
    }
}

impl Packet for Linear {
    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        let start = self.data + offset as usize;
        if start + size_of::<T>() > self.data_end {
            return None;
        }
        // SAFETY: within the packet, as just compared, which the verifier checks too. Loads from packet memory need no
        // alignment on the machines netpath runs on (CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS).
        Some(unsafe { (start as *const T).read() })
    }
}

/// The whole packet: if `DIRECT` its linear part by direct access, and what is behind through a helper call for each read, which
/// is half as much for the verifier to look at.
pub struct SkbReader<const DIRECT: bool> {
    /// The context.
    pub skb: *mut __sk_buff,
}

impl<const DIRECT: bool> Packet for SkbReader<DIRECT> {
    #[inline(always)]
    fn read<T: Header>(&self, offset: u32) -> Option<T> {
        // The verifier wants a limit.
        if DIRECT
            && offset < 0x8000
            && let Some(header) = Linear::of(self.skb).read(offset)
        {
            return Some(header);
        }
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes as many bytes as the header has, or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset, header.as_mut_ptr().cast(), size_of::<T>() as u32) };
        // SAFETY: the helper wrote all of it, and a header is valid for all bytes.
        (failed == 0).then(|| unsafe { header.assume_init() })
    }

    #[inline(always)]
    fn link(&self, start: Start, offset: u32) -> u64 {
        netpath_link(self.skb, start.word(), offset)
    }

    #[inline(always)]
    fn extensions(&self, next_header: u8, offset: u32) -> u64 {
        netpath_extensions(self.skb, u32::from(next_header), offset)
    }

    #[inline(always)]
    fn transport(&self, family: Family, number: u8, offset: u32) -> u64 {
        netpath_transport(self.skb, family as u32, u32::from(number), offset)
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_link(skb: *mut __sk_buff, start: u32, offset: u32) -> u64 {
    parse::link(&SkbReader::<true> { skb }, start, offset)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_extensions(skb: *mut __sk_buff, next_header: u32, offset: u32) -> u64 {
    parse::extensions(&SkbReader::<true> { skb }, next_header as u8, offset)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn netpath_transport(skb: *mut __sk_buff, family: u32, number: u32, offset: u32) -> u64 {
    let family = if family == Family::V4 as u32 { Family::V4 } else { Family::V6 };
    parse::transport(&SkbReader::<true> { skb }, family, number as u8, offset)
}

/// The most bytes that are looked for before the network header of a device without link layer: IPv6, GRE and an encapsulation,
/// with room.
const MOST_BEFORE: u32 = 128;

/// What the packet begins with, as one number ([`Start::word`]): by where its network header is, since the device's type does not
/// decide that. A device without link layer may receive a packet that still has the Ethernet header of the device before
/// (xfrm and vti interfaces, `bpf_redirect`, mirred), or has been given its tunnel's own (GRE without a remote end). Those bytes
/// are not the packet's. And mirred sends a packet without link header out of a device that has them.
///
/// Where the headers are not in the packet's linear part, or the kernel has not noted where they are, the device decides.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn netpath_start(skb: *mut __sk_buff, ethernet: u32) -> u32 {
    // SAFETY: the kernel passes a valid context. Volatile, or the compiler would choose between the addresses of two fields,
    // which the verifier does not allow.
    let (protocol, vlan_tci, vlan_present) = unsafe {
        (
            (&raw const (*skb).protocol).read_volatile(),
            (&raw const (*skb).vlan_tci).read_volatile(),
            (&raw const (*skb).vlan_present).read_volatile(),
        )
    };
    let ethertype_be = protocol as u16;
    let linear_len = Linear::of(skb).len();
    let start = if ethernet == 0 {
        Start::Ip { offset: network_offset(skb, linear_len), ethertype_be }
    } else if matches!(ethertype_be, EtherType::IPV4_BE | EtherType::IPV6_BE)
        && is_network_within(skb, linear_len, 0)
        && !is_network_within(skb, linear_len + 1, 0)
    {
        Start::Ip { offset: 0, ethertype_be }
    } else {
        Start::Ethernet { vlan_tci: if vlan_present != 0 { Some(vlan_tci as u16) } else { None } }
    };
    start.word()
}

/// Bytes before the network header.
#[inline(always)]
fn network_offset(skb: *mut __sk_buff, linear_len: u32) -> u8 {
    let mut offset = 0;
    while offset <= MOST_BEFORE {
        if offset >= linear_len || is_network_within(skb, linear_len, offset) {
            return offset as u8;
        }
        offset += 2;
    }
    0
}

/// Whether the network header begins `offset` bytes behind the packet's start or before. `__sk_buff` does not have its place, but
/// the helper reads relative to it, and no further than to the end of the linear part.
#[inline(always)]
fn is_network_within(skb: *mut __sk_buff, linear_len: u32, offset: u32) -> bool {
    let mut byte = 0_u8;
    let last = linear_len.wrapping_sub(offset + 1);
    // SAFETY: the helper writes one byte.
    unsafe { bpf_skb_load_bytes_relative(skb.cast(), last, (&raw mut byte).cast(), 1, BPF_HDR_START_NET) == 0 }
}
