//! Runs the subcommand that the command line names, and maps the outcome to an exit status.

mod cleanup;
mod completions;
mod devices;
mod diff;
mod doctor;
mod explain;
mod input;
mod measure;
mod output;
mod record;
mod replay;
mod report;
mod screen;
mod serve;
mod top;
mod trace;
mod writer;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use self::measure::NotStarted;
use crate::cli::{Cli, Command};
use crate::descriptors::Exhausted;
use crate::node::port_names;
use crate::path::select::Filter;
use crate::sanitise::sanitise;
use crate::{locale, logging};

/// Runs netpath: 0 fine, 1 failed, 2 usage (clap exits with it), or as the command that it runs: 124 when its time is up, 126
/// when it cannot be run, 127 when there is none.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(with_config) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logging::start(&cli);
    let outcome = match cli.command {
        Command::Report(args) => report::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Serve(args) => serve::run(&args),
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
        for line in without_numbers(&format!("netpath: {error:#}")).lines() {
            // Its terminal may be gone.
            let _ = writeln!(io::stderr(), "{}", locale::text(&sanitise(line)));
        }
        if error.is::<Usage>() {
            return ExitCode::from(USAGE);
        }
        error.downcast_ref::<NotStarted>().map_or(ExitCode::FAILURE, |error| ExitCode::from(error.status))
    })
}

/// The command line with the options from the file that it names, if it does.
fn with_config(cli: Cli) -> Result<Cli, clap::Error> {
    let Command::Serve(args) = &cli.command else { return Ok(cli) };
    let Some(file) = &args.config else { return Ok(cli) };
    let mut arguments: Vec<OsString> = env::args_os().collect();
    let is_given = |key: &str| {
        let option = format!("--{key}");
        let is = |argument: &str| {
            argument.strip_prefix(&option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        arguments.iter().any(|argument| is(&argument.to_string_lossy()))
    };
    let invalid = |error: serve::ConfigError| Cli::command().error(clap::error::ErrorKind::InvalidValue, error);
    let of_file = serve::arguments(file, is_given).map_err(invalid)?;
    // Global options have no values.
    let after = arguments.iter().position(|argument| argument == "serve").map_or(1, |position| position + 1);
    arguments.splice(after..after, of_file.into_iter().map(Into::into));
    Cli::try_parse_from(arguments).inspect_err(|_| {
        let _ = writeln!(io::stderr(), "netpath: in {}:", locale::text(&sanitise(&file.display().to_string())));
    })
}

/// Prints help, the version, or what clap finds wrong; values from the command line in it are made safe.
fn usage(error: &clap::Error) -> ExitCode {
    let is_safe = |value: &str| sanitise(value) == value && locale::text(value) == value;
    if !error.use_stderr() || env::args_os().all(|value| is_safe(&value.to_string_lossy())) {
        // With clap's colours.
        error.exit();
    }
    for line in error.render().to_string().lines() {
        // Its terminal may be gone.
        let _ = writeln!(io::stderr(), "{}", locale::text(&sanitise(line)));
    }
    ExitCode::from(USAGE)
}

/// The exit status of a command line that is wrong, as clap has it.
const USAGE: u8 = 2;

/// The command line is wrong in what clap cannot tell: a name that this host does not know.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The text without the " (os error 2)" that the standard library puts behind the kernel's words.
fn without_numbers(text: &str) -> String {
    const BEGIN: &str = " (os error ";
    let mut parts = text.split(BEGIN);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => plain.push_str(rest),
            _ => plain.extend([BEGIN, part]),
        }
    }
    plain
}

/// Ports by the names that the host has for them.
fn resolve_ports(filter: &mut Filter, host_root: Option<&Path>) -> anyhow::Result<()> {
    let port = |name: &str| port_names::port(host_root, name);
    let unknown = |name| Usage(format!("no port is named '{name}' in /etc/services; give its number"));
    Ok(filter.resolve_ports(port).map_err(unknown)?)
}

/// Why a file cannot be used, in few words.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is not a directory".to_owned(),
        io::ErrorKind::StorageFull => "no space is left".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => without_numbers(&error.to_string()),
    }
}

/// Why a file cannot be made, in few words.
fn reason_not_made(error: &io::Error) -> String {
    match error.kind() {
        // As /proc has it.
        io::ErrorKind::NotFound => "no file can be made there".to_owned(),
        io::ErrorKind::AlreadyExists => "something else has that name".to_owned(),
        _ => reason(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_without_its_numbers() {
        let error = io::Error::from_raw_os_error(libc::EINVAL).to_string();
        assert_eq!(without_numbers(&format!("a: {error}; b: {error}")), "a: Invalid argument; b: Invalid argument");
        assert_eq!(without_numbers("plain (os error x) (os error 2"), "plain (os error x) (os error 2");
    }
}
