//! Writes a report, one file a format.

pub mod json;
pub mod table;
mod text;
mod units;
