//! nftables, read over netlink.
//!
//! In: nftables of the calling thread's network namespace. Out: rules and elements as the kernel describes them;
//! [`expression`] reads a rule's parts, [`conditions`] what they limit it to. It changes nothing and loads no module: a
//! kernel without nftables would load it to answer, and is not asked.

use std::fs;
use std::io::{self, BufReader, ErrorKind};
use std::time::Instant;

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::attributes::attribute;
use crate::netlink::{Requester, is_served};

pub mod conditions;
pub mod expression;

// A message's type: NFNL_SUBSYS_NFTABLES in the upper byte, NFT_MSG_* in the lower.
const NEW_RULE: u16 = 0x0a06;
const GET_RULE: u16 = 0x0a07;
const NEW_ELEMENT: u16 = 0x0a0c;
const GET_ELEMENT: u16 = 0x0a0d;
// linux/netfilter/nf_tables.h: NFTA_RULE_*, NFTA_SET_ELEM_LIST_*.
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;

/// `struct nfgenmsg`: family, version, resource.
const HEADER_BYTES: usize = 4;

/// Asks the kernel about nftables.
#[derive(Debug)]
pub struct Nftables(Requester);

impl Nftables {
    /// Opens a socket. `None`: the kernel has no nftables, built in or loaded.
    pub fn open() -> io::Result<Option<Self>> {
        if is_served(NETLINK_NETFILTER)? && is_there()? {
            Ok(Some(Self(Requester::open_to(NETLINK_NETFILTER)?)))
        } else {
            Ok(None)
        }
    }

    /// Gives up what is not answered by then; see [`Requester::until`].
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self(self.0.until(deadline))
    }

    /// Hands the attributes of every rule to `each`, with its family (`NFPROTO_*`). Returns whether rules changed meanwhile, so
    /// that some may be missing.
    pub fn rules(&mut self, mut each: impl FnMut(u8, &[u8])) -> io::Result<bool> {
        self.dump(GET_RULE, NEW_RULE, 0, &[], |family, attributes| each(family, attributes))
    }

    /// Hands the attributes of each rule of one chain to `each`. There are none if there is no such chain.
    pub fn rules_of(&mut self, family: u8, table: &str, chain: &str, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let names = [(RULE_TABLE, table), (RULE_CHAIN, chain)];
        self.dump(GET_RULE, NEW_RULE, family, &names, |_, attributes| each(attributes))
    }

    /// Hands the attributes of lists of a set's or map's elements to `each`. `ENOENT`: there is no such set.
    pub fn elements_of(&mut self, family: u8, table: &str, set: &str, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let names = [(SET_TABLE, table), (SET_NAME, set)];
        self.dump(GET_ELEMENT, NEW_ELEMENT, family, &names, |_, attributes| each(attributes))
    }

    /// `names` are attributes of strings, by which the kernel selects.
    fn dump(
        &mut self,
        question: u16,
        answer: u16,
        family: u8,
        names: &[(u16, &str)],
        mut each: impl FnMut(u8, &[u8]),
    ) -> io::Result<bool> {
        let mut body = vec![family, 0, 0, 0];
        for (kind, name) in names {
            body.extend(attribute(*kind, &[name.as_bytes(), b"\0"].concat()));
        }
        self.0.dump(question, &body, |message_type, body| {
            if let (true, Some((header, attributes))) = (message_type == answer, body.split_at_checked(HEADER_BYTES)) {
                each(header[0], attributes);
            }
        })
    }
}

/// Whether nftables is built in or loaded. nfnetlink, which passes the question on, loads it otherwise.
fn is_there() -> io::Result<bool> {
    match fs::read_to_string("/proc/modules") {
        Ok(modules) if modules.lines().any(|line| line.starts_with("nf_tables ")) => Ok(true),
        // Built in, or not loaded: the kernel's symbols decide. Their names may be read without a capability.
        Ok(_) => has_symbol(BufReader::new(fs::File::open("/proc/kallsyms")?), "nft_register_chain_type"),
        // A kernel without modules loads none.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether there is a symbol of this name: each line has an address, a type, a name, and the module if there is one.
fn has_symbol(mut symbols: impl io::BufRead, name: &str) -> io::Result<bool> {
    let mut line = Vec::new();
    while symbols.read_until(b'\n', &mut line)? > 0 {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        if words.nth(2) == Some(name.as_bytes()) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols() {
        let symbols: &[u8] = b"0000000000000000 T nft_register_chain_type_not\n\
            0000000000000000 t nft_data_hold\t[nf_tables]\n0000000000000000 T nft_register_chain_type\n";
        assert!(has_symbol(symbols, "nft_register_chain_type").expect("no error"));
        assert!(has_symbol(symbols, "nft_data_hold").expect("no error"));
        assert!(!has_symbol(symbols, "nft_register").expect("no error"));
    }
}
