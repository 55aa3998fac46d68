//! Nightly compilers of rustup, which compile `core` for BPF from rust-src: the way that aya's documentation describes.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{partial, put_in_place, version};
use crate::process::{find, output, step};
use crate::toolchain::Compiler;

/// The nightly that is downloaded where nothing else works. Its LLVM must be the one that the linker is for.
const DATED: &str = "nightly-2026-05-20";

/// The user's own nightly, if it has rust-src. Installs nothing and asks no server.
pub fn installed() -> Result<Compiler> {
    let Ok(rustc) = output(rustup()?.args(["which", "--toolchain", "nightly", "rustc"])) else {
        bail!("rustup has no nightly; run `rustup toolchain install nightly --component rust-src`")
    };
    let sysroot = Path::new(rustc.trim_end()).ancestors().nth(2).context("rustup names no path")?;
    compiler("installed nightly", sysroot)
}

/// The dated nightly in the private folder; downloads it if it is not there.
pub fn downloaded(folder: &Path) -> Result<Compiler> {
    let place = folder.join(DATED);
    let ready = || {
        let compiler = compiler("downloaded nightly", &place)?;
        version::of(&compiler).map(|_| compiler)
    };
    if let Ok(compiler) = ready() {
        return Ok(compiler);
    }
    let mut rustup = rustup()?;
    step(&format!("downloading Rust {DATED} into {} (about 200 MB)", folder.display()));
    // A home of its own: the user's toolchains and default stay as they are.
    let home = partial(folder, DATED)?;
    let install =
        ["toolchain", "install", DATED, "--profile", "minimal", "--component", "rust-src", "--no-self-update"];
    output(rustup.args(install).env("RUSTUP_HOME", &home))?;
    let mut toolchains = fs::read_dir(home.join("toolchains")).context("rustup installed nothing")?;
    let Some(toolchain) = toolchains.next() else { bail!("rustup installed nothing") };
    put_in_place(&toolchain?.path(), &place)?;
    fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    ready()
}

/// The compiler in `sysroot`.
fn compiler(route: &str, sysroot: &Path) -> Result<Compiler> {
    ensure!(
        sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
        "it lacks rust-src; run `rustup component add rust-src --toolchain nightly`"
    );
    Ok(Compiler {
        route: route.into(),
        rustc: sysroot.join("bin/rustc"),
        cargo: Some(sysroot.join("bin/cargo")),
        library_path: sysroot.join("lib").into(),
        build_std: true,
    })
}

/// rustup, which must install nothing that it was not told to.
fn rustup() -> Result<Command> {
    let mut command = Command::new(find("rustup").context("rustup is not installed; see https://rustup.rs")?);
    command.env("RUSTUP_AUTO_INSTALL", "0").env("RUST_BACKTRACE", "0");
    Ok(command)
}
