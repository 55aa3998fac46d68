//! What stdout can show: the terminal's size, colours, and the locale's characters.

use std::env;

use console::{Term, colors_enabled};

use super::output::Output;
use crate::locale;
use crate::render::block::Screen;

/// Columns of what goes to a file or pipe, unless `COLUMNS` says otherwise.
const PIPE_COLUMNS: usize = 100;

/// The terminal's size, and what it can show; for a file or pipe, lines of [`PIPE_COLUMNS`] or `COLUMNS`.
pub fn screen(output: &Output) -> Screen {
    let terminal = Some(Term::stdout()).filter(|term| matches!(output, Output::Stdout) && term.is_term());
    let size = terminal.as_ref().and_then(Term::size_checked);
    let columns = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    Screen {
        width: Some(size.map_or_else(|| columns.unwrap_or(PIPE_COLUMNS), |(_, columns)| columns.into())),
        height: size.map(|(rows, _)| rows.into()),
        colour: terminal.is_some() && colors_enabled(),
        unicode: locale::is_utf8(),
    }
}
