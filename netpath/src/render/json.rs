//! The report as JSON, schema `netpath.report/1`: the model as it stands.
//!
//! In: anything that serialises. Out: text that a terminal may get: JSON itself escapes the control characters of ASCII, and
//! what else a terminal obeys, or hides what is written, is escaped here.

use std::io::{self, Write};

use serde::Serialize;

use crate::report::Report;
use crate::sanitise::is_unsafe;

/// Writes the report, indented, with a newline at the end.
pub fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    pretty(report, out)
}

/// Writes anything as one line.
pub fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(Escaped(&mut *out), value)?;
    writeln!(out)
}

/// Writes anything, indented, with a newline at the end.
pub(super) fn pretty(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(Escaped(&mut *out), value)?;
    writeln!(out)
}

/// What is written to it, with unsafe characters as `\u009b`. They are only in strings, so that it reads the same.
struct Escaped<W>(W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Nearly everything, in pieces of a few bytes.
        if bytes.iter().all(|byte| *byte < 0x7f) {
            return self.0.write_all(bytes);
        }
        // serde_json writes whole characters.
        let Ok(text) = std::str::from_utf8(bytes) else { return self.0.write_all(bytes) };
        for c in text.chars() {
            // Not the newlines of indentation.
            if c >= '\u{7f}' && is_unsafe(c) {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(self.0, "\\u{unit:04x}")?;
                }
            } else {
                self.0.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_read_the_same() {
        let name = "eth\u{9b}31m\u{7f}\u{202e}\u{e0001}\u{1b}[2J münchen 網卡";
        let mut text = Vec::new();
        pretty(&[name], &mut text).expect("written");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).expect("JSON"), [name]);
        assert_eq!(text, "[\n  \"eth\\u009b31m\\u007f\\u202e\\udb40\\udc01\\u001b[2J münchen 網卡\"\n]\n");
    }
}
