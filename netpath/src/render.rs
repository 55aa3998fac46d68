//! Writes a report, one file a format.

pub mod devices;
pub mod doctor;
mod enis;
pub mod explain;
pub mod json;
pub mod table;
pub mod text;
pub mod units;
