//! `cargo xtask kernels`: runs the tests of tests/tests/kernels/ and of tests/tests/programs/ on Debian's kernels, each in
//! a virtual machine, with the static netpath that `cargo xtask dist` makes.
//!
//! In: kernels and, where there is none, qemu, downloaded once into the private folder. Out: a matrix of kernels and checks,
//! on stdout and in docs/kernels.md (of another architecture, docs/kernels-ARCH.md). A check without a result is a failed one.

mod image;
mod machine;
mod matrix;
mod packages;
mod tools;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use self::machine::{Machine, Qemu};
use self::matrix::{Matrix, Outcome};
use self::packages::Suite;
use self::tools::Tools;
use crate::architecture::Architecture;
use crate::process::{cargo, output, run as run_command, step, target_directory, workspace};
use crate::setup::cross::Cross;
use crate::{dist, setup};

/// The test programs, each run by a machine of its own.
const PROGRAMS: [&str; 2] = ["kernels", "programs"];
/// The package that has them.
const PACKAGE: &str = "netpath-tests";

/// Options of `cargo xtask kernels`.
#[derive(clap::Args)]
pub struct Args {
    /// Run on kernels of this architecture [default: this machine's]
    #[arg(long, value_enum, value_name = "ARCH")]
    target: Option<Architecture>,
    /// Run on this kernel only, and leave the document as it is
    #[arg(long, value_enum)]
    suite: Option<Suite>,
    /// Look for newer kernels first
    #[arg(long)]
    update: bool,
    /// Run only tests whose name contains NAME, and leave the document as it is
    #[arg(long, value_name = "NAME", default_value = "")]
    test: String,
}

/// Runs everything.
///
/// # Errors
/// When something cannot be downloaded or built, or a check failed or did not run.
pub fn run(args: &Args) -> Result<()> {
    let architecture = args.target.map_or_else(Architecture::host, Ok)?;
    setup::for_the_lab()?;
    step("building the tests");
    let guest = built(architecture, &["build", "--bin", "guest"], "guest")?;
    let test = |architecture, name| built(architecture, &["test", "--no-run", "--test", name], name);
    let programs =
        PROGRAMS.iter().map(|name| test(architecture, *name).map(|path| (*name, path))).collect::<Result<Vec<_>>>()?;
    let mut checks = Vec::new();
    for (name, program) in &programs {
        // Another architecture's cannot be run here.
        let is_own = architecture == Architecture::host()?;
        let program = if is_own { program.clone() } else { test(Architecture::host()?, *name)? };
        let list = output(std::process::Command::new(&program).arg("--list"))?;
        let names: Vec<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
        ensure!(!names.is_empty(), "{} has no tests", program.display());
        checks.push(names.into_iter().filter(|name| name.contains(&args.test)).collect::<Vec<_>>());
    }
    ensure!(checks.iter().any(|names| !names.is_empty()), "no test matches '{}'", args.test);

    let qemu = Qemu::find(architecture)?;
    let suites: &[Suite] = args.suite.as_ref().map_or_else(|| Suite::all(architecture), std::slice::from_ref);
    let kernels = suites.iter().map(|suite| suite.kernel(architecture, args.update)).collect::<Result<Vec<_>>>()?;
    let tools = Tools::for_architecture(architecture)?;
    let netpath = dist::build(architecture)?;

    let mut matrix = Matrix::new(checks.concat());
    for kernel in kernels {
        let image = image::make(&kernel, &tools, &guest, &netpath, &programs)?;
        for ((name, _), checks) in programs.iter().zip(&checks).filter(|(_, checks)| !checks.is_empty()) {
            step(&format!("Linux {}: {name}", kernel.release));
            let boot = || Machine::boot(&qemu, &kernel, &image, name, &args.test);
            let mut said = boot()?;
            // Emulated CPUs stumble at times over code that a kernel changes while it starts. No check has begun then.
            if !said.contains("\nrunning ") {
                step("the machine did not come up; once more");
                said = boot()?;
            }
            let outcomes: Vec<_> = checks.iter().map(|check| matrix.take(&kernel, check, &said)).collect();
            if outcomes.iter().any(|outcome| *outcome != Outcome::Passed) {
                eprintln!("{said}");
            }
        }
    }
    print!("{}", matrix.text());
    if args.suite.is_none() && args.test.is_empty() {
        let document = workspace().join(format!("docs/kernels{}.md", architecture.suffix()?));
        std::fs::write(&document, matrix.document(architecture)?)
            .with_context(|| format!("cannot write {}", document.display()))?;
    }
    let failed = matrix.failed();
    if failed > 0 {
        bail!("{failed} checks failed or did not run; what the kernel and the tests said is above");
    }
    Ok(())
}

/// Builds with cargo, and says where the executable `name` is. For another architecture it is static: it runs where this system's
/// libraries are not.
fn built(architecture: Architecture, arguments: &[&str], name: &str) -> Result<PathBuf> {
    let cross = Cross::find(architecture)?;
    let build = || -> Result<_> {
        let mut command = cargo();
        command.args(arguments).args(["-p", PACKAGE, "--target-dir"]).arg(target_directory()?);
        if let Some(cross) = &cross {
            let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
            cross.apply(&mut command, &mut flags);
            command.args(["--target", architecture.rust_target()]).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        }
        command.current_dir(workspace());
        Ok(command)
    };
    // Once for people, once for its answer.
    run_command(build()?.arg("--quiet"))?;
    let messages = output(build()?.args(["--message-format", "json"]))?;
    let executable = messages.lines().rev().find_map(|line| {
        let is_it = line.contains(&format!("\"name\":\"{name}\""));
        line.split_once("\"executable\":\"").filter(|_| is_it)?.1.split('"').next()
    });
    executable.map(PathBuf::from).with_context(|| format!("cargo does not say where {name} is"))
}
