//! Opens the folder that a report is written to, without going where another user's link leads.
//!
//! In: a path. Out: the opened folder, and what the path's last part leads to. In a sticky, world-writable folder such as /tmp, a
//! link is followed only if the caller or the folder's owner owns it: the kernel's own rule (`fs.protected_symlinks`), which may be
//! switched off. Folders are opened once and kept, so nobody can exchange a part of the path in between.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, stat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
/// Of linux/magic.h.
const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;

/// An opened folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::walk(root(path)?, parts(path))
    }

    fn walk(mut folder: OwnedFd, mut rest: VecDeque<OsString>) -> io::Result<Self> {
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            let next = openat(&folder, &part, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let stat = fstat(&next)?;
            if !is_link(&stat) {
                folder = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            trust(&fstat(&folder)?, &stat)?;
            let target = target(&next, OsStr::new(""))?;
            if target.is_absolute() {
                folder = root(&target)?;
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        Ok(Self(folder))
    }

    /// The folder itself, as a path that leads nowhere else.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }

    /// The folder and the name to which an entry leads, by links; itself if it is none, or a stranger's.
    pub fn follow(mut self, mut entry: OsString) -> io::Result<(Self, OsString)> {
        for _ in 0..MOST_LINKS {
            let stat = match self.stat(&entry) {
                Ok(stat) if is_link(&stat) => stat,
                Ok(_) | Err(Errno::NOENT) => return Ok((self, entry)),
                Err(error) => return Err(error.into()),
            };
            if trust(&fstat(&self.0)?, &stat).is_err() || self.is_procfs()? {
                return Ok((self, entry));
            }
            let target = target(&self.0, &entry)?;
            let start = if target.is_absolute() { root(&target)? } else { self.0 };
            target.file_name().ok_or(Errno::ISDIR)?.clone_into(&mut entry);
            self = Self::walk(start, target.parent().map(parts).unwrap_or_default())?;
        }
        Err(Errno::LOOP.into())
    }

    /// An entry's own, also of a link.
    fn stat(&self, entry: &OsStr) -> rustix::io::Result<Stat> {
        statat(&self.0, entry, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Whether it is in /proc, whose links lead to open files (`/proc/self/fd/1`, to which `/dev/stdout` leads).
    pub fn is_procfs(&self) -> io::Result<bool> {
        Ok(fstatfs(&self.0)?.f_type == PROC_SUPER_MAGIC)
    }

    /// Whether it is /proc/self/fd, which is there.
    pub fn has_own_descriptors(&self) -> io::Result<bool> {
        let identity = |stat: &Stat| (stat.st_dev, stat.st_ino);
        Ok(identity(&fstat(&self.0)?) == identity(&stat("/proc/self/fd")?))
    }

    /// Makes sure that an entry is no link or pipe of a stranger's.
    pub fn check(&self, entry: &OsStr) -> io::Result<()> {
        let stat = self.stat(entry)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // Who made a pipe reads it (`fs.protected_fifos`).
            FileType::Symlink | FileType::Fifo => trust(&fstat(&self.0)?, &stat),
            _ => Ok(()),
        }
    }
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

/// Where a link in a folder leads; of an empty name, the opened link itself.
fn target(folder: &OwnedFd, link: &OsStr) -> io::Result<PathBuf> {
    Ok(OsString::from_vec(readlinkat(folder, link, Vec::new())?.into_bytes()).into())
}

fn root(path: &Path) -> io::Result<OwnedFd> {
    let start = if path.is_absolute() { "/" } else { "." };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(rustix::fs::CWD, start, flags, Mode::empty())?)
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let is_step = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_step).map(|part| part.as_os_str().to_owned()).collect()
}

/// Whether a link in a folder may be followed.
fn trust(folder: &Stat, link: &Stat) -> io::Result<()> {
    let shared = Mode::from_raw_mode(folder.st_mode).contains(Mode::SVTX | Mode::WOTH);
    if !shared || link.st_uid == geteuid().as_raw() || link.st_uid == folder.st_uid {
        return Ok(());
    }
    Err(io::Error::other(
        "it is, or is behind, a link of another user's, or a pipe, in a folder that everybody may write to",
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn links_are_followed_as_the_kernel_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).expect("folders");
        symlink("a", at("relative")).expect("a link");
        symlink(at("relative/b"), at("absolute")).expect("a link");
        symlink("../a/../absolute", at("a/up")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
        for name in ["a", "relative", "relative/b", "absolute", "a/up", "a/b/../up/..", "none", "loop"] {
            let opened = Folder::open(&at(name)).ok().and_then(|opened| inode(&opened.path()));
            assert_eq!(opened, inode(&at(name)), "{name}");
        }
        assert_eq!(inode(&Folder::open(Path::new(".")).expect("here").path()), inode(Path::new(".")));
    }

    #[test]
    fn where_an_entry_leads() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).expect("folders");
        fs::write(at("a/b/file"), "").expect("a file");
        symlink("a/b/file", at("one")).expect("a link");
        symlink(at("one"), at("a/two")).expect("a link");
        symlink("../none", at("a/dangling")).expect("a link");
        symlink("a/b/..", at("up")).expect("a link");
        symlink("loop", at("loop")).expect("a link");
        let inode = |path: &Path| fs::metadata(path).expect("there").ino();
        let followed = |path: &str| {
            let path = at(path);
            let opened = Folder::open(path.parent().expect("a folder"))?;
            opened.follow(path.file_name().expect("a name").to_owned())
        };
        for (path, place, name) in
            [("one", "a/b", "file"), ("a/two", "a/b", "file"), ("a/dangling", "", "none"), ("new", "", "new")]
        {
            let (found, entry) = followed(path).expect(path);
            assert_eq!((inode(&found.path()), entry), (inode(&at(place)), name.into()), "{path}");
        }
        assert!(followed("up").is_err() && followed("loop").is_err());
        let (found, entry) =
            Folder::open(Path::new("/proc/self/fd")).expect("/proc").follow("1".into()).expect("stdout");
        assert!(found.has_own_descriptors().expect("a filesystem") && entry == "1");
    }

    #[test]
    fn whose_links_are_trusted() {
        let stat = |mode, uid| {
            let mut stat = fstat(root(Path::new("/")).expect("/")).expect("a stat");
            (stat.st_mode, stat.st_uid) = (mode, uid);
            stat
        };
        let me = geteuid().as_raw();
        assert!(trust(&stat(0o41777, 7), &stat(0o120_777, 8)).is_err());
        assert!(trust(&stat(0o41777, 7), &stat(0o120_777, 7)).is_ok(), "the folder's owner's");
        assert!(trust(&stat(0o41777, 7), &stat(0o120_777, me)).is_ok(), "one's own");
        assert!(trust(&stat(0o40755, 7), &stat(0o120_777, 8)).is_ok(), "nobody else can put one there");
    }
}
