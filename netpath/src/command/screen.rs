//! What stdout can show: the terminal's size, colours, and the locale's characters.

use std::env;

use console::{Term, colors_enabled};

use super::output::Output;
use crate::locale;
use crate::render::block::Screen;

/// Columns of what goes to a file or pipe, unless `COLUMNS` says otherwise.
const PIPE_COLUMNS: usize = 100;
/// With fewer, nothing can be read; 0 is what a serial console says.
const FEWEST_COLUMNS: usize = 20;

/// The terminal's size, and what it can show; for a file or pipe, lines of [`PIPE_COLUMNS`] or `COLUMNS`.
pub fn screen(output: &Output) -> Screen {
    let terminal = Some(Term::stdout()).filter(|term| matches!(output, Output::Stdout) && term.is_term());
    let size = terminal.as_ref().and_then(Term::size_checked);
    let of_terminal = size.map(|(_, columns)| columns.into());
    let columns = of_terminal.or_else(|| env::var("COLUMNS").ok()?.parse().ok());
    Screen {
        width: Some(columns.filter(|columns| *columns >= FEWEST_COLUMNS).unwrap_or(PIPE_COLUMNS)),
        height: size.map(|(rows, _)| rows.into()),
        colour: terminal.is_some() && colors_enabled(),
        unicode: locale::is_utf8(),
    }
}
