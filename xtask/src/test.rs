//! `cargo xtask test`: every test. Those of the lab need root and a kernel, so without root they are named as not run.
//!
//! Every command of cargo selects the whole workspace: of one package alone the libraries would have other features, and be
//! compiled once more.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{cargo, is_root, output, run as run_command, step, target_directory, workspace};
use crate::setup;

/// The package whose test programs need root.
const LAB: &str = "netpath-tests";
/// Those programs.
const LAB_PROGRAMS: [&str; 3] = ["main", "kernels", "programs"];

/// The test program of what `cargo xtask dist` made.
const SHIP_PROGRAM: &str = "ship";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
    /// Test what `cargo xtask dist` made instead: needs root
    #[arg(long)]
    dist: bool,
    /// Run only tests whose name contains NAME; further options of Rust's test harness may follow
    #[arg(last = true, value_name = "NAME")]
    filter: Vec<OsString>,
}

/// Runs the tests that can run here.
///
/// # Errors
/// When one fails, or no test has the name asked for.
pub fn run(args: &Args) -> Result<()> {
    if args.dist {
        return dist(&args.filter);
    }
    if is_root() {
        setup::for_the_tests()?;
    } else {
        setup::run_toolchain()?;
    }

    step("compiling the tests");
    for selection in [libraries as fn() -> Result<Command>, plain, lab] {
        run_command(selection()?.arg("--no-run"))?;
    }
    let plain_count = count(libraries()?, &args.filter)? + count(plain()?, &args.filter)?;
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
        for selection in [libraries as fn() -> Result<Command>, plain] {
            run_command(selection()?.arg("--no-fail-fast").arg("--").args(&args.filter))?;
        }
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
    // Built for netpath's own tests: the dev profile, which checks arithmetic and debug assertions.
    let netpath = target_directory()?.join("debug/netpath");
    ensure!(netpath.is_file(), "cargo built no {}", netpath.display());
    step(&format!("running {lab_count} tests in the lab, one after another"));
    let mut tests = lab()?;
    // Each looks at what the kernel has: devices, programs, counters. Another one's must not come in between.
    tests.env("RUST_TEST_THREADS", "1").env("NETPATH_BIN", netpath).env("NETPATH_PYTHON", setup::python::folder()?);
    run_command(tests.arg("--no-fail-fast").arg("--").args(&args.filter))?;
    if args.filter.is_empty() {
        step("NOT RUN: tests of what `cargo xtask dist` makes; run them: cargo xtask test --dist");
    }
    step(if args.filter.is_empty() { "passed: all tests" } else { "passed: all tests that match" });
    Ok(())
}

/// Runs the tests of what `cargo xtask dist` made.
fn dist(filter: &[OsString]) -> Result<()> {
    ensure!(is_root(), "these tests need root: sudo -E env \"PATH=$PATH\" cargo xtask test --dist");
    setup::for_the_tests()?;
    let made = target_directory()?.join("dist");
    ensure!(made.join("netpath").is_file(), "there is no {}; run `cargo xtask dist`", made.join("netpath").display());
    let selection = || cargo_test(&["--test", SHIP_PROGRAM]);
    ensure!(count(selection()?, filter)? > 0, "no test of {SHIP_PROGRAM} matches");
    step("testing what is shipped");
    let mut tests = selection()?;
    tests.env("RUST_TEST_THREADS", "1").env("NETPATH_DIST", made).env("NETPATH_PYTHON", setup::python::folder()?);
    run_command(tests.arg("--no-fail-fast").arg("--").args(filter))
}

/// `cargo test` of what is in libraries, the lab's among them; it needs nothing. There is no code in documentation.
fn libraries() -> Result<Command> {
    cargo_test(&["--lib"])
}

/// `cargo test` of programs and test programs that need nothing.
fn plain() -> Result<Command> {
    cargo_test(&["--exclude", LAB, "--bins", "--test", "*"])
}

/// `cargo test` of what needs root.
fn lab() -> Result<Command> {
    cargo_test(&LAB_PROGRAMS.map(|name| ["--test", name]).concat())
}

fn cargo_test(selection: &[&str]) -> Result<Command> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--workspace"]).args(selection).arg("--target-dir").arg(target_directory()?);
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
