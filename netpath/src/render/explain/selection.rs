//! Which flows, or which device, to explain.
//!
//! In: words of the command line. Out: whether a flow is meant, and an error that lists what there is.

use thiserror::Error;

use crate::path::protocols;
use crate::path::select::{Condition, Filter};
use crate::report::Report;
use crate::sanitise::sanitise;

/// How many flows or devices an error lists.
const LISTED: usize = 8;

/// What to explain.
#[derive(Clone, Debug)]
pub enum Selection<'a> {
    /// The devices whose name this is, or matches.
    Device(&'a str),
    /// The flows that match.
    Flows(Filter),
}

/// There is nothing to explain.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectionError {
    /// A word is none of what a flow can be told by.
    #[error(
        "'{word}' is no flow id, address, address:port, :port, pod, service (namespace/name) or protocol ({protocols}); \
         write it like 10.0.0.21:443"
    )]
    Word {
        /// As it was given.
        word: String,
        /// Those with a name.
        protocols: String,
    },
    /// The report has no such device.
    #[error("no device '{name}' in this window; there are: {there}")]
    NoDevice {
        /// As asked for.
        name: String,
        /// Names of devices.
        there: String,
    },
    /// The report has no such flow.
    #[error("no flow of this window matches; those with the most bytes: {there}; name one of them")]
    NoFlow {
        /// The flows with the most bytes.
        there: String,
    },
    /// The report has no flow at all.
    #[error("this window has no flow; measure again while there is traffic, or while a command runs (-- COMMAND)")]
    NoFlows,
    /// The report has no such flow, and was written with some flows only.
    #[error(
        "no flow of this report matches, and it has only flows with {filters}; those with the most bytes: {there}; name one \
         of them, or measure again"
    )]
    Filtered {
        /// The options that it was written with.
        filters: String,
        /// The flows with the most bytes.
        there: String,
    },
}

impl Selection<'_> {
    /// The flows that all of `words` are true of.
    pub fn flows(words: &[String]) -> Result<Self, SelectionError> {
        let groups = words.iter().map(|word| conditions(word.trim_end_matches(','))).collect::<Result<Vec<_>, _>>()?;
        // Several ids, as the table has them for a conversation, are one or the other.
        let is_id = |group: &Vec<Condition>| matches!(group[..], [Condition::Id(_)]);
        let (ids, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_id);
        Ok(Self::Flows(Filter::new(others.into_iter().chain([ids.concat()]))))
    }
}

/// What a word may mean: one of these.
fn conditions(word: &str) -> Result<Vec<Condition>, SelectionError> {
    let unknown = || SelectionError::Word { word: sanitise(word).into_owned(), protocols: protocols::known() };
    if let Ok(id) = word.parse() {
        return Ok(vec![Condition::Id(id)]);
    }
    if let Ok(end) = word.parse() {
        return Ok(vec![Condition::End(end)]);
    }
    if let Ok(net) = Condition::net(word) {
        return Ok(vec![net]);
    }
    let one = if let Some(port) = word.strip_prefix(':') {
        Condition::port(port)
    } else if word.contains('/') {
        let names: Vec<Condition> = [Condition::pod(word), Condition::service(word)].into_iter().flatten().collect();
        return if names.is_empty() { Err(unknown()) } else { Ok(names) };
    } else {
        Condition::proto(word)
    };
    one.map(|one| vec![one]).map_err(|_| unknown())
}

impl SelectionError {
    pub(super) fn no_device(name: &str, report: &Report) -> Self {
        let names = report.devices.iter().map(|device| sanitise(&device.facts.name).into_owned());
        Self::NoDevice { name: sanitise(name).into_owned(), there: first(names) }
    }

    pub(super) fn no_flow(report: &Report) -> Self {
        let flows = report.flows.iter().map(|flow| format!("{} ({})", flow.id, super::flow::ends(flow)));
        match &report.selection {
            Some(selection) => {
                let filters: Vec<_> = selection.filters.iter().map(|filter| sanitise(filter)).collect();
                let there = if report.flows.is_empty() { "none".to_owned() } else { first(flows) };
                Self::Filtered { filters: filters.join(" "), there }
            }
            None if report.flows.is_empty() => Self::NoFlows,
            None => Self::NoFlow { there: first(flows) },
        }
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
            ("3", &["3"][..]),
            ("TCP", &["--proto tcp"]),
            ("10.0.0.21", &["--ip 10.0.0.21"]),
            ("10.0.0.21/16", &["--ip 10.0.0.0/16"]),
            ("fe80::1", &["--ip fe80::1"]),
            (":443", &["--port 443"]),
            (":https", &["--port 443"]),
            ("10.0.0.21:443", &["10.0.0.21:443"]),
            ("[fe80::1]:443", &["[fe80::1]:443"]),
            ("default/client", &["--pod default/client", "--service default/client"]),
            ("default/web-*", &["--pod default/web-*", "--service default/web-*"]),
        ] {
            let shown = conditions(word).expect(word).iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(shown, expected, "{word}");
        }
        for word in ["", ":", ":99999", "10.0.0.21:", "10.0.0", "tpc", "\u{1b}[2J", "a/", "/", "a/b/c"] {
            let error = conditions(word).expect_err(word);
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
