//! `cargo xtask test`: every test. Those of netpath-tests need root and a kernel, so without root they are named as not run.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{cargo, is_root, output, run as run_command, step, target_directory, workspace};
use crate::setup;

/// The package whose tests need root: the lab and its scenarios.
const LAB: &str = "netpath-tests";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run only tests whose name contains NAME; further options of Rust's test harness may follow
    #[arg(last = true, value_name = "NAME")]
    filter: Vec<OsString>,
}

/// Runs the tests that can run here.
///
/// # Errors
/// When one fails, or no test has the name asked for.
pub fn run(args: &Args) -> Result<()> {
    if is_root() {
        setup::for_the_lab()?;
    } else {
        setup::run_toolchain()?;
    }

    step("compiling the tests");
    for selection in [plain as fn() -> Result<Command>, lab] {
        run_command(selection()?.arg("--no-run"))?;
    }
    let plain_count = count(plain()?, &args.filter)?;
    let lab_count = count(lab()?, &args.filter)?;
    // A misspelt name or a broken harness must not look like success.
    ensure!(plain_count + lab_count > 0, "no test matches; `cargo xtask test` runs them all");
    if args.filter.is_empty() {
        ensure!(
            plain_count > 0 && lab_count > 0,
            "tests are lost: {plain_count} need nothing, {lab_count} are in {LAB}"
        );
    }

    if plain_count > 0 {
        step(&format!("running {plain_count} tests that need nothing"));
        run_command(plain()?.arg("--no-fail-fast").arg("--").args(&args.filter))?;
    }
    if lab_count == 0 {
        step("passed: all tests that match");
        return Ok(());
    }

    if !is_root() {
        step("passed: all that ran");
        step(&format!(
            "NOT RUN: {lab_count} test(s) of {LAB}, which make network namespaces and load programs: they need root"
        ));
        step("run them: sudo -E env \"PATH=$PATH\" cargo xtask test");
        return Ok(());
    }
    step("building netpath for the lab");
    // The dev profile: it checks arithmetic and debug assertions, and the tests above have compiled most of it already.
    let target = target_directory()?;
    run_command(cargo().args(["build", "-p", "netpath", "--target-dir"]).arg(&target).current_dir(workspace()))?;
    step(&format!("running {lab_count} tests in the lab, one after another"));
    let mut tests = lab()?;
    // Each looks at what the kernel has: devices, programs, counters. Another one's must not come in between.
    tests.env("RUST_TEST_THREADS", "1").env("NETPATH_BIN", target.join("debug/netpath"));
    run_command(tests.arg("--no-fail-fast").arg("--").args(&args.filter))?;
    step(if args.filter.is_empty() { "passed: all tests" } else { "passed: all tests that match" });
    Ok(())
}

/// `cargo test` of everything that needs nothing.
fn plain() -> Result<Command> {
    cargo_test(&["--workspace", "--exclude", LAB])
}

/// `cargo test` of what needs root.
fn lab() -> Result<Command> {
    cargo_test(&["-p", LAB])
}

fn cargo_test(selection: &[&str]) -> Result<Command> {
    let mut command = cargo();
    command.args(["test", "--quiet"]).args(selection).arg("--target-dir").arg(target_directory()?);
    command.current_dir(workspace());
    Ok(command)
}

/// How many tests of `selection` match `filter`.
fn count(mut selection: Command, filter: &[OsString]) -> Result<usize> {
    Ok(listed(&output(selection.args(["--", "--list"]).args(filter))?))
}

/// How many tests a harness's `--list` names.
fn listed(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_and_benchmarks_are_not() {
        assert_eq!(listed("a::b: test\nc: benchmark\nd: test\n\n2 tests, 1 benchmark\n"), 2);
        assert_eq!(listed("0 tests, 0 benchmarks\n"), 0);
    }
}
