//! The files of one node's records: made, found again, and removed when they are too many or too old.
//!
//! In: lines. Out: files that readers see as a whole or not at all. Only files in this node's folders that have the very names that netpath
//! gives are ever removed.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::layout::{Kind, Name, NodeFolder};

/// Flow records are private: only the owner and the group, as of a collector, may read them.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;
/// A file is finished when it is so large, or this part of all that there may be.
const FILE_BYTES: u64 = 16 << 20;
const FILE_PART: u64 = 16;
/// What a compressor may hold back when the size of its file is looked at.
const HELD_BACK: u64 = 128 << 10;

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all files of this node.
    pub bytes: u64,
    /// Seconds that a file stays.
    pub seconds: i64,
}

/// The files of one node.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    node: NodeFolder,
    bounds: Bounds,
    /// Those that are finished, the oldest first, with their bytes.
    finished: BTreeMap<Name, u64>,
    bytes: u64,
}

impl Files {
    /// Makes the folder if it is not there, finds this node's files in it, and removes what a netpath that was killed did not finish.
    pub fn open(root: &Path, node: NodeFolder, bounds: Bounds) -> io::Result<Self> {
        make_folder(root)?;
        let mut files = Self { root: root.to_owned(), node, bounds, finished: BTreeMap::new(), bytes: 0 };
        for kind in Kind::ALL {
            make_folder(&root.join(kind.folder()))?;
            files.find(kind)?;
        }
        Ok(files)
    }

    /// How large a file may grow.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        FILE_BYTES.min(self.bounds.bytes / FILE_PART)
    }

    /// Removes what is too old at a time, and the oldest files until a new one of each kind has room.
    pub fn make_room(&mut self, now: i64) -> io::Result<()> {
        let room = self.bounds.bytes.saturating_sub(Kind::ALL.len() as u64 * (self.file_bytes() + HELD_BACK));
        while let Some((&name, &bytes)) = self.finished.first_key_value() {
            if self.bytes <= room && name.needed_until() >= now.saturating_sub(self.bounds.seconds) {
                break;
            }
            self.remove(name)?;
            self.finished.remove(&name);
            self.bytes -= bytes;
        }
        Ok(())
    }

    /// Begins a file.
    pub fn begin(&self, kind: Kind, start: i64) -> io::Result<Unfinished> {
        let mut name = Name::new(kind, start);
        let folder = self.root.join(name.folder(&self.node));
        make_folder(&folder)?;
        loop {
            let path = folder.join(name.unfinished());
            let made = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
            match made {
                Ok(file) => {
                    let unfinished = Unfinished::new(name, path, file)?;
                    if fs::symlink_metadata(folder.join(name.file())).is_err() {
                        return Ok(unfinished);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            name.number = name.number.checked_add(1).ok_or(io::ErrorKind::AlreadyExists)?;
        }
    }

    /// Finishes a file: from now on readers see it.
    pub fn finish(&mut self, mut file: Unfinished) -> io::Result<()> {
        let bytes = file.complete()?;
        let name = file.name;
        fs::rename(&file.path, file.path.with_file_name(name.file()))?;
        file.path = PathBuf::new();
        self.finished.insert(name, bytes);
        self.bytes += bytes;
        Ok(())
    }

    fn find(&mut self, kind: Kind) -> io::Result<()> {
        for date in folders(&self.root.join(kind.folder()))? {
            for hour in folders(&date)? {
                let folder = hour.join(&self.node);
                // Whoever has a link here has it for a reason; nothing behind it is netpath's.
                if !fs::symlink_metadata(&folder).is_ok_and(|folder| folder.is_dir()) {
                    continue;
                }
                for entry in entries(&folder)? {
                    match self.take(kind, &folder, &entry) {
                        // Whoever collects the files may take them away.
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, kind: Kind, folder: &Path, entry: &DirEntry) -> io::Result<()> {
        let file = entry.file_name();
        let Some(file) = file.to_str() else { return Ok(()) };
        let is_here = |name: &Name| self.root.join(name.folder(&self.node)) == folder;
        if !entry.file_type()?.is_file() {
            return Ok(());
        }
        if let Some(name) = Name::parse(kind, file).filter(is_here) {
            let bytes = entry.metadata()?.len();
            self.finished.insert(name, bytes);
            self.bytes += bytes;
        } else if Name::parse_unfinished(kind, file).as_ref().is_some_and(is_here) {
            // One that is being written is locked.
            let path = entry.path();
            if File::open(&path)?.try_lock().is_ok() {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Removes a file, and the folders that are empty without it.
    fn remove(&self, name: Name) -> io::Result<()> {
        let folder = self.root.join(name.folder(&self.node));
        match fs::remove_file(folder.join(name.file())) {
            // Whoever has moved it elsewhere may.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The node's folder, the hour's and the day's: rmdir(2) fails on one that is not empty.
        let _ = folder.ancestors().take(3).try_for_each(fs::remove_dir);
        Ok(())
    }
}

/// A file that is being written. It is gone when it is dropped.
#[derive(Debug)]
pub struct Unfinished {
    name: Name,
    path: PathBuf,
    to: GzEncoder<Counted>,
    /// Lines that are in it.
    pub lines: u64,
}

impl Unfinished {
    fn new(name: Name, path: PathBuf, file: File) -> io::Result<Self> {
        let to = GzEncoder::new(Counted { file, bytes: 0 }, Compression::fast());
        let unfinished = Self { name, path, to, lines: 0 };
        // Not everywhere are there locks: there nobody's files are taken for those of a dead one, either.
        match unfinished.to.get_ref().file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
            _ => Ok(unfinished),
        }
    }

    /// When its first window began.
    #[must_use]
    pub const fn start(&self) -> i64 {
        self.name.start
    }

    /// Its bytes so far, but for what the compressor holds back.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.to.get_ref().bytes
    }

    /// Adds a line, which has its line break.
    pub fn add(&mut self, line: &[u8]) -> io::Result<()> {
        self.to.write_all(line)?;
        self.lines += 1;
        Ok(())
    }

    /// Writes what the compressor holds back: the size of the file.
    pub fn complete(&mut self) -> io::Result<u64> {
        self.to.try_finish()?;
        Ok(self.to.get_ref().bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file that counts what is written.
#[derive(Debug)]
struct Counted {
    file: File,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let written = self.file.write(part)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// What is in a folder; nothing, if another node has removed it meanwhile.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The folders in a folder, links not among them.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = entries(path)?.into_iter();
    Ok(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect())
}
