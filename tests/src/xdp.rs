//! XDP programs as others put them on a device: each gives one answer to every frame.
//!
//! In: the answer. Out: the program on the device, for as long as it is kept. They are written in instructions, so that they
//! share nothing with netpath's.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use crate::bpf::{bpf, descriptor, instruction, load, set};
use crate::namespace::Namespace;

/// What a program does with every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpAnswer {
    /// `XDP_DROP`.
    Drop = 1,
    /// `XDP_PASS`.
    Pass = 2,
    /// `XDP_TX`: send it back.
    SendBack = 3,
}

/// Where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpRun {
    /// In the kernel's receive path: `XDP_FLAGS_SKB_MODE`.
    Generic = 2,
    /// In the driver: `XDP_FLAGS_DRV_MODE`.
    Driver = 4,
}

/// A program on a device. Dropping it takes it off.
#[derive(Debug)]
pub struct Xdp {
    _link: OwnedFd,
}

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `union bpf_attr`, member for `BPF_LINK_CREATE`: its first fields. The kernel takes the rest for zeros.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl Xdp {
    /// Loads a program and puts it on a device.
    ///
    /// # Errors
    /// When there is no such device, or it does not run XDP there.
    pub fn attach(namespace: &Namespace, device: &str, answer: XdpAnswer, run: XdpRun) -> Result<Self> {
        let instructions = [set(0, answer as u32), instruction(0x95, 0, 0)].concat();
        let program = load(BPF_PROG_TYPE_XDP, &instructions, "others_xdp")?;
        let mut attr = LinkAttr {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_ifindex: namespace.ifindex(device)?,
            attach_type: BPF_XDP,
            flags: run as u32,
        };
        let link = namespace.run(|| bpf(BPF_LINK_CREATE, &mut attr))?;
        let link = link.with_context(|| format!("cannot put an XDP program on {device}"))?;
        Ok(Self { _link: descriptor(link)? })
    }
}
