//! `netpath doctor`: says whether a report would be right here, and what to do if not.
//!
//! In: the arguments. Out: findings on stdout; exit status 1 if a report would be wrong. Needs no root, and says what it
//! could not see without; changes nothing. As a report does, it asks IMDS which hardware addresses are ENIs', unless `--offline`
//! says not to.

use std::process::ExitCode;

use super::output::Output;
use super::screen::screen;
use crate::cli::{DoctorArgs, DoctorFormat};
use crate::doctor::facts::Facts;
use crate::doctor::{Level, diagnose};
use crate::node::devices::EniChoice;
use crate::node::enis::PendingQuery;
use crate::render;

/// Runs the subcommand.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let choice = EniChoice::new(&args.eni.globs)?;
    let macs = PendingQuery::start(args.eni.endpoints().imds_alone()).wait().macs();
    let diagnosis = diagnose(&Facts::gather(&choice.with_macs(macs), args.host_root.as_deref())?);
    let screen = screen(&Output::Stdout);
    Output::Stdout.write(|mut out| match args.format {
        DoctorFormat::Table => render::doctor::table(&diagnosis, &mut out, &screen),
        DoctorFormat::Json => render::doctor::json(&diagnosis, &mut out),
    })?;
    Ok(if diagnosis.level == Level::Fail { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
