//! `cargo xtask check`: what a change must pass that needs neither root nor the toolchain for eBPF.

use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, find, run as run_command, step, target_directory, workspace};

/// Formatting, clippy, the tests that need nothing, licences and advisories.
///
/// # Errors
/// When one of them fails.
pub fn run() -> Result<()> {
    let target = target_directory()?;
    let command = |arguments: &[&str]| -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(workspace());
        command
    };
    let build = |arguments: &[&str]| -> Command {
        let mut command = command(arguments);
        // Such a netpath cannot measure, and compiles without the programs.
        command.env("NETPATH_EBPF", "none").arg("--target-dir").arg(&target);
        command
    };
    step("formatting");
    run_command(&mut command(&["fmt", "--all", "--check"]))?;
    step("clippy");
    run_command(build(&["clippy", "--workspace", "--all-targets"]).args(["--", "-D", "warnings"]))?;
    step("tests that need nothing");
    run_command(&mut build(&["test", "--quiet", "--workspace", "--exclude", "netpath-tests"]))?;
    if find("cargo-deny").is_some() {
        step("licences and advisories");
        run_command(&mut command(&["deny", "check"]))?;
    } else {
        step("licences and advisories are NOT CHECKED: `cargo install cargo-deny` for that");
    }
    step("passed");
    Ok(())
}
