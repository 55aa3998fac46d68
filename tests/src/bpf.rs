//! `bpf(2)` by hand, and programs written in instructions, so that what the lab puts beside netpath's programs shares nothing
//! with them.
//!
//! In: attributes and instructions. Out: descriptors.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

const BPF_PROG_LOAD: libc::c_long = 5;

/// `struct bpf_insn`: `r[register] = value`.
pub(crate) fn set(register: u8, value: u32) -> [u8; 8] {
    instruction(0xb7, register, value)
}

pub(crate) fn instruction(code: u8, register: u8, value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_ne_bytes();
    [code, register, 0, 0, a, b, c, d]
}

/// `union bpf_attr`, member for `BPF_PROG_LOAD`, up to `prog_name`.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Loads a program of this type.
pub(crate) fn load(prog_type: u32, instructions: &[u8], name: &str) -> Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type,
        insn_cnt: u32::try_from(instructions.len() / 8)?,
        insns: instructions.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        ..LoadAttr::default()
    };
    attr.prog_name.get_mut(..name.len()).context("too long a name")?.copy_from_slice(name.as_bytes());
    descriptor(bpf(BPF_PROG_LOAD, &mut attr)?)
}

/// `bpf(2)`. `attr` must be the command's member of `union bpf_attr`, with addresses that are alive.
pub(crate) fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // Before Linux 5.11 programs and maps count as locked memory, and so do those of a netpath that runs as the same user.
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a limit that lives through the call.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
    // SAFETY: the attribute is of the size passed, and the callers above see to what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over what `bpf(2)` made.
pub(crate) fn descriptor(fd: libc::c_long) -> Result<OwnedFd> {
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.try_into()?) })
}
