//! Runs the subcommand that the command line names, and maps the outcome to an exit status.

mod cleanup;
mod completions;
mod devices;
mod doctor;
mod explain;
mod measure;
mod output;
mod report;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::descriptors::Exhausted;
use crate::logging;
use crate::sanitise::sanitise;

/// Runs netpath: 0 fine, 1 failed, 2 usage (clap exits with it).
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    let outcome = match cli.command {
        Command::Report(args) => report::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Cleanup(args) => cleanup::run(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
    };
    outcome.unwrap_or_else(|error| {
        let mut errnos = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
        // Wherever it happens, the cause and the fix are the same.
        let error = errnos.find_map(Exhausted::from_errno).map_or(error, Into::into);
        // Parts of it may come from anywhere: names, files, other programs.
        for line in format!("netpath: {error:#}").lines() {
            // Its terminal may be gone.
            let _ = writeln!(io::stderr(), "{}", sanitise(line));
        }
        ExitCode::FAILURE
    })
}
