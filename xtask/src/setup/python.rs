//! The Python packages that the tests read netpath's exports with: what others decode and query them by.
//!
//! Out: a folder of their own, for `PYTHONPATH`. The system's packages are never touched.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, step};
use crate::toolchain::private_folder;

/// Each with its version, so that a test that passed passes again.
const PACKAGES: [&str; 5] =
    ["opentelemetry-proto==1.45.2", "rotel==0.0.1a15", "duckdb==2.0.1", "chdb==4.4.0", "kubernetes-validate==1.37.0"];

/// Makes sure that all of [`PACKAGES`] are there.
///
/// # Errors
/// When pip cannot install them.
pub fn install() -> Result<()> {
    let (folder, wanted) = (folder()?, PACKAGES.join("\n"));
    let done = folder.join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    step(&format!("installing Python packages into {}: {}", folder.display(), PACKAGES.join(" ")));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-warn-conflicts", "--root-user-action=ignore", "--target"]);
    output(pip.arg(&folder).args(PACKAGES)).context("the tests of netpath serve need them; check that pip works")?;
    fs::write(&done, wanted).with_context(|| format!("cannot write {}", done.display()))
}

/// Where they are.
///
/// # Errors
/// When there is no place for them.
pub fn folder() -> Result<PathBuf> {
    Ok(private_folder()?.with_file_name("python"))
}
