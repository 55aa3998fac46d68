//! Debian's `rustc-web`, unpacked into the private folder: a compiler that comes with `core` for BPF.
//!
//! The packages are never installed, since they conflict with compilers a user may have. Which packages those are is
//! asked of apt, so that no version is written down here. Without root it works where apt's package lists are there.

use std::collections::{BTreeSet, VecDeque};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{partial, put_in_place, version};
use crate::process::{find, is_root, output, step};
use crate::toolchain::Compiler;

/// What is wanted: the compiler, and `core` for BPF. The rest follows from their dependencies.
const ROOTS: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// The compiler in the private folder; downloads and unpacks it if it is not there or is damaged.
pub fn unpacked(folder: &Path) -> Result<Compiler> {
    let place = folder.join("debian");
    if let Ok(compiler) = compiler(&place) {
        return Ok(compiler);
    }
    step("downloading Debian's rustc-web and what it needs (about 120 MB, 520 MB unpacked)");
    unpack(&place, &ROOTS, |package| package.contains("rust") || package.starts_with("libllvm"))
        .context("(Debian 12 has rustc-web in its security updates)")?;
    compiler(&place)
}

/// Downloads the packages `roots` and what they need, and unpacks them into `place`, which replaces what is there: of what
/// they depend on the packages that are `own`, and libraries that the system lacks.
///
/// # Errors
/// When the system is not like Debian, apt does not know a package, or a download fails.
pub fn unpack(place: &Path, roots: &[&str], own: fn(&str) -> bool) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg", "dpkg-query"] {
        ensure!(find(program).is_some(), "this system has no {program}: it is not like Debian");
    }
    let unknown = |root: &&&str| !is_known(root).unwrap_or(false);
    if roots.iter().any(|root| unknown(&root)) {
        update_lists()?;
        if let Some(package) = roots.iter().find(unknown) {
            bail!("apt knows no package {package}");
        }
    }
    let (folder, name) = (place.parent().context("no folder")?, place.file_name().context("no name")?);
    let directory = partial(folder, &name.to_string_lossy())?;
    if download(&directory, &closure(roots, own)?).is_err() {
        // Lists that are older than the mirror's files name versions that are gone.
        update_lists()?;
        download(&directory, &closure(roots, own)?)?;
    }
    unpack_all(&directory)?;
    put_in_place(&directory, place)
}

/// Unpacks the packages in `directory` there, and removes them.
///
/// # Errors
/// When dpkg fails.
pub fn unpack_all(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").args([&package, directory]))?;
            fs::remove_file(&package)?;
        }
    }
    Ok(())
}

/// The compiler in `root`, if it runs.
fn compiler(root: &Path) -> Result<Compiler> {
    let compiler = Compiler {
        route: "Debian's rustc-web".into(),
        rustc: root.join("usr/bin/rustc"),
        cargo: None,
        library_path: library_path(root)?,
        build_std: false,
    };
    version::of(&compiler).map(|_| compiler)
}

/// The directories below `root` that have an architecture's shared libraries (Debian's multiarch layout).
pub fn library_path(root: &Path) -> Result<OsString> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for parent in [root.join("usr/lib"), root.join("lib")] {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let is_multiarch = |path: &PathBuf| path.to_string_lossy().contains("-linux-gnu") && path.is_dir();
        paths.extend(entries.flatten().map(|entry| entry.path()).filter(is_multiarch));
    }
    ensure!(!paths.is_empty(), "{} has no libraries", root.display());
    paths.sort();
    Ok(env::join_paths(paths)?)
}

/// Whether apt could download `package`.
fn is_known(package: &str) -> Result<bool> {
    Ok(has_candidate(&output(apt_cache().args(["policy", package]))?))
}

/// Whether what `apt-cache policy` prints for a package names a version to install.
fn has_candidate(policy: &str) -> bool {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    candidate.is_some_and(|version| !version.starts_with('('))
}

/// Fetches apt's package lists, which only root may.
fn update_lists() -> Result<()> {
    if !is_root() {
        bail!("apt's package lists lack the packages or are too old (`sudo apt-get update` fetches them)");
    }
    step("fetching apt's package lists (apt-get update)");
    output(Command::new("apt-get").args(["-q", "update"])).map(drop)
}

/// The packages to unpack, as [`unpack`] has it.
fn closure(roots: &[&str], own: fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let mut packages = BTreeSet::new();
    let mut queue: VecDeque<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    while let Some(package) = queue.pop_front() {
        if packages.contains(&package) {
            continue;
        }
        let depends = output(apt_cache().args(["depends", "--important", &package]))?;
        queue.extend(dependencies(&depends).into_iter().filter(|name| own(name) || is_lacking(name)));
        packages.insert(package);
    }
    Ok(packages)
}

/// Whether a dependency is a library that the system lacks.
fn is_lacking(package: &str) -> bool {
    (package.starts_with("lib") || package.starts_with("zlib")) && !is_installed(package)
}

/// Whether the system has `package`.
fn is_installed(package: &str) -> bool {
    let status = output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}\n", package]));
    status.is_ok_and(|status| status.lines().any(|line| line == "installed"))
}

/// The packages that `apt-cache depends` says a package depends on.
///
/// An alternative (`|Depends:`) and a virtual package (`<name>`) is left out: neither names a certain package.
pub fn dependencies(depends: &str) -> Vec<String> {
    let names = depends.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        let name = line.strip_prefix("Depends: ").or_else(|| line.strip_prefix("PreDepends: "))?;
        // A name may have an architecture: "python3:any".
        name.split(':').next()
    });
    names.filter(|name| !name.starts_with('<')).map(str::to_owned).collect()
}

/// Downloads `packages` into `directory`.
fn download(directory: &Path, packages: &BTreeSet<String>) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "download"]).args(packages).current_dir(directory);
    output(&mut command).map(drop).context("cannot download")
}

/// apt-cache, whose output is parsed, so in no language but its own.
fn apt_cache() -> Command {
    let mut command = Command::new("apt-cache");
    command.env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_apt_cache() {
        // As apt 2.6 prints them.
        let text = "rustc-web\n  Depends: libc6\n  Depends: libstd-rust-web-dev\n |Depends: libfoo\n  Depends: <libc-dev>\n    libc6-dev\n  \
                    PreDepends: zlib1g:any\n  Conflicts: rustc\n  Conflicts: <rustup>\n  Recommends: cargo-web\n  Replaces: rustc\n    rustc-web\n";
        assert_eq!(dependencies(text), ["libc6", "libstd-rust-web-dev", "zlib1g"]);
        assert_eq!(dependencies("E: No packages found\n"), Vec::<String>::new());
    }

    #[test]
    fn a_package_is_known_if_it_has_a_candidate() {
        assert!(has_candidate(
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n"
        ));
        assert!(!has_candidate("rustc-web:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n"));
        assert!(!has_candidate(""));
    }

    #[test]
    fn a_library_that_is_not_installed_is_lacking() {
        assert!(is_lacking("libno-such-package-9"));
        assert!(!is_lacking("gcc") && !is_lacking("no-such-package"));
    }
}
