//! The report as JSON, schema `netpath.report/1`: the model as it stands.
//!
//! In: anything that serialises. Out: text that a terminal may get: JSON itself escapes the control characters of ASCII, and
//! what else a terminal obeys, or hides what is written, is escaped here.

use std::io::{self, Write};

use serde::Serialize;

use crate::sanitise::is_unsafe;

/// Writes anything as one line.
pub fn write_line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut escaped = Escaped::new(&mut *out);
    serde_json::to_writer(&mut escaped, value)?;
    escaped.flush()?;
    writeln!(out)
}

/// Writes anything, indented, with a newline at the end.
pub fn write(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let mut escaped = Escaped::new(&mut *out);
    serde_json::to_writer_pretty(&mut escaped, value)?;
    escaped.flush()?;
    writeln!(out)
}

/// What is written to it, with unsafe characters as `\u009b`. They are only in strings, so that it reads the same.
struct Escaped<W: Write> {
    out: W,
    /// Not written yet. `serde_json` writes a few bytes at a time, and never a part of a character.
    text: Vec<u8>,
}

const CHUNK_BYTES: usize = 1 << 16;

impl<W: Write> Escaped<W> {
    fn new(out: W) -> Self {
        Self { out, text: Vec::with_capacity(CHUNK_BYTES) }
    }

    fn write_out(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.text);
        let mut safe_from = 0;
        // ASCII is all but names.
        let text = if bytes.is_ascii() && !bytes.contains(&0x7f) {
            ""
        } else {
            str::from_utf8(&bytes).map_err(io::Error::other)?
        };
        // Not the newlines of indentation.
        for (at, c) in text.char_indices().filter(|&(_, c)| c >= '\u{7f}' && is_unsafe(c)) {
            self.out.write_all(&bytes[safe_from..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.out, "\\u{unit:04x}")?;
            }
            safe_from = at + c.len_utf8();
        }
        self.out.write_all(&bytes[safe_from..])?;
        self.text = bytes;
        self.text.clear();
        Ok(())
    }
}

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.text.extend_from_slice(bytes);
        if self.text.len() >= CHUNK_BYTES { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_read_the_same() {
        let name = "eth\u{9b}31m\u{7f}\u{202e}\u{e0001}\u{1b}[2J münchen 網卡";
        let mut text = Vec::new();
        write(&[name], &mut text).expect("written");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(serde_json::from_str::<[String; 1]>(&text).expect("JSON"), [name]);
        assert_eq!(text, "[\n  \"eth\\u009b31m\\u007f\\u202e\\udb40\\udc01\\u001b[2J münchen 網卡\"\n]\n");
    }
}
