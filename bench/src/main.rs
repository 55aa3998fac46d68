//! What netpath costs: programs, whole path, user space, start, memory. One table, with the aims beside the figures.
//!
//! In: the netpath binary (`NETPATH_BIN`) and the object of the reference programs (`NETPATH_REFERENCE`), which
//! `cargo xtask bench` builds. Out: the table on stdout, and everything in a Markdown file. It runs in network namespaces,
//! asserts no time, and leaves nothing behind, also when interrupted. What is true on one machine is not on another: the
//! ratios travel, the nanoseconds do not.

mod clock;
mod cut;
mod document;
mod figures;
mod frames;
mod loaded;
mod programs;
mod scrape;
mod start;
mod trace;
mod user_space;
mod whole_path;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use lab::{Lab, clean_up_when_interrupted, netpath_binary, stop_if_interrupted};

use cut::Format;
use document::Results;
use figures::{Aim, Figure, Unit};
use loaded::Loaded;
use start::Starts;
use whole_path::Traffic;

/// Measures what netpath costs; `cargo xtask bench` builds what it needs and runs it.
#[derive(Parser)]
struct Cli {
    /// Few rounds.
    #[arg(long)]
    quick: bool,
    /// Write everything to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    write: Option<PathBuf>,
    /// Measure this only.
    #[arg(long)]
    only: Option<Only>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What is worth measuring by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Only {
    /// What the programs take for a packet.
    Programs,
    /// What a node's traffic loses.
    Traffic,
    /// What one window after another takes.
    Windows,
}

#[derive(Subcommand)]
enum Part {
    /// For the bench's own use.
    #[command(hide = true, subcommand)]
    Child(Child),
}

/// What the bench runs in processes of their own.
#[derive(Subcommand)]
enum Child {
    Flows { observations: u32, rounds: u32 },
    Send { to: SocketAddr },
}

/// How much of everything.
struct Plan {
    program_rounds: u32,
    program_packets: u32,
    /// Of iperf3.
    rounds: usize,
    /// Observations, and how often.
    flows: &'static [(u32, u32)],
    /// Of runs that take seconds.
    cuts: usize,
    /// Devices, and how often.
    devices: &'static [(usize, u32)],
}

const FULL: Plan = Plan {
    program_rounds: 300,
    program_packets: 40_000,
    rounds: 90,
    cuts: 5,
    flows: &[(1_024, 11), (10_000, 11), (65_536, 11), (262_144, 5), (524_288, 5)],
    devices: &[(2, 11), (50, 5), (250, 3), (1_000, 1)],
};

const QUICK: Plan = Plan {
    program_rounds: 30,
    program_packets: 20_000,
    rounds: 5,
    cuts: 1,
    flows: &[(10_000, 3), (65_536, 3), (524_288, 1)],
    devices: &[(2, 3), (250, 1)],
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.part {
        Some(Part::Child(Child::Flows { observations, rounds })) => user_space::child(observations, rounds),
        Some(Part::Child(Child::Send { to })) => start::child(to),
        None => clean_up_when_interrupted("bench").and_then(|()| run(&cli)),
    };
    stop_if_interrupted();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    loaded::check_machine()?;
    let plan = if cli.quick { &QUICK } else { &FULL };
    let reference = std::env::var_os("NETPATH_REFERENCE").context("run this as `cargo xtask bench`")?;
    // Now, and not when minutes of measuring are done.
    if let Some(folder) = cli.write.as_ref().and_then(|path| path.parent()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }

    match cli.only {
        Some(Only::Traffic) => {
            println!("{}", whole_path::table(&traffic(plan)?));
            return Ok(());
        }
        Some(Only::Windows) => {
            println!("{}", figures::table(&window_figures(plan)?));
            return Ok(());
        }
        Some(Only::Programs) | None => {}
    }
    say("programs, by BPF_PROG_TEST_RUN");
    let lab = Lab::builder().pod("pod").start()?;
    let on_node = || programs::measure(Path::new(&reference), plan.program_rounds, plan.program_packets);
    let (mut figures, interleaved) = lab.node.namespace.run(on_node)??;
    if cli.only == Some(Only::Programs) {
        println!("{}", figures::table(&figures));
        return Ok(());
    }
    let maps = Loaded::new(document::DEFAULT_MAX_FLOWS)?.maps().to_vec();
    let mut flows = BTreeMap::new();
    for &(observations, rounds) in plan.flows {
        say(&format!("user space with {observations} flows"));
        flows.insert(observations, user_space::measure(&lab, observations, rounds)?);
    }
    drop(lab);

    let grace_period = start::grace_period_ms()?;
    let mut starts = Vec::new();
    for &(count, rounds) in plan.devices {
        say(&format!("start with {count} devices"));
        starts.push(start::measure(count, rounds)?);
    }

    figures.extend(window_figures(plan)?);
    say("netpath trace");
    match trace::kept(plan.cuts) {
        Ok(kept) => {
            let what = "events that a trace of 100,000 packets/s keeps";
            figures.push(Figure::new(what, Unit::Ratio, kept, Some(Aim::AtLeast(1.0))));
        }
        // The rest is measured all the same.
        Err(error) => say(&format!("left out: {error:#}")),
    }
    let first = trace::starts(plan.cuts)?;
    figures.push(Figure::new("netpath trace, start to first packet", Unit::Ms, first, Some(Aim::AtMost(300.0))));

    let traffic = traffic(plan)?;
    figures.extend(traffic.iter().flat_map(Traffic::figures));
    figures.extend(flow_figures(&flows));
    figures.extend(start_figures(&starts));
    figures.push(Figure::new("the kernel's RCU grace period", Unit::Ms, grace_period, None));
    figures.push(binary_size()?);

    let results = Results { figures, interleaved, traffic, flows, starts, maps };
    println!("{}", figures::table(&results.figures));
    if let Some(path) = &cli.write {
        fs::write(path, results.document()?).with_context(|| format!("cannot write {}", path.display()))?;
        say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// What one window after another costs.
fn window_figures(plan: &Plan) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |figure: Figure| {
        say(&format!("{}: {:.2}", figure.what, figures::median(&figure.samples)));
        figures.push(figure);
    };
    for (flows, format, aim) in [
        (10_000, Format::Table, Some(2.0)),
        (65_536, Format::Table, Some(10.0)),
        (10_000, Format::Json, None),
        (65_536, Format::Json, None),
    ] {
        let options = if matches!(format, Format::Json) { " -f json" } else { "" };
        let what = format!("CPU of netpath report --interval 1s{options}, {} flows", document::thousands(flows.into()));
        let samples = cut::measure(flows, format, plan.cuts)?;
        add(Figure::new(what, Unit::Percent, samples, aim.map(Aim::AtMost)));
    }
    for (flows, cpu, memory) in [(10_000, 1.0, 64.0), (65_536, 5.0, 160.0)] {
        let served = cut::serve(flows)?;
        let flows = document::thousands(flows.into());
        for (what, unit, sample, aim) in
            [("CPU", Unit::Percent, served.cpu, cpu), ("most memory", Unit::Mb, served.peak_mb, memory)]
        {
            let what = format!("{what} of netpath serve, {flows} flows");
            add(Figure::new(what, unit, vec![sample], Some(Aim::AtMost(aim))));
        }
    }
    add(Figure::new("a scrape of 250 pods", Unit::Ms, scrape::measure(250, 11)?, Some(Aim::AtMost(20.0))));
    Ok(figures)
}

fn traffic(plan: &Plan) -> Result<Vec<Traffic>> {
    say("whole path: iperf3 between two pods, nothing, empty programs and netpath on its hooks in turn");
    whole_path::measure(plan.rounds)
}

fn flow_figures(flows: &BTreeMap<u32, BTreeMap<String, Vec<f64>>>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |count: u32, words: &str, name: &str, unit, aim| {
        if let Some(samples) = flows.get(&count).and_then(|samples| samples.get(name)) {
            let count = document::thousands(count.into());
            figures.push(Figure::new(format!("{words}, {count} flows"), unit, samples.clone(), aim));
        }
    };
    for (count, drain_ms) in [(65_536, 60.0), (524_288, 500.0)] {
        add(count, "drain", user_space::DRAIN_MS, Unit::Ms, Some(Aim::AtMost(drain_ms)));
        add(count, "join, classify, account", user_space::REPORT_MS, Unit::Ms, None);
        add(count, "render as a table", user_space::TABLE_MS, Unit::Ms, None);
        add(count, "render as JSON", user_space::JSON_MS, Unit::Ms, None);
        add(count, "peak memory of all of that", user_space::PEAK_MB, Unit::Mb, None);
    }
    // Of a second: 10 ms are one hundredth.
    if let Some(cpu_ms) = flows.get(&10_000).and_then(|samples| samples.get(user_space::CPU_MS)) {
        let percent = cpu_ms.iter().map(|ms| ms / 10.0).collect();
        let what = "CPU of a drain and a report as JSON each second, 10,000 flows";
        figures.push(Figure::new(what, Unit::Percent, percent, Some(Aim::AtMost(2.0))));
    }
    figures
}

fn start_figures(starts: &[Starts]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for Starts { devices, tcx, clsact } in starts {
        let aim = match devices {
            2 => Some(Aim::AtMost(300.0)),
            250 => Some(Aim::AtMost(1_000.0)),
            _ => None,
        };
        let devices = document::thousands(*devices as u64);
        for (started, way) in [(tcx, ""), (clsact, ", --clsact")] {
            let what = format!("start to first packet counted, {devices} devices{way}");
            let first = started.iter().map(|started| started.first_packet_ms).collect();
            figures.push(Figure::new(what, Unit::Ms, first, aim));
        }
    }
    figures
}

fn binary_size() -> Result<Figure> {
    let path = netpath_binary()?;
    let bytes = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
    #[expect(clippy::cast_precision_loss, reason = "less than 2^52 bytes")]
    Ok(Figure::new("size of the static binary", Unit::Mb, vec![bytes as f64 / 1e6], Some(Aim::AtMost(8.0))))
}

fn say(text: &str) {
    eprintln!("==> {text}");
}
