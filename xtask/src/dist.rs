//! `cargo xtask dist`: the statically linked release binary that is copied to nodes, and what contains it.

pub mod image;
mod licences;
pub mod packages;
mod parts;
mod sbom;
pub mod time;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum as _;

use crate::architecture::Architecture;
use crate::process::{cargo, run as run_command, step, target_directory, workspace};
use crate::setup::{self, cross::Cross};
use crate::toolchain::same_paths_everywhere;

/// More than the binary may have: it is copied to every node.
const TOO_MANY_BYTES: u64 = 8_000_000;

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub struct Args {
    /// Build for nodes of this architecture [default: this machine's]
    #[arg(long, value_enum, value_name = "ARCH")]
    target: Option<Architecture>,
    /// Make the container image, too, for every architecture if none is named: an OCI layout, an archive, the SBOM
    #[arg(long)]
    image: bool,
    /// Make packages for nodes, too, for every architecture if none is named: .deb and .rpm
    #[arg(long)]
    packages: bool,
}

/// Builds the binary and says how large it is, then makes what contains it.
///
/// # Errors
/// As [`build`], when the binary is too large, and when what contains it cannot be made.
pub fn run(args: &Args) -> Result<()> {
    make(args).map(drop)
}

/// Builds and makes all there is, for every architecture if none is named, and says which binaries it is of.
///
/// # Errors
/// As [`run`].
pub fn everything(target: Option<Architecture>) -> Result<Vec<(Architecture, PathBuf)>> {
    make(&Args { target, image: true, packages: true })
}

fn make(args: &Args) -> Result<Vec<(Architecture, PathBuf)>> {
    let architectures = match args.target {
        Some(one) => vec![one],
        None if args.image || args.packages => Architecture::value_variants().to_vec(),
        None => vec![Architecture::host()?],
    };
    let mut binaries = Vec::new();
    for architecture in architectures {
        let place = build(architecture)?;
        check_size(&place)?;
        binaries.push((architecture, place));
    }
    if args.image {
        image::make(&binaries)?;
    }
    if args.packages {
        packages::make(&binaries)?;
    }
    Ok(binaries)
}

fn check_size(place: &Path) -> Result<()> {
    let bytes = fs::metadata(place).with_context(|| format!("cannot read {}", place.display()))?.len();
    let tenths = (bytes + 50_000) / 100_000;
    println!("{}: {bytes} bytes ({}.{} MB)", place.display(), tenths / 10, tenths % 10);
    ensure!(
        bytes < TOO_MANY_BYTES,
        "a binary of {TOO_MANY_BYTES} bytes or more is too large; see what `cargo bloat --release --crates` blames"
    );
    Ok(())
}

/// Builds `<target>/dist/netpath`, or `<target>/dist/netpath-ARCH` of another architecture than this machine's, and says where
/// that is.
///
/// # Errors
/// When setting up or building fails, or when what was built needs a dynamic loader after all.
pub fn build(architecture: Architecture) -> Result<PathBuf> {
    setup::run_toolchain()?;
    let target = target_directory()?;
    // With a target named, the flags are not for build scripts and macros, which cannot be static.
    let triple = architecture.rust_target();
    step(&format!("building netpath, statically linked, for {triple} (minutes the first time)"));
    let mut build = cargo();
    build.args(["build", "--release", "-p", "netpath", "--target", triple, "--target-dir"]).arg(&target);
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(same_paths_everywhere(workspace(), &target));
    if let Some(cross) = Cross::find(architecture)? {
        cross.apply(&mut build, &mut flags);
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run_command(build.current_dir(workspace()))?;

    let built = target.join(triple).join("release/netpath");
    let binary = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    ensure!(
        binary.get(18..20) == Some(&architecture.elf_machine().to_le_bytes()),
        "{} is not for {}",
        built.display(),
        architecture.name()
    );
    ensure!(is_static(&binary)?, "{} is linked dynamically; it must not be given to nodes", built.display());
    let place = target.join("dist").join(format!("netpath{}", architecture.suffix()?));
    fs::create_dir_all(target.join("dist"))
        .and_then(|()| fs::copy(&built, &place))
        .with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

/// Whether an ELF64 little-endian program asks for no dynamic loader (elf(5): it has no `PT_INTERP` header).
fn is_static(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: u64 = 3;
    let number = |offset: usize, size: usize| -> Option<u64> {
        let bytes = elf.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        bail!("not an ELF64 little-endian program");
    }
    let headers = || {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let offsets = (0..count).map(|index| usize::try_from(table.checked_add(index * size)?).ok());
        offsets.map(|offset| number(offset?, 4)).collect::<Option<Vec<_>>>()
    };
    Ok(!headers().context("the ELF program headers are damaged")?.contains(&PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_not_static() {
        // Cargo links this test itself dynamically.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own).unwrap());
        assert!(is_static(&own[..70]).is_err());
        assert!(is_static(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn a_program_without_interpreter_is_static() {
        // An ELF header whose table, at 64, has one PT_LOAD (1) of 56 bytes.
        let mut elf = vec![0_u8; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56], elf[64]) = (64, 56, 1, 1);
        assert!(is_static(&elf).unwrap());
        elf[64] = 3;
        assert!(!is_static(&elf).unwrap());
    }
}
