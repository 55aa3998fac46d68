//! Which flows, or which device, to explain.
//!
//! In: words of the command line. Out: whether a flow is meant, and an error that lists what there is.

use thiserror::Error;

use crate::path::select::{Condition, Filter};
use crate::report::Report;
use crate::sanitise::sanitise;

/// How many flows or devices an error lists.
const LISTED: usize = 8;

/// What to explain.
#[derive(Clone, Debug)]
pub enum Selection<'a> {
    /// The device of this name.
    Device(&'a str),
    /// The flows that match.
    Flows(Filter),
}

/// There is nothing to explain.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectionError {
    /// A word is none of what a flow can be told by.
    #[error(
        "'{0}' is no flow id, protocol, address, address:port, :port or namespace/pod; write it like 10.0.0.21:443"
    )]
    Word(String),
    /// The report has no such device.
    #[error("no device '{name}' in this window; there are: {there}")]
    NoDevice {
        /// As asked for.
        name: String,
        /// Names of devices.
        there: String,
    },
    /// The report has no such flow.
    #[error(
        "no flow of this window matches; those with the most bytes: {there}; name one of them, or measure for longer"
    )]
    NoFlow {
        /// The flows with the most bytes.
        there: String,
    },
    /// The report has no flow at all.
    #[error("no flow was seen in this window; measure for longer, or while a command runs (-- COMMAND)")]
    NoFlows,
}

impl Selection<'_> {
    /// The flows that all of `words` are true of.
    pub fn flows(words: &[String]) -> Result<Self, SelectionError> {
        let conditions =
            words.iter().map(|word| condition(word).map(|one| vec![one])).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::Flows(Filter::new(conditions)))
    }
}

fn condition(word: &str) -> Result<Condition, SelectionError> {
    let unknown = || SelectionError::Word(sanitise(word).into_owned());
    if let Ok(id) = word.parse() {
        return Ok(Condition::Id(id));
    }
    if let Ok(end) = word.parse() {
        return Ok(Condition::End(end));
    }
    if let Ok(net) = Condition::net(word) {
        return Ok(net);
    }
    if let Some(port) = word.strip_prefix(':') {
        return port.parse().map(Condition::Port).map_err(|_| unknown());
    }
    if word.contains('/') {
        return Condition::pod(word).map_err(|_| unknown());
    }
    let is_name = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name { Ok(Condition::Proto(word.to_ascii_lowercase())) } else { Err(unknown()) }
}

impl SelectionError {
    pub(super) fn no_device(name: &str, report: &Report) -> Self {
        let names = report.devices.iter().map(|device| sanitise(&device.facts.name).into_owned());
        Self::NoDevice { name: sanitise(name).into_owned(), there: first(names) }
    }

    pub(super) fn no_flow(report: &Report) -> Self {
        if report.flows.is_empty() {
            return Self::NoFlows;
        }
        let flows = report.flows.iter().map(|flow| format!("{} ({})", flow.id, super::flow::ends(flow)));
        Self::NoFlow { there: first(flows) }
    }
}

/// The first few, and how many more there are.
fn first(mut items: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<_> = items.by_ref().take(LISTED).collect();
    let rest = items.count();
    if rest > 0 {
        shown.push(format!("and {rest} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (word, expected) in [
            ("3", "3"),
            ("TCP", "--proto tcp"),
            ("10.0.0.21", "--ip 10.0.0.21"),
            ("10.0.0.21/16", "--ip 10.0.0.0/16"),
            ("fe80::1", "--ip fe80::1"),
            (":443", "--port 443"),
            ("10.0.0.21:443", "10.0.0.21:443"),
            ("[fe80::1]:443", "[fe80::1]:443"),
            ("default/client", "--pod default/client"),
            ("default/web-*", "--pod default/web-*"),
        ] {
            assert_eq!(condition(word).map(|one| one.to_string()).as_deref(), Ok(expected), "{word}");
        }
        for word in ["", ":", ":99999", "10.0.0.21:", "10.0.0", "\u{1b}[2J", "a/", "/", "a/b/c"] {
            let error = condition(word).expect_err(word);
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
