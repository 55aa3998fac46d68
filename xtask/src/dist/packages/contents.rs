//! Which files a package has, and where distributions keep them.
//!
//! In: the binary and what belongs to it. Out: files with their folders. Pure.

use anyhow::Result;
use jiff::Timestamp;

use super::super::image::layout::{File, compressed};
use crate::architecture::Architecture;

/// What is in every package beside the binary.
pub struct Parts {
    /// netpath's version.
    pub version: String,
    /// Man pages, by the names of their files.
    pub manual: Vec<(String, Vec<u8>)>,
    /// Completions for shells.
    pub bash: Vec<u8>,
    /// The same.
    pub zsh: Vec<u8>,
    /// The same.
    pub fish: Vec<u8>,
    /// netpath's licences and those of what it is linked with, by the names of their files.
    pub licences: Vec<(String, Vec<u8>)>,
    /// netpath's changelog.
    pub changelog: Vec<u8>,
    /// The systemd unit.
    pub unit: Vec<u8>,
    /// What `netpath serve` reads.
    pub configuration: Vec<u8>,
    /// Debian's own changelog, with places for version and date.
    pub debian_changelog: String,
    /// Debian's copyright file, with a place for the MIT licence.
    pub debian_copyright: String,
    /// What lintian need not say.
    pub lintian_overrides: Vec<u8>,
}

/// A package's format, whose distributions have places of their own for some files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Debian's, Ubuntu's.
    Deb,
    /// Amazon Linux's, Fedora's, SUSE's.
    Rpm,
}

impl Format {
    /// A package's extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }
}

/// A package's files, each after the folders that it is in.
///
/// # Errors
/// When compressing fails.
pub fn files(format: Format, binary: &[u8], parts: &Parts, time: Timestamp) -> Result<Vec<File>> {
    let mut files = Files::default();
    files.put("usr/bin/netpath", 0o755, binary.to_vec());
    for (name, page) in &parts.manual {
        files.put(&format!("usr/share/man/man1/{name}.gz"), 0o644, compressed(page)?);
    }
    files.put("usr/share/bash-completion/completions/netpath", 0o644, parts.bash.clone());
    files.put("usr/share/fish/vendor_completions.d/netpath.fish", 0o644, parts.fish.clone());
    files.put("usr/lib/systemd/system/netpath.service", 0o644, parts.unit.clone());
    files.put("etc/netpath/serve.toml", 0o644, parts.configuration.clone());
    match format {
        Format::Deb => of_debian(&mut files, parts, time)?,
        Format::Rpm => {
            files.put("usr/share/zsh/site-functions/_netpath", 0o644, parts.zsh.clone());
            files.put("usr/share/doc/netpath/CHANGELOG.md", 0o644, parts.changelog.clone());
            for (name, text) in &parts.licences {
                files.put(&format!("usr/share/licenses/netpath/{name}"), 0o644, text.clone());
            }
        }
    }
    Ok(files.0)
}

/// As Debian's policy has it: licences in `copyright`, but for the long ones, and two changelogs.
fn of_debian(files: &mut Files, parts: &Parts, time: Timestamp) -> Result<()> {
    let documents = "usr/share/doc/netpath";
    let mut mit = "";
    for (name, text) in &parts.licences {
        match name.as_str() {
            "LICENSE-MIT" => mit = std::str::from_utf8(text)?,
            // /usr/share/common-licenses has it.
            "LICENSE-APACHE" => {}
            _ => files.put(&format!("{documents}/{name}.gz"), 0o644, compressed(text)?),
        }
    }
    let copyright = parts.debian_copyright.replace("@MIT@", &indented(mit));
    let date = time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    let changelog = parts.debian_changelog.replace("@VERSION@", &parts.version).replace("@DATE@", &date);
    files.put(&format!("{documents}/copyright"), 0o644, copyright.into_bytes());
    files.put(&format!("{documents}/changelog.Debian.gz"), 0o644, compressed(changelog.as_bytes())?);
    files.put(&format!("{documents}/changelog.gz"), 0o644, compressed(&parts.changelog)?);
    files.put("usr/share/zsh/vendor-completions/_netpath", 0o644, parts.zsh.clone());
    files.put("usr/share/lintian/overrides/netpath", 0o644, parts.lintian_overrides.clone());
    Ok(())
}

/// A field's further lines (deb822(5)): a space in front, and a dot where there is nothing.
fn indented(text: &str) -> String {
    let line = |line: &str| if line.trim().is_empty() { " .".to_owned() } else { format!(" {line}") };
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What dpkg knows of a package.
pub fn debian_control(template: &str, version: &str, architecture: Architecture, bytes: u64) -> String {
    let text = template.replace("@VERSION@", version).replace("@ARCHITECTURE@", architecture.oci_name());
    text.replace("@KILOBYTES@", &bytes.div_ceil(1024).to_string())
}

#[derive(Default)]
struct Files(Vec<File>);

impl Files {
    fn put(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        for (end, _) in path.match_indices('/') {
            let folder = &path[..end];
            if self.0.iter().all(|file| file.path != folder) {
                self.0.push(File { path: folder.to_owned(), mode: 0o755, bytes: None });
            }
        }
        self.0.push(File { path: path.to_owned(), mode, bytes: Some(bytes) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files_and_once() {
        let mut files = Files::default();
        files.put("usr/bin/netpath", 0o755, vec![1]);
        files.put("usr/lib/x", 0o644, vec![2]);
        let paths: Vec<_> = files.0.iter().map(|file| (file.path.as_str(), file.mode)).collect();
        assert_eq!(
            paths,
            [("usr", 0o755), ("usr/bin", 0o755), ("usr/bin/netpath", 0o755), ("usr/lib", 0o755), ("usr/lib/x", 0o644)]
        );
    }

    #[test]
    fn a_licence_is_a_field() {
        assert_eq!(indented("MIT License\n\nCopyright\n"), " MIT License\n .\n Copyright");
    }

    #[test]
    fn the_size_is_in_kilobytes_rounded_up() {
        let control = debian_control("@VERSION@ @ARCHITECTURE@ @KILOBYTES@", "1.2.3", Architecture::Aarch64, 1025);
        assert_eq!(control, "1.2.3 arm64 2");
    }
}
