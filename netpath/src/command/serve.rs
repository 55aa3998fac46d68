//! `netpath serve`: measures for ever, and shows others what the windows come to.
//!
//! In: the options. Out: answers over HTTP, and what is sent to others, until a signal. Three threads: one measures, one judges
//! windows, one has the network. The last two need no capability, and have none.

mod config;
mod exports;

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::system::uname;
use tokio::sync::oneshot;

pub use self::config::{ConfigError, arguments};
use self::exports::{Exports, flow_choice};
use super::measure::{Measured, Plan, Windows, measure};
use super::output::Reader;
use crate::cli::ServeArgs;
use crate::kernel::drain::FLOWS_IN_MEMORY;
use crate::path;
use crate::privilege;
use crate::serve::emf::{self, Events, Sink};
use crate::serve::flows;
use crate::serve::http::Site;
use crate::serve::names::Names;
use crate::serve::otlp::{self, Senders};
use crate::serve::state::State;
use crate::serve::totals::Choice;
use crate::serve::zones::Zones;
use crate::snapshot::Snapshot;

/// How long the last events have to be taken, when netpath ends.
const LINGER: Duration = Duration::from_secs(5);

/// Serves until a signal.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // While there are the rights for ports below 1024.
    let listener = TcpListener::bind(args.listen).map_err(|error| {
        anyhow!(
            "cannot listen on {}: {}; name another address and port with --listen",
            args.listen,
            super::reason(&error)
        )
    })?;
    let address = listener.local_addr().context("cannot read the address that is listened on")?;
    let state = Arc::new(State::new(args.interval, args.max_series));
    let here = || uname().nodename().to_string_lossy().into_owned();
    let node = args.node_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(here);
    let names = Names { cluster: args.cluster.clone(), node };
    let otlp = args.otlp.as_ref().map(|endpoint| otlp::open(endpoint, names.clone(), &state));
    let (otlp, senders) = otlp.unzip();
    let (stop_network, network) = network(listener, Site::new(Arc::clone(&state), names.node.clone()), senders)?;
    let (queue, sink) = args.emf.map(|target| emf::open(target, &state)).unzip();
    let write = |sink: Sink| {
        spawn("emf", move || {
            sink.run();
            Ok(())
        })
    };
    let sink = sink.map(write).transpose()?;
    let emf = queue.map(|queue| (Events::new(names.clone(), args.emf_log_group.clone()), queue));
    let exports = Exports { emf, flows: None, otlp, state: Arc::clone(&state) };
    let (snapshots, judge) = judge(args, flow_choice(args, &names), exports)?;
    let opened = || {
        state.opened();
        eprintln!("netpath: serving on http://{address}/, windows of {:?}", args.interval);
    };
    let plan = Plan {
        windows: Windows { interval: Some(args.interval), count: None },
        opened: Some(&opened),
        ..Plan::default()
    };
    let what = Measured { attach: &args.attach, duration: None, command: &[] };
    let status = measure(what, plan, |snapshot| {
        snapshots.send(snapshot).map_err(|_| anyhow!("the thread that judges windows has ended"))?;
        Ok(Reader::Reads)
    });
    // The last window is judged before those who ask are let go.
    drop(snapshots);
    judge.join().map_err(|_| anyhow!("the thread that judges windows failed"))?;
    let _ = stop_network.send(());
    let end = Instant::now() + LINGER;
    while sink.as_ref().is_some_and(|sink| !sink.is_finished()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    network.join().map_err(|_| anyhow!("the thread that has the network failed"))?;
    status
}

/// The thread that answers and sends. It ends when the sender does.
fn network(
    listener: TcpListener,
    site: Site,
    senders: Option<Senders>,
) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = oneshot::channel();
    let thread = spawn("network", move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
        runtime.block_on(async {
            let sending = senders.map(Senders::start);
            let served = tokio::select! {
                served = site.serve(listener) => served.map(drop).context("cannot answer over HTTP"),
                _ = stopped => Ok(()),
            };
            if let Some(sending) = sending {
                sending.finish().await;
            }
            served
        })
    })?;
    Ok((stop, thread))
}

/// The thread that makes reports of windows, so that devices are attached to meanwhile, and hands them on. It ends with its windows.
fn judge(
    args: &ServeArgs,
    flows: Option<flows::Choice>,
    mut exports: Exports,
) -> anyhow::Result<(mpsc::SyncSender<Snapshot>, JoinHandle<()>)> {
    let (sender, snapshots) = mpsc::sync_channel(1);
    let choice = Choice {
        veths: args.veths,
        zones: Zones::new(args.zones.clone()),
        room: u64::from(args.attach.max_flows) * FLOWS_IN_MEMORY as u64,
    };
    // What a folder allows is tried by the thread that writes: this one has rights that the other has not.
    let (opened, wait) = mpsc::sync_channel(1);
    let thread = spawn("judge", move || {
        let is_open = flows.map_or(Ok(()), |choice| exports.open_flows(choice));
        let fails = is_open.is_err();
        let _ = opened.send(is_open);
        if fails {
            return Ok(());
        }
        for snapshot in snapshots {
            exports.state.make_room();
            let mut report = path::report(&snapshot);
            drop(snapshot);
            if report.node.zone_id.is_none() {
                report.node.zone_id = choice.zones.of_node(&report.devices).map(ToOwned::to_owned);
            }
            let report = Arc::new(report);
            exports.state.add(Arc::clone(&report), &choice);
            exports.add(&report);
        }
        exports.finish();
        Ok(())
    })?;
    wait.recv().context("the thread that judges windows failed")??;
    Ok((sender, thread))
}

/// A thread without capabilities.
fn spawn(name: &str, work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let work = move || {
        if let Err(error) = privilege::give_up_all().and_then(|()| work()) {
            log::error!("{error:#}");
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")
}
