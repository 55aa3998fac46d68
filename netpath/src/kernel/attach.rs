//! Attaches the programs to devices, and detaches them.
//!
//! In: a device's name and index. Out: how they are attached. Where the kernel has TCX the links live in this process alone:
//! the kernel removes them when it ends, however it ends. Legacy filters have to be removed, see [`clsact`]. This file never
//! touches what others attached.

mod clsact;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use self::clsact::Clsact;
use crate::descriptors::{self, Exhausted};
use crate::kernel::bpf;
use crate::model::{Attach, Direction};
use crate::netlink::Layer;
use crate::snapshot::NewQdiscs;
use aya::Ebpf;
use aya::programs::tc::SchedClassifierLink;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;

/// The first kernel with TCX.
pub const TCX: KernelVersion = KernelVersion::new(6, 6, 0);

/// The loaded programs and what they are attached to.
#[derive(Debug)]
pub struct Attacher {
    // Dropped first: filters go before the map that names their owner.
    links: HashMap<u32, [Attached; 2]>,
    ebpf: Ebpf,
    programs: HookPrograms,
    /// Attaches legacy filters; `None` if links are TCX.
    clsact: Option<Clsact>,
    kernel: KernelVersion,
}

/// Names of the programs for each kind of device: ingress, egress.
#[derive(Clone, Copy, Debug)]
pub struct HookPrograms {
    /// Of devices with Ethernet headers.
    pub ethernet: [&'static str; 2],
    /// Of devices without link layer.
    pub ip: [&'static str; 2],
}

/// A program on a hook, until this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "it is held to be dropped")]
enum Attached {
    Tcx(OwnedFd),
    Filter(SchedClassifierLink),
}

/// Why a device has no program.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernel did not list what is there.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A device has one qdisc for filters, and it is an ingress qdisc.
    #[error("another program's ingress qdisc is in the place of clsact")]
    IngressQdisc,
    /// A new qdisc would drop queued packets.
    #[error(
        "{packets} packets wait in its queue, which does not empty, and a new clsact qdisc would throw them away; \
         measure when it is quiet, or add the qdisc then ('tc qdisc add dev NAME clsact')"
    )]
    QueueInUse {
        /// How many are queued.
        packets: u32,
    },
    /// Nor may one be made.
    #[error("it has no clsact qdisc, and --no-new-qdisc forbids to make one; add one ('tc qdisc add dev NAME clsact')")]
    NoNewQdisc,
    /// Each link is an open file.
    #[error(transparent)]
    Descriptors(#[from] Exhausted),
    /// At every priority that was tried.
    #[error("other programs' filters, not of eBPF, have the first priorities")]
    NoPriority,
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf, programs: HookPrograms, kernel: KernelVersion) -> io::Result<Self> {
        let clsact = if kernel < TCX { Some(Clsact::new(kernel)?) } else { None };
        Ok(Self { links: HashMap::new(), ebpf, programs, clsact, kernel })
    }

    /// Attaches legacy filters from now on, though the kernel has TCX.
    pub fn use_clsact(&mut self) -> io::Result<()> {
        if self.clsact.is_none() {
            self.clsact = Some(Clsact::new(self.kernel)?);
        }
        Ok(())
    }

    /// From now on, attaches legacy filters only where there is a clsact qdisc.
    pub fn make_no_qdisc(&mut self) {
        if let Some(clsact) = &mut self.clsact {
            clsact.make_no_qdisc();
        }
    }

    /// How many clsact qdiscs were made, and what was lost.
    #[must_use]
    pub fn new_qdiscs(&self) -> NewQdiscs {
        self.clsact.as_ref().map(Clsact::new_qdiscs).unwrap_or_default()
    }

    /// Whether what is attached stays when the process ends, unless this value is dropped before.
    #[must_use]
    pub fn needs_detach(&self) -> bool {
        self.clsact.is_some()
    }

    /// Attaches to both directions of a device, before every other program that the kernel lets us precede. Attaching twice
    /// is a no-op.
    ///
    /// Legacy filters are attached by name, so a device renamed in between gives `ENODEV`, or the programs go to the device
    /// that now has the name; what they count is under the true ifindex in either case.
    pub fn attach(&mut self, ifindex: u32, name: &str, layer: Layer) -> Result<Attach, AttachError> {
        let how = if self.clsact.is_some() { Attach::Clsact } else { Attach::Tcx };
        if self.links.contains_key(&ifindex) {
            return Ok(how);
        }
        match &mut self.clsact {
            Some(clsact) => clsact.prepare(ifindex)?,
            None if descriptors::has_room_for_links() => {}
            None => return Err(Exhausted::Process.into()),
        }
        let [rx, tx] = match layer {
            Layer::Ethernet => self.programs.ethernet,
            // What begins with neither will be counted as unparsed.
            Layer::Ip | Layer::Unknown => self.programs.ip,
        };
        let rx = self.attach_one(rx, (ifindex, name), Direction::Rx)?;
        let tx = self.attach_one(tx, (ifindex, name), Direction::Tx)?;
        self.links.insert(ifindex, [rx, tx]);
        Ok(how)
    }

    /// Ids of the programs that are attached to devices.
    #[must_use]
    pub fn program_ids(&self) -> Vec<u32> {
        self.ebpf.programs().filter_map(|(_, program)| program.info().ok()).map(|info| info.id()).collect()
    }

    /// Forgets a device that is gone. Its links went with it.
    pub fn forget(&mut self, ifindex: u32) {
        self.links.remove(&ifindex);
    }

    fn attach_one(
        &mut self,
        program: &str,
        (ifindex, name): (u32, &str),
        direction: Direction,
    ) -> Result<Attached, AttachError> {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?.try_into()?;
        // `load` leaves the programs for devices without link layer to the first of them.
        if program.fd().is_err() {
            program.load()?;
        }
        if let Some(clsact) = &self.clsact {
            let direction = match direction {
                Direction::Rx => TcAttachType::Ingress,
                Direction::Tx => TcAttachType::Egress,
            };
            return clsact.attach(program, name, direction).map(Attached::Filter);
        }
        Ok(Attached::Tcx(bpf::attach_tcx(program.fd()?.as_fd(), ifindex, direction)?))
    }
}
