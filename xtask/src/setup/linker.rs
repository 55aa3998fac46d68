//! bpf-linker: finds or installs one that fits a compiler, and proves it by building a program with both.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{partial, put_in_place, version};
use crate::process::{cargo, find, output, step};
use crate::toolchain::{Compiler, TARGET, Toolchain, check_object};

/// The version that is installed; one that builds with the oldest Rust that netpath supports.
const VERSION: &str = "0.10.0";
/// The LLVM that this version reads. It loads the compiler's own.
const LLVM: &str = "22";

/// A program as small as one can be: what the probe builds.
const PROBE: &str = r#"#![no_std]
#![no_main]
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
pub extern "C" fn probe() -> i32 {
    -1
}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
"#;
const PROBE_MANIFEST: &str = "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
                              [[bin]]\nname = \"probe\"\npath = \"probe.rs\"\n";

/// Joins `compiler` with a linker that works with it: the user's own, else one in the private folder.
pub fn join(folder: &Path, compiler: Compiler) -> Result<Toolchain> {
    let version = version::of(&compiler)?;
    if let Some(linker) = find("bpf-linker").filter(|linker| probe(folder, &compiler, linker).is_ok()) {
        return Ok(Toolchain { compiler, linker, version });
    }
    let llvm = version.rsplit(' ').next().unwrap_or_default();
    ensure!(llvm.split('.').next() == Some(LLVM), "its LLVM is {llvm}, and bpf-linker {VERSION} is for {LLVM}");
    let linker = installed(folder)?;
    probe(folder, &compiler, &linker)?;
    Ok(Toolchain { compiler, linker, version })
}

/// The linker in the private folder; builds it if it is not there.
fn installed(folder: &Path) -> Result<PathBuf> {
    let place = folder.join(format!("bpf-linker-{VERSION}"));
    let linker = place.join("bin/bpf-linker");
    if !linker.is_file() {
        step(&format!("building bpf-linker {VERSION} (once; one to two minutes)"));
        let directory = partial(folder, "bpf-linker")?;
        let mut command = cargo();
        command.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--quiet", "--root"]).arg(&directory);
        // Not into the user's target directory, and without the debug information that nobody will look at.
        command.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_RELEASE_DEBUG", "0").current_dir(&directory);
        output(&mut command)?;
        put_in_place(&directory, &place)?;
    }
    Ok(linker)
}

/// Builds a program with `compiler` and `linker`.
fn probe(folder: &Path, compiler: &Compiler, linker: &Path) -> Result<()> {
    step(&format!("trying {} with {} (seconds)", compiler.route, linker.display()));
    let directory = partial(folder, "probe")?;
    fs::write(directory.join("Cargo.toml"), PROBE_MANIFEST)?;
    fs::write(directory.join("probe.rs"), PROBE)?;
    let target_directory = directory.join("target");
    output(compiler.build(linker, &directory, &target_directory, ARCH).arg("--quiet"))?;
    check_object(&target_directory.join(TARGET).join("release/probe")).context("the linker made something else")?;
    fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))
}
