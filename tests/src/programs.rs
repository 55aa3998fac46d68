//! Little eBPF programs as others put them on a device's hooks: each gives one answer to every packet.
//!
//! In: the answer. Out: a loaded program that `aya` attaches. They are written in instructions, so that they share nothing
//! with netpath's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, loaded_programs};

/// What a program does with every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `TC_ACT_UNSPEC`, `TCX_NEXT`: the next one may decide.
    Next,
    /// `TC_ACT_OK`, `TCX_PASS`: let it pass, ask nobody else.
    Pass,
    /// `TC_ACT_SHOT`, `TCX_DROP`: drop it, ask nobody else.
    Drop,
    /// `bpf_redirect`: send it out of this device, ask nobody else.
    Redirect {
        /// The device.
        ifindex: u32,
    },
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// The helper `bpf_redirect`.
const REDIRECT: u32 = 23;

/// `struct bpf_insn`: `r[register] = value`.
pub(crate) fn set(register: u8, value: u32) -> [u8; 8] {
    instruction(0xb7, register, value)
}

pub(crate) fn instruction(code: u8, register: u8, value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_ne_bytes();
    [code, register, 0, 0, a, b, c, d]
}

impl Answer {
    fn instructions(self) -> Vec<u8> {
        let exit = instruction(0x95, 0, 0);
        let all = match self {
            Self::Next => vec![set(0, u32::MAX), exit],
            Self::Pass => vec![set(0, 0), exit],
            Self::Drop => vec![set(0, 2), exit],
            Self::Redirect { ifindex } => vec![set(1, ifindex), set(2, 0), instruction(0x85, 0, REDIRECT), exit],
        };
        all.concat()
    }

    /// Loads the program under a name of at most 15 bytes. It stays as long as it is kept or attached.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(self, name: &str) -> Result<SchedClassifier> {
        let program = load(BPF_PROG_TYPE_SCHED_CLS, &self.instructions(), name)
            .with_context(|| format!("cannot load the program {name}"))?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
        let loaded = loaded_programs().flatten().find(|info| Some(info.id()) == id).context("no such program")?;
        Ok(SchedClassifier::from_program_info(loaded, name.to_owned().into())?)
    }
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
    // SAFETY: the attribute is the command's, of the size passed, and its addresses are of `insn_cnt` instructions and of a
    // C string, both alive during the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw mut attr, size_of::<LoadAttr>()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
