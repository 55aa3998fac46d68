//! One network namespace, by its name under /run/netns: run a closure or a command inside it.
//!
//! It neither makes nor removes namespaces; `topology` and `cleanup` do.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::output_within;

/// Where `ip netns` keeps namespaces.
pub(crate) const DIRECTORY: &str = "/run/netns";
/// Longer than any program takes that only tells or changes a setting.
const LIMIT: Duration = Duration::from_secs(10);

/// A network namespace that has a name. A copy is just the name: it keeps nothing alive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of this name; entering it fails when there is none.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The namespace that a file stands for, wherever that is. Its name is the path.
    ///
    /// # Panics
    /// When the path is relative or not UTF-8.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        assert!(path.is_absolute(), "{} is relative", path.display());
        Self { name: path.to_str().expect("a path in UTF-8").to_owned() }
    }

    /// The name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    fn open(&self) -> Result<File> {
        let path = self.path();
        File::open(&path).with_context(|| format!("no network namespace {}; is its lab still running?", path.display()))
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it. Sockets made there stay in the namespace, also
    /// when they leave the thread. A panic of `work` goes on in the caller.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || enter(&file).map(|()| work()));
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
        .with_context(|| format!("cannot enter network namespace {}; are you root?", self.name))
    }

    /// Like [`run`](Self::run), without waiting.
    ///
    /// # Errors
    /// When the namespace does not exist. What the thread returns is an error when it could not be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<io::Result<T>>> {
        let file = self.open()?;
        Ok(thread::spawn(move || enter(&file).map(|()| work())))
    }

    /// A command that will run inside the namespace, with a /sys that shows the namespace's devices, as under
    /// `ip netns exec`. It is killed when the *thread* that spawned it ends, so that nothing outlives a killed test.
    ///
    /// # Errors
    /// When the namespace does not exist.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let file = self.open()?;
        let parent = process::id();
        let mut command = Command::new(program);
        let prepare = move || {
            enter(&file)?;
            mount_own_sysfs()?;
            obey_signals();
            die_with(parent)
        };
        // SAFETY: `prepare` makes only system calls, on values made before the fork; it neither allocates nor locks.
        unsafe { command.pre_exec(prepare) };
        Ok(command)
    }

    /// Runs a program in the namespace to its end, ten seconds at most, and returns what it prints.
    ///
    /// # Errors
    /// When it is not installed, fails or does not end; the message has its own words.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = output_within(self.command(program)?.args(arguments), LIMIT)?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program} {} in namespace {}: {}",
            arguments.join(" "),
            self.name,
            complaint.trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The kernel's index of a device of the namespace.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn ifindex(&self, device: &str) -> Result<u32> {
        let name = CString::new(device)?;
        // SAFETY: the name is a C string that is alive during the call.
        let index = self.run(|| unsafe { libc::if_nametoindex(name.as_ptr()) })?;
        ensure!(index != 0, "no device {device} in namespace {}", self.name);
        Ok(index)
    }

    /// Writes kernel settings of this namespace: `("net/ipv4/ip_forward", "1")`.
    ///
    /// # Errors
    /// When one cannot be written; the message names it.
    pub fn write_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            for (key, value) in settings {
                // /proc/sys/net follows the namespace of the thread that opens the file.
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("cannot set {key} to {value} in namespace {}", self.name))?;
            }
            Ok(())
        })?
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: setns reads no memory of ours; the file descriptor is open while `namespace` is borrowed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// sysfs shows the devices of the namespace in which it was mounted.
fn mount_own_sysfs() -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: all pointers are to C string literals or null where mount(2) allows it.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(c"".as_ptr(), c"/".as_ptr(), none, libc::MS_SLAVE | libc::MS_REC, none.cast()))?;
        // With what is mounted below it: runc looks for cgroups in the table of mounts, where hidden ones are, too.
        libc::umount2(c"/sys".as_ptr(), libc::MNT_DETACH);
        check(libc::mount(c"sysfs".as_ptr(), c"/sys".as_ptr(), c"sysfs".as_ptr(), 0, none.cast()))
    }
}

/// A shell without job control has what it starts in the background ignore these, and so has `nohup`.
fn obey_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: it sets no handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: neither call reads memory of ours.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // The parent may have ended before the line above.
        if u32::try_from(libc::getppid()) == Ok(parent) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }
}

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
