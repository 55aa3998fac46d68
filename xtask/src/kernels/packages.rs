//! Debian's kernels, unpacked into the private folder. The system's own package lists and sources are not touched: apt works
//! with a configuration, lists and an (empty) package database of its own.
//!
//! What is there already is used as it is, without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{find, output, step};
use crate::setup::debian::{dependencies, unpack_all};
use crate::setup::{partial, put_in_place};
use crate::toolchain::private_folder;

/// The kernel for virtual machines: few drivers, everything that netpath needs.
const PACKAGE: &str = "linux-image-cloud-amd64";
const MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
    /// All of them, the oldest first.
    pub const ALL: [Self; 4] = [Self::Bullseye, Self::Bookworm, Self::Trixie, Self::Sid];

    fn name(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The kernel in the private folder; downloads it if it is not there, or to `update` it.
    ///
    /// # Errors
    /// When it cannot be downloaded.
    pub fn kernel(self, update: bool) -> Result<Kernel> {
        let name = self.name();
        let place = folder()?.join(format!("kernel-{name}"));
        if !update && let Ok(kernel) = unpacked(&place) {
            return Ok(kernel);
        }
        self.download(&place).with_context(|| {
            format!("cannot download the kernel of Debian's {name} from {MIRROR}; check the network, then try again")
        })?;
        unpacked(&place)
    }

    fn download(self, place: &Path) -> Result<()> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            ensure!(find(program).is_some(), "this system has no {program}: it is not like Debian");
        }
        ensure!(Path::new(KEYRING).is_file(), "there is no {KEYRING}; install debian-archive-keyring");
        let apt = Apt::new(&folder()?.join(format!("apt-{}", self.name())), self.name())?;
        step(&format!("looking for the kernel of Debian's {} (10 to 60 MB)", self.name()));
        output(apt.command("apt-get").args(["-q", "update"]))?;
        // The package names the newest kernel, which newer releases have in several.
        let mut packages = Vec::from([PACKAGE.to_owned()]);
        let mut next = 0;
        while let Some(package) = packages.get(next) {
            let depends = output(apt.command("apt-cache").args(["depends", "--important", package]))?;
            for dependency in dependencies(&depends) {
                let is_part = ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|part| dependency.starts_with(part));
                if is_part && !packages.contains(&dependency) {
                    packages.push(dependency);
                }
            }
            next += 1;
        }
        let directory = partial(&folder()?, &format!("kernel-{}", self.name()))?;
        output(apt.command("apt-get").args(["-q", "download"]).args(&packages).current_dir(&directory))?;
        unpack_all(&directory)?;
        unpacked(&directory)?;
        put_in_place(&directory, place)
    }
}

/// apt, away from the system's.
struct Apt {
    configuration: PathBuf,
}

impl Apt {
    fn new(folder: &Path, suite: &str) -> Result<Self> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        for directory in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        write(
            "sources.list",
            &format!("deb [arch=amd64 target=Packages signed-by={KEYRING}] {MIRROR} {suite} main\n"),
        )?;
        write("status", "")?;
        let root = folder.display();
        // Read after the system's configuration, which may name a proxy.
        let configuration = format!(
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
             Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n\
             APT::Architecture \"amd64\";\n"
        );
        write("apt.conf", &configuration)?;
        Ok(Self { configuration: folder.join("apt.conf") })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-c").arg(&self.configuration);
        command
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
