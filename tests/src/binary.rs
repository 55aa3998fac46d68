//! Finds the netpath binary under test, and what its exports are read with. It must not build or install anything.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The netpath binary: `$NETPATH_BIN`, or else the one in the target directory that this program was built into.
///
/// # Errors
/// When there is none; the message says how to get one.
pub fn netpath_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("NETPATH_BIN").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        bail!("NETPATH_BIN is {}, which is no file; set it to the netpath binary", path.display());
    }
    let own = env::current_exe().context("cannot tell where this program is; set NETPATH_BIN to the netpath binary")?;
    // Test programs are one directory deeper, in deps/.
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join("netpath")).find(|path| path.is_file());
    found.with_context(|| {
        format!("no netpath binary beside {}; build it with `cargo build -p netpath` or set NETPATH_BIN", own.display())
    })
}

/// Python, with the packages that `cargo xtask setup` installed for the tests: in the folder `$NETPATH_PYTHON`.
///
/// # Errors
/// When there is no such folder.
pub fn python() -> Result<Command> {
    let folder = env::var_os("NETPATH_PYTHON").map(PathBuf::from).filter(|folder| folder.is_dir());
    let folder = folder.context("NETPATH_PYTHON is no folder; run the tests by `cargo xtask test`")?;
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", folder);
    Ok(python)
}
