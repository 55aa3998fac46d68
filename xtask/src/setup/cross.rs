//! What builds netpath for another architecture than this machine's: a standard library, and a C compiler that links.
//!
//! In: an architecture. Out: how cargo has to be called. The standard library is rustup's where it is installed (`rustup target
//! add`), else Debian's for its rustc-web, unpacked into the private folder; that compiler is then used for all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::apt::{Apt, MIRROR, SECURITY_MIRROR};
use super::{debian, partial, put_in_place, tools};
use crate::architecture::Architecture;
use crate::process::{find, is_root, output, step, workspace};
use crate::toolchain::{Compiler, private_folder};

/// Debian's package of the standard library that goes with rustc-web.
const STD: &str = "libstd-rust-web-dev";

/// How to build for another architecture.
pub struct Cross {
    architecture: Architecture,
    /// Debian's compiler, and where the standard library for it is; `None` to take the one that cargo finds.
    debian: Option<(Compiler, PathBuf)>,
}

impl Cross {
    /// Finds or installs what is needed; `None` for this machine's own architecture.
    ///
    /// # Errors
    /// When something is missing and cannot be installed here.
    pub fn find(architecture: Architecture) -> Result<Option<Self>> {
        if architecture == Architecture::host()? {
            return Ok(None);
        }
        linker(architecture)?;
        if rustup_has(architecture) {
            return Ok(Some(Self { architecture, debian: None }));
        }
        let compiler = debian::unpacked(&private_folder()?)?;
        let library = library(architecture, &compiler).with_context(|| {
            let target = architecture.rust_target();
            format!("there is no standard library for {target}; with rustup: `rustup target add {target}`")
        })?;
        Ok(Some(Self { architecture, debian: Some((compiler, library)) }))
    }

    /// Has cargo build so, and adds to the compiler's flags.
    pub fn apply(&self, cargo: &mut Command, flags: &mut Vec<String>) {
        let triple = self.architecture.rust_target();
        let variable = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_"));
        cargo.env(variable, c_compiler(self.architecture));
        if let Some((compiler, library)) = &self.debian {
            cargo.env("RUSTC", &compiler.rustc).env("LD_LIBRARY_PATH", &compiler.library_path);
            flags.push(format!("-L{}", library.display()));
        }
    }
}

/// The version of the compiler that builds for an architecture, and the file with the notices of its standard library.
///
/// # Errors
/// As [`Cross::find`], and when the compiler does not answer.
pub fn standard_library(architecture: Architecture) -> Result<(String, PathBuf)> {
    let cross = Cross::find(architecture)?;
    let (version, notices) = if let Some((compiler, library)) = cross.and_then(|cross| cross.debian) {
        let usr = library.ancestors().nth(4).context("the library is in usr/lib/rustlib/TARGET/lib")?;
        let version = output(compiler.command(&compiler.rustc).arg("--version"))?;
        (version, usr.join("share/doc").join(STD).join("copyright"))
    } else {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let ask = |what: &[&str]| output(Command::new(&rustc).args(what).current_dir(workspace()));
        let sysroot = ask(&["--print", "sysroot"])?;
        (ask(&["--version"])?, Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html"))
    };
    let version = version.split_whitespace().nth(1).context("rustc does not tell its version")?;
    Ok((version.to_owned(), notices))
}

/// The name of Debian's C compiler for an architecture, which other distributions have taken over.
pub fn c_compiler(architecture: Architecture) -> String {
    format!("{}-linux-gnu-gcc", architecture.name())
}

fn linker(architecture: Architecture) -> Result<()> {
    let program = c_compiler(architecture);
    if find(&program).is_some() {
        return Ok(());
    }
    let packages = [
        format!("gcc-{}-linux-gnu", architecture.name().replace('_', "-")),
        format!("libc6-dev-{}-cross", architecture.oci_name()),
    ];
    if !is_root() || find("apt-get").is_none() {
        bail!("there is no {program}; on Debian and its like: sudo apt-get install {}", packages.join(" "));
    }
    step(&format!("installing {}", packages.join(" ")));
    let packages = packages.each_ref().map(String::as_str);
    tools::apt_get(&[&["install", "--yes", "--no-install-recommends"][..], &packages].concat())?;
    ensure!(find(&program).is_some(), "there is still no {program}; install it by hand");
    Ok(())
}

/// Whether the compiler that cargo finds has a standard library for it.
fn rustup_has(architecture: Architecture) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", architecture.rust_target()]);
    output(&mut rustc).is_ok_and(|path| has_std(Path::new(path.trim())))
}

fn has_std(folder: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(folder) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

/// Debian's standard library in the private folder; downloads it if it is not there, or is of another compiler.
fn library(architecture: Architecture, compiler: &Compiler) -> Result<PathBuf> {
    let name = format!("std-{}", architecture.name());
    let place = private_folder()?.join(&name);
    let library = place.join("usr/lib/rustlib").join(architecture.rust_target()).join("lib");
    if fits(architecture, compiler, &library) {
        return Ok(library);
    }
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename.context("/etc/os-release names no VERSION_CODENAME")?.trim_matches('"');
    step(&format!("downloading Debian's {STD} for {} (35 MB)", architecture.name()));
    let suites = [(MIRROR, codename), (SECURITY_MIRROR, &format!("{codename}-security"))];
    let lists = private_folder()?.join(format!("apt-{name}"));
    fs::create_dir_all(&lists).with_context(|| format!("cannot make {}", lists.display()))?;
    let apt = Apt::new(&lists, architecture, &suites)?;
    let directory = partial(&private_folder()?, &name)?;
    apt.unpack(&[STD], |_| false, &directory)?;
    put_in_place(&directory, &place)?;
    ensure!(
        fits(architecture, compiler, &library),
        "Debian's {STD} for {} is of another version than its rustc-web; try again later",
        architecture.name()
    );
    Ok(library)
}

/// Whether the compiler takes the standard library.
fn fits(architecture: Architecture, compiler: &Compiler, library: &Path) -> bool {
    if !has_std(library) {
        return false;
    }
    let mut rustc = compiler.command(&compiler.rustc);
    // An empty crate, from stdin, loads std.
    let emit = format!("metadata={}", library.with_file_name("empty.rmeta").display());
    rustc.args(["-", "--crate-type", "lib", "--emit", &emit, "--target", architecture.rust_target(), "-L"]);
    output(rustc.arg(library)).is_ok()
}
