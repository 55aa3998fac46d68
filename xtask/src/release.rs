//! `cargo xtask release`: everything that is published of a version, in one folder, with checksums and notes.
//!
//! In: the commit that is checked out. Out: `<target>/release-files`. It publishes nothing, and refuses what should not be
//! published: changes that are in no commit, a version without its section in CHANGELOG.md, a tag of another version.

mod ready;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::architecture::Architecture;
use crate::dist;
use crate::dist::image::layout::{File, archive, compressed, sha256};
use crate::dist::packages::contents::Parts;
use crate::dist::packages::{deb_name, documents, rpm_name};
use crate::dist::time::time;
use crate::files::{empty, read, write};
use crate::process::{git, step, target_directory, workspace};

/// The version of all that is published: the workspace's, in Cargo.toml.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Archives of files of the source, by what follows `netpath-VERSION-` in their names: which files git has below which folders.
const OF_SOURCE: [(&str, &[&str]); 2] = [
    ("deploy", &["deploy/kustomize", "deploy/prometheus", "deploy/grafana", "deploy/systemd", "LICENSE-*"]),
    // What krew installs: the same for every system.
    ("kubectl", &["deploy/kubectl-netpath", "LICENSE-*"]),
];

/// What dist makes and is published as it is, beside packages.
const OF_DIST: [(&str, &str); 2] = [("netpath-image.tar", "image.tar"), ("netpath.cdx.json", "sbom.cdx.json")];

/// Options of `cargo xtask release`.
#[derive(clap::Args)]
pub struct Args {
    /// To try: take what is there, changed files and a section `Unreleased` as well, and check no tag
    #[arg(long)]
    draft: bool,
    /// To try: for this architecture only
    #[arg(long, value_enum, value_name = "ARCH", requires = "draft")]
    target: Option<Architecture>,
}

/// Makes the files of a release.
///
/// # Errors
/// When the commit is not ready to be released, or something cannot be made.
pub fn run(args: &Args) -> Result<()> {
    if !args.draft {
        ready::check(&git(&["status", "--porcelain"])?, &git(&["tag", "--points-at", "HEAD"])?, VERSION)?;
    }
    let changelog = String::from_utf8(read(&workspace().join("CHANGELOG.md"))?).context("CHANGELOG.md is not UTF-8")?;
    let notes = match ready::section(&changelog, VERSION) {
        None if args.draft => ready::section(&changelog, "Unreleased").unwrap_or_default(),
        None => ready::no_section(VERSION)?,
        Some(section) => section,
    };
    let binaries = dist::everything(args.target)?;
    let folder = target_directory()?.join("release-files");
    empty(&folder)?;
    step(&format!("putting the files of {VERSION} into {}", folder.display()));
    let work = target_directory()?.join("release-documents");
    empty(&work)?;
    let time = time()?;
    for (architecture, binary) in &binaries {
        let parts = documents(*architecture, &work)?;
        let name = format!("netpath-{VERSION}-linux-{}", architecture.name());
        let files = of_a_node(&name, read(binary)?, &parts);
        put(&folder, &format!("{name}.tar.gz"), &compressed(&archive(&files, time)?)?)?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    for (name, paths) in OF_SOURCE {
        let name = format!("netpath-{VERSION}-{name}");
        put(&folder, &format!("{name}.tar.gz"), &of_source(&name, paths, time)?)?;
    }
    let dist = target_directory()?.join("dist");
    for (name, published) in OF_DIST {
        put(&folder, &format!("netpath-{VERSION}-{published}"), &read(&dist.join(name))?)?;
    }
    for (architecture, _) in &binaries {
        for name in [deb_name(*architecture), rpm_name(*architecture)] {
            put(&folder, &name, &read(&dist.join(&name))?)?;
        }
    }
    put(&folder, "krew.yaml", krew(&folder)?.as_bytes())?;
    put(&folder, "RELEASE-NOTES.md", format!("{notes}\n").as_bytes())?;
    put(&folder, "SHA256SUMS", sums(&folder)?.as_bytes())?;
    println!("{}: all of netpath {VERSION}{}", folder.display(), if args.draft { ", as a draft" } else { "" });
    Ok(())
}

/// What one unpacks on a node, or anywhere: the binary and what belongs to it.
fn of_a_node(name: &str, binary: Vec<u8>, parts: &Parts) -> Vec<File> {
    let mut files = vec![(String::from("netpath"), 0o755, binary)];
    let plain = |path: String, bytes: &Vec<u8>| (path, 0o644, bytes.clone());
    files.push(plain("CHANGELOG.md".to_owned(), &parts.changelog));
    files.extend(parts.manual.iter().map(|(page, text)| plain(format!("man1/{page}"), text)));
    files.extend(parts.licences.iter().map(|(licence, text)| plain(format!("licenses/{licence}"), text)));
    files.push(plain("completions/netpath.bash".to_owned(), &parts.bash));
    files.push(plain("completions/_netpath".to_owned(), &parts.zsh));
    files.push(plain("completions/netpath.fish".to_owned(), &parts.fish));
    files.push(plain("systemd/netpath.service".to_owned(), &parts.unit));
    files.push(plain("systemd/serve.toml".to_owned(), &parts.configuration));
    let within = |(path, mode, bytes)| File { path: format!("{name}/{path}"), mode, bytes: Some(bytes) };
    files.into_iter().map(within).collect()
}

/// krew's manifest, with the sum of the archive that is in `folder`.
fn krew(folder: &Path) -> Result<String> {
    let manifest = String::from_utf8(read(&workspace().join("deploy/krew/netpath.yaml"))?)?;
    let archive = format!("netpath-{VERSION}-kubectl.tar.gz");
    let (place, none) = (format!("/v{VERSION}/{archive}\n"), "0".repeat(64));
    ensure!(
        manifest.contains(&place) && manifest.contains(&none),
        "deploy/krew/netpath.yaml is not about {archive}, or has a sum already"
    );
    Ok(manifest.replace(&none, &sha256(&read(&folder.join(archive))?)))
}

/// A compressed archive of files that git has; it is an error if one of these paths has none.
fn of_source(name: &str, paths: &[&str], time: Timestamp) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    // A line: mode, object and stage, a tab, the path.
    for line in git(&[&["ls-files", "--error-unmatch", "--stage", "--"], paths].concat())?.lines() {
        let (facts, path) = line.split_once('\t').context("git ls-files has another format than it had")?;
        let mode = if facts.starts_with("100755") { 0o755 } else { 0o644 };
        let bytes = Some(read(&workspace().join(path))?);
        files.push(File { path: format!("{name}/{}", path.trim_start_matches("deploy/")), mode, bytes });
    }
    compressed(&archive(&files, time)?)
}

/// As `sha256sum` has it, to be checked by `sha256sum --check`.
fn sums(folder: &Path) -> Result<String> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut sums = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums.push(format!("{}  {name}\n", sha256(&read(&path)?)));
    }
    Ok(sums.concat())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write(&folder.join(name), bytes)
}
