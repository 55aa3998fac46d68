//! `netpath serve`: measures for ever, and shows others what the windows come to.
//!
//! In: the options. Out: answers over HTTP, and what is sent to others, until a signal. Three threads: one measures, one judges
//! windows, one has the network. The last two need no capability, and have none.

mod config;

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use rustix::system::uname;
use tokio::sync::oneshot;

pub use self::config::{ConfigError, arguments};
use super::measure::{Measured, Plan, Windows, measure};
use super::output::Reader;
use crate::cli::ServeArgs;
use crate::kernel::drain::FLOWS_IN_MEMORY;
use crate::path;
use crate::privilege;
use crate::serve::emf;
use crate::serve::flows;
use crate::serve::http::Site;
use crate::serve::metric::Metric;
use crate::serve::otlp::{self, Couriers};
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
    let names = otlp::Names { cluster: args.cluster.clone(), node: args.node_name.clone() };
    let (otlp, couriers) = args.otlp.as_ref().map(|endpoint| otlp::open(endpoint, names, &state)).unzip();
    let (stop_network, network) = network(listener, Arc::clone(&state), couriers)?;
    let (emf, sink) = args.emf.map(|target| emf::open(target, &state)).unzip();
    let sink = sink
        .map(|sink| {
            spawn("emf", move || {
                sink.run();
                Ok(())
            })
        })
        .transpose()?;
    let (snapshots, judge) = judge(args, Arc::clone(&state), emf, otlp)?;
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

/// The thread that answers and sends. It ends when it is told to.
fn network(
    listener: TcpListener,
    state: Arc<State>,
    couriers: Option<Couriers>,
) -> anyhow::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = oneshot::channel();
    let thread = spawn("network", move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
        runtime.block_on(async {
            let sending = couriers.map(Couriers::start);
            let served = tokio::select! {
                served = Site::new(state).serve(listener) => served.map(drop).context("cannot answer over HTTP"),
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

/// The thread that makes reports of windows, so that devices are attached to meanwhile, and that writes what is to be written of
/// them. It ends with its windows.
fn judge(
    args: &ServeArgs,
    state: Arc<State>,
    emf: Option<emf::Queue>,
    mut otlp: Option<otlp::Exporter>,
) -> anyhow::Result<(mpsc::SyncSender<Snapshot>, JoinHandle<()>)> {
    let (sender, snapshots) = mpsc::sync_channel(1);
    let choice = Choice {
        veths: args.veths,
        zones: Zones::new(args.zones.clone()),
        room: u64::from(args.attach.max_flows) * FLOWS_IN_MEMORY as u64,
    };
    let names = emf::Names {
        cluster: args.cluster.clone(),
        node: args.node_name.clone(),
        log_group: args.emf_log_group.clone(),
    };
    let mut emf = emf.map(|queue| (emf::Events::new(names), queue));
    let flows = flow_choice(args);
    // What a folder allows is tried by the thread that writes: this one has rights that the other has not.
    let (opened, wait) = mpsc::sync_channel(1);
    let thread = spawn("judge", move || {
        let mut flows = match flows.map(open_flows).transpose() {
            Ok(flows) => flows,
            Err(error) => {
                let _ = opened.send(Err(error));
                return Ok(());
            }
        };
        if flows.is_some() {
            count(&state, flows::Counts::default());
        }
        let _ = opened.send(Ok(()));
        for snapshot in snapshots {
            let report = Arc::new(path::report(&snapshot));
            drop(snapshot);
            if let Some((events, queue)) = &mut emf {
                queue.push(events.of(&report));
            }
            state.add(Arc::clone(&report), &choice);
            if let Some(flows) = &mut flows {
                count(&state, flows.add(&report));
            }
            if let Some(otlp) = &mut otlp {
                otlp.add(&report);
            }
        }
        if let Some(mut flows) = flows {
            count(&state, flows.finish());
        }
        Ok(())
    })?;
    wait.recv().context("the thread that judges windows failed")??;
    Ok((sender, thread))
}

fn flow_choice(args: &ServeArgs) -> Option<flows::Choice> {
    let here = || uname().nodename().to_string_lossy().into_owned();
    Some(flows::Choice {
        folder: args.flows.clone()?,
        most_bytes: args.flows_max_size.as_u64(),
        longest: args.flows_max_age,
        observer: args.node_name.clone().unwrap_or_else(here),
        cluster: args.cluster.clone(),
    })
}

fn open_flows(choice: flows::Choice) -> anyhow::Result<flows::Writer> {
    let folder = choice.folder.display().to_string().escape_debug().to_string();
    flows::Writer::open(choice, Timestamp::now()).map_err(|error| {
        anyhow!("cannot write flow records into {folder}: {}; name another folder", super::reason_not_made(&error))
    })
}

fn count(state: &State, counts: flows::Counts) {
    state.count(Metric::FlowRecordsWritten, &[], counts.written);
    state.count(Metric::FlowRecordsDropped, &[], counts.dropped);
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
