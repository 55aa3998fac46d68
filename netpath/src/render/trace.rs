//! Trips in each format.

pub mod text;
