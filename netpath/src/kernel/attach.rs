//! Attaches the programs to devices and lets them go.
//!
//! In: a device's name and index. Out: nothing but the effect. The links live in this process alone: the kernel removes
//! them when it ends, however it ends. This file never touches what others attached.

use std::collections::HashMap;

use aya::Ebpf;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use netpath_ebpf::map;

use crate::node::devices::Layer;

/// The loaded programs and what they are attached to.
#[derive(Debug)]
pub struct Attacher {
    ebpf: Ebpf,
    links: HashMap<u32, [SchedClassifierLink; 2]>,
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        Self { ebpf, links: HashMap::new() }
    }

    /// Attaches to both directions of a device, before every other TCX program. Attaching twice is a no-op.
    ///
    /// The kernel is asked by name, so a device renamed in between gives `ENODEV`, or the programs go to the device that
    /// now has the name; what they count is under the true ifindex in either case.
    pub fn attach(&mut self, ifindex: u32, name: &str, layer: Layer) -> Result<(), ProgramError> {
        if self.links.contains_key(&ifindex) {
            return Ok(());
        }
        let [rx, tx] = match layer {
            Layer::Ethernet => [map::RX, map::TX],
            // What begins with neither will be counted as unparsed.
            Layer::Ip | Layer::Unknown => [map::RX_IP, map::TX_IP],
        };
        let rx = self.attach_one(rx, name, TcAttachType::Ingress)?;
        let tx = self.attach_one(tx, name, TcAttachType::Egress)?;
        self.links.insert(ifindex, [rx, tx]);
        Ok(())
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
        device: &str,
        direction: TcAttachType,
    ) -> Result<SchedClassifierLink, ProgramError> {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?.try_into()?;
        // `load` leaves the programs for devices without link layer to the first of them.
        if program.fd().is_err() {
            program.load()?;
        }
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let link = program.attach_with_options(device, direction, first)?;
        program.take_link(link)
    }
}
