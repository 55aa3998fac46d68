//! Runs other programs, and says so: each step of xtask is one line on stderr before it starts.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Says what happens now.
pub fn step(text: &str) {
    eprintln!("==> {text}");
}

/// Runs `command`, whose output the user sees.
///
/// # Errors
/// When it cannot be started or fails; the message shows the command, to be repeated by hand.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "failed ({status}): {}", shown(command));
    Ok(())
}

/// Runs `command` and returns its stdout; nothing is shown.
///
/// # Errors
/// When it cannot be started or fails; the message has the last line of its stderr that tells something.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(command), telling_line(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The line of `stderr` that most likely says what went wrong: the first error, else the last line.
fn telling_line(stderr: &str) -> String {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| line.starts_with("error") || line.starts_with("E: ");
    let line = lines.clone().find(is_error).or_else(|| lines.next_back());
    line.unwrap_or("it gave no reason").escape_debug().to_string()
}

/// `command` as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Git's output in the workspace, trimmed.
///
/// # Errors
/// When there is no git, or no repository.
pub fn git(arguments: &[&str]) -> Result<String> {
    let said = output(Command::new("git").args(arguments).current_dir(workspace()));
    Ok(said.context("a git repository is needed")?.trim().to_owned())
}

/// The cargo that runs this.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Where `program` is on the PATH or where distributions keep administrators' programs, which is not on every user's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Whether this process is root's. It is what /proc says, so that no `unsafe` is needed.
pub fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|metadata| metadata.uid() == 0)
}

/// The workspace's directory: xtask's parent, as it was when xtask was compiled.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// The target directory that xtask itself was built in (`<target>/debug/xtask`): the one that the user's environment
/// and configuration chose.
///
/// # Errors
/// When the system does not tell where xtask is.
pub fn target_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where xtask is; run it as `cargo xtask`")?;
    Ok(own.ancestors().nth(2).context("xtask is in no target directory; run it as `cargo xtask`")?.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_line_is_the_first_error() {
        assert_eq!(telling_line("warning: x\nerror: the reason\n\nerror: aborting\n"), "error: the reason");
        assert_eq!(telling_line("W: slow\nE: Unable to locate package a\n"), "E: Unable to locate package a");
        assert_eq!(telling_line("one\ntwo\n\n"), "two");
        assert_eq!(telling_line("\u{1b}[31mred\n"), "\\u{1b}[31mred");
        assert_eq!(telling_line(""), "it gave no reason");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = run(Command::new("false").arg("a b")).unwrap_err().to_string();
        assert_eq!(error, "failed (exit status: 1): false a b");
        assert!(output(&mut Command::new("/nonexistent/program")).is_err());
        assert_eq!(output(Command::new("echo").arg("hello")).unwrap(), "hello\n");
    }

    #[test]
    fn the_workspace_and_its_target_directory_are_found() {
        assert!(workspace().join("netpath-ebpf/Cargo.toml").is_file());
        assert!(target_directory().unwrap().is_dir());
    }
}
