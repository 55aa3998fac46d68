//! The programs of `netpath trace`, with a filter that accepts nothing of the bench.
//!
//! In: nothing. Out: a loaded program, held open.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, loaded_programs};
use netpath::kernel::attach::Attacher;
use netpath::kernel::trace::{Options, Tracer, load};
use netpath::trace::filter::{Named, Names, parse};
use netpath_ebpf::map;
use netpath_ebpf::trace::Settings;
use tokio::runtime::{Builder, Runtime};

/// As people write it; the bench has no such port.
const FILTER: &str = "tcp port 9";

/// The loaded programs.
pub struct Trace {
    attacher: Attacher,
    _tracer: Tracer,
    /// What the ring buffer is registered with.
    _runtime: Runtime,
}

impl Trace {
    /// Loads them as `netpath trace tcp port 9` would.
    pub fn new() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
        let settings = Settings { snaplen_bytes: 128, sample: 1, window_trips: u32::MAX, translations: 0 };
        let loaded = {
            let _entered = runtime.enter();
            load(&Options { settings, buffer_bytes: 1 << 20 })
        };
        let (attacher, mut tracer) = loaded?;
        let filter = parse(FILTER)?.compile(&NoNames)?;
        tracer.set_filter(&filter.tests, &filter.members)?;
        Ok(Self { attacher, _tracer: tracer, _runtime: runtime })
    }

    /// The program at ingress.
    pub fn program(&self) -> Result<SchedClassifier> {
        let own = self.attacher.program_ids();
        for info in loaded_programs() {
            let info = info?;
            if own.contains(&info.id()) && info.name_as_str() == Some(map::HOP_RX) {
                return Ok(SchedClassifier::from_program_info(info, map::HOP_RX.into())?);
            }
        }
        anyhow::bail!("the kernel has no program {} of this process", map::HOP_RX)
    }
}

/// The filter has no names.
struct NoNames;

impl Names for NoNames {
    fn pod(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn namespace(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    fn service(&self, _: &str) -> Vec<(u8, IpAddr, u16)> {
        Vec::new()
    }

    fn device(&self, _: &str) -> Option<u32> {
        None
    }

    fn port(&self, _: &str) -> Option<u16> {
        None
    }

    fn known(&self, _: Named) -> Vec<String> {
        Vec::new()
    }
}
