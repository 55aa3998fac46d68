//! Writes a report, one file a format.

pub mod devices;
pub mod json;
pub mod table;
pub mod text;
mod units;
