//! Writes a report, one file a format.

pub mod devices;
pub mod doctor;
mod enis;
pub mod explain;
pub mod json;
mod reason;
pub mod table;
pub mod units;
