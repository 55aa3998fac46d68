//! `netpath completions` and `netpath man`: what shells and `man` want to know of the command line.
//!
//! In: a shell, or a folder. Out: a script on stdout, or one page a subcommand in the folder.

mod man;

use std::io;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::CommandFactory as _;

use super::output::Output;
use super::reason_not_made;
use crate::cli::{Cli, CompletionsArgs, ManArgs};

/// Writes the completion script.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netpath", &mut script);
    Output::Stdout.write(|out| out.write_all(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the man pages.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.display().to_string();
    let folder = folder.escape_debug();
    let write = || {
        std::fs::create_dir_all(&args.folder)?;
        man::pages(Cli::command()).into_iter().try_for_each(|(name, page)| std::fs::write(args.folder.join(name), page))
    };
    write().map_err(|error: io::Error| {
        anyhow!("cannot write man pages to {folder}: {}; name a folder that you may write to", reason_not_made(&error))
    })?;
    Ok(ExitCode::SUCCESS)
}
