//! The report as JSON, schema `netpath.report/1`: the model as it stands.

use std::io::{self, Write};

use crate::report::Report;

/// Writes the report, indented, with a newline at the end.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    // Control characters in names are escaped by JSON itself.
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
