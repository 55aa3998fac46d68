//! `cargo xtask dist --packages`: a .deb and an .rpm of each binary, by the formats' own tools, dpkg-deb and rpmbuild.
//!
//! In: the static binaries, `deploy/packages` and `deploy/systemd`. Out: `<target>/dist/netpath_VERSION-1_ARCH.deb` and
//! `netpath-VERSION-1.ARCH.rpm`. Both are the same to the byte whenever they are made: every time in them is that of the last
//! commit, or `SOURCE_DATE_EPOCH`. The other architecture's binary is packed, never run.

pub mod contents;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use jiff::Timestamp;

use self::contents::{Format, Parts, debian_control, files};
use super::image::layout::File;
use super::licences;
use super::parts::parts;
use super::time::time;
use crate::architecture::Architecture;
use crate::files::{empty, read, write};
use crate::process::{find, output, step, target_directory, workspace};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The packages of these binaries.
///
/// # Errors
/// When dpkg-deb or rpmbuild is missing or fails, or something that belongs into a package is missing.
pub fn make(binaries: &[(Architecture, PathBuf)]) -> Result<()> {
    for (program, package) in [("dpkg-deb", "dpkg"), ("rpmbuild", "rpm"), ("md5sum", "coreutils")] {
        find(program)
            .with_context(|| format!("{program} is missing; install {package}, or run `cargo xtask setup`"))?;
    }
    step("making packages: man pages, completions, licences");
    let time = time()?;
    let folder = target_directory()?.join("packages");
    empty(&folder)?;
    for (architecture, binary) in binaries {
        let parts = documents(*architecture, &folder)?;
        let binary = read(binary)?;
        for format in [Format::Deb, Format::Rpm] {
            let tree = folder.join(architecture.name()).join(format.name());
            lay_out(&files(format, &binary, &parts, time)?, &tree)?;
            let place = match format {
                Format::Deb => deb(*architecture, &tree, time)?,
                Format::Rpm => rpm(*architecture, &tree, time)?,
            };
            println!("{}", place.display());
        }
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// What the packages of an architecture have beside the binary. This machine's netpath writes its own pages and completions.
///
/// # Errors
/// When this machine's binary is missing or does not run.
pub fn documents(architecture: Architecture, folder: &Path) -> Result<Parts> {
    let netpath = target_directory()?.join("dist/netpath");
    let pages = folder.join("man");
    output(Command::new(&netpath).arg("man").arg(&pages)).context("man pages are netpath's; run `cargo xtask dist`")?;
    let mut manual = Vec::new();
    for page in fs::read_dir(&pages).with_context(|| format!("cannot read {}", pages.display()))? {
        let page = page?;
        manual.push((page.file_name().to_string_lossy().into_owned(), read(&page.path())?));
    }
    manual.sort();
    let completions = |shell| output(Command::new(&netpath).args(["completions", shell])).map(String::into_bytes);
    let source = |path: &str| read(&workspace().join(path));
    Ok(Parts {
        version: VERSION.to_owned(),
        manual,
        bash: completions("bash")?,
        zsh: completions("zsh")?,
        fish: completions("fish")?,
        licences: licences::files(&parts(&[architecture])?)?,
        changelog: source("CHANGELOG.md")?,
        unit: source("deploy/systemd/netpath.service")?,
        configuration: source("deploy/packages/serve.toml")?,
        debian_changelog: String::from_utf8(source("deploy/packages/changelog")?)?,
        debian_copyright: String::from_utf8(source("deploy/packages/copyright")?)?,
        lintian_overrides: source("deploy/packages/lintian-overrides")?,
    })
}

/// Writes files, and their folders, with these permissions whatever the user's umask is.
fn lay_out(files: &[File], tree: &Path) -> Result<()> {
    fs::create_dir_all(tree).with_context(|| format!("cannot make {}", tree.display()))?;
    set_mode(tree, 0o755)?;
    for file in files {
        let place = tree.join(&file.path);
        match &file.bytes {
            Some(bytes) => write(&place, bytes)?,
            None => fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?,
        }
        set_mode(&place, file.mode)?;
    }
    Ok(())
}

fn deb(architecture: Architecture, tree: &Path, time: Timestamp) -> Result<PathBuf> {
    let sources = workspace().join("deploy/packages");
    // Before DEBIAN is there, which has no sums.
    let sums = "find * -type f | LC_ALL=C sort | xargs -d '\\n' md5sum";
    let sums = output(Command::new("sh").args(["-c", sums]).current_dir(tree))?;
    let bytes = sizes(tree)?;
    let folder = tree.join("DEBIAN");
    write(&folder.join("md5sums"), sums.as_bytes())?;
    let control = fs::read_to_string(sources.join("control")).context("cannot read deploy/packages/control")?;
    write(&folder.join("control"), debian_control(&control, VERSION, architecture, bytes).as_bytes())?;
    for (name, mode) in [("conffiles", 0o644), ("postinst", 0o755), ("prerm", 0o755), ("postrm", 0o755)] {
        write(&folder.join(name), &read(&sources.join(name))?)?;
        set_mode(&folder.join(name), mode)?;
    }
    for name in ["md5sums", "control"] {
        set_mode(&folder.join(name), 0o644)?;
    }
    set_mode(&folder, 0o755)?;
    let place = target_directory()?.join("dist").join(deb_name(architecture));
    // xz is read by the dpkg of every distribution that is in use.
    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group", "-Zxz"]).arg(tree).arg(&place);
    output(build.env("SOURCE_DATE_EPOCH", time.as_second().to_string()))?;
    Ok(place)
}

fn rpm(architecture: Architecture, tree: &Path, time: Timestamp) -> Result<PathBuf> {
    let work = tree.with_file_name("rpmbuild");
    let define = |name: &str, value: &Path| [String::from("--define"), format!("{name} {}", value.display())];
    let mut build = Command::new("rpmbuild");
    build.arg("-bb").args(["--target", &format!("{}-linux", architecture.name())]);
    build.args(define("_topdir", &work)).args(define("netpath_tree", tree));
    build.args(define("netpath_version", Path::new(VERSION))).args(define("_rpmdir", &work));
    build.args(define("_rpmfilename", Path::new("netpath.rpm")));
    build.arg(workspace().join("deploy/packages/netpath.spec"));
    output(build.env("SOURCE_DATE_EPOCH", time.as_second().to_string()))?;
    let place = target_directory()?.join("dist").join(rpm_name(architecture));
    fs::copy(work.join("netpath.rpm"), &place).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(place)
}

/// The .deb's file.
pub fn deb_name(architecture: Architecture) -> String {
    format!("netpath_{VERSION}-1_{}.deb", architecture.oci_name())
}

/// The .rpm's file.
pub fn rpm_name(architecture: Architecture) -> String {
    format!("netpath-{VERSION}-1.{}.rpm", architecture.name())
}

/// How many bytes a tree's files have.
fn sizes(tree: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(tree).with_context(|| format!("cannot read {}", tree.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { sizes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn set_mode(place: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(place, Permissions::from_mode(mode))
        .with_context(|| format!("cannot change permissions of {}", place.display()))
}
