//! What a session is to do.

use std::path::Path;

use crate::node::enis::Endpoints;
use crate::privilege::Purpose;

/// What to measure.
#[derive(Debug)]
pub struct Options<'a> {
    /// Names of ENIs; empty to decide by evidence.
    pub eni_globs: &'a [String],
    /// Room in the kernel's maps, for IPv4 and IPv6 each.
    pub max_flows: u32,
    /// Attach legacy filters, though the kernel has TCX.
    pub clsact: bool,
    /// Make clsact qdiscs where they are needed and there are none.
    pub new_qdiscs: bool,
    /// Whom to ask about ENIs.
    pub endpoints: Endpoints,
    /// The folder that is the host's `/`; `None` to find it.
    pub host_root: Option<&'a Path>,
    /// What the process needs its capabilities for, beside measuring.
    pub purpose: Purpose,
}
