//! Writes a report, one file a format.

pub mod devices;
pub mod text;
