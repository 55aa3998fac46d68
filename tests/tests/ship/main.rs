//! Tests of what is shipped: they run what `cargo xtask dist` made, as those do who get it.
//!
//! In: `NETPATH_DIST`, the folder that it made. They need root: `cargo xtask test --dist`.
#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod plugin;

use std::path::PathBuf;
use std::process::Command;

/// What dist made under this name.
fn shipped(name: &str) -> PathBuf {
    let folder = std::env::var_os("NETPATH_DIST").map(PathBuf::from).unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "no {}; run `cargo xtask dist`", path.display());
    path
}

/// The binary needs no library of the system that it runs on.
#[test]
fn the_binary_runs_where_there_is_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    std::fs::copy(shipped("netpath"), root.path().join("netpath")).unwrap();
    let output = Command::new("chroot").arg(root.path()).args(["/netpath", "--version"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), concat!("netpath ", env!("CARGO_PKG_VERSION")));
}
