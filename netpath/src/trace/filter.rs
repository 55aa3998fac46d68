//! Compiles a filter (written by the filter work).
