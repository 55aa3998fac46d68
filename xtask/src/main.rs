//! netpath's own commands for those who build it: set up, test, demonstrate, measure, try on other kernels, package.
//!
//! It must not depend on the netpath crate: that one builds only after `cargo xtask setup`.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod architecture;
mod bench;
mod check;
mod demo;
mod dist;
mod files;
mod fuzz;
mod kernels;
mod process;
mod release;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Set up, test, demonstrate, measure and package netpath.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what building and testing need and is missing; leaves the system's own compilers alone
    Setup(setup::Args),
    /// Show netpath on a simulated node: network namespaces on this machine (needs root)
    Demo(demo::Args),
    /// Check formatting, lints, licences and what is tested without root
    Check,
    /// Run every test that can run here, and say which could not
    Test(test::Args),
    /// Run every fuzz target for a bounded time (needs a C++ compiler)
    Fuzz(fuzz::Args),
    /// Measure what netpath costs and write docs/performance.md (needs root and four minutes without other load)
    Bench(bench::Args),
    /// Run netpath on every kernel it is for, in virtual machines, and write docs/kernels.md (needs qemu's packages of Debian)
    Kernels(kernels::Args),
    /// Build the static release binary that is copied to nodes, target/dist/netpath, check its size, and make what contains it
    Dist(dist::Args),
    /// Make everything that is published of a version, target/release-files, with checksums; publishes nothing
    Release(release::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check => check::run(),
        Command::Test(args) => test::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Dist(args) => dist::run(&args),
        Command::Release(args) => release::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
