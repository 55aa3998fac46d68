//! `cargo xtask setup`: finds or installs an eBPF toolchain, and the programs that the demonstration and the tests run.
//!
//! The toolchain goes into a private folder and never touches the system's compilers or rustup's. Out: the state file
//! there, which netpath's build script reads. What it writes appears complete or not at all (made beside its place, then
//! renamed), so it may be interrupted; a lock keeps two of them apart.

pub mod apt;
pub mod cross;
pub mod debian;
mod kubectl;
mod linker;
mod nightly;
pub mod python;
mod tools;
mod version;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::process::step;
use crate::toolchain::{Compiler, Toolchain, private_folder, state_file};

/// Options of `cargo xtask setup`.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Take the compiler from here only, and look for it anew [default: the first that works]
    #[arg(long, value_enum)]
    route: Option<Route>,
}

/// Where a compiler that can target BPF may come from, in the order they are tried.
#[derive(Clone, Copy, ValueEnum)]
enum Route {
    /// rustup's nightly with rust-src, if both are installed.
    Nightly,
    /// Debian's rustc-web packages, unpacked into the private folder.
    Debian,
    /// A nightly of a fixed date, which rustup downloads into the private folder.
    Download,
}

impl Route {
    /// Gets the compiler ready.
    fn prepare(self, folder: &Path) -> Result<Compiler> {
        match self {
            Self::Nightly => nightly::installed(),
            Self::Debian => debian::unpacked(folder),
            Self::Download => nightly::downloaded(folder),
        }
    }
}

/// Sets up everything.
///
/// # Errors
/// When no route leads to a toolchain, with what was tried; or when root's package manager fails.
pub fn run(args: &Args) -> Result<()> {
    let toolchain = toolchain(args)?;
    step(&format!("eBPF toolchain: {}, {}", toolchain.compiler.route, toolchain.version));
    if let Err(error) = tools::install() {
        step(&format!("building needs nothing more; the tests that need root and the demonstration do: {error:#}"));
    }
    Ok(())
}

/// Sets up everything, and insists on the programs that the tests and the demonstration run.
///
/// # Errors
/// As [`run`], and when such a program is missing.
pub fn for_the_lab() -> Result<()> {
    run_toolchain()?;
    tools::install()
}

/// The same, and the Python packages that the tests need besides.
///
/// # Errors
/// As [`for_the_lab`], and when pip fails.
pub fn for_the_tests() -> Result<()> {
    for_the_lab()?;
    python::install()
}

/// Sets up the eBPF toolchain alone, which is enough to build.
///
/// # Errors
/// As [`run`].
pub fn run_toolchain() -> Result<()> {
    toolchain(&Args::default()).map(drop)
}

/// The toolchain in the private folder, after looking for one and installing one if need be.
fn toolchain(args: &Args) -> Result<Toolchain> {
    let folder = private_folder()?;
    if let Some(toolchain) = working(&folder).filter(|_| args.route.is_none()) {
        return Ok(toolchain);
    }
    if let Err(error) = fs::create_dir_all(&folder) {
        bail!("cannot make {} ({error}); set XDG_CACHE_HOME to a directory you may write to", folder.display());
    }
    let _lock = lock(&folder)?;
    // Another setup may have finished while this one waited.
    if let Some(toolchain) = working(&folder).filter(|_| args.route.is_none()) {
        return Ok(toolchain);
    }
    let mut tried = Vec::new();
    for route in args.route.as_ref().map_or(Route::value_variants(), std::slice::from_ref) {
        match route.prepare(&folder).and_then(|compiler| linker::join(&folder, compiler)) {
            Ok(toolchain) => {
                publish(&folder, &toolchain)?;
                return Ok(toolchain);
            }
            Err(error) => {
                let name = route.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
                tried.push(format!("\n  {name}: {error:#}"));
            }
        }
    }
    bail!("found no eBPF toolchain; make one of these work, then run `cargo xtask setup` again{}", tried.concat())
}

/// The toolchain of the state file, if it still is what it was when it was seen to work.
fn working(folder: &Path) -> Option<Toolchain> {
    let toolchain = Toolchain::load(folder).ok()?;
    (version::of(&toolchain.compiler).ok()? == toolchain.version).then_some(toolchain)
}

/// Writes the state file.
fn publish(folder: &Path, toolchain: &Toolchain) -> Result<()> {
    let (file, partial) = (state_file(folder), folder.join("partial-state"));
    fs::write(&partial, toolchain.to_string())
        .and_then(|()| fs::rename(&partial, &file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Keeps other setups out of `folder` for as long as the result lives; the kernel lets go of it when a process ends.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => step("waiting for another `cargo xtask setup` to finish"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

/// An empty directory beside `folder/name` in which to prepare it. What an interrupted setup left there is removed.
pub fn partial(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(format!("partial-{name}"));
    if path.exists() {
        fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Puts the prepared directory `from` in its place, instead of what may be there.
pub fn put_in_place(from: &Path, place: &Path) -> Result<()> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::rename(from, place).with_context(|| format!("cannot rename {} to {}", from.display(), place.display()))
}
