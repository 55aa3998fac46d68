//! The first process of a virtual machine of `cargo xtask kernels`: loads the kernel's modules, runs one test program, and
//! switches the machine off.
//!
//! In: /modules (a file's name a line, in the order to load), and on the kernel's command line what to run
//! (`netpath.run=NAME`, and `netpath.test=PART` of the tests' names). Out: what it prints, on the console; last `guest: exit STATUS`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;

use anyhow::{Context, Result, ensure};

fn main() -> Result<()> {
    // Elsewhere it would switch the machine off.
    ensure!(std::process::id() == 1, "this program is the first of a virtual machine; run `cargo xtask kernels`");
    match run() {
        Ok(status) => println!("\nguest: exit {status}"),
        Err(error) => println!("\nguest: {error:#}"),
    }
    // SAFETY: neither reads memory of ours.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    Ok(())
}

fn run() -> Result<i32> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        fs::create_dir_all(place)?;
        mount(kind, place).with_context(|| format!("cannot mount {place}"))?;
    }
    for module in fs::read_to_string("/modules")?.lines() {
        load(module).with_context(|| format!("cannot load the kernel module {module}"))?;
    }
    // Else the modules of tunnels put a device of each kind into every namespace, and tests count devices.
    fs::write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "1")?;
    let command_line = fs::read_to_string("/proc/cmdline")?;
    let told = |key| command_line.split_whitespace().find_map(|word| word.strip_prefix(key));
    let program = told("netpath.run=").context("nothing to run")?;
    let status = Command::new(format!("/bin/{program}"))
        // Those that other machines may lack the modules for are ignored elsewhere.
        .args(["--test-threads=1", "--include-ignored"])
        .args(told("netpath.test=").filter(|filter| !filter.is_empty()))
        .env("PATH", "/bin")
        .env("NETPATH_BIN", "/bin/netpath")
        // Nothing else is tested here.
        .env("NETPATH_IN_GUEST", "1")
        .env("RUST_BACKTRACE", "0")
        .status()?;
    Ok(status.code().unwrap_or(-1))
}

fn mount(kind: &str, place: &str) -> Result<()> {
    let (kind, place) = (CString::new(kind)?, CString::new(place)?);
    // SAFETY: the pointers are to C strings that live through the call, or null where mount(2) allows it.
    let answer = unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

fn load(module: &str) -> Result<()> {
    let file = File::open(module)?;
    // SAFETY: the descriptor is open, and the options are a C string.
    let answer = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}
