//! Of when everything is that dist makes.

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::process::git;

/// The time of the last commit, or `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>).
///
/// # Errors
/// When there is neither.
pub fn time() -> Result<Timestamp> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => git(&["log", "-1", "--format=%ct"])
            .context("there is no commit whose time could be that of the files; set SOURCE_DATE_EPOCH, in seconds")?,
    };
    let parsed = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    parsed.context("SOURCE_DATE_EPOCH is not a number of seconds; set it to one, or unset it")
}
