//! What the lab and its tests run in a virtual machine: this system's own, or Debian's for another architecture, unpacked into the
//! private folder.
//!
//! In: an architecture. Out: programs, and the libraries that they load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::packages::{Suite, folder};
use crate::architecture::Architecture;
use crate::process::{find, output, step};
use crate::setup::{partial, put_in_place};

/// Each, and Debian's package of it.
pub const TOOLS: [(&str, &str); 10] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("bridge", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ipvsadm", "ipvsadm"),
    ("wg", "wireguard-tools"),
    ("setpriv", "util-linux"),
    ("sh", "dash"),
    ("cat", "coreutils"),
];

/// Where they are.
pub enum Tools {
    /// On this system.
    Here,
    /// Below this folder.
    Unpacked(PathBuf),
}

impl Tools {
    /// Those for an architecture; downloads them if they are not there.
    ///
    /// # Errors
    /// When they cannot be downloaded.
    pub fn for_architecture(architecture: Architecture) -> Result<Self> {
        if architecture == Architecture::host()? {
            return Ok(Self::Here);
        }
        let name = format!("tools{}", architecture.suffix()?);
        let tools = Self::Unpacked(folder()?.join(&name));
        if TOOLS.iter().all(|(tool, _)| tools.program(tool).is_ok()) {
            return Ok(tools);
        }
        step(&format!("downloading Debian's iproute2, nftables, … for {} (30 MB)", architecture.name()));
        let directory = partial(&folder()?, &name)?;
        let is_library = |package: &str| package.starts_with("lib") || package.starts_with("zlib");
        Suite::Bookworm.apt(architecture)?.unpack(&TOOLS.map(|(_, package)| package), is_library, &directory)?;
        put_in_place(&directory, &folder()?.join(&name))?;
        Ok(tools)
    }

    /// A program.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let found = match self {
            Self::Here => find(name),
            Self::Unpacked(root) => {
                let places = ["bin", "sbin", "usr/bin", "usr/sbin"].map(|place| root.join(place).join(name));
                places.into_iter().find(|program| program.is_file())
            }
        };
        found.with_context(|| format!("there is no {name}; run `cargo xtask setup`"))
    }

    /// The shared libraries that a program loads, its loader included: their paths there, and the files. Of unpacked ones, all: what
    /// is built here for another architecture is linked statically.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn libraries(&self, program: &Path) -> Result<Vec<(String, PathBuf)>> {
        match self {
            Self::Here => {
                // It fails for a program that loads none.
                let list = output(Command::new("ldd").arg(program)).unwrap_or_default();
                let paths = list.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
                Ok(paths.map(|path| (path.to_owned(), PathBuf::from(path))).collect())
            }
            Self::Unpacked(root) if program.starts_with(root) => below(root),
            Self::Unpacked(_) => Ok(Vec::new()),
        }
    }
}

/// The shared libraries in Debian's places for them (multiarch), and the loader.
fn below(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for parent in ["lib", "usr/lib"] {
        let folders = fs::read_dir(root.join(parent)).into_iter().flatten().flatten().map(|entry| entry.path());
        let multiarch = folders.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        for folder in multiarch.chain([root.join(parent)]) {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                if path.is_file() && name.contains(".so") {
                    all.push((name, path));
                }
            }
        }
    }
    ensure!(!all.is_empty(), "{} has no libraries; remove it, then try again", root.display());
    Ok(all)
}
