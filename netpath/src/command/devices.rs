//! `netpath devices`: lists the network devices and what netpath takes them for.
//!
//! In: the arguments. Out: a list on stdout. Needs neither root nor eBPF, and changes nothing.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::{DevicesArgs, DevicesFormat};
use crate::node::devices::{self, EniChoice};
use crate::node::enis::{Candidate, Inquiry};
use crate::render;

/// Runs the subcommand.
pub fn run(args: &DevicesArgs) -> anyhow::Result<ExitCode> {
    let choice = EniChoice::new(&args.eni.globs)?;
    let inquiry = Inquiry::start(args.eni.places());
    let links = devices::list(&choice)?;
    let candidates: Vec<_> = links.iter().map(|link| Candidate { link, allowances: None }).collect();
    let known = inquiry.wait().about(&candidates);
    let mut text = Vec::new();
    match args.format {
        DevicesFormat::Table => render::devices::table(&links, &known, &mut text),
        DevicesFormat::Json => render::devices::json(&links, &known, &mut text),
    }
    .context("cannot format the list")?;
    match io::stdout().lock().write_all(&text) {
        // Whoever reads has read enough: `netpath devices | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => {
            result.map(|()| ExitCode::SUCCESS).context("cannot write the list; send it to a file to look into it")
        }
    }
}
