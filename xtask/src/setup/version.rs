//! Which compiler is it? A compiler that was exchanged since it was tried has to be tried again.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;
use crate::toolchain::Compiler;

/// The compiler's version in one line: release, commit and LLVM version.
///
/// # Errors
/// When it does not run, which is how a damaged installation shows.
pub fn of(compiler: &Compiler) -> Result<String> {
    let mut command: Command = compiler.command(&compiler.rustc);
    line(&output(command.arg("-vV"))?).with_context(|| format!("{} -vV says no version", compiler.rustc.display()))
}

/// The release, commit and LLVM version of what `rustc -vV` prints, or none if it is something else.
fn line(text: &str) -> Option<String> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(format!("rustc {} {} LLVM {}", field("release")?, field("commit-hash")?, field("LLVM version")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_rustc() {
        let text = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\ncommit-hash: 59807616\ncommit-date: 2026-04-14\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        assert_eq!(line(text).unwrap(), "rustc 1.95.0 59807616 LLVM 22.1.2");
        // Distributions' compilers may not know their commit.
        let text = "binary: rustc\ncommit-hash: unknown\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(line(text).unwrap(), "rustc 1.96.0 unknown LLVM 22.1.8");
        assert_eq!(line("error: toolchain 'nightly' is not installed"), None);
    }
}
