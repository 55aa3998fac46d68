//! Legacy attachment, for kernels without TCX (before 6.6): direct-action filters on a device's clsact qdisc.
//!
//! In: a device and a loaded program. Out: a filter at the head of the chain, where the kernel allows that. Filters stay when
//! the process ends, so each says whose it is ([`Lease`]); dropping the link deletes exactly that filter.
//!
//! The chain is sorted by priority; of one priority the filter that was added last runs first (`net/sched/cls_bpf.c`,
//! `cls_bpf_change`). Our programs answer -1, after which both the next filter of the priority and those of later priorities
//! run (`cls_bpf_classify`, `tcf_classify`). So the first priority is ours too: before whoever is there already.
//!
//! It makes a clsact qdisc where there is none, and never deletes one: between looking whether it is in use and deleting it
//! another program may add its filter, which would go with it. An empty one does nothing to packets.

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::AttachError;
use crate::kernel::hooks::{HookReader, Qdisc};
use crate::kernel::lease::Lease;

/// The last priority to try. One that filters of another kind or protocol have is closed to us.
const LAST_PRIORITY: u16 = 16;

/// Attaches by netlink, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct Clsact {
    lease: Lease,
    hooks: HookReader,
}

impl Clsact {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { lease: Lease::take()?, hooks: HookReader::open()? })
    }

    /// Makes sure that the device has a clsact qdisc.
    pub fn prepare(&mut self, ifindex: u32, device: &str) -> Result<(), AttachError> {
        match qdisc_add_clsact(device) {
            Ok(()) => Ok(()),
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
                // On an ingress qdisc a filter for egress would be taken, and would see what comes in.
                match self.hooks.qdiscs()?.get(&ifindex) {
                    Some(Qdisc::Ingress) => Err(AttachError::IngressQdisc),
                    Some(Qdisc::Clsact) | None => Ok(()),
                }
            }
            Err(error) => Err(ProgramError::from(error).into()),
        }
    }

    /// Adds a filter; never in the place of another (`NLM_F_EXCL`).
    pub fn attach(
        &self,
        program: &mut SchedClassifier,
        device: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLink, AttachError> {
        for priority in 1..=LAST_PRIORITY {
            let handle = TcHandle::from(self.lease.handle());
            let options = NlOptions { priority, handle, classid: None };
            match program.attach_with_options(device, direction, TcAttachOptions::Netlink(options)) {
                Ok(link) => return Ok(program.take_link(link)?),
                Err(error) if !is_taken(&error) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Err(AttachError::NoPriority)
    }
}

/// Whether the priority is that of filters of another kind or protocol (`net/sched/cls_api.c`, `tcf_chain_tp_find` and
/// `tc_new_tfilter`).
fn is_taken(error: &ProgramError) -> bool {
    matches!(error, ProgramError::TcError(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EINVAL))
}
