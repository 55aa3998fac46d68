//! What `netpath trace` costs: its programs, with a filter that accepts nothing of the bench; how soon it sees a packet; how many.
//!
//! In: the netpath binary. Out: a loaded program, held open; figures.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, loaded_programs};
use lab::Lab;
use lab::traffic::{UdpSink, send_datagrams};
use netpath::kernel::attach::Attacher;
use netpath::kernel::trace::{Options, Tracer, load};
use netpath::trace::filter::{Named, Names, parse};
use netpath_ebpf::map;
use netpath_ebpf::trace::Settings;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::start;

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
            load(&Options { settings, buffer_bytes: 1 << 20, debug: false })
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

const DATAGRAMS: u32 = 100_000;
const PARTS: u32 = 100;

/// 100,000 datagrams in a second through two hooks, all accepted: which part of the events was not lost; one a round.
pub fn kept(rounds: usize) -> Result<Vec<f64>> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let (client, to) = (lab.pod("client"), SocketAddr::new(lab.pod("server").ipv4.into(), 9_000));
    let _sink = UdpSink::start(&lab.pod("server").namespace, to)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("trips");
    let run = || {
        let trace = lab.open_trace(&["--output", path.to_str().context("a path")?, "udp", "dst", "port", "9000"])?;
        let begin = Instant::now();
        for part in 1..=PARTS {
            send_datagrams(&client.namespace, to, 10, DATAGRAMS / PARTS)?;
            sleep((Duration::from_secs(1) / PARTS * part).saturating_sub(begin.elapsed()));
        }
        let seconds = begin.elapsed().as_secs_f64();
        trace.finish()?;
        let text = fs::read_to_string(&path)?;
        let last: Value = serde_json::from_str(text.lines().last().context("the trace is empty")?)?;
        let count = |name: &str| last["summary"][name].as_f64().with_context(|| format!("no {name}"));
        ensure!(seconds < 1.2, "the machine is too slow to send {DATAGRAMS} datagrams in a second: {seconds:.1} s");
        ensure!(count("matched")? >= f64::from(2 * DATAGRAMS), "netpath matched {} events", count("matched")?);
        Ok(count("received")? / count("matched")?)
    };
    (0..rounds).map(|_| run()).collect()
}

/// From the start of the process to the first packet that it shows, in ms; one a round.
pub fn starts(rounds: usize) -> Result<Vec<f64>> {
    let lab = Lab::builder().pod("pod").start()?;
    (0..rounds).map(|_| start::first_packet_ms(&lab, &["trace", "udp", "dst", "port", "9"])).collect()
}
