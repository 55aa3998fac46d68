//! Adds windows to a recording. Each is there as a whole or not at all.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::{SCHEMA, Written};
use crate::snapshot::Snapshot;

/// When the oldest windows go, so many go that this part of the limit is left: each time, what is left is copied.
const KEPT: (u64, u64) = (3, 4);

/// A file that windows are added to.
#[derive(Debug)]
pub struct Recording {
    file: File,
    path: PathBuf,
    /// Bytes of each window that is in it, the oldest first.
    windows: VecDeque<u64>,
    most_bytes: u64,
    /// Windows that went, since there was no more room.
    gone: u64,
}

impl Recording {
    /// Makes the file; what is there is never written over. It grows to `most_bytes`, or to one window.
    pub fn create(path: &Path, most_bytes: u64) -> io::Result<Self> {
        // Who talks to whom is nobody else's.
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, path: path.to_owned(), windows: VecDeque::new(), most_bytes, gone: 0 })
    }

    /// Adds a window. If that fails, the file has the windows before.
    pub fn add(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let member = member(snapshot)?;
        let size = self.bytes();
        if size + member.len() as u64 > self.most_bytes && !self.windows.is_empty() {
            self.make_room(member.len() as u64)?;
        }
        let size = self.bytes();
        let added = self.file.seek(SeekFrom::Start(size)).and_then(|_| self.file.write_all(&member));
        if let Err(error) = added {
            self.file.set_len(size)?;
            return Err(error);
        }
        self.windows.push_back(member.len() as u64);
        self.file.sync_data()
    }

    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.windows.iter().sum()
    }

    /// How many windows it has, and how many had to go.
    #[must_use]
    pub fn windows(&self) -> (u64, u64) {
        (self.windows.len() as u64, self.gone)
    }

    /// Removes the oldest windows. The file is replaced as a whole.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let (part, whole) = KEPT;
        let mut from = 0;
        while self.bytes() + bytes > self.most_bytes / whole * part
            && let Some(oldest) = self.windows.pop_front()
        {
            from += oldest;
            self.gone += 1;
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut rest = NamedTempFile::new_in(folder)?;
        self.file.seek(SeekFrom::Start(from))?;
        io::copy(&mut (&self.file).take(self.bytes()), &mut rest)?;
        rest.as_file().sync_data()?;
        self.file = rest.persist(&self.path)?;
        Ok(())
    }
}

impl Drop for Recording {
    /// A recording without a window is nothing to keep.
    fn drop(&mut self) {
        if self.windows.is_empty() && self.gone == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A window, as it is in a recording.
pub fn member(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let line = Written { schema: SCHEMA.to_owned(), netpath_version: env!("CARGO_PKG_VERSION").to_owned(), snapshot };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut encoder, &line)?;
    encoder.write_all(b"\n")?;
    encoder.finish()
}
