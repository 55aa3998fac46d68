//! One packet, hop by hop: from the events of the trace programs to [`Trip`]s.
//!
//! In: a filter, events. Out: trips, plain data. Pure: no I/O, no clock. `kernel::trace` loads the programs, `render::trace` writes trips.

pub mod filter;
pub mod judge;
pub mod stitch;
mod trip;

pub use self::trip::*;
