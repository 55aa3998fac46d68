//! apt with a configuration, lists and an (empty) package database of its own: for packages of another suite or architecture than
//! the system's, whose sources and lists stay as they are.
//!
//! In: suites, an architecture, a folder for the lists. Out: packages, downloaded and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::debian::{dependencies, unpack_all};
use crate::architecture::Architecture;
use crate::process::{find, output};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where Debian's packages are.
pub const MIRROR: &str = "http://deb.debian.org/debian";
/// Where those are that mend what is unsafe.
pub const SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// apt, away from the system's.
pub struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// Reads the lists of these suites, each a mirror and a name, into `folder`.
    ///
    /// # Errors
    /// When the system is not like Debian, or the lists cannot be fetched.
    pub fn new(folder: &Path, architecture: Architecture, suites: &[(&str, &str)]) -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg"] {
            ensure!(find(program).is_some(), "this system has no {program}: it is not like Debian");
        }
        ensure!(Path::new(KEYRING).is_file(), "there is no {KEYRING}; install debian-archive-keyring");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        for directory in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let name = architecture.oci_name();
        let source = |(mirror, suite): &(&str, &str)| {
            format!("deb [arch={name} target=Packages signed-by={KEYRING}] {mirror} {suite} main\n")
        };
        write("sources.list", &suites.iter().map(source).collect::<String>())?;
        write("status", "")?;
        let root = folder.display();
        // Read after the system's configuration, which may name a proxy.
        let configuration = format!(
            "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n\
             Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n\
             APT::Architecture \"{name}\";\n"
        );
        write("apt.conf", &configuration)?;
        let apt = Self { configuration: folder.join("apt.conf") };
        output(apt.command("apt-get").args(["-q", "update"]))?;
        Ok(apt)
    }

    /// Downloads the packages `roots` and what they need of packages that are `own`, and unpacks them into `directory`.
    ///
    /// # Errors
    /// When apt does not know a package, or a download fails.
    pub fn unpack(&self, roots: &[&str], own: impl Fn(&str) -> bool, directory: &Path) -> Result<()> {
        let mut packages: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
        let mut next = 0;
        while let Some(package) = packages.get(next) {
            let depends = output(self.command("apt-cache").args(["depends", "--important", package]))?;
            for dependency in dependencies(&depends) {
                if own(&dependency) && !packages.contains(&dependency) {
                    packages.push(dependency);
                }
            }
            next += 1;
        }
        output(self.command("apt-get").args(["-q", "download"]).args(&packages).current_dir(directory))?;
        unpack_all(directory)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").arg("-c").arg(&self.configuration);
        command
    }
}
