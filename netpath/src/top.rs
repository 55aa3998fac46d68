//! The live view: what each window adds, and what of it is on the screen. Pure: it neither measures nor reads keys.
//!
//! In: reports, one a window, and keys. Out: a screen, drawn with ratatui, and what the caller is to do.
//!
//! [`rows`] makes rows of a report, [`table`] follows them over windows, [`state`] holds what the user chose, [`draw`] shows it.

mod columns;
mod detail;
mod draw;
mod help;
mod input;
mod model;
mod rows;
mod state;
mod style;
mod table;
mod trend;

pub use self::draw::draw;
pub use self::input::Key;
pub use self::state::{Action, Control, Options, Position, State};
