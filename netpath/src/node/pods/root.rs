//! Where the host's files are, seen from where netpath runs; opens them without leaving that place or waiting for anything.
//!
//! In: the folder that a user names, or none. Out: bytes of files, open folders. It must not follow a symbolic link out of
//! the folder (`/var/run` is one to `/run` on most nodes), nor open anything but files and folders: a FIFO in place of a
//! file would wait for ever.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, stat};
use rustix::io::Errno;

use super::SourceError;
use crate::model::NameSourceState;

/// The folder that is the host's `/`.
#[derive(Debug)]
pub struct HostRoot {
    folder: OwnedFd,
}

impl HostRoot {
    /// The folder that is given; without one, the first of these that fits:
    ///
    /// - `/proc/1/root` if it is another root than netpath's own: netpath runs in a pod that sees the host's processes
    ///   (`kubectl debug node/…`). It shows what is mounted on the host later, too, which `/host` does not.
    /// - `/host` if the host's root is mounted there.
    /// - `/`.
    ///
    /// # Errors
    /// If the folder that is given cannot be opened.
    pub fn find(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = given {
            let shown = path.display().to_string();
            let folder = open_folder(path).with_context(|| {
                format!("cannot open --host-root {}; name the folder where the host's / is", shown.escape_debug())
            })?;
            return Ok(Self { folder });
        }
        let identity = |path: &str| stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let mut candidates = Vec::new();
        if identity("/proc/1/root/").is_some_and(|root| Some(root) != identity("/")) {
            candidates.push("/proc/1/root/");
        }
        if stat("/host/proc/1").is_ok() && stat("/host/var").is_ok() {
            candidates.push("/host");
        }
        let found = candidates.into_iter().find_map(|path| open_folder(Path::new(path)).ok());
        let folder = found.map_or_else(|| open_folder(Path::new("/")), Ok).context("cannot open /")?;
        Ok(Self { folder })
    }

    /// The bytes of a regular file of `limit` bytes at most. `path` is absolute, as on the host.
    pub(in crate::node) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
        let place = self.place(path)?;
        let kind = fstat(&place).map_err(|errno| error(path, errno))?.st_mode;
        if FileType::from_raw_mode(kind) != FileType::RegularFile {
            return Err(SourceError::new(NameSourceState::Malformed, format!("{path} is not a file")));
        }
        let mut bytes = Vec::new();
        // The link in /proc is to the file that was checked.
        let reopened = open(link(&place), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
        let file = File::from(reopened.map_err(|errno| error(path, errno))?);
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| {
            SourceError::new(NameSourceState::Unreadable, format!("{path} cannot be read: {error}"))
        })?;
        if bytes.len() as u64 > limit {
            let why = format!("{path} is larger than {} MiB, and was not read", limit >> 20);
            return Err(SourceError::new(NameSourceState::Malformed, why));
        }
        Ok(bytes)
    }

    /// An open folder.
    pub(super) fn folder(&self, path: &str) -> Result<Dir, SourceError> {
        let opened = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Dir::new(opened).map_err(|errno| error(path, errno))
    }

    /// A file of any kind, as an `O_PATH` descriptor: to check it, and to open it by [`link`].
    pub(super) fn place(&self, path: &str) -> Result<OwnedFd, SourceError> {
        self.open(path, OFlags::PATH)
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, SourceError> {
        let flags = flags | OFlags::CLOEXEC;
        openat2(&self.folder, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(|errno| error(path, errno))
    }

    /// The host's processes: its `/proc`, or where it has none netpath's own.
    pub(super) fn processes(&self) -> Result<OwnedFd, SourceError> {
        self.open("/proc", OFlags::RDONLY | OFlags::DIRECTORY).or_else(|_| {
            open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| error("/proc", errno))
        })
    }

    /// A network namespace that is mounted at a path (`/var/run/netns/…`). Whether it is one, the kernel checks when it is used.
    pub(super) fn namespace(&self, path: &str) -> Result<OwnedFd, SourceError> {
        self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }
}

/// A path to what a descriptor stands for.
pub(super) fn link(place: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Why something cannot be opened.
fn error(path: &str, errno: Errno) -> SourceError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => SourceError::new(NameSourceState::Absent, format!("there is no {path}")),
        Errno::ACCESS | Errno::PERM => {
            SourceError::new(NameSourceState::Unreadable, format!("netpath may not read {path}; run it as root"))
        }
        errno => SourceError::new(NameSourceState::Unreadable, format!("{path} cannot be read: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(root: &HostRoot, path: &str) -> Result<String, (NameSourceState, String)> {
        let read = root.read(path, 1 << 20).map_err(|error| (error.state, error.reason));
        read.map(|bytes| String::from_utf8(bytes).expect("UTF-8"))
    }

    /// Links are followed as the host would, and end at its root.
    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |path: &str| folder.path().join(path);
        for path in ["run/aws-node", "var"] {
            std::fs::create_dir_all(at(path)).expect("a folder");
        }
        symlink("/run", at("var/run")).expect("a link");
        symlink("../../../../../../../../etc/hostname", at("out")).expect("a link");
        std::fs::write(at("run/aws-node/ipam.json"), "here").expect("a file");
        let root = HostRoot::find(Some(folder.path())).expect("a root");
        assert_eq!(read(&root, "/var/run/aws-node/ipam.json"), Ok("here".to_owned()));
        assert_eq!(read(&root, "/out"), Err((NameSourceState::Absent, "there is no /out".to_owned())));
    }

    #[test]
    fn what_is_not_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = HostRoot::find(Some(folder.path())).expect("a root");
        rustix::fs::mknodat(CWD, folder.path().join("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        std::fs::create_dir(folder.path().join("folder")).expect("a folder");
        for path in ["/fifo", "/folder"] {
            assert_eq!(read(&root, path), Err((NameSourceState::Malformed, format!("{path} is not a file"))));
        }
        std::fs::write(folder.path().join("huge"), vec![0; (1 << 20) + 1]).expect("a file");
        assert_eq!(read(&root, "/huge").expect_err("too large").0, NameSourceState::Malformed);
        assert_eq!(read(&root, "/none").expect_err("not there").0, NameSourceState::Absent);
    }
}
