//! `cargo xtask demo`: builds netpath and the lab's demonstration, and becomes the latter.
//!
//! The demonstration is the program `demo` of the package netpath-tests; nothing of it is here.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{cargo, is_root, run as run_command, step, target_directory, workspace};
use crate::setup;

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Handed to the demonstration
    #[arg(last = true)]
    arguments: Vec<std::ffi::OsString>,
}

/// Builds and becomes the demonstration: Ctrl-C and its exit status need no passing on.
///
/// # Errors
/// When the user is not root, or setting up or building fails.
pub fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the demonstration makes network namespaces, so run: sudo -E env \"PATH=$PATH\" cargo xtask demo");
    }
    setup::for_the_lab()?;
    let target = target_directory()?;
    step("building netpath and the demonstration (release; minutes the first time)");
    let mut build = cargo();
    build.args(["build", "--release", "-p", "netpath", "-p", "netpath-tests", "--bin", "netpath", "--bin", "demo"]);
    run_command(build.arg("--target-dir").arg(&target).current_dir(workspace()))?;
    let programs = target.join("release");
    let error =
        Command::new(programs.join("demo")).env("NETPATH_BIN", programs.join("netpath")).args(&args.arguments).exec();
    bail!("cannot run {}: {error}", programs.join("demo").display())
}
