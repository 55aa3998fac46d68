//! Debian's kernels, unpacked into the private folder.
//!
//! What is there already is used as it is, without a network.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::architecture::Architecture;
use crate::process::step;
use crate::setup::apt::{Apt, MIRROR};
use crate::setup::{partial, put_in_place};
use crate::toolchain::private_folder;

/// A Debian release, each with another kernel.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Suite {
    /// Debian 11: Linux 5.10
    Bullseye,
    /// Debian 12: Linux 6.1
    Bookworm,
    /// Debian 13: Linux 6.12
    Trixie,
    /// What Debian is working on: the newest kernel
    Sid,
}

/// An unpacked kernel.
pub struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// The kernel itself.
    pub image: PathBuf,
    /// The directory of its modules.
    pub modules: PathBuf,
}

impl Suite {
    /// Those that are tried, the oldest first. On arm64, the kernels of Amazon Linux 2023: another architecture differs in what is
    /// compiled, and less in what a kernel has.
    pub fn all(architecture: Architecture) -> &'static [Self] {
        match architecture {
            Architecture::X86_64 => &[Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Sid],
            Architecture::Aarch64 => &[Self::Bookworm, Self::Trixie],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The kernel for virtual machines of an architecture (few drivers, everything that netpath needs) in the private folder;
    /// downloads it if it is not there, or to `update` it.
    ///
    /// # Errors
    /// When it cannot be downloaded.
    pub fn kernel(self, architecture: Architecture, update: bool) -> Result<Kernel> {
        let name = format!("{}{}", self.name(), architecture.suffix()?);
        let place = folder()?.join(format!("kernel-{name}"));
        if !update && let Ok(kernel) = unpacked(&place) {
            return Ok(kernel);
        }
        let download = || {
            step(&format!("looking for the kernel of Debian's {} (10 to 60 MB)", self.name()));
            let apt = self.apt(architecture)?;
            let directory = partial(&folder()?, &format!("kernel-{name}"))?;
            // The package names the newest kernel, which newer releases have in several.
            let is_part = |package: &str| {
                ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|part| package.starts_with(part))
            };
            apt.unpack(&[&format!("linux-image-cloud-{}", architecture.oci_name())], is_part, &directory)?;
            unpacked(&directory)?;
            put_in_place(&directory, &place)
        };
        download().with_context(|| {
            let name = self.name();
            format!("cannot download the kernel of Debian's {name} from {MIRROR}; check the network, then try again")
        })?;
        unpacked(&place)
    }

    /// Its packages.
    ///
    /// # Errors
    /// When the lists cannot be fetched.
    pub fn apt(self, architecture: Architecture) -> Result<Apt> {
        let lists = folder()?.join(format!("apt-{}{}", self.name(), architecture.suffix()?));
        Apt::new(&lists, architecture, &[(MIRROR, self.name())])
    }
}

/// Where kernels are kept: beside the eBPF toolchain.
///
/// # Errors
/// When it cannot be made.
pub fn folder() -> Result<PathBuf> {
    let toolchain = private_folder()?;
    let folder = toolchain.parent().context("no folder")?.join("kernels");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The kernel in `root`: /boot/vmlinuz-RELEASE or /usr/lib/modules/RELEASE/vmlinuz, by age.
fn unpacked(root: &Path) -> Result<Kernel> {
    for modules in ["usr/lib/modules", "lib/modules"].map(|modules| root.join(modules)) {
        let Some(release) = fs::read_dir(&modules).ok().and_then(|mut entries| entries.next()?.ok()) else { continue };
        let (modules, release) = (release.path(), release.file_name().to_string_lossy().into_owned());
        let images = [root.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")];
        let is_complete = modules.join("modules.builtin").is_file();
        if let Some(image) = images.into_iter().find(|image| is_complete && image.is_file()) {
            return Ok(Kernel { release, image, modules });
        }
    }
    bail!("there is no kernel in {}", root.display())
}
