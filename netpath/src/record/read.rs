//! The windows of a recording, one by one.

use std::io::{self, BufRead, Write};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Line, SCHEMA};
use crate::snapshot::Snapshot;

/// The windows of a recording, in their order, up to where it was cut off.
#[derive(Debug)]
pub struct Windows<R> {
    from: R,
    ended: bool,
}

/// What comes next in a recording.
#[derive(Debug)]
pub enum Recorded {
    /// A window.
    Window(Box<Snapshot>),
    /// What follows is no whole window: the recording was cut off, or damaged.
    CutOff,
}

impl<R: BufRead> Windows<R> {
    /// Of what was read from a file, or comes by a pipe.
    pub const fn new(from: R) -> Self {
        Self { from, ended: false }
    }

    fn read(&mut self) -> io::Result<Option<Recorded>> {
        let mut text = Vec::new();
        match member(&mut self.from, &mut text)? {
            Skipped::Window => parse(&text).map(Some),
            Skipped::End => Ok(None),
            Skipped::CutOff => Ok(Some(Recorded::CutOff)),
        }
    }
}

/// What was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// A window.
    Window,
    /// There is no more.
    End,
    /// What follows is no whole window.
    CutOff,
}

/// Passes over a window, without looking at what is in it.
///
/// # Errors
/// When it cannot be read.
pub fn skip(from: &mut impl BufRead) -> io::Result<Skipped> {
    member(from, &mut io::sink())
}

fn member(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<Skipped> {
    if from.fill_buf()?.is_empty() {
        return Ok(Skipped::End);
    }
    match io::copy(&mut GzDecoder::new(from), to) {
        Ok(_) => Ok(Skipped::Window),
        // That it ends too early, or its checksum is wrong.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(Skipped::CutOff)
        }
        Err(error) => Err(error),
    }
}

/// A line. Its checksum was right, so that what does not fit was written so.
fn parse(text: &[u8]) -> io::Result<Recorded> {
    #[derive(Deserialize)]
    struct Any<'a> {
        schema: String,
        #[serde(borrow)]
        #[expect(dead_code, reason = "it is read only if the schema is right")]
        snapshot: Option<&'a RawValue>,
    }
    let invalid = |why: String| io::Error::new(io::ErrorKind::Unsupported, why);
    let any: Any =
        serde_json::from_slice(text).map_err(|_| invalid("it is not a recording of netpath's".to_owned()))?;
    if any.schema != SCHEMA {
        let schema = any.schema.escape_debug().to_string();
        return Err(invalid(format!("it has schema {schema}, and not {SCHEMA}; use the netpath that recorded it")));
    }
    let line: Line<Box<Snapshot>> =
        serde_json::from_slice(text).map_err(|error| invalid(format!("this netpath cannot read it: {error}")))?;
    Ok(Recorded::Window(line.snapshot))
}

impl<R: BufRead> Iterator for Windows<R> {
    type Item = io::Result<Recorded>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read();
        self.ended = !matches!(next, Ok(Some(Recorded::Window(_))));
        next.transpose()
    }
}
