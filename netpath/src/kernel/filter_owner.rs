//! The owner of a legacy filter, and whether that netpath is still running.
//!
//! A filter outlives the process that added it, so the next netpath must distinguish the filters of a process that has ended
//! from those of a running one. Process ids do not serve (other pid namespaces, reuse), nor do files (other mount namespaces).
//! The kernel's number of a map does: it is the same everywhere on the machine, the map is gone with the last process that
//! holds it, however that process ended, and numbers are reused only after two thousand million maps. So each process that
//! adds filters holds one map of its own, and its filters' handle is that map's number, with the highest bit set: map numbers
//! never have it, and handles that the kernel chooses are small.

use std::io;

use aya::maps::{MapData, MapError};

use super::bpf;

/// The map's name.
const NAME: &str = "netpath_lease";
const OURS: u32 = 1 << 31;

/// Holds the map for as long as it lives.
#[derive(Debug)]
pub struct FilterOwner {
    _map: MapData,
    handle: u32,
}

impl FilterOwner {
    /// Makes the map. Needs `CAP_BPF`.
    pub fn take() -> io::Result<Self> {
        let map = MapData::from_fd(bpf::named_map(NAME)?).map_err(io::Error::other)?;
        let id = map.info().map_err(io::Error::other)?.id();
        Ok(Self { _map: map, handle: OURS | id })
    }

    /// The handle of this process's filters.
    pub fn handle(&self) -> u32 {
        self.handle
    }
}

/// Whether a living process added the filter with this handle. `None`: no netpath gives such a handle.
///
/// Needs `CAP_SYS_ADMIN` (else `EPERM`).
pub fn is_held(handle: u32) -> io::Result<Option<bool>> {
    if handle & OURS == 0 {
        return Ok(None);
    }
    match MapData::from_id(handle & !OURS) {
        Ok(map) => {
            let info = map.info().map_err(io::Error::other)?;
            Ok(Some(info.name_as_str() == Some(NAME)))
        }
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(Some(false)),
        Err(MapError::SyscallError(error)) => Err(error.io_error),
        Err(error) => Err(io::Error::other(error)),
    }
}
