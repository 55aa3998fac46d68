//! Where a report goes, and what other subcommands say: stdout, or a file that appears whole or not at all.
//!
//! In: a path, `-` for stdout. Out: what is written to it. A regular file is written beside its place and renamed over it after the first
//! report, so that a failure leaves an older report as it was; what follows is added to it. Anything else (a pipe, a device) is
//! written as it is, and so is an open file (`/dev/fd/3`). Links are followed, except another user's in a sticky, world-writable
//! folder: such a link to a regular file is replaced.

mod closed;
mod folder;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure};
use tempfile::NamedTempFile;

use self::folder::Folder;
use super::{reason, reason_not_made};

/// An opened destination.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// A regular file.
    File {
        /// In the folder, and dropped before it.
        beside: NamedTempFile,
        /// Where it will be.
        folder: Folder,
        /// Its name there.
        name: OsString,
        /// As the caller gave it.
        path: PathBuf,
    },
    /// A pipe, a device, or a file that has its first report.
    Opened {
        /// It.
        file: File,
        /// As the caller gave it.
        path: PathBuf,
    },
}

const CLOSED: &str = "stdout is closed; send it to a file";

/// Whether anybody reads what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// As far as that can be known.
    Reads,
    /// It has gone away, as in `netpath report | head`.
    Gone,
}

impl Output {
    /// Opens the destination, without changing what is there.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Self::stdout() };
        let fix = |why: &dyn std::fmt::Display| {
            let path = path.display().to_string();
            let path = path.escape_debug();
            if Path::new("/proc/self/fd").exists() {
                anyhow!("cannot write {path}: {why}; choose another --output")
            } else {
                anyhow!("cannot write {path} without /proc; mount it")
            }
        };
        let name = path.file_name().ok_or_else(|| fix(&"it is a directory"))?.to_owned();
        let folder = Folder::open(path.parent().unwrap_or(Path::new("."))).map_err(|error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let why = if is_missing { "no such directory".to_owned() } else { reason(&error) };
            fix(&why)
        })?;
        let (folder, name) = folder.follow(name).map_err(|error| fix(&reason(&error)))?;
        let is_open = folder.is_procfs().map_err(|error| fix(&reason(&error)))?;
        if is_open && folder.has_own_descriptors().map_err(|error| fix(&reason(&error)))? {
            match name.to_str().and_then(|name| name.parse().ok()) {
                Some(libc::STDOUT_FILENO) => return Self::stdout(),
                Some(descriptor) if closed::is_inherited(descriptor) => {}
                _ => return Err(fix(&"it is not open")),
            }
        }
        let place = folder.path().join(&name);
        match std::fs::metadata(&place) {
            Ok(metadata) if metadata.is_dir() => Err(fix(&"it is a directory")),
            Ok(metadata) if is_open || !metadata.is_file() => {
                folder.check(&name).map_err(|error| fix(&reason(&error)))?;
                // Behind what is in it: others may write there, too.
                let file = OpenOptions::new().append(true).open(place).map_err(|error| fix(&reason(&error)))?;
                Ok(Self::Opened { file, path: path.to_owned() })
            }
            _ => {
                // 0666 less the umask, as for any new file.
                let beside = tempfile::Builder::new()
                    .prefix(".netpath-")
                    .permissions(Permissions::from_mode(0o666))
                    .tempfile_in(folder.path())
                    .map_err(|error| fix(&reason_not_made(&error)))?;
                Ok(Self::File { beside, folder, name, path: path.to_owned() })
            }
        }
    }

    fn stdout() -> anyhow::Result<Self> {
        ensure!(!closed::is_closed(), CLOSED);
        Ok(Self::Stdout)
    }

    /// Writes a report, and all of it.
    pub fn write(&mut self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<Reader> {
        match self {
            Self::Stdout if closed::is_closed() => bail!(CLOSED),
            Self::Stdout => or_gone(buffered(io::stdout().lock(), render), |error| {
                anyhow!("cannot write to stdout: {}; send it to a file", reason(error))
            }),
            Self::Opened { file, path } => or_gone(buffered(file, render), |error| cannot_write(path, error)),
            Self::File { folder, name, path, beside } => {
                let write = || {
                    buffered(beside.as_file_mut(), render)?;
                    let file = beside.as_file().try_clone()?;
                    // Renamed, it is no longer there to be removed when it is dropped.
                    std::fs::rename(beside.path(), folder.path().join(name))?;
                    Ok(file)
                };
                let file = write().map_err(|error: io::Error| cannot_write(path, &error))?;
                *self = Self::Opened { file, path: path.clone() };
                Ok(Reader::Reads)
            }
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow!("cannot write {}: {}; choose another --output", path.display().to_string().escape_debug(), reason(error))
}

fn or_gone(written: io::Result<()>, fix: impl FnOnce(&io::Error) -> anyhow::Error) -> anyhow::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::Reads),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(fix(&error)),
    }
}

fn buffered(out: impl Write, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    render(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"report\n")
    }

    #[test]
    fn a_file_appears_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.txt");
        let mut output = Output::open(Some(&path)).expect("writable");
        assert!(!path.exists(), "nothing before the report is whole");
        output.write(text).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"report\n");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "nothing left beside it");
    }

    #[test]
    fn what_follows_the_first_report_is_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.txt");
        std::fs::write(&path, "old").expect("written");
        let mut output = Output::open(Some(&path)).expect("writable");
        for count in 1..=3 {
            assert_eq!(output.write(text).expect("written"), Reader::Reads);
            assert_eq!(std::fs::read_to_string(&path).expect("there"), "report\n".repeat(count));
        }
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "and it stays");
    }

    #[test]
    fn a_failure_keeps_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.txt");
        std::fs::write(&path, "old").expect("written");
        let mut output = Output::open(Some(&path)).expect("writable");
        output.write(|_| Err(io::Error::other("no"))).expect_err("must fail");
        drop(output);
        assert_eq!(std::fs::read(&path).expect("there"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1, "nothing left beside it");
    }

    #[test]
    fn what_cannot_be_written_is_found_before_measuring() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().join("none/report.txt"), folder.path().to_owned()] {
            let error = Output::open(Some(&path)).expect_err("must fail");
            assert!(error.to_string().ends_with("choose another --output"), "{error:#}");
        }
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let (link, path) = (folder.path().join("link"), folder.path().join("report.txt"));
        std::os::unix::fs::symlink("report.txt", &link).expect("a link");
        for _ in 0..2 {
            Output::open(Some(&link)).expect("writable").write(text).expect("written");
            assert_eq!(std::fs::read(&path).expect("there"), b"report\n");
            assert!(link.is_symlink());
        }
    }

    #[test]
    fn an_open_file_is_written_behind_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.txt");
        std::fs::write(&path, "before\n").expect("written");
        let open = File::open(&path).expect("opened");
        let link = folder.path().join("stdout");
        let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        std::os::unix::fs::symlink(descriptor, &link).expect("a link");
        let error = Output::open(Some(&link)).expect_err("it is this process' own");
        assert!(error.to_string().contains("it is not open"), "{error:#}");
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).expect("as if it were inherited");
        Output::open(Some(&link)).expect("writable").write(text).expect("written");
        assert_eq!(std::fs::read(&path).expect("there"), b"before\nreport\n");
        assert!(link.is_symlink());
    }

    #[test]
    fn devices_are_written_as_they_are() {
        Output::open(Some(Path::new("/dev/null"))).expect("writable").write(text).expect("written");
        assert!(!std::fs::metadata("/dev/null").expect("there").is_file());
    }
}
