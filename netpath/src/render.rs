//! Writes a report, one file a format.

pub mod devices;
mod enis;
pub mod explain;
pub mod json;
pub mod table;
pub mod text;
pub mod units;
