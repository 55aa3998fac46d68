//! Names of a filter that mean something on this node alone.
//!
//! In: a word, and [`Names`]. Out: what it means, or an error that names what there is.

use std::net::IpAddr;

use super::super::words::Word;
use super::super::{FilterError, Named, Names};
use crate::path::select::Condition;

/// An error about a name that there is not.
pub fn unknown(names: &impl Names, word: &Word, kind: Named) -> FilterError {
    let (why, what) = match kind {
        Named::Pod => ("no pod that runs on this node", "pods"),
        Named::Namespace => ("no namespace that has a pod on this node", "namespaces"),
        Named::Service => ("no service that this node knows an address of", "services"),
        Named::Device => ("no device of this node", "devices"),
    };
    word.unknown(why, what, names.known(kind))
}

/// The port of a name.
pub fn port(names: &impl Names, word: &Word) -> Result<u16, FilterError> {
    named_port(names, &word.text).ok_or_else(|| word.error("neither netpath nor /etc/services has it: give its number"))
}

/// `http-https`: names may have hyphens themselves.
pub fn port_range(names: &impl Names, word: &Word) -> Result<(u16, u16), FilterError> {
    let text = word.text.as_str();
    if let Some(port) = named_port(names, text) {
        return Ok((port, port));
    }
    let mut splits = text.match_indices('-').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let known = splits.find_map(|(one, other)| Some((named_port(names, one)?, named_port(names, other)?)));
    let (one, other) = known.ok_or_else(|| word.error("no range of ports: write it like 8000-8080"))?;
    Ok((one.min(other), one.max(other)))
}

fn named_port(names: &impl Names, text: &str) -> Option<u16> {
    match Condition::port(text).ok()? {
        Condition::Port(port) => Some(port),
        Condition::PortName(name) => names.port(&name),
        _ => None,
    }
}

/// Protocols, addresses and ports of a service, or of one port of it: `NS/NAME`, `NS/NAME:PORT`.
pub fn service(names: &impl Names, word: &Word) -> Result<Vec<(u8, IpAddr, u16)>, FilterError> {
    let (name, port) = match word.text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (word.text.as_str(), None),
    };
    let mut places = names.service(name);
    if places.is_empty() {
        return Err(unknown(names, &word.with_text(name), Named::Service));
    }
    let Some(port) = port else { return Ok(places) };
    let wanted = named_port(names, port);
    let mut ports: Vec<String> = places.iter().map(|(.., port)| port.to_string()).collect();
    places.retain(|(.., port)| Some(*port) == wanted);
    if places.is_empty() {
        ports.sort_unstable();
        ports.dedup();
        ports.truncate(8);
        return Err(word.error(format_args!("it has no such port: use {}", ports.join(" or "))));
    }
    Ok(places)
}
