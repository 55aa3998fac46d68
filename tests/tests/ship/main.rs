//! Tests of what is shipped: they run what `cargo xtask dist` made, as those do who get it.
//!
//! In: `NETPATH_DIST`, the folder that it made. They need root: `cargo xtask test --dist`.
#![cfg(test)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cri;
mod deploy;
mod documented;
mod image;
mod machine;
mod packages;
mod plugin;

use std::path::PathBuf;
use std::process::Command;

/// What dist made under this name.
fn shipped(name: &str) -> PathBuf {
    let folder = std::env::var_os("NETPATH_DIST").map(PathBuf::from).unwrap();
    let path = folder.join(name);
    assert!(path.exists(), "no {}; run `cargo xtask dist --image --packages`", path.display());
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

/// Whoever builds the same source elsewhere gets the same bytes: none of them say where it was built.
#[test]
fn the_binary_does_not_say_where_it_was_built() {
    let binary = std::fs::read(shipped("netpath")).unwrap();
    let has = |text: &str| binary.windows(text.len()).any(|bytes| bytes == text.as_bytes());
    assert!(has("/cargo/registry/src/"), "panics name sources");
    let home = std::env::var("HOME").unwrap();
    for place in
        [env!("CARGO_MANIFEST_DIR").trim_end_matches("tests"), &format!("{home}/.cargo/"), &format!("{home}/.rustup/")]
    {
        assert!(!has(place), "{place}");
    }
}
