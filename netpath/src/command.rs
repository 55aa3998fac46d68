//! Runs the subcommand that the command line names, and maps the outcome to an exit status.

mod cleanup;
mod completions;
mod devices;
mod doctor;
mod explain;
mod input;
mod measure;
mod output;
mod report;
mod trace;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser as _;

use self::measure::NotStarted;
use crate::cli::{Cli, Command, MeasureArgs};
use crate::descriptors::Exhausted;
use crate::logging;
use crate::node::port_names;
use crate::path::select::Filter;
use crate::sanitise::sanitise;

/// Runs netpath: 0 fine, 1 failed, 2 usage (clap exits with it), or as the command that it runs: 124 when its time is up, 126
/// when it cannot be run, 127 when there is none.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    let outcome = match cli.command {
        Command::Report(args) => report::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Trace(args) => trace::run(&args),
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
        error.downcast_ref::<NotStarted>().map_or(ExitCode::FAILURE, |error| ExitCode::from(error.status))
    })
}

/// Ports by the names that the host has for them.
fn resolve_ports(filter: &mut Filter, measure: &MeasureArgs) -> anyhow::Result<()> {
    let port = |name: &str| port_names::port(measure.host_root.as_deref(), name);
    filter.resolve_ports(port).map_err(|name| anyhow!("no port is named '{name}' in /etc/services; give its number"))
}

/// Why a file cannot be used, in few words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is no directory".to_owned(),
        io::ErrorKind::StorageFull => "no space is left".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => error.to_string(),
    }
}
