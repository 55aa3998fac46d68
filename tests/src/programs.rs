//! Little eBPF programs as others put them on a device's hooks: each gives one answer to every packet.
//!
//! In: the answer. Out: a loaded program that `aya` attaches. They are written in instructions, so that they share nothing
//! with netpath's.

use std::fs;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};

use crate::Namespace;
use crate::bpf::{bpf, descriptor, instruction, load, set};

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
    /// `bpf_redirect_peer`, at ingress: hand it to the other end of this veth, in another namespace, past the hooks of this
    /// one. IPv4 only; what else comes is for the next one.
    RedirectPeer {
        /// The device.
        ifindex: u32,
    },
}

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// The helpers `bpf_tail_call`, `bpf_skb_vlan_push`, `bpf_redirect`, `bpf_redirect_peer`.
const TAIL_CALL: u32 = 12;
const VLAN_PUSH: u32 = 18;
const REDIRECT: u32 = 23;
const REDIRECT_PEER: u32 = 155;
/// Where `struct __sk_buff` has the protocol.
const SKB_PROTOCOL: u8 = 16;
/// Where `struct __sk_buff` has the mark.
const SKB_MARK: u8 = 8;

impl Answer {
    fn instructions(self) -> Vec<u8> {
        let exit = instruction(0x95, 0, 0);
        let all = match self {
            Self::Next => vec![set(0, u32::MAX), exit],
            Self::Pass => vec![set(0, 0), exit],
            Self::Drop => vec![set(0, 2), exit],
            Self::Redirect { ifindex } => vec![set(1, ifindex), set(2, 0), instruction(0x85, 0, REDIRECT), exit],
            Self::RedirectPeer { ifindex } => vec![
                of_two(0x61, 2, 1, SKB_PROTOCOL, 0),
                of_two(0x55, 2, 0, 4, u32::from(0x0800_u16.to_be())),
                set(1, ifindex),
                set(2, 0),
                instruction(0x85, 0, REDIRECT_PEER),
                exit,
                set(0, u32::MAX),
                exit,
            ],
        };
        all.concat()
    }

    /// Loads the program under a name of at most 15 bytes. It stays as long as it is kept or attached.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn load(self, name: &str) -> Result<SchedClassifier> {
        loaded(&self.instructions(), name)
    }
}

/// `skb->mark` for [`behind_vlan_push`]: this tag control information.
#[must_use]
pub const fn vlan_mark(tci: u16) -> u32 {
    1 << 16 | tci as u32
}

/// A program that puts the VLAN tag of [`vlan_mark`] beside the packet, if it has such a mark, and then becomes `program`:
/// `BPF_PROG_TEST_RUN` has no other way to such a tag. It can as long as the descriptor is open.
///
/// # Errors
/// When the kernel refuses it.
pub fn behind_vlan_push(program: BorrowedFd<'_>) -> Result<(SchedClassifier, OwnedFd)> {
    let word = |fd: i32| u32::try_from(fd).context("a descriptor");
    let mut create = [BPF_MAP_TYPE_PROG_ARRAY, 4, 4, 1];
    let map = descriptor(bpf(BPF_MAP_CREATE, &mut create)?)?;
    let (key, value) = (0_u32, word(program.as_raw_fd())?);
    let mut update = [map.as_raw_fd().try_into()?, &raw const key as u64, &raw const value as u64, 0_u64];
    bpf(BPF_MAP_UPDATE_ELEM, &mut update).context("cannot call the program")?;
    let instructions = [
        of_two(0xbf, 6, 1, 0, 0),
        of_two(0x61, 3, 1, SKB_MARK, 0),
        // Without a mark, on with what follows the call.
        of_two(0x15, 3, 0, 3, 0),
        set(2, u32::from(0x8100_u16.to_be())),
        instruction(0x57, 3, 0xffff),
        instruction(0x85, 0, VLAN_PUSH),
        of_two(0xbf, 1, 6, 0, 0),
        of_two(0x18, 2, 1, 0, word(map.as_raw_fd())?),
        [0; 8],
        set(3, 0),
        instruction(0x85, 0, TAIL_CALL),
        // Only if the call failed.
        set(0, 0x7fff_ffff),
        instruction(0x95, 0, 0),
    ];
    Ok((loaded(&instructions.concat(), "vlan_push")?, map))
}

/// `struct bpf_insn` of two registers: destination in the lower half of a byte, source in the upper.
fn of_two(code: u8, destination: u8, source: u8, offset: u8, value: u32) -> [u8; 8] {
    let mut all = instruction(code, source << 4 | destination, value);
    all[2] = offset;
    all
}

fn loaded(instructions: &[u8], name: &str) -> Result<SchedClassifier> {
    let program =
        load(BPF_PROG_TYPE_SCHED_CLS, instructions, name).with_context(|| format!("cannot load the program {name}"))?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
    let loaded = loaded_programs().flatten().find(|info| Some(info.id()) == id).context("no such program")?;
    Ok(SchedClassifier::from_program_info(loaded, name.to_owned().into())?)
}

/// Puts a program on a hook of a namespace's device: by TCX for as long as the program is kept, as a legacy filter for as long
/// as somebody lets it.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel refuses.
pub fn attach(
    program: &mut SchedClassifier,
    namespace: &Namespace,
    device: &str,
    hook: TcAttachType,
    options: TcAttachOptions,
) -> Result<()> {
    let is_legacy = matches!(options, TcAttachOptions::Netlink(_));
    let link = namespace.run(|| program.attach_with_options(device, hook, options))??;
    if is_legacy {
        // Dropped, it would remove a filter by its number, in the namespace that the thread is in then: this machine's own.
        std::mem::forget(program.take_link(link)?);
    }
    Ok(())
}
