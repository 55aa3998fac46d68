//! `netpath devices`: lists the network devices and what netpath takes them for.
//!
//! In: the arguments. Out: a list on stdout. Needs neither root nor eBPF, and changes nothing.

use std::process::ExitCode;

use super::output::Output;
use super::screen::screen;
use crate::cli::{DevicesArgs, DevicesFormat};
use crate::node::devices::{self, EniChoice};
use crate::node::enis::{Candidate, PendingQuery};
use crate::render;

/// Runs the subcommand.
pub fn run(args: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let choice = EniChoice::new(&args.eni.globs)?;
    let query = PendingQuery::start(args.eni.endpoints());
    let answers = query.wait();
    let links = devices::list(&choice.with_macs(answers.macs()))?;
    let candidates: Vec<_> = links.iter().map(|link| Candidate { link, allowances: None }).collect();
    let known = answers.resolve(&candidates);
    let screen = screen(&Output::Stdout);
    Output::Stdout.write(|mut out| match args.format {
        DevicesFormat::Table => render::devices::table(&links, &known, &mut out, &screen),
        DevicesFormat::Json => render::devices::json(&links, &known, &mut out),
    })?;
    Ok(ExitCode::SUCCESS)
}
