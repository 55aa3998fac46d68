//! What is in the binary that others wrote: crates, Rust's standard library and the C library.
//!
//! In: what cargo, the compiler and the package manager say, and the sources that cargo has. Out: a [`Part`] for each, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::architecture::Architecture;
use crate::files::read;
use crate::process::{cargo, output, workspace};
use crate::setup::cross::{self, c_compiler};
use crate::toolchain::TARGET as BPF_TARGET;

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Each once.
    pub all: Vec<Part>,
    /// The package URLs of those that netpath itself uses.
    pub direct: BTreeSet<String>,
}

/// A piece of software in the binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its package URL, by which scanners know it (<https://github.com/package-url/purl-spec>).
    pub purl: String,
    /// An SPDX expression.
    pub licence: String,
    /// Those who wrote it, if they say so.
    pub authors: Vec<String>,
    /// Where its source is.
    pub repository: Option<String>,
    /// SHA-256 of the package that cargo fetched.
    pub checksum: Option<String>,
    /// The texts of its licences, and the names of their files.
    pub texts: Vec<(String, String)>,
    /// The package URLs of what it uses.
    pub uses: BTreeSet<String>,
}

/// What of `cargo metadata` is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    authors: Vec<String>,
    repository: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None for what is linked; `build`, `dev`.
    kind: Option<String>,
}

/// What of Cargo.lock is needed.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The parts of the binaries for `architectures`.
///
/// # Errors
/// When cargo does not answer, or a text that must be there is not.
pub fn parts(architectures: &[Architecture]) -> Result<Parts> {
    let mut parts = crates(architectures)?;
    let mut others = Vec::new();
    for architecture in architectures {
        others.extend([standard_library(*architecture)?, c_library(*architecture)?]);
    }
    parts.direct.extend(others.iter().map(|part| part.purl.clone()));
    parts.all.extend(others);
    parts.all.sort();
    parts.all.dedup();
    Ok(parts)
}

fn crates(architectures: &[Architecture]) -> Result<Parts> {
    let targets: Vec<_> = architectures.iter().map(|one| one.rust_target()).collect();
    let mut linked = BTreeSet::new();
    for target in &targets {
        linked.extend(tree(&["--package", "netpath", "--target", target])?);
    }
    // The objects that the binary has in it.
    linked.extend(tree(&["--package", "netpath-ebpf", "--features", "bpf", "--target", BPF_TARGET])?);

    let metadata = metadata(&targets)?;
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: Lock = toml::from_str(&lock).context("Cargo.lock is damaged; get it back by git")?;
    let checksums: BTreeMap<_, _> =
        lock.package.into_iter().map(|one| ((one.name, one.version), one.checksum)).collect();

    let linked = |package: &&Package| linked.contains(&(package.name.clone(), package.version.clone()));
    let (own, others): (Vec<&Package>, Vec<_>) =
        metadata.packages.iter().filter(linked).partition(|package| package.source.is_none());
    let others: BTreeMap<&str, &Package> = others.into_iter().map(|package| (package.id.as_str(), package)).collect();
    let uses = |package: &Package| {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == package.id);
        let linked = |one: &&Dependency| one.dep_kinds.iter().any(|kind| kind.kind.is_none());
        let used = node.into_iter().flat_map(|node| &node.deps).filter(linked);
        used.filter_map(|one| others.get(one.pkg.as_str()).map(|package| purl(package))).collect::<BTreeSet<_>>()
    };
    let part = |package: &&Package| {
        Ok(Part {
            name: package.name.clone(),
            version: package.version.clone(),
            purl: purl(package),
            // Older crates have a slash for "or".
            licence: package.license.as_deref().unwrap_or("NOASSERTION").replace(" / ", "/").replace('/', " OR "),
            authors: package.authors.clone(),
            repository: package.repository.clone(),
            checksum: checksums.get(&(package.name.clone(), package.version.clone())).cloned().flatten(),
            texts: texts(package.manifest_path.parent().context("a package has a folder")?)?,
            uses: uses(package),
        })
    };
    let direct = own.into_iter().flat_map(uses).collect();
    Ok(Parts { all: others.values().map(part).collect::<Result<_>>()?, direct })
}

fn metadata(targets: &[&str]) -> Result<Metadata> {
    let mut command = cargo();
    command.args(["metadata", "--locked", "--format-version", "1", "--features", "netpath-ebpf/bpf"]);
    for target in targets.iter().chain([&BPF_TARGET]) {
        command.args(["--filter-platform", target]);
    }
    let metadata = output(command.current_dir(workspace()))?;
    serde_json::from_str(&metadata).context("cargo metadata does not say what it should; update Rust")
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.replace('+', "%2B"))
}

/// Names and versions of what is linked, macros and build scripts left out.
fn tree(of: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]).args(of);
    Ok(listed(&output(tree.current_dir(workspace()))?))
}

/// Lines such as `tokio v1.54.1` or `netpath v0.1.0 (/a/folder) (*)`.
fn listed(tree: &str) -> BTreeSet<(String, String)> {
    let named = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(named).collect()
}

/// The licences and notices in a crate's folder.
fn texts(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_licence(&name) && entry.file_type()?.is_file() {
            texts.push((name, text(&entry.path())?));
        }
    }
    texts.sort();
    Ok(texts)
}

fn is_licence(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["licen", "copying", "copyright", "notice", "unlicense"].iter().any(|start| name.starts_with(start))
}

fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

/// Rust's standard library, as the compiler for this architecture links it in.
fn standard_library(architecture: Architecture) -> Result<Part> {
    let (version, notices) = cross::standard_library(architecture)?;
    let file = notices.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let notices =
        text(&notices).context("the notices of Rust's standard library are missing; install Rust by rustup")?;
    Ok(Part {
        name: "rust-std".to_owned(),
        purl: format!("pkg:generic/rust-std@{version}"),
        version,
        licence: "MIT OR Apache-2.0".to_owned(),
        authors: vec!["The Rust Project".to_owned()],
        repository: Some("https://github.com/rust-lang/rust".to_owned()),
        checksum: None,
        texts: vec![(file, notices)],
        uses: BTreeSet::new(),
    })
}

/// The C library, as it is linked in: it says itself which one it is.
fn c_library(architecture: Architecture) -> Result<Part> {
    let is_own = architecture == Architecture::host()?;
    let compiler = if is_own { "cc".to_owned() } else { c_compiler(architecture) };
    let library = output(Command::new(&compiler).arg("-print-file-name=libc.a"))?;
    let bytes =
        fs::read(library.trim()).with_context(|| format!("{compiler} has no libc.a; install the C library's"))?;
    let (version, purl) = glibc(&bytes).with_context(|| format!("{} is not the GNU C library's", library.trim()))?;
    let texts = ["/usr/share/doc/libc6-dev/copyright", "/usr/share/licenses/glibc/LICENSES"].map(Path::new);
    let licence = texts.into_iter().find(|path| path.is_file());
    let licence =
        licence.context("the licence of the C library is missing; build on Debian, Fedora or Arch, which have it")?;
    Ok(Part {
        name: "glibc".to_owned(),
        purl,
        version,
        licence: "LGPL-2.1-or-later".to_owned(),
        authors: vec!["Free Software Foundation, Inc.".to_owned()],
        repository: Some("https://sourceware.org/git/glibc.git".to_owned()),
        checksum: None,
        texts: vec![("copyright".to_owned(), text(licence)?)],
        uses: BTreeSet::new(),
    })
}

/// Version and package URL, by the banner in the library: `GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`
fn glibc(library: &[u8]) -> Option<(String, String)> {
    const BANNER: &[u8] = b"GNU C Library (";
    let found = library.windows(BANNER.len()).position(|bytes| bytes == BANNER)? + BANNER.len();
    let banner = String::from_utf8_lossy(library.get(found..)?.split(|byte| *byte == b'\n').next()?);
    let (package, release) = banner.split_once(')')?;
    let (packager, version) = package.split_once(" GLIBC ").unwrap_or(("", package));
    let escaped = version.replace('+', "%2B").replace(':', "%3A");
    match packager {
        "Debian" | "Ubuntu" => {
            let purl = format!("pkg:deb/{}/glibc@{escaped}?arch=source", packager.to_lowercase());
            Some((version.to_owned(), purl))
        }
        _ => {
            let version = release.rsplit_once("version ")?.1.trim_end_matches('.');
            Some((version.to_owned(), format!("pkg:generic/glibc@{version}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_of_a_tree() {
        let tree = "netpath v0.1.0 (/a/folder)\ntoml v1.2.1+spec-1.1.0\ntoml v1.2.1+spec-1.1.0 (*)\n\n";
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(listed(tree), [pair("netpath", "0.1.0"), pair("toml", "1.2.1+spec-1.1.0")].into());
    }

    #[test]
    fn licences_by_the_names_of_their_files() {
        for name in ["LICENSE", "license-mit.txt", "LICENCE", "COPYING", "NOTICE.md", "UNLICENSE", "Copyright"] {
            assert!(is_licence(name), "{name}");
        }
        assert!(!is_licence("README.md") && !is_licence("lib.rs"));
    }

    #[test]
    fn which_c_library() {
        let debian = b"\x7fELF\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\nCopyright";
        let (version, purl) = glibc(debian).unwrap();
        assert_eq!((&*version, &*purl), ("2.36-9+deb12u14", "pkg:deb/debian/glibc@2.36-9%2Bdeb12u14?arch=source"));
        let plain = glibc(b"GNU C Library (GNU libc) stable release version 2.39.\n").unwrap();
        assert_eq!(plain, ("2.39".to_owned(), "pkg:generic/glibc@2.39".to_owned()));
        assert_eq!(glibc(b"musl libc"), None);
    }

    /// Held against what the workspace's Cargo.toml files say.
    #[test]
    fn the_crates_that_are_linked() {
        let parts = crates(&[Architecture::host().unwrap()]).unwrap();
        let find = |name: &str| parts.all.iter().find(|part| part.name == name);
        let aya = find("aya").unwrap();
        assert!(parts.direct.contains(&aya.purl) && aya.uses.iter().any(|purl| purl.starts_with("pkg:cargo/libc@")));
        assert!(aya.texts.iter().any(|(_, text)| text.contains("Permission is hereby granted")));
        assert_eq!(aya.checksum.as_ref().map(String::len), Some(64));
        assert!(find("aya-ebpf").is_some(), "it is in the objects");
        for other in ["proptest", "insta", "serde_derive", "netpath", "windows-sys", "tar"] {
            assert!(find(other).is_none(), "{other} is not linked");
        }
    }
}
