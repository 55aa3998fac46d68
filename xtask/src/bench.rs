//! `cargo xtask bench`: builds what is measured and what it is held against, then becomes the bench.
//!
//! The bench is the package netpath-bench; nothing of it is here.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::process::{cargo, is_root, run as run_command, step, target_directory, workspace};
use crate::toolchain::{TARGET, Toolchain, check_object, private_folder};
use crate::{dist, setup};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Half a minute with fewer rounds, to see that it works; leaves docs/performance.md as it is
    #[arg(long)]
    quick: bool,
    /// Measure this part only, and leave docs/performance.md as it is
    #[arg(long, value_name = "PART", value_parser = ["programs", "traffic", "windows"])]
    only: Option<String>,
}

/// Builds and becomes the bench: Ctrl-C and its exit status need no passing on.
///
/// # Errors
/// When the user is not root, or setting up or building fails.
pub fn run(args: &Args) -> Result<()> {
    if !is_root() {
        bail!("the bench loads eBPF programs, so run: sudo -E env \"PATH=$PATH\" cargo xtask bench");
    }
    setup::for_the_lab()?;
    let target = target_directory()?;
    let netpath = dist::build(Architecture::host()?)?;
    step("building the bench");
    let reference = reference(&target)?;
    let mut build = cargo();
    build.args(["build", "--release", "-p", "netpath-bench", "--target-dir"]).arg(&target);
    run_command(build.current_dir(workspace()))?;
    let program = target.join("release/netpath-bench");
    let mut bench = Command::new(&program);
    bench.env("NETPATH_BIN", netpath).env("NETPATH_REFERENCE", reference);
    if args.quick {
        bench.arg("--quick");
    }
    if let Some(part) = &args.only {
        bench.args(["--only", part]);
    } else if !args.quick {
        bench.arg("--write").arg(workspace().join("docs/performance.md"));
    }
    bail!("cannot run {}: {}", program.display(), bench.exec())
}

/// Builds the reference programs and says where their object is.
fn reference(target: &Path) -> Result<PathBuf> {
    let toolchain = Toolchain::load(&private_folder()?)?;
    let directory = target.join("reference");
    let sources = workspace().join("netpath-ebpf");
    let mut build = toolchain.compiler.build(&toolchain.linker, &sources, &directory, std::env::consts::ARCH);
    build.args(["--package", "netpath-ebpf", "--bin", "reference", "--features", "bpf"]).stdout(Stdio::null());
    run_command(&mut build)?;
    let object = directory.join(TARGET).join("release/reference");
    check_object(&object).context("the reference programs did not build")?;
    Ok(object)
}
