//! `netpath trace`: follows single packets through the node, and writes each trip as it ends.
//!
//! In: the options. Out: trips on stdout or in a file, the summary, and the exit status of the command that was traced, if there
//! was one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use netpath_ebpf::trace::{RATE_WINDOW_SHIFT, Settings};
use tokio::time::{MissedTickBehavior, interval};

use super::Usage;
use super::measure::{End, Run, Signals};
use super::output::{Output, Reader};
use super::screen::screen;
use crate::cli::{TraceArgs, TraceFormat};
use crate::descriptors;
use crate::node::port_names;
use crate::privilege::{self, Purpose};
use crate::render::block::Screen;
use crate::render::json;
use crate::render::trace::pcapng::PcapngWriter;
use crate::render::trace::text;
use crate::session::trace::{Options, TraceSession};
use crate::snapshot::Snapshot;
use crate::trace::filter::{self, Expression, FilterError, Named, Names};
use crate::trace::{End as TripEnd, Line, SCHEMA, Summary, SummaryLine, Trip};

/// How long a trace is, if nothing ends it otherwise.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How often trips are written.
const WRITE_EVERY: Duration = Duration::from_millis(20);

/// Traces.
pub fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    // What can be found wrong is found before anything is attached.
    let filter = filter::parse(&args.filter.join(" ")).map_err(|error| usage(&error))?.with_pods(&args.pods);
    let output = Output::open(args.output.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(trace(args, &filter, output))
}

async fn trace(args: &TraceArgs, filter: &Expression, output: Output) -> anyhow::Result<ExitCode> {
    let signals = Signals::new()?;
    let files = descriptors::raise_limit();
    let json_on_stdout = args.format != TraceFormat::Text && matches!(output, Output::Stdout);
    let purpose =
        Purpose { writes_file: matches!(output, Output::File { .. }), runs_command: !args.command.is_empty() };
    let window_trips = (u64::from(args.rate) << RATE_WINDOW_SHIFT) / 1_000_000_000;
    let mut session = TraceSession::load(&Options {
        eni_globs: &args.globs,
        host_root: args.host_root.as_deref(),
        clsact: args.clsact,
        new_qdiscs: !args.no_new_qdisc,
        settings: Settings {
            snaplen_bytes: args.snaplen,
            sample: args.sample,
            window_trips: u32::try_from(window_trips).unwrap_or(u32::MAX).max(1),
            translations: 0,
        },
        buffer_bytes: args.buffer << 20,
        debug: args.debug,
        purpose,
    })?;
    let node = Node { facts: session.facts(filter.needs_names()), args };
    let compiled = filter.compile(&node).map_err(|error| usage(&error))?;
    session.begin(&compiled, filter.required_pods())?;
    announce(&session);
    let run = Run { limit: args.duration, stdout_to_stderr: json_on_stdout };
    let mut end = End::start(&args.command, Some(args.duration.unwrap_or(DEFAULT_DURATION)), run, signals, files)?;
    let mut writer = Writer::new(args, output, &mut session)?;
    let mut write = interval(WRITE_EVERY);
    write.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let status = loop {
        tokio::select! {
            biased;
            status = end.reached() => break Some(status?),
            _ = write.tick() => {
                if writer.trips(session.trips()?)? == Reader::Gone {
                    drop(session);
                    return end.of_command().await;
                }
                if writer.is_full() {
                    break None;
                }
            }
            followed = session.follow() => {
                followed?;
                tokio::task::yield_now().await;
            }
        }
    };
    let (trips, summary) = session.finish()?;
    writer.trips(trips)?;
    writer.finish(summary)?;
    match status {
        Some(status) => {
            end.ended().await?;
            Ok(status)
        }
        None => end.of_command().await,
    }
}

fn usage(error: &FilterError) -> Usage {
    Usage(error.to_string())
}

/// A line on stderr, so that nobody waits for a trace that waits for packets; nothing where stderr is no terminal.
fn announce(session: &TraceSession) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Its terminal may be gone.
        let _ = writeln!(stderr, "netpath: tracing on {} devices; Ctrl-C ends", session.attached());
    }
}

/// What the words of a filter mean here.
struct Node<'a> {
    facts: &'a Snapshot,
    args: &'a TraceArgs,
}

impl Names for Node<'_> {
    fn pod(&self, name: &str) -> Vec<IpAddr> {
        let pods = self.facts.names.pods.iter();
        pods.filter(|pod| format!("{}/{}", pod.namespace, pod.name) == name)
            .flat_map(|pod| pod.addresses.clone())
            .collect()
    }

    fn namespace(&self, name: &str) -> Vec<IpAddr> {
        let pods = self.facts.names.pods.iter();
        pods.filter(|pod| pod.namespace == name).flat_map(|pod| pod.addresses.clone()).collect()
    }

    fn service(&self, name: &str) -> Vec<(u8, IpAddr, u16)> {
        let services = self.facts.names.services.iter();
        let is_it = |full: &str| full == name || full.rsplit_once(':').is_some_and(|(service, _)| service == name);
        services.filter(|one| is_it(&one.name)).map(|one| (one.proto, one.address, one.port)).collect()
    }

    fn device(&self, name: &str) -> Option<u32> {
        self.facts.devices.iter().find(|device| device.facts.name == name).map(|device| device.facts.ifindex)
    }

    fn port(&self, name: &str) -> Option<u16> {
        port_names::port(self.args.host_root.as_deref(), name)
    }

    fn known(&self, kind: Named) -> Vec<String> {
        let Snapshot { names, devices, .. } = self.facts;
        let names: BTreeSet<String> = match kind {
            Named::Pod => names.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect(),
            Named::Namespace => names.pods.iter().map(|pod| pod.namespace.clone()).collect(),
            Named::Service => names.services.iter().map(|service| service.name.clone()).collect(),
            Named::Device => devices.iter().map(|device| device.facts.name.clone()).collect(),
        };
        names.into_iter().collect()
    }
}

/// Writes trips in the format that was asked for.
struct Writer<'a> {
    args: &'a TraceArgs,
    output: Output,
    format: Format,
    shown: u64,
    hops: u64,
    not_shown: u64,
}

/// How trips are written.
enum Format {
    Text(Screen),
    Json,
    /// What it writes, and where to.
    Pcapng(Box<PcapngWriter<Buffer>>, Buffer),
}

/// Bytes on their way to the output.
#[derive(Clone, Default)]
struct Buffer(Rc<RefCell<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> Writer<'a> {
    fn new(args: &'a TraceArgs, output: Output, session: &mut TraceSession) -> anyhow::Result<Self> {
        let format = match args.format {
            TraceFormat::Text => Format::Text(screen(&output)),
            TraceFormat::Json => Format::Json,
            TraceFormat::Pcapng => {
                let buffer = Buffer::default();
                let filter = args.filter.join(" ");
                let mut writer =
                    PcapngWriter::new(buffer.clone(), &filter, args.snaplen, session.interfaces(), args.hop)?;
                writer.names(&session.addresses())?;
                Format::Pcapng(Box::new(writer), buffer)
            }
        };
        let mut writer = Self { args, output, format, shown: 0, hops: 0, not_shown: 0 };
        // A reader of a pipe sees what it is about to get.
        writer.trips(Vec::new())?;
        Ok(writer)
    }

    /// Whether as many trips were written as were asked for.
    fn is_full(&self) -> bool {
        self.args.count.is_some_and(|count| self.shown >= count)
    }

    fn trips(&mut self, trips: Vec<Trip>) -> anyhow::Result<Reader> {
        let mut wanted = Vec::new();
        for trip in trips {
            let is_drop = trip.end == TripEnd::Dropped || trip.end == TripEnd::Unknown && trip.location.is_some();
            if self.is_full() || self.args.drops && !is_drop {
                self.not_shown += 1;
                continue;
            }
            self.shown += 1;
            self.hops += trip.hops.len() as u64;
            wanted.push(trip);
        }
        let Self { output, format, .. } = self;
        match format {
            Format::Text(screen) => {
                write(output, |out| wanted.iter().try_for_each(|trip| text::trip(trip, *screen, out)))
            }
            Format::Json => write(output, |mut out| {
                wanted.into_iter().try_for_each(|trip| json::write_line(&Line::Trip(Box::new(trip)), &mut out))
            }),
            Format::Pcapng(writer, buffer) => {
                wanted.iter().try_for_each(|trip| writer.trip(trip)).and_then(|()| writer.flush())?;
                write(output, |out| out.write_all(&buffer.0.take()))
            }
        }
    }

    fn finish(self, summary: Summary) -> anyhow::Result<()> {
        let Self { mut output, format, shown, hops, not_shown, .. } = self;
        let summary = Summary { trips: shown, not_shown, hops, ..summary };
        match format {
            Format::Text(screen) => write(&mut output, |out| text::summary(&summary, screen, out))?,
            Format::Json => {
                let line = SummaryLine { schema: SCHEMA.to_owned(), summary };
                write(&mut output, |mut out| json::write_line(&line, &mut out))?
            }
            Format::Pcapng(writer, buffer) => {
                writer.finish(&summary)?;
                // Who waits for a file sees nothing else.
                let mut account = Vec::new();
                text::summary(&summary, Screen::default(), &mut account)?;
                let _ = io::stderr().write_all(&account);
                write(&mut output, |out| out.write_all(&buffer.0.take()))?
            }
        };
        Ok(())
    }
}

fn write(output: &mut Output, render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> anyhow::Result<Reader> {
    if matches!(output, Output::File { .. }) {
        privilege::to_write_a_file(|| output.write(render))
    } else {
        output.write(render)
    }
}
