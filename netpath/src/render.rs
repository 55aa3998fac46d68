//! Writes a report, one file a format.
