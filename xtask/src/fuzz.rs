//! `cargo xtask fuzz`: every fuzz target for a bounded time, starting from the stored seeds.
//!
//! The targets are ordinary programs with libFuzzer in them. What makes the compiler tell libFuzzer about coverage are stable
//! options, so neither a nightly nor cargo-fuzz is needed; a C++ compiler is, for libFuzzer itself. Address sanitising would
//! need a nightly, and finds little in code that is nearly all safe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, find, output, run as run_command, step, target_directory, workspace};

/// The workspaces that have fuzz targets; their seeds are in `seeds/TARGET`.
const WORKSPACES: [&str; 2] = ["netpath-ebpf/fuzz", "netpath/fuzz"];

/// Coverage as libFuzzer wants it.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Args {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run only this target
    target: Option<String>,
}

/// Builds and runs the targets, one after another.
///
/// # Errors
/// When there is no such target, one cannot be built, or one finds something.
pub fn run(args: &Args) -> Result<()> {
    ensure!(
        find("c++").is_some(),
        "libFuzzer is built with a C++ compiler, and there is no c++; install one (Debian: apt-get install g++)"
    );
    let host = host()?;
    let mut known = Vec::new();
    let mut failed = Vec::new();
    for fuzz in WORKSPACES.map(|folder| workspace().join(folder)) {
        let targets = targets(&fuzz)?;
        let chosen = targets.iter().filter(|name| args.target.as_ref().is_none_or(|wanted| wanted == *name));
        let chosen: Vec<&String> = chosen.collect();
        if !chosen.is_empty() {
            let programs = build(&fuzz, &host)?;
            for name in chosen {
                step(&format!("fuzzing {name} for {} s", args.seconds));
                if let Err(error) = fuzz_one(&fuzz, &programs, name, args.seconds) {
                    failed.push(format!("{name}: {error:#}"));
                }
            }
        }
        known.extend(targets);
    }
    if let Some(wanted) = &args.target {
        ensure!(known.contains(wanted), "there is no target {wanted}; there are {}", known.join(", "));
    }
    ensure!(failed.is_empty(), "{}; what makes it fail is in artifacts/ of that folder", failed.join("; "));
    Ok(())
}

/// The names of the targets in a fuzz workspace: one has seeds, or it would begin with nothing.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let seeds = fuzz.join("seeds");
    let entries = fs::read_dir(&seeds).with_context(|| format!("cannot read {}", seeds.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Builds the targets of a workspace, and says where the programs are.
fn build(fuzz: &Path, host: &str) -> Result<PathBuf> {
    step(&format!("building the fuzz targets in {}", fuzz.display()));
    let target = target_directory()?.join("fuzz");
    // With a target named, the flags are not for build scripts. What is read from outside needs no eBPF.
    let mut build = cargo();
    build.args(["build", "--target", host, "--target-dir"]).arg(&target).current_dir(fuzz);
    build.env("RUSTFLAGS", FLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS").env("NETPATH_EBPF", "none");
    run_command(&mut build)?;
    Ok(target.join(host).join("debug"))
}

fn fuzz_one(fuzz: &Path, programs: &Path, name: &str, seconds: u32) -> Result<()> {
    // What is found goes where git ignores it; the seeds are only read.
    let (corpus, artifacts) = (fuzz.join("corpus").join(name), fuzz.join("artifacts").join(name));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new(programs.join(name));
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let output = command.arg(&corpus).arg(fuzz.join("seeds").join(name)).output().context("cannot run it")?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprint!("{log}");
        bail!("failed ({})", output.status);
    }
    let runs = runs(&log).context("it does not say how many inputs it ran")?;
    step(&format!("{name}: {runs} inputs, nothing found"));
    Ok(())
}

/// How many inputs libFuzzer says that it ran; none would be no success.
fn runs(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok().filter(|runs| *runs > 0)
}

/// The compiler's own target.
fn host() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc tells no host")?;
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_seeds_and_every_seed_a_target() {
        for fuzz in WORKSPACES.map(|folder| workspace().join(folder)) {
            let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
            let mut sources: Vec<&str> = manifest
                .lines()
                .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
                .collect();
            sources.sort_unstable();
            assert_eq!(targets(&fuzz).unwrap(), sources);
        }
    }

    #[test]
    fn a_fuzzer_that_ran_nothing_has_found_nothing() {
        assert_eq!(runs("#1\nstat::number_of_executed_units: 21175\nstat::x: 1\n"), Some(21175));
        assert_eq!(runs("stat::number_of_executed_units: 0\n"), None);
        assert_eq!(runs("Done\n"), None);
    }
}
