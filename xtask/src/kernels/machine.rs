//! qemu: finds or unpacks one, and boots a kernel in it. Software emulation, so that it runs everywhere.
//!
//! In: a kernel, a root file system, what to run. Out: all that the machine says on its serial console.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::packages::{Kernel, folder};
use crate::architecture::Architecture;
use crate::process::{find, step};
use crate::setup::debian::{library_path, unpack};

/// A machine that takes longer than this hangs.
const WITHIN: Duration = Duration::from_mins(30);

/// The emulator.
pub struct Qemu {
    architecture: Architecture,
    program: PathBuf,
    library_path: Option<OsString>,
    /// Directories with firmware.
    firmware: Vec<PathBuf>,
}

impl Qemu {
    /// The user's own, or else Debian's in the private folder.
    ///
    /// # Errors
    /// When there is none and it cannot be downloaded.
    pub fn find(architecture: Architecture) -> Result<Self> {
        let name = format!("qemu-system-{}", architecture.name());
        if let Some(program) = find(&name) {
            return Ok(Self { architecture, program, library_path: None, firmware: Vec::new() });
        }
        let package = match architecture {
            Architecture::X86_64 => "qemu-system-x86",
            Architecture::Aarch64 => "qemu-system-arm",
        };
        let place = folder()?.join(package);
        let program = place.join("usr/bin").join(&name);
        if !program.is_file() {
            step("downloading Debian's qemu and what it needs (about 20 MB, 80 MB unpacked)");
            let is_own = |package: &str| package.starts_with("qemu-system-") || package == "seabios";
            unpack(&place, &[package], is_own)
                .with_context(|| format!("there is no {name} and it cannot be downloaded; install it"))?;
        }
        let firmware = ["usr/share/qemu", "usr/share/seabios"].map(|directory| place.join(directory));
        Ok(Self { architecture, program, library_path: Some(library_path(&place)?), firmware: firmware.into() })
    }
}

/// A virtual machine.
pub struct Machine;

impl Machine {
    /// Boots, runs the test program, waits until the machine is off, and returns what it said.
    ///
    /// # Errors
    /// When qemu does not start, or the machine does not switch itself off in time.
    pub fn boot(qemu: &Qemu, kernel: &Kernel, image: &Path, program: &str, filter: &str) -> Result<String> {
        let mut command = Command::new(&qemu.program);
        if let Some(path) = &qemu.library_path {
            command.env("LD_LIBRARY_PATH", path);
        }
        for directory in &qemu.firmware {
            command.arg("-L").arg(directory);
        }
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
        let (machine, console): (&[&str], _) = match qemu.architecture {
            Architecture::X86_64 => (&["-cpu", "max"], "ttyS0"),
            // Graviton 2.
            Architecture::Aarch64 => (&["-machine", "virt", "-cpu", "neoverse-n1"], "ttyAMA0"),
        };
        command.args(machine).args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"]);
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
        let run = format!("console={console} loglevel=1 panic=-1 netpath.run={program} netpath.test={filter}");
        command.arg("-append").arg(run);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", qemu.program.display()))?;
        let mut console = child.stdout.take().context("stdout is a pipe")?;
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut said = Vec::new();
            let read = console.read_to_end(&mut said);
            let _ = sender.send(());
            read.map(|_| String::from_utf8_lossy(&said).replace('\r', ""))
        });
        let hangs = receiver.recv_timeout(WITHIN).is_err();
        if hangs {
            child.kill().context("cannot stop qemu")?;
        }
        let status = child.wait().context("cannot wait for qemu")?;
        let Ok(said) = reader.join() else { bail!("cannot read what the machine says") };
        let said = said.context("cannot read what the machine says")?;
        if hangs {
            return Ok(said + "\nxtask: the machine was still on after half an hour\n");
        }
        if !status.success() {
            bail!("qemu failed ({status}): {said}");
        }
        Ok(said)
    }
}
