//! Takes labs down: kills what runs in their namespaces, then removes the namespaces; finds those of dead processes.
//!
//! The only names it ever touches are exactly `netpath-<pid>-<number>-<label>`.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::namespace::{DIRECTORY, check};
use crate::process::kill;

static BUILDING: Mutex<()> = Mutex::new(());
/// Folders that an exit would leave behind.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Has a folder removed by [`remove_all_and_stop_building`], too.
pub(crate) fn remember(folder: &Path) {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Held while a lab is being built, so that nothing is added behind the back of [`remove_all_and_stop_building`].
pub(crate) fn building() -> MutexGuard<'static, ()> {
    BUILDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all labs of this process, for the moment before it exits on a signal: a lab that is being built is waited for,
/// and none can be built afterwards.
pub fn remove_all_and_stop_building() {
    std::mem::forget(building());
    remove(&namespaces_of(process::id()));
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // Mostly its owner has removed it.
        let _ = fs::remove_dir_all(folder);
    }
}

/// The namespaces of all labs of a process, by name.
#[must_use]
pub fn namespaces_of(pid: u32) -> Vec<String> {
    all_names().filter(|name| owner(name).is_some_and(|(owner, _)| owner == pid)).collect()
}

/// Removes the labs of processes that no longer exist, and what an earlier process of our own pid left under `own` number.
pub(crate) fn remove_stale(own: u32) {
    let stale = |name: &String| {
        owner(name).is_some_and(|(pid, number)| {
            !Path::new("/proc").join(pid.to_string()).exists() || (pid == process::id() && number == own)
        })
    };
    remove(&all_names().filter(stale).collect::<Vec<_>>());
}

/// Kills every process inside the named namespaces and removes them. Reports trouble on stderr: it runs where no error can
/// be returned.
pub(crate) fn remove(names: &[String]) {
    let paths: Vec<PathBuf> = names.iter().map(|name| Path::new(DIRECTORY).join(name)).collect();
    let identities = paths.iter().filter_map(|path| identity(path)).collect();
    kill_inside(&identities);
    for path in &paths {
        if let Err(error) = unmount(path).and_then(|()| fs::remove_file(path))
            // Another process may be sweeping at the same time.
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("lab: cannot remove {}: {error}; remove it with `ip netns delete`", path.display());
        }
    }
}

fn all_names() -> impl Iterator<Item = String> {
    fs::read_dir(DIRECTORY).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// The process id and the lab's number in a namespace's name; `None` if the name is not one of a lab.
fn owner(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("netpath-")?.splitn(3, '-');
    let mut number = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
    let owner = (number()?, number()?);
    let label = parts.next()?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (!label.is_empty() && label.bytes().all(plain)).then_some(owner)
}

type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn kill_inside(namespaces: &BTreeSet<Identity>) {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let inside = processes_inside(namespaces);
        for &pid in &inside {
            kill(pid, libc::SIGKILL);
        }
        if inside.is_empty() {
            return;
        }
        if Instant::now() >= end {
            eprintln!("lab: processes {inside:?} do not end; they keep their namespace alive");
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn processes_inside(namespaces: &BTreeSet<Identity>) -> Vec<i32> {
    if namespaces.is_empty() {
        return Vec::new();
    }
    let own = process::id().cast_signed();
    let pids = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &i32| {
        pid != own
            && identity(&PathBuf::from(format!("/proc/{pid}/ns/net"))).is_some_and(|found| namespaces.contains(&found))
    })
    .collect()
}

fn unmount(path: &Path) -> std::io::Result<()> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the path is a C string that lives through the call.
    match check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }) {
        // Not mounted: the process that made it was killed between making the file and mounting the namespace on it.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_labs_have_an_owner() {
        assert_eq!(owner("netpath-12-0-node"), Some((12, 0)));
        assert_eq!(owner("netpath-12-3-pod-a-b"), Some((12, 3)));
        for foreign in [
            "netpath",
            "netpath-12-0",
            "netpath-12-0-",
            "netpath--0-node",
            "netpath-12-x-node",
            "netpath-+1-0-node",
            "netpath-12-0-Node",
            "netpath-12-0-a/b",
            "my-netpath-12-0-node",
            "cni-12-0-node",
            "netpath-99999999999-0-node",
        ] {
            assert_eq!(owner(foreign), None, "{foreign}");
        }
    }
}
