//! Writes reports, lists and findings, one file a format. What they have in common is laid out once, in `report`.

pub mod block;
pub mod csv;
pub mod devices;
pub mod diff;
pub mod doctor;
mod enis;
pub mod explain;
pub mod html;
pub mod json;
pub(crate) mod labels;
pub mod markdown;
mod reason;
pub mod report;
pub mod table;
pub(crate) mod tone;
pub mod trace;
pub mod units;
