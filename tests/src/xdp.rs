//! XDP programs as others put them on a device: each gives one answer to every frame.
//!
//! In: the answer. Out: the program on the device, for as long as it is kept. They are written in instructions, so that they
//! share nothing with netpath's.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

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

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

impl Xdp {
    /// Loads a program and puts it on a device.
    ///
    /// # Errors
    /// When there is no such device, or it does not run XDP there.
    pub fn attach(namespace: &Namespace, device: &str, answer: XdpAnswer, run: XdpRun) -> Result<Self> {
        // r0 = answer; exit
        let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, answer as u8, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
        let attach = || {
            let license = c"GPL";
            let load = LoadAttr {
                prog_type: BPF_PROG_TYPE_XDP,
                insn_cnt: 2,
                insns: instructions.as_ptr() as u64,
                license: license.as_ptr() as u64,
            };
            let program = bpf(BPF_PROG_LOAD, load)?;
            let name = std::ffi::CString::new(device)?;
            // SAFETY: a C string that lives through the call.
            let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
            let create = LinkAttr {
                prog_fd: program.as_raw_fd().cast_unsigned(),
                target_ifindex: ifindex,
                attach_type: BPF_XDP,
                flags: run as u32,
            };
            bpf(BPF_LINK_CREATE, create)
        };
        let link = namespace.run(attach)?.with_context(|| format!("cannot put an XDP program on {device}"))?;
        Ok(Self { _link: link })
    }
}

/// `union bpf_attr`, member for `BPF_PROG_LOAD`: its first fields. The kernel takes the rest for zeros.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// `union bpf_attr`, member for `BPF_LINK_CREATE`: its first fields.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// bpf(2), for a command that answers with a descriptor.
fn bpf<T>(command: libc::c_long, attr: T) -> io::Result<OwnedFd> {
    // SAFETY: both commands read an attribute of the size passed; what it points to lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attr, size_of::<T>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
