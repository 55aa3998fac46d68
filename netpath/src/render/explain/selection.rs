//! Which flows, or which device, to explain.
//!
//! In: words of the command line. Out: whether a flow is meant, and an error that lists what there is.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::render::text::sanitise;
use crate::report::{Flow, Report};

/// How many flows or devices an error lists.
const LISTED: usize = 8;

/// What to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection<'a> {
    /// The device of this name.
    Device(&'a str),
    /// The flows that match.
    Flows(Filter),
}

/// What a flow must have, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Id(u64),
    Proto(String),
    Address(IpAddr),
    Port(u16),
    End(SocketAddr),
    Pod(String),
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
        Ok(Self::Flows(Filter(words.iter().map(|word| part(word)).collect::<Result<_, _>>()?)))
    }
}

fn part(word: &str) -> Result<Part, SelectionError> {
    let unknown = || SelectionError::Word(sanitise(word).into_owned());
    if let Ok(id) = word.parse() {
        return Ok(Part::Id(id));
    }
    if let Ok(end) = word.parse() {
        return Ok(Part::End(end));
    }
    if let Ok(address) = word.parse() {
        return Ok(Part::Address(address));
    }
    if let Some(port) = word.strip_prefix(':') {
        return port.parse().map(Part::Port).map_err(|_| unknown());
    }
    if word.contains('/') {
        return Ok(Part::Pod(word.to_owned()));
    }
    let is_name = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_name { Ok(Part::Proto(word.to_ascii_lowercase())) } else { Err(unknown()) }
}

impl Filter {
    /// Whether the flow is meant. Ends are compared at every hop, since NAT changes them on the way.
    pub fn matches(&self, flow: &Flow) -> bool {
        self.0.iter().all(|part| matches(part, flow))
    }
}

fn matches(part: &Part, flow: &Flow) -> bool {
    let any_end = |test: &dyn Fn(IpAddr, Option<u16>) -> bool| {
        flow.hops.iter().any(|hop| test(hop.src, hop.sport) || test(hop.dst, hop.dport))
    };
    match part {
        Part::Id(id) => flow.id == *id,
        Part::Proto(proto) => flow.proto == *proto,
        Part::Address(wanted) => any_end(&|address, _| address == *wanted),
        Part::Port(wanted) => any_end(&|_, port| port == Some(*wanted)),
        Part::End(wanted) => any_end(&|address, port| (address, port) == (wanted.ip(), Some(wanted.port()))),
        Part::Pod(wanted) => [&flow.src_pod, &flow.dst_pod].into_iter().any(|pod| pod.as_ref() == Some(wanted)),
    }
}

impl SelectionError {
    pub(super) fn no_device(name: &str, report: &Report) -> Self {
        let names = report.devices.iter().map(|device| sanitise(&device.name).into_owned());
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
            ("3", Part::Id(3)),
            ("TCP", Part::Proto("tcp".to_owned())),
            ("10.0.0.21", Part::Address("10.0.0.21".parse().expect("valid"))),
            ("fe80::1", Part::Address("fe80::1".parse().expect("valid"))),
            (":443", Part::Port(443)),
            ("10.0.0.21:443", Part::End("10.0.0.21:443".parse().expect("valid"))),
            ("[fe80::1]:443", Part::End("[fe80::1]:443".parse().expect("valid"))),
            ("default/client", Part::Pod("default/client".to_owned())),
        ] {
            assert_eq!(part(word), Ok(expected), "{word}");
        }
        for word in ["", ":", ":99999", "10.0.0.21:", "10.0.0", "\u{1b}[2J"] {
            let error = part(word).expect_err(word);
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
    }
}
