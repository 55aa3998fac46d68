//! `netpath top`: the live view of this node, or of a recording.
//!
//! In: the options, keys. Out: a screen; a report in a file for each `w`. Two threads: one has the windows, the other the terminal, so that
//! a key is answered while a large window is judged.

mod live;
mod player;
mod terminal;

use std::process::ExitCode;

use anyhow::ensure;
use console::colors_enabled;

use self::terminal::Terminal;
use super::resolve_ports;
use crate::cli::{FilterArgs, TopArgs};
use crate::locale;
use crate::path::select::Filter;
use crate::render::block::Screen;
use crate::render::explain::Selection;
use crate::top::{Options, State};

/// Whether the terminal has no colours, as DEC's had none.
fn is_monochrome() -> bool {
    std::env::var("TERM").is_ok_and(|term| term.starts_with("vt"))
}

/// Shows windows until the user ends it.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    ensure!(
        Terminal::is_there(),
        "top needs a terminal that can be drawn on (stdout, and TERM other than dumb); for a pipe or file use netpath {}",
        if args.replay.is_some() { "replay --each" } else { "report --interval 1s" }
    );
    ensure!(
        !log::log_enabled!(log::Level::Error) || !console::Term::stderr().is_term(),
        "log lines would be written over the screen; send them to a file, as in netpath top -v 2>netpath.log"
    );
    let mut filter = args.filter.filter();
    resolve_ports(&mut filter, args.attach.host_root.as_deref())?;
    let state = State::new(Options {
        filter_text: filter.to_string(),
        filter,
        units: args.units,
        screen: Screen {
            colour: colors_enabled() && !is_monochrome(),
            unicode: locale::is_utf8(),
            ..Screen::default()
        },
        parse: parse_filter,
    });
    match &args.replay {
        Some(file) => player::run(file, state)?,
        None => live::run(args, state)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A filter as it is typed: options of `report` with or without their dashes, words of `explain`.
fn parse_filter(text: &str) -> Result<Filter, String> {
    let (args, words) = FilterArgs::from_words(text)?;
    let mut filter = args.filter();
    if !words.is_empty() {
        match Selection::flows(&words).map_err(|error| error.to_string())? {
            Selection::Flows(of_words) => filter = filter.and(of_words),
            Selection::Device(_) => {}
        }
    }
    resolve_ports(&mut filter, None).map_err(|error| error.to_string())?;
    Ok(filter)
}
