//! Loads the trace programs, and reads what they send.
//!
//! In: settings and a filter. Out: events in the order of the ring buffer, and exact accounts of those that are not there.

use std::io;

use aya::maps::{Array, HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use bytes::{Bytes, BytesMut};
use netpath_ebpf::map;
use netpath_ebpf::trace::{Account, CpuState, Ends, Event, Settings, TESTS, Test};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::attach::{Attacher, HookPrograms};
use super::bpf::Barrier;
use super::error::{LoadError, explained};
use super::frees::SkbFrees;
use super::load::{load_programs, prepare, unpacked};

#[cfg(not(netpath_without_ebpf))]
static OBJECT: &[u8] = include_bytes!(env!("NETPATH_TRACE_OBJECT"));

#[cfg(netpath_without_ebpf)]
static OBJECT: &[u8] = &[];

const TRACING: HookPrograms =
    HookPrograms { ethernet: [map::HOP_RX, map::HOP_TX], ip: [map::HOP_RX_IP, map::HOP_TX_IP] };
/// How many events are copied into one allocation.
const CHUNK_BYTES: usize = 1 << 20;

/// What to load.
#[derive(Debug)]
pub struct Options {
    /// What the programs decide by.
    pub settings: Settings,
    /// Bytes of the ring buffer: a power of two, and a multiple of the page size.
    pub buffer_bytes: u32,
    /// Have the programs log what they decide in rare cases.
    pub debug: bool,
}

/// An event, and the first bytes of its packet.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The event.
    pub event: Event,
    /// Bytes, from the link header on.
    pub bytes: Bytes,
}

/// The loaded programs' maps.
pub struct Tracer {
    events: AsyncFd<RingBuf<MapData>>,
    state: PerCpuArray<MapData, [u64; STATE_WORDS]>,
    settings: Settings,
    settings_map: Array<MapData, [u32; SETTINGS_WORDS]>,
    tests: Array<MapData, [[u32; TEST_WORDS]; TESTS]>,
    sets: BpfHashMap<MapData, [u32; 5], u32>,
    nat: BpfHashMap<MapData, [u32; ENDS_WORDS], [u32; ENDS_WORDS]>,
    flags: Array<MapData, [u32; 2]>,
    barrier: Barrier,
    chunk: BytesMut,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// How the end of packets is seen, or why it is not.
    pub frees: SkbFrees,
}

const STATE_WORDS: usize = size_of::<CpuState>() / size_of::<u64>();
const SETTINGS_WORDS: usize = size_of::<Settings>() / size_of::<u32>();
const TEST_WORDS: usize = size_of::<Test>() / size_of::<u32>();
const ENDS_WORDS: usize = size_of::<Ends>() / size_of::<u32>();
/// Elements of `NETPATH_STATE`.
const STATES: u32 = 2;

/// Loads the trace programs. Must be called in a tokio runtime.
pub fn load(options: &Options) -> Result<(Attacher, Tracer), LoadError> {
    let kernel = prepare(OBJECT)?;
    let load = || {
        let mut frees = SkbFrees::of_kernel();
        // At 0 the verifier takes all logging out of the programs.
        let log_level: &u8 = if options.debug { &u8::MAX } else { &0 };
        let mut ebpf = {
            let mut loader = EbpfLoader::new();
            frees.prepare(&mut loader);
            loader.map_max_entries(map::TRACE_EVENTS, options.buffer_bytes);
            loader.override_global(aya_log::LEVEL, log_level, true);
            loader.load(&unpacked(OBJECT)?)?
        };
        load_programs(&mut ebpf, &TRACING)?;
        frees.attach(&mut ebpf, map::DROPPED, map::FREED);
        let mut tracer = Tracer::new(&mut ebpf, frees)?;
        if options.debug {
            let logger = EbpfLogger::init(&mut ebpf).map_err(|error| LoadError::Layout(error.to_string()))?;
            tracer.logger = Some(logger);
        }
        tracer.set_settings(options.settings)?;
        Ok((Attacher::new(ebpf, TRACING, kernel).map_err(LoadError::Clsact)?, tracer))
    };
    load().map_err(|error| explained(error, kernel))
}

impl Tracer {
    fn new(ebpf: &mut Ebpf, frees: SkbFrees) -> Result<Self, LoadError> {
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| LoadError::Layout(format!("no map {name}")));
        let ring = RingBuf::try_from(take(map::TRACE_EVENTS)?)?;
        // SAFETY: the ring buffer owns an open descriptor, and nothing closes or replaces it while the AsyncFd lives.
        let events = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self {
            events: events.map_err(|error| LoadError::Map(error.into()))?,
            state: PerCpuArray::try_from(take(map::TRACE_STATE)?)?,
            settings: Settings::default(),
            settings_map: Array::try_from(take(map::TRACE_SETTINGS)?)?,
            tests: Array::try_from(take(map::TRACE_TESTS)?)?,
            sets: BpfHashMap::try_from(take(map::TRACE_SETS)?)?,
            nat: BpfHashMap::try_from(take(map::TRACE_NAT)?)?,
            flags: Array::try_from(take(map::TRACE_FLAGS)?)?,
            barrier: Barrier::new().map_err(LoadError::Map)?,
            chunk: BytesMut::new(),
            logger: None,
            frees,
        })
    }

    fn set_settings(&mut self, settings: Settings) -> Result<(), LoadError> {
        self.settings = settings;
        Ok(self.settings_map.set(0, words::<Settings, SETTINGS_WORDS>(&settings), 0)?)
    }

    /// Sets which packets are traced: the sets' members first, so that no packet is judged without them.
    pub fn set_filter(&mut self, tests: &[Test; TESTS], members: &[(u32, [u32; 4])]) -> Result<(), LoadError> {
        for &(set, [a, b, c, d]) in members {
            self.sets.insert([set, a, b, c, d], 1, 0)?;
        }
        Ok(self.tests.set(0, tests.map(|test| words::<Test, TEST_WORDS>(&test)), 0)?)
    }

    /// From now on, packets with the ends `here` are also judged by their ends `elsewhere` on this node.
    pub fn learn(&mut self, translations: &[(Ends, Ends)]) -> Result<(), LoadError> {
        for (here, elsewhere) in translations {
            self.nat.insert(words::<Ends, ENDS_WORDS>(here), words::<Ends, ENDS_WORDS>(elsewhere), 0)?;
        }
        if !translations.is_empty() && self.settings.translations == 0 {
            self.set_settings(Settings { translations: 1, ..self.settings })?;
        }
        Ok(())
    }

    /// Waits until there are events. Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.events.readable().await?.clear_ready();
        Ok(())
    }

    /// The events that there are now, `most` at most.
    pub fn read(&mut self, most: usize, mut take: impl FnMut(Seen)) -> usize {
        let ring = self.events.get_mut();
        let mut read = 0;
        while read < most
            && let Some(item) = ring.next()
        {
            read += 1;
            if self.chunk.capacity() < item.len() {
                self.chunk.reserve(CHUNK_BYTES.max(item.len()));
            }
            self.chunk.extend_from_slice(&item);
            drop(item);
            if let Some(seen) = decoded(self.chunk.split().freeze()) {
                take(seen);
            }
        }
        read
    }

    /// Writes what the programs logged to the log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Ends the trace: when this returns, nothing more is sent.
    pub fn close(&mut self) -> Result<(), LoadError> {
        self.flags.set(0, [1, 1], 0)?;
        self.barrier.wait().map_err(LoadError::Map)
    }

    /// What was sent and what was not, on all CPUs.
    pub fn account(&self) -> Result<Account, LoadError> {
        let mut sum = Account::default();
        for index in 0..STATES {
            for &[matched, sent, no_room, over_rate, sampled_out, ..] in self.state.get(&index, 0)?.iter() {
                sum += Account { matched, sent, no_room, over_rate, sampled_out };
            }
        }
        Ok(sum)
    }
}

/// An event of the ring buffer; `None` if it is shorter than one.
#[must_use]
pub fn decoded(mut item: Bytes) -> Option<Seen> {
    if item.len() < size_of::<Event>() {
        return None;
    }
    let header = item.split_to(size_of::<Event>());
    // SAFETY: as many bytes as an event has, which is integers without padding.
    let event = unsafe { header.as_ptr().cast::<Event>().read_unaligned() };
    item.truncate(event.captured_bytes as usize);
    Some(Seen { event, bytes: item })
}

/// A structure of the programs as words.
fn words<T: Copy, const N: usize>(value: &T) -> [u32; N] {
    const { assert!(size_of::<T>() == N * size_of::<u32>() && align_of::<T>() <= align_of::<u32>()) };
    // SAFETY: of the same size, integers without padding, and any bit pattern is a valid word.
    unsafe { std::ptr::from_ref(value).cast::<[u32; N]>().read_unaligned() }
}
