//! Trips in each format, but for JSON, which is the model as it stands.

pub mod pcapng;
pub mod text;
