//! Windows in a file, to be looked at later, elsewhere, by this netpath or a newer one.
//!
//! In: snapshots, as they end. Out: a file, and the snapshots in it. A recording is a sequence of gzip members (RFC 1952), each a
//! line of JSON: `zcat FILE | jq` reads it, too. A member has a checksum, so that a file that was cut off anywhere has all
//! of its windows but the last. It must not judge.

mod read;
mod write;

use serde::{Deserialize, Serialize};

pub use self::read::{Recorded, Skipped, Windows, skip};
pub use self::write::{Recording, member};
use crate::snapshot::Snapshot;

/// The value of `schema` in each line.
pub const SCHEMA: &str = "netpath.recording/1";

/// What a line has.
#[derive(Debug, Serialize, Deserialize)]
struct Line<S> {
    schema: String,
    /// Version of the netpath that recorded it.
    netpath_version: String,
    snapshot: S,
}

/// A line that is written.
type Written<'a> = Line<&'a Snapshot>;
