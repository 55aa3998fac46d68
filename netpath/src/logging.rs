//! Levelled logging to stderr: silent unless `-v` or `NETPATH_LOG` asks for it.

use std::io::Write as _;

use env_logger::{Builder, Env};
use log::LevelFilter;

use crate::cli::{Cli, Command};
use crate::locale;
use crate::sanitise::sanitise;

/// The environment variable: a level (`info`), or levels by module (`netpath::session=debug`).
const VARIABLE: &str = "NETPATH_LOG";

/// What the programs of a trace log has this target: the name of their object.
const TRACE_PROGRAMS: &str = "trace";

/// Begins to log, as much as `-v` asks for; the variable goes before it. What runs for ever warns without being asked.
pub fn start(cli: &Cli) {
    let programs = matches!(&cli.command, Command::Trace(args) if args.debug);
    let level = match cli.verbose {
        0 if matches!(cli.command, Command::Serve(_)) => "netpath=warn",
        0 => "off",
        1 => "netpath=info",
        2 => "netpath=debug",
        _ => "trace",
    };
    let mut builder = Builder::from_env(Env::new().filter_or(VARIABLE, level));
    if programs {
        builder.filter_module(TRACE_PROGRAMS, LevelFilter::Debug);
    }
    builder.format(|out, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        // Names of devices and messages of other programs may be in it.
        writeln!(out, "netpath: {level}: {}", locale::text(&sanitise(&record.args().to_string())))
    });
    builder.init();
}
