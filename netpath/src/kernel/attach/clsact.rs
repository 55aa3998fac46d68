//! Legacy attachment, for kernels without TCX (before 6.6): direct-action filters on a device's clsact qdisc.
//!
//! In: a device and a loaded program. Out: a filter at the head of the chain, where the kernel allows that. Filters stay when
//! the process ends, so each names its owner ([`FilterOwner`]); dropping the link deletes exactly that filter.
//!
//! The chain is sorted by priority; of one priority the filter that was added last runs first (`net/sched/cls_bpf.c`,
//! `cls_bpf_change`). Our programs answer -1, after which both the next filter of the priority and those of later priorities
//! run (`cls_bpf_classify`, `tcf_classify`). So the first priority is ours too: before all that are there.
//!
//! Where there is no clsact qdisc, [`qdisc`] decides whether to make one. None is ever deleted: between looking whether it is in
//! use and deleting it another program may add its filter, which would go with it. An empty one does nothing to packets.

mod qdisc;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

use self::qdisc::QdiscMaker;
use super::AttachError;
use crate::kernel::filter_owner::FilterOwner;
use crate::snapshot::NewQdiscs;

/// The last priority to try. A priority belongs to filters of one kind and protocol.
const LAST_PRIORITY: u16 = 16;

/// Attaches by netlink, in the network namespace of the calling thread.
#[derive(Debug)]
pub struct Clsact {
    owner: FilterOwner,
    qdiscs: QdiscMaker,
}

impl Clsact {
    pub fn new(kernel: KernelVersion) -> std::io::Result<Self> {
        Ok(Self { owner: FilterOwner::take()?, qdiscs: QdiscMaker::new(kernel)? })
    }

    /// From now on, attaches only where there is a clsact qdisc.
    pub fn make_no_qdisc(&mut self) {
        self.qdiscs.make_none();
    }

    /// How many qdiscs were made, and what was lost.
    pub fn new_qdiscs(&self) -> NewQdiscs {
        self.qdiscs.made()
    }

    /// Makes sure that the device has a clsact qdisc.
    pub fn prepare(&mut self, ifindex: u32) -> Result<(), AttachError> {
        self.qdiscs.prepare(ifindex)
    }

    /// Adds a filter; never replaces one (`NLM_F_EXCL`).
    pub fn attach(
        &self,
        program: &mut SchedClassifier,
        device: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLink, AttachError> {
        for priority in 1..=LAST_PRIORITY {
            let handle = TcHandle::from(self.owner.handle());
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
