//! What is known of a node: devices and their counters, ENIs, sources of names, the window. Each fact is described once, and is
//! the same in a snapshot and in a report.
//!
//! Plain data that serialises. It must not hold handles, and computes nothing but differences of counters.

mod blind;
mod conntrack;
mod counters;
mod device;
mod eni;
mod names;
mod window;

pub use self::blind::*;
pub use self::conntrack::*;
pub use self::counters::*;
pub use self::device::*;
pub use self::eni::*;
pub use self::names::*;
pub use self::window::*;
