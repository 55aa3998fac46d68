//! Writes trips, one file a format.

pub mod pcapng;
